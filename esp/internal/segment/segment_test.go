package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// slowSum is RFC 1071 word by word.
func slowSum(s uint32, b []byte) uint16 {
	for i, x := range b {
		if i%2 == 0 {
			s += uint32(x) << 8
		} else {
			s += uint32(x)
		}
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestSumIsThatOfSixteenBitWords(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 3000 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
			if n%3 == 0 {
				b[i] = 0xff // carries everywhere
			}
		}
		if got, want := fold(sum(0, b))%0xffff, slowSum(0, b)%0xffff; got != want {
			t.Fatalf("%d bytes: %04x, want %04x", n, got, want)
		}
	}
}

// flow makes packets of one flow.
type flow struct {
	v6, udp bool
	port    uint16
	seq     uint32
	id      uint16
	df      bool
	options int
}

func (f *flow) packet(payload []byte, flags byte) []byte {
	ip, head := ip4Len, tcpLen+f.options
	if f.v6 {
		ip = ip6Len
	}
	if f.udp {
		head = udpLen
	}
	b := make([]byte, ip+head, ip+head+len(payload))
	b = append(b, payload...)
	proto := byte(protoTCP)
	if f.udp {
		proto = protoUDP
	}
	if f.v6 {
		b[0], b[6], b[7] = 0x60, proto, 60
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ip6Len))
		b[8], b[23], b[24], b[39] = 0xfd, 1, 0xfd, 2
	} else {
		b[0], b[8], b[9] = 0x45, 60, proto
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[4:], f.id)
		f.id++
		if f.df {
			b[6] = 0x40
		}
		copy(b[12:], []byte{10, 1, 0, 2, 10, 2, 0, 2})
		putHeader4(b[:ip4Len])
	}
	t := b[ip:]
	binary.BigEndian.PutUint16(t, 1000+f.port)
	binary.BigEndian.PutUint16(t[2:], 2000)
	at := 16
	if f.udp {
		at = 6
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	} else {
		binary.BigEndian.PutUint32(t[4:], f.seq)
		binary.BigEndian.PutUint32(t[8:], 77)
		t[12], t[13] = byte(head/4)<<4, flags
		binary.BigEndian.PutUint16(t[14:], 500)
		for i := range f.options {
			t[tcpLen+i] = 1
		}
		f.seq += uint32(len(payload))
	}
	check := ^fold(sum(pseudo(b, proto, len(t)), t))
	if check == 0 && f.udp {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(t[at:], check)
	return b
}

func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// whole is what the kernel would read: header and packet in one.
func (g *Group) whole() (Header, []byte, error) {
	h, err := ParseHeader(g.Head[:])
	return h, bytes.Join(g.Pieces, nil), err
}

// cut is the way back.
func cut(t testing.TB, g *Group) (out [][]byte) {
	t.Helper()
	h, b, err := g.whole()
	if err != nil {
		t.Fatal(err)
	}
	if h.Kind == Whole {
		return [][]byte{b}
	}
	var s Splitter
	if err := s.Start(h, b); err != nil {
		t.Fatal(err)
	}
	for s.Left() > 0 {
		dst := make([]byte, s.Left())
		if n := s.Next(dst); n != len(dst) || n > s.Largest() {
			t.Fatalf("%d bytes of %d, largest %d", n, len(dst), s.Largest())
		}
		out = append(out, dst)
	}
	return out
}

func clone(list [][]byte) (out [][]byte) {
	for _, b := range list {
		out = append(out, bytes.Clone(b))
	}
	return out
}

// joined adds packets and returns the sizes of groups, and what cutting gives.
func joined(t testing.TB, j *Joiner, packets [][]byte) (counts []int, back [][]byte) {
	t.Helper()
	j.Reset()
	for _, p := range packets {
		j.Add(p)
	}
	for i := range j.Finish() {
		g := &j.groups[i]
		counts = append(counts, g.Count())
		back = append(back, cut(t, g)...)
	}
	return counts, back
}

func TestCuttingWhatWasJoinedGivesTheSamePackets(t *testing.T) {
	for _, f := range []flow{{df: true}, {options: 12, df: true}, {v6: true}, {v6: true, options: 12},
		{udp: true}, {udp: true, df: true}, {udp: true, v6: true}, {seq: 0xffffff00, id: 0xfffe}} {
		t.Run(fmt.Sprintf("%+v", f), func(t *testing.T) {
			var packets [][]byte
			for i := range 5 {
				size := 1400
				if i == 4 {
					size = 77
				}
				flags := byte(tcpACK)
				if i == 4 {
					flags |= tcpPSH
				}
				packets = append(packets, f.packet(noise(size, uint64(i)), flags))
			}
			want := clone(packets)
			counts, back := joined(t, &Joiner{TCP: true, UDP: true}, packets)
			if len(counts) != 1 || counts[0] != 5 {
				t.Fatalf("groups of %v, want all five in one", counts)
			}
			for i := range want {
				if !bytes.Equal(back[i], want[i]) {
					t.Errorf("packet %d differs:\n% x\n% x", i, back[i][:60], want[i][:60])
				}
			}
		})
	}
}

func TestWhatDoesNotFollowIsNotJoined(t *testing.T) {
	change := func(at int, x byte) func(b []byte) []byte {
		return func(b []byte) []byte { b[at] ^= x; return b }
	}
	for name, c := range map[string]struct {
		f    flow
		make func(second []byte) []byte
	}{
		"another tos":           {flow{}, change(1, 2)},
		"another ttl":           {flow{}, change(8, 1)},
		"another df":            {flow{}, change(6, 0x40)},
		"a fragment":            {flow{}, change(6, 0x20)},
		"another id":            {flow{}, change(5, 4)},
		"another sequence":      {flow{}, change(27, 1)},
		"another ack":           {flow{}, change(31, 1)},
		"another window":        {flow{}, change(35, 1)},
		"fin":                   {flow{}, change(33, tcpFIN)},
		"another option":        {flow{options: 4}, change(40, 1)},
		"a damaged payload":     {flow{}, change(90, 1)},
		"a damaged header":      {flow{}, change(10, 1)},
		"a larger packet":       {flow{}, func([]byte) []byte { f := flow{seq: 1000, id: 1}; return f.packet(noise(1001, 1), tcpACK) }},
		"another flow label":    {flow{v6: true}, change(3, 1)},
		"another hop limit":     {flow{v6: true}, change(7, 1)},
		"another traffic class": {flow{v6: true}, change(1, 0x10)},
		"udp without checksum":  {flow{udp: true}, func(b []byte) []byte { b[26], b[27] = 0, 0; return b }},
	} {
		first := c.f.packet(noise(1000, 1), tcpACK)
		second := c.make(c.f.packet(noise(1000, 2), tcpACK))
		if b := second; name != "a damaged header" && b[0]>>4 == 4 {
			putHeader4(b[:ip4Len])
		}
		want := clone([][]byte{first, second})
		counts, back := joined(t, &Joiner{TCP: true, UDP: true}, [][]byte{first, second})
		if len(counts) != 2 || !bytes.Equal(back[0], want[0]) || !bytes.Equal(back[1], want[1]) {
			t.Errorf("%s: groups of %v", name, counts)
		}
	}
}

// Packets of many flows mixed: each flow keeps its order and nothing is lost.
func TestFlowsKeepTheirOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	j := &Joiner{TCP: true, UDP: true}
	together := 0
	for range 300 {
		flows := make([]flow, 1+r.IntN(12))
		for i := range flows {
			flows[i] = flow{port: uint16(i), v6: r.IntN(2) == 0, udp: r.IntN(2) == 0, df: r.IntN(2) == 0}
		}
		var packets [][]byte
		for n := range 64 {
			f := &flows[r.IntN(len(flows))]
			flags := byte(tcpACK)
			if r.IntN(8) == 0 {
				flags |= tcpPSH
			}
			p := f.packet(noise([]int{0, 100, 100, 100, 1400}[r.IntN(5)], uint64(n)), flags)
			if r.IntN(20) == 0 {
				if p[0]>>4 == 6 {
					p[7] ^= 1
				} else {
					p[8] ^= 1 // the checksum is wrong then
				}
			}
			packets = append(packets, p)
		}
		want := clone(packets)
		counts, back := joined(t, j, packets)
		together += len(packets) - len(counts)
		if len(back) != len(want) {
			t.Fatalf("%d packets became %d", len(want), len(back))
		}
		of := func(list [][]byte) map[string][]string {
			m := map[string][]string{}
			for _, b := range list {
				at := ip4Len
				if b[0]>>4 == 6 {
					at = ip6Len
				}
				b = bytes.Clone(b)
				if b[0]>>4 == 4 && b[6]&0x40 != 0 {
					clear(b[4:6]) // means nothing and may differ
					clear(b[10:12])
				}
				key := string(b[:1]) + string(b[at:at+4])
				m[key] = append(m[key], string(b))
			}
			return m
		}
		a, b := of(want), of(back)
		for key := range a {
			for i := range a[key] {
				if a[key][i] != b[key][i] {
					t.Fatalf("flow %x: packet %d is not the one that came:\n% x\n% x", key, i, a[key][i][:min(90, len(a[key][i]))], b[key][i][:min(90, len(b[key][i]))])
				}
			}
		}
	}
	if together < 500 {
		t.Errorf("only %d packets were joined: this test tests nothing", together)
	}
}

func TestCompleteFinishesAChecksum(t *testing.T) {
	for _, f := range []flow{{}, {udp: true}, {v6: true, udp: true}} {
		b := f.packet(noise(333, 1), tcpACK)
		want := bytes.Clone(b)
		sh := shapeOf(b)
		h := Header{Checksum: true, Start: sh.transport, Offset: 16}
		if f.udp {
			h.Offset = 6
		}
		at := h.Start + h.Offset
		binary.BigEndian.PutUint16(b[at:], fold(pseudo(b, sh.protocol, len(b)-sh.transport)))
		if err := Complete(h, b); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%+v: %v: % x, want % x", f, err, b[at:at+2], want[at:at+2])
		}
		h.Start = len(b)
		if Complete(h, b) == nil {
			t.Error("a checksum behind the packet")
		}
	}
}

func TestNothingIsAllocatedForABatch(t *testing.T) {
	f := flow{df: true}
	var packets [][]byte
	for range 40 {
		packets = append(packets, f.packet(noise(1400, 1), tcpACK))
	}
	j := &Joiner{TCP: true}
	dst := make([]byte, 2000)
	large := make([]byte, 0, 70000)
	first := bytes.Clone(packets[0])
	both := func() {
		j.Reset()
		copy(packets[0], first)
		for _, p := range packets {
			j.Add(p)
		}
		g := &j.Finish()[0]
		h, err := ParseHeader(g.Head[:])
		if err != nil {
			t.Fatal(err)
		}
		large = large[:0]
		for _, p := range g.Pieces {
			large = append(large, p...)
		}
		var s Splitter
		if err := s.Start(h, large); err != nil {
			t.Fatal(err)
		}
		for s.Next(dst) > 0 {
		}
	}
	both()
	if n := testing.AllocsPerRun(100, both); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSplit(f *testing.F) {
	var fl flow
	b := fl.packet(noise(3000, 1), tcpACK)
	head := make([]byte, HeaderLen)
	Header{Kind: TCP4, Checksum: true, Size: 1000, Start: 20, Offset: 16}.put(head, 40)
	f.Add(append(head, b...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil || len(b) > 65535 {
			return
		}
		b = b[HeaderLen:]
		if h.Kind == Whole {
			_ = Complete(h, b)
			return
		}
		var s Splitter
		if s.Start(h, b) != nil {
			return
		}
		total, dst := 0, make([]byte, s.Largest())
		for n := s.Next(dst); n > 0; n = s.Next(dst) {
			total += n - s.head
		}
		if total != len(b)-s.head {
			t.Fatalf("%d bytes of payload became %d", len(b)-s.head, total)
		}
	})
}

func FuzzJoin(f *testing.F) {
	var fl flow
	a, b := fl.packet(noise(100, 1), tcpACK), fl.packet(noise(100, 2), tcpACK)
	f.Add(a, b)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) == 0 || len(b) == 0 || len(a)+len(b) > 65535 {
			return
		}
		want := clone([][]byte{a, b})
		_, back := joined(t, &Joiner{TCP: true, UDP: true}, clone(want))
		if len(back) != 2 {
			t.Fatalf("2 packets became %d", len(back))
		}
		for i := range want {
			if len(want[i]) != len(back[i]) || len(want[i]) > 28 && !bytes.Equal(want[i][28:], back[i][28:]) {
				t.Fatalf("packet %d differs", i)
			}
		}
	})
}

func BenchmarkSplitAndJoin(b *testing.B) {
	f := flow{df: true}
	packets := make([][]byte, 40)
	for i := range packets {
		packets[i] = f.packet(noise(1400, 1), tcpACK)
	}
	j, first := &Joiner{TCP: true}, bytes.Clone(packets[0])
	for _, p := range packets {
		j.Add(p)
	}
	h, large, err := (&j.Finish()[0]).whole()
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 2000)
	b.Run("split", func(b *testing.B) {
		b.SetBytes(int64(len(large)))
		b.ReportAllocs()
		for b.Loop() {
			var s Splitter
			_ = s.Start(h, large)
			for s.Next(dst) > 0 {
			}
		}
	})
	b.Run("join", func(b *testing.B) {
		b.SetBytes(int64(len(large)))
		b.ReportAllocs()
		for b.Loop() {
			copy(packets[0], first)
			j.Reset()
			for _, p := range packets {
				j.Add(p)
			}
			j.Finish()
		}
	})
}
