package esp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

func whole4(n int) []byte { return ipv4(here4, there4, 17, numbered(n)) }
func whole6(n int) []byte { return ipv6(here6, there6, 17, numbered(n)) }

func TestFragmentsInAnyOrderMakeThePacket(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{9, 64, 65, 1400, 3000, 65515} {
		for _, size := range []int{8, 64, 1480} {
			if n/size > 1000 || n <= size { // too many, or no fragments at all
				continue
			}
			w4, w6 := whole4(n), whole6(min(n, 65487))
			for want, frags := range map[*[]byte][][]byte{&w4: split4(w4, size), &w6: split6(w6, size)} {
				re := NewReassembler(ReassemblyLimits{Fragments: 1000})
				r.Shuffle(len(frags), func(i, j int) { frags[i], frags[j] = frags[j], frags[i] })
				var got []byte
				for i, f := range frags {
					for range 2 { // each comes twice
						if got != nil {
							break
						}
						g, err := re.Add(epoch, 1, append(bytes.Clone(f), 0, 0))
						if err != nil || g != nil && i != len(frags)-1 {
							t.Fatalf("%d/%d fragment %d: %v", n, size, i, err)
						}
						got = g
					}
				}
				if !bytes.Equal(got, *want) {
					t.Fatalf("%d/%d: %d bytes back", n, size, len(got))
				}
				if p, b := re.Pending(); p != 0 || b != 0 {
					t.Fatalf("%d packets, %d bytes left", p, b)
				}
			}
		}
	}
}

func TestExtensionHeadersOutliveReassembly(t *testing.T) {
	payload := numbered(64)
	frag := func(at int, more byte) []byte {
		return ipv6(here6, there6, extHopByHop, join(ext(extFragment),
			[]byte{17, 0, byte(at >> 8), byte(at) | more, 0, 0, 0, 9}, payload[at:at+32]))
	}
	re := NewReassembler(ReassemblyLimits{})
	if got, err := re.Add(epoch, 1, frag(32, 0)); got != nil || err != nil {
		t.Fatal(err)
	}
	got, err := re.Add(epoch, 1, frag(0, 1))
	if want := ipv6(here6, there6, extHopByHop, join(ext(17), payload)); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%x, %v\nwant %x", got, err, want)
	}
}

func TestWholePacketPassesThrough(t *testing.T) {
	re := NewReassembler(ReassemblyLimits{})
	if got, err := re.Add(epoch, 1, whole4(10)); err != nil || !bytes.Equal(got, whole4(10)) {
		t.Fatal(err)
	}
}

func TestFragmentsOfDifferentSAsNeverMeet(t *testing.T) {
	f := split4(whole4(64), 32)
	other := split4(ipv4(here4, there4, 6, numbered(64)), 32) // another protocol, same ID
	re := NewReassembler(ReassemblyLimits{})
	for _, add := range []struct {
		from ChildID
		b    []byte
	}{{1, f[0]}, {2, f[1]}, {0, f[1]}, {1, other[1]}} {
		if got, err := re.Add(epoch, add.from, add.b); got != nil || err != nil {
			t.Fatal(got, err)
		}
	}
	if got, _ := re.Add(epoch, 1, f[1]); !bytes.Equal(got, whole4(64)) {
		t.Fatal("its own last fragment did not complete it")
	}
}

// at makes the IPv4 fragment of one packet with data[from:to].
func at(data []byte, from, to int, more bool) []byte {
	b := ipv4(here4, there4, 17, data[from:to])
	field := uint16(from / 8)
	if more {
		field |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], field)
	return b
}

func TestOverlapCondemnsTheWholePacket(t *testing.T) {
	d, e := numbered(96), bytes.Repeat([]byte{0xee}, 96)
	for name, frags := range map[string][][]byte{
		"same place, other bytes":      {at(d, 0, 32, true), at(e, 0, 32, true)},
		"reaches into the next":        {at(d, 32, 64, true), at(d, 0, 40, true)},
		"begins inside the one before": {at(d, 0, 32, true), at(d, 24, 64, true)},
		"covers another":               {at(d, 8, 16, true), at(d, 0, 32, true)},
		"lies inside another":          {at(d, 0, 32, true), at(d, 8, 16, true)},
		"two ends":                     {at(d, 64, 96, false), at(d, 32, 64, false)},
		"behind the end":               {at(d, 32, 64, false), at(d, 64, 96, true)},
		"the end before what is there": {at(d, 64, 96, true), at(d, 32, 64, false)},
		"the end has more behind it":   {at(d, 64, 96, false), at(d, 64, 96, true)},
		"more turns into the end":      {at(d, 64, 96, true), at(d, 64, 96, false)},
	} {
		re := NewReassembler(ReassemblyLimits{})
		if got, err := re.Add(epoch, 1, frags[0]); got != nil || err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := re.Add(epoch, 1, frags[1]); err != ErrOverlap {
			t.Errorf("%s: %v", name, err)
		}
		if p, b := re.Pending(); p != 1 || b != 0 {
			t.Errorf("%s: %d packets, %d bytes", name, p, b)
		}
		for _, f := range [][]byte{at(d, 0, 32, true), at(d, 32, 64, true), at(d, 64, 96, false)} {
			if got, err := re.Add(epoch.Add(29*time.Second), 1, f); got != nil || err != ErrOverlap {
				t.Errorf("%s: rose again: %v", name, err)
			}
		}
		if got, err := re.Add(epoch.Add(30*time.Second), 1, at(d, 0, 32, true)); got != nil || err != nil {
			t.Errorf("%s: condemned for ever: %v", name, err)
		}
	}
}

func TestFragmentsThatCannotBeAreRefused(t *testing.T) {
	re := NewReassembler(ReassemblyLimits{})
	far := at(numbered(32), 0, 32, false)
	binary.BigEndian.PutUint16(far[6:], 0x1fff) // ends beyond 65535
	for name, b := range map[string][]byte{
		"no fragment of IP": {0x50}, "empty": at(nil, 0, 0, true),
		"length no multiple of 8": at(numbered(31), 0, 31, true), "beyond 65535": far,
	} {
		if _, err := re.Add(epoch, 1, b); err != ErrMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, _ := re.Pending(); p != 0 {
		t.Error("they left something behind")
	}
}

func TestReassemblyStaysWithinItsLimits(t *testing.T) {
	id := func(b []byte, n int) []byte {
		b = bytes.Clone(b)
		binary.BigEndian.PutUint16(b[4:], uint16(n))
		return b
	}
	first, last := at(numbered(800), 0, 400, true), at(numbered(800), 400, 800, false)
	re := NewReassembler(ReassemblyLimits{Packets: 10, Bytes: 1 << 20})
	for n := range 100 {
		if _, err := re.Add(epoch, 1, id(first, n)); err != nil {
			t.Fatal(err)
		}
		if p, _ := re.Pending(); p > 10 {
			t.Fatalf("%d packets", p)
		}
	}
	if got, _ := re.Add(epoch, 1, id(last, 99)); got == nil {
		t.Error("the newest was lost")
	}
	if got, _ := re.Add(epoch, 1, id(last, 89)); got != nil {
		t.Error("the oldest was kept")
	}
	re = NewReassembler(ReassemblyLimits{Bytes: 5000})
	for n := range 100 {
		if _, err := re.Add(epoch, 1, id(first, n)); err != nil {
			t.Fatal(err)
		}
		if _, b := re.Pending(); b > 5000 {
			t.Fatalf("%d bytes", b)
		}
	}
	if _, err := NewReassembler(ReassemblyLimits{Bytes: 400}).Add(epoch, 1, first); err != ErrReassembly {
		t.Error(err)
	}
	re = NewReassembler(ReassemblyLimits{Bytes: 700})
	if _, err := re.Add(epoch, 1, first); err != nil {
		t.Error(err)
	}
	if got, err := re.Add(epoch, 1, last); got != nil || err != ErrReassembly {
		t.Error("a packet that evicts itself", err)
	}
	if p, b := re.Pending(); p != 0 || b != 0 {
		t.Errorf("%d packets, %d bytes", p, b)
	}
	re = NewReassembler(ReassemblyLimits{Fragments: 4})
	for n := range 5 {
		_, err := re.Add(epoch, 1, at(numbered(800), n*8, n*8+8, true))
		if (err == ErrReassembly) != (n == 4) {
			t.Errorf("fragment %d: %v", n, err)
		}
	}
}

func TestFragmentsExpireAfterTheTimeout(t *testing.T) {
	f := split4(whole4(64), 32)
	re := NewReassembler(ReassemblyLimits{})
	if _, err := re.Add(epoch, 1, f[0]); err != nil {
		t.Fatal(err)
	}
	if n := re.Expire(epoch.Add(30*time.Second - 1)); n != 0 {
		t.Fatal("too early")
	}
	if n := re.Expire(epoch.Add(30 * time.Second)); n != 1 {
		t.Fatal("too late")
	}
	if p, b := re.Pending(); p != 0 || b != 0 {
		t.Fatalf("%d packets, %d bytes", p, b)
	}
}

func TestCongestionMarksOfFragmentsCombine(t *testing.T) {
	for name, c := range map[string]struct {
		a, b, want byte
		err        error
	}{
		"none": {0, 0, 0, nil}, "one marked": {ecnECT0, ecnCE, ecnCE, nil}, "contradiction": {ecnNot, ecnCE, 0, ErrCongestion},
	} {
		f := split4(whole4(64), 32)
		g := split6(whole6(64), 32)
		for _, frags := range [][][]byte{f, g} {
			setTOS(frags[0], 0x28|c.a)
			setTOS(frags[1], 0x28|c.b)
			re := NewReassembler(ReassemblyLimits{})
			if _, err := re.Add(epoch, 1, frags[0]); err != nil {
				t.Fatal(err)
			}
			got, err := re.Add(epoch, 1, frags[1])
			if err != c.err || err == nil && TOS(got) != 0x28|c.want {
				t.Errorf("%s: %x, %v", name, got, err)
			}
			if err == nil && got[0]>>4 == 4 && checksum(got[:20]) != 0 {
				t.Errorf("%s: checksum", name)
			}
		}
	}
}

// FuzzReassembly feeds fragments described by bytes: no panic, no limit broken, and
// what comes out is a whole packet made of what went in.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{0, 0, 4, 1, 0, 4, 4, 0})
	f.Add([]byte{1, 4, 4, 0, 1, 0, 4, 1})
	f.Add([]byte{0, 0, 4, 1, 0, 2, 4, 1, 8, 0, 4, 1, 8, 4, 4, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		limits := ReassemblyLimits{Bytes: 2000, Packets: 3, Fragments: 8}
		re := NewReassembler(limits)
		data := numbered(4096)
		now := epoch
		for ; len(script) >= 4; script = script[4:] {
			// kind: bit 0 family, bits 1-2 SA, bits 3-4 identification, bit 5 other bytes,
			// bits 6-7 seconds that pass.
			kind, from, n, more := script[0], int(script[1])*8, int(script[2]), script[3]&1
			if more != 0 {
				n &^= 7
			}
			src := data[from : from+n]
			if kind&32 != 0 {
				src = bytes.Repeat([]byte{0xee}, n)
			}
			b := ipv4(here4, there4, 17, src)
			if kind&1 != 0 {
				b = ipv6(here6, there6, extFragment, join([]byte{17, 0, byte(from >> 8), byte(from) | more, 0, 0, 0, kind >> 3 & 3}, src))
			} else {
				binary.BigEndian.PutUint16(b[4:], uint16(kind>>3&3))
				binary.BigEndian.PutUint16(b[6:], uint16(from/8)|uint16(more)<<13)
			}
			now = now.Add(time.Duration(kind>>6) * 10 * time.Second)
			whole, err := re.Add(now, ChildID(kind>>1&3), b)
			if whole != nil {
				if err != nil {
					t.Fatal(err)
				}
				p, err := ParsePacket(whole)
				if err != nil || p.Fragment || p.Length != len(whole) {
					t.Fatalf("%x: %+v, %v", whole, p, err)
				}
			}
			packets, size := re.Pending()
			if packets > limits.Packets || size > limits.Bytes || size < 0 || packets == 0 && size != 0 {
				t.Fatalf("%d packets, %d bytes", packets, size)
			}
		}
		re.Expire(now.Add(time.Minute))
		if packets, size := re.Pending(); packets != 0 || size != 0 {
			t.Fatalf("%d packets, %d bytes never expire", packets, size)
		}
	})
}
