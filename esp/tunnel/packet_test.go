package tunnel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
)

func packet4(payload int, df bool) []byte {
	b := make([]byte, 20+payload)
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[4:], 7)
	if df {
		b[6] = 0x40
	}
	copy(b[12:], []byte{10, 1, 0, 2, 10, 2, 0, 2})
	for i := range payload {
		b[20+i] = byte(i * 7)
	}
	putHeaderChecksum(b[:20])
	return b
}

// packet6 carries destination options before its payload when options is set.
func packet6(payload int, options bool) []byte {
	b := make([]byte, 40, 48+payload)
	b[0], b[6], b[7] = 0x60, 17, 64
	from, to := netip.MustParseAddr("fd01::2").As16(), netip.MustParseAddr("fd02::2").As16()
	copy(b[8:], from[:])
	copy(b[24:], to[:])
	if options {
		b[6] = 0
		b = append(b, 17, 0, 1, 4, 0, 0, 0, 0) // hop by hop, PadN
	}
	for i := range payload {
		b = append(b, byte(i*7))
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

func TestFragmentsGoTogetherAgain(t *testing.T) {
	for _, whole := range [][]byte{packet4(4000, false), packet4(1381, false), packet6(4000, false), packet6(3001, true)} {
		for _, mtu := range []int{1280, 1400, 1438, 576} {
			r := esp.NewReassembler(esp.ReassemblyLimits{})
			pieces, err := fragments(whole, make([]byte, maxPacket), mtu, 99)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			n := 0
			for piece := range pieces {
				n++
				if len(piece) > mtu {
					t.Errorf("a piece of %d bytes, mtu %d", len(piece), mtu)
				}
				if len(whole) <= mtu {
					got = bytes.Clone(piece)
					continue
				}
				if piece[0]>>4 == 4 && fold(sum(0, piece[:20])) != 0xffff {
					t.Error("checksum of a fragment's header")
				}
				if got, err = r.Add(time.Time{}, 0, bytes.Clone(piece)); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, whole) {
				t.Errorf("mtu %d: %d pieces of %d bytes became %d bytes", mtu, n, len(whole), len(got))
			}
		}
	}
}

func TestAFragmentIsCutFurther(t *testing.T) {
	whole := packet4(4000, false)
	r := esp.NewReassembler(esp.ReassemblyLimits{})
	outer, _ := fragments(whole, make([]byte, maxPacket), 1500, 0)
	var got []byte
	for piece := range outer {
		inner, err := fragments(bytes.Clone(piece), make([]byte, maxPacket), 600, 0)
		if err != nil {
			t.Fatal(err)
		}
		for p := range inner {
			if whole, err := r.Add(time.Time{}, 0, bytes.Clone(p)); err != nil {
				t.Fatal(err)
			} else if whole != nil {
				got = whole
			}
		}
	}
	if !bytes.Equal(got, whole) {
		t.Error("fragments of fragments do not make the packet")
	}
}

func TestTooBigNamesTheSizeAndQuotesThePacket(t *testing.T) {
	buf := make([]byte, maxPacket)
	whole := packet4(1480, true)
	b := tooBig(buf, whole, netip.MustParseAddr("10.1.0.1"), 1438)
	switch {
	case len(b) != 576 || b[20] != 3 || b[21] != 4 || binary.BigEndian.Uint16(b[26:]) != 1438:
		t.Errorf("not fragmentation needed: % x", b[:28])
	case fold(sum(0, b[:20])) != 0xffff || fold(sum(0, b[20:])) != 0xffff:
		t.Error("checksum")
	case !bytes.Equal(b[16:20], whole[12:16]) || !bytes.Equal(b[28:], whole[:548]):
		t.Error("not to the sender, or not its packet")
	}
	whole = packet6(1440, false)
	b = tooBig(buf, whole, netip.MustParseAddr("fd01::1"), 1400)
	switch {
	case len(b) != 1280 || b[40] != 2 || binary.BigEndian.Uint32(b[44:]) != 1400:
		t.Errorf("not packet too big: % x", b[:48])
	case fold(sum(sum(0, b[8:40])+uint32(len(b)-40)+58, b[40:])) != 0xffff:
		t.Error("checksum")
	}
}

func TestNoErrorIsSentAboutErrorsFragmentsAndGroups(t *testing.T) {
	from := netip.MustParseAddr("10.1.0.1")
	about := func(change func(b []byte)) []byte {
		b := packet4(1480, true)
		change(b)
		return tooBig(make([]byte, maxPacket), b, from, 1400)
	}
	for name, change := range map[string]func(b []byte){
		"icmp error":     func(b []byte) { b[9], b[20] = 1, 3 },
		"later fragment": func(b []byte) { b[7] = 9 },
		"group":          func(b []byte) { b[16] = 224 },
		"no sender":      func(b []byte) { clear(b[12:16]) },
		"short header":   func(b []byte) { b[0] = 0x44 },
	} {
		if about(change) != nil {
			t.Errorf("answered: %s", name)
		}
	}
	if about(func([]byte) {}) == nil {
		t.Error("an ordinary packet is not answered")
	}
}

func TestOuterHeaderIsWhatThePathSays(t *testing.T) {
	path := esp.Path{Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.1:61000"), Encap: true}
	b := make([]byte, 28+100)
	putOuter4(b, udp4, path, outerLook{tos: 0xb8, df: true, id: 3})
	want := []byte{0x45, 0xb8, 0, 128, 0, 3, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1, 0x11, 0x94, 0xee, 0x48, 0, 108, 0, 0}
	if !bytes.Equal(b[:28], want) {
		t.Errorf("got  % x\nwant % x", b[:28], want)
	}
	putOuter4(b, raw4, path, outerLook{})
	if b[9] != 50 || b[6] != 0 {
		t.Errorf("raw header % x", b[:20])
	}
}

func FuzzFragmentsNeverExceedTheSize(f *testing.F) {
	f.Add(packet4(3000, false), 1400)
	f.Add(packet6(3000, true), 1400)
	f.Add([]byte{0x4f, 0, 0, 0}, 68)
	f.Fuzz(func(t *testing.T, b []byte, mtu int) {
		if mtu < 0 || mtu > maxPacket || len(b) > maxPacket {
			return
		}
		pieces, err := fragments(b, make([]byte, maxPacket), mtu, 1)
		if err != nil {
			return
		}
		for piece := range pieces {
			if len(piece) > mtu {
				t.Fatalf("a piece of %d bytes, size %d", len(piece), mtu)
			}
		}
		tooBig(make([]byte, maxPacket), b, netip.IPv6Loopback(), 1280)
		tooBig(make([]byte, maxPacket), b, netip.MustParseAddr("127.0.0.1"), 1280)
	})
}
