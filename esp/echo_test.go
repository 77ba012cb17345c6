package esp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"
)

func TestAnEchoIsTheseBytes(t *testing.T) {
	e := Echo{Answer: true, Group: true, Seq: 0x0102030405060708, Stamp: -2, Far: 9, Received: 0x0a0b}
	want := "5965636801030000" + "0102030405060708" + "fffffffffffffffe" + "0000000000000009" + "0000000000000a0b" + "0000000000000000"
	b := AppendEcho([]byte("head"), e)
	if hex.EncodeToString(b[4:]) != want || len(b) != 4+EchoLen {
		t.Errorf("wrote %x", b[4:])
	}
	if got, err := ParseEcho(b[4:]); err != nil || got != e {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestWhatIsNoEchoIsRefused(t *testing.T) {
	good := AppendEcho(nil, Echo{Seq: 1, Stamp: 2})
	for n := range good {
		if _, err := ParseEcho(good[:n]); err != ErrMalformed {
			t.Errorf("%d bytes of an echo: %v", n, err)
		}
	}
	for at, value := range map[int]byte{0: 0x45, 4: 2, 5: 4, 6: 1, 7: 1, 31: 1 /* a request with an answer's time */, 47: 1} {
		b := bytes.Clone(good)
		b[at] = value
		if _, err := ParseEcho(b); err != ErrMalformed {
			t.Errorf("byte %d is %d: %v", at, value, err)
		}
	}
	if _, err := ParseEcho(append(good, 0)); err != ErrMalformed {
		t.Errorf("an echo and a byte: %v", err)
	}
}

func TestADummyPacketSpendsANumberAndNothingElse(t *testing.T) {
	for _, v := range variants() {
		out, in := v.pair(t, State{})
		want := Echo{Seq: 5, Stamp: 6}
		buf, payload := make([]byte, 0, 256), AppendEcho(nil, want)
		var packet []byte
		if n := testing.AllocsPerRun(100, func() { packet, _ = out.SealDummy(buf, payload) }); n != 0 {
			t.Errorf("%s: %v allocations", v, n)
		}
		inner, err := in.Open(nil, packet)
		if !errors.Is(err, ErrEcho) {
			t.Fatalf("%s: %v", v, err)
		}
		if got, err := ParseEcho(inner); err != nil || got != want {
			t.Errorf("%s: %+v, %v", v, got, err)
		}
		if out.Seq() != 101 || out.Count() != (Count{}) || in.Count() != (Count{}) || in.Drops() != (Drops{}) {
			t.Errorf("%s: number %d, counts %v %v, drops %+v", v, out.Seq(), out.Count(), in.Count(), in.Drops())
		}
		if !in.TookFirst() {
			t.Errorf("%s: it is no sign of life", v)
		}
		if _, err := in.Open(nil, packet); err != ErrReplayed && err != ErrAuth { // it was opened in place
			t.Errorf("%s: a second time: %v", v, err)
		}
		if packet, err = out.SealDummy(nil, []byte("something else")); err != nil {
			t.Fatal(err)
		}
		if inner, err := in.Open(nil, packet); err != ErrDummy || inner != nil || in.Drops().Dummy != 1 {
			t.Errorf("%s: another dummy packet: %x, %v", v, inner, err)
		}
	}
}

func TestARepeatedEchoIsAReplay(t *testing.T) {
	out, in := variants()[0].pair(t, State{})
	packet, err := out.SealDummy(nil, AppendEcho(nil, Echo{Seq: 1}))
	if err != nil {
		t.Fatal(err)
	}
	again := bytes.Clone(packet)
	if _, err := in.Open(nil, packet); err != ErrEcho {
		t.Fatal(err)
	}
	if _, err := in.Open(nil, again); err != ErrReplayed {
		t.Error(err)
	}
}

func TestAnEchoLeavesByNoSAThatIsAtItsEnd(t *testing.T) {
	payload := AppendEcho(nil, Echo{})
	out, _ := variants()[0].pair(t, State{OutSeq: 0xffffffff})
	if b, err := out.SealDummy([]byte("x"), payload); err != ErrExhausted || string(b) != "x" || !out.TookHardLimit() {
		t.Errorf("no number left: %v", err)
	}
	a, _ := variants()[0].ends()
	a.Limits.HardPackets = 1
	limited, err := NewOutbound(a, State{Out: Count{Packets: 1}}, counterReader(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := limited.SealDummy(nil, payload); err != nil {
		t.Errorf("before the limit is met: %v", err)
	}
	_, _ = limited.Seal(nil, variants()[0].packet(1))
	if _, err := limited.SealDummy(nil, payload); err != ErrLimit {
		t.Errorf("behind the limit: %v", err)
	}
	out.Close()
	if _, err := out.SealDummy(nil, payload); err != ErrClosed {
		t.Errorf("closed: %v", err)
	}
}

// FuzzParseEcho: what parses is written again as it was.
func FuzzParseEcho(f *testing.F) {
	f.Add(AppendEcho(nil, Echo{}))
	f.Add(AppendEcho(nil, Echo{Answer: true, Group: true, Seq: 1, Stamp: 2, Far: 3, Received: 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEcho(b)
		if err == nil && !bytes.Equal(AppendEcho(nil, e), b) {
			t.Fatalf("%x became %x", b, AppendEcho(nil, e))
		}
	})
}

func TestOnlyTheDataOfOurOwnPingsIsRead(t *testing.T) {
	ours, theirs := PingToken{1, 2, 3}, PingToken{1, 2, 4}
	want := Echo{Seq: 7, Stamp: 8, Group: true, Answer: true}
	data := AppendPingData(nil, ours, 9, Echo{Seq: 7, Stamp: 8, Group: true})
	if tag, e, ok := ParsePingData(data, ours); !ok || tag != 9 || e != want || len(data) != PingLen {
		t.Errorf("%d bytes are %d, %+v, %v", len(data), tag, e, ok)
	}
	if _, _, ok := ParsePingData(data, theirs); ok {
		t.Error("data of another is read")
	}
	for n := range data {
		if _, _, ok := ParsePingData(data[:n], ours); ok {
			t.Errorf("%d bytes are read", n)
		}
	}
	data[12] ^= 1
	if _, _, ok := ParsePingData(data, ours); ok {
		t.Error("what is no echo is read")
	}
}

func TestAPingAndItsAnswer(t *testing.T) {
	data := AppendEcho(nil, Echo{Seq: 7})
	for _, v := range []variant{{}, {v6: true}} {
		from, to, header, kinds := here4, there4, ipv4HeaderLen, [2]byte{8, 0}
		if v.v6 {
			from, to, header, kinds = here6, there6, ipv6HeaderLen, [2]byte{128, 129}
		}
		for _, odd := range []int{0, 1} {
			data := append(bytes.Clone(data), make([]byte, odd)...)
			b := AppendPing([]byte("head"), from, to, 0x1234, data)[4:]
			p, err := ParsePacket(b)
			if err != nil || p.Length != len(b) || p.Src != from || p.Dst != to || b[header] != kinds[0] {
				t.Fatalf("%x: %+v, %v", b, p, err)
			}
			if Pong(b, &p) != nil {
				t.Error("a request is taken for an answer")
			}
			if !v.v6 && fold(words(0, b[:header])) != 0xffff {
				t.Error("checksum of the header is wrong")
			}
			// The answer is the same with another type; the checksum follows.
			b[header] = kinds[1]
			if Pong(b, &p) != nil {
				t.Error("a wrong checksum is taken")
			}
			change := uint32(^(uint16(kinds[0]) << 8)) + uint32(kinds[1])<<8
			sum := ^fold(uint32(^(uint16(b[header+2])<<8|uint16(b[header+3])))&0xffff + change)
			b[header+2], b[header+3] = byte(sum>>8), byte(sum)
			if got := Pong(b, &p); !bytes.Equal(got, data) {
				t.Errorf("came back %x", got)
			}
			if _, ok := PingOf(b, &p); ok {
				t.Error("an answer is taken for a request")
			}
			for cut := range b {
				if p, err := ParsePacket(b[:cut]); err == nil && Pong(b[:cut], &p) != nil {
					t.Errorf("%d bytes of an answer are one", cut)
				}
			}
		}
	}
}

func TestAPingTurnedIsItsAnswer(t *testing.T) {
	want := Echo{Seq: 7, Stamp: 9}
	for _, ends := range [][2]netip.Addr{{here4, there4}, {here6, there6}} {
		b := AppendPing(nil, ends[0], ends[1], 3, AppendPingData(nil, PingToken{5}, 6, want))
		p, err := ParsePacket(b)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := PingOf(b, &p); !ok || e != want {
			t.Errorf("%v: read as %+v", ends, e)
		}
		TurnPing(b, &p)
		p, err = ParsePacket(b)
		if err != nil || p.Src != ends[1] || p.Dst != ends[0] {
			t.Fatalf("%v: the answer goes from %v to %v: %v", ends, p.Src, p.Dst, err)
		}
		if p.Src.Is4() && fold(words(0, b[:ipv4HeaderLen])) != 0xffff {
			t.Error("the checksum of the header is wrong")
		}
		if tag, e, ok := ParsePingData(Pong(b, &p), PingToken{5}); !ok || tag != 6 || e.Seq != 7 || e.Stamp != 9 {
			t.Errorf("%v: came back %d, %+v, %v", ends, tag, e, ok)
		}
		other := AppendPing(nil, ends[0], ends[1], 3, make([]byte, PingLen))
		p, _ = ParsePacket(other)
		if _, ok := PingOf(other, &p); ok {
			t.Error("somebody else's ping is taken for ours")
		}
	}
}

// FuzzPong: any packet may come.
func FuzzPong(f *testing.F) {
	f.Add(AppendPing(nil, here4, there4, 1, []byte("data")))
	f.Add(AppendPing(nil, here6, there6, 1, []byte("data")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePacket(b); err == nil {
			_ = Pong(b, &p)
			if _, ok := PingOf(b, &p); ok {
				TurnPing(b, &p)
			}
		}
	})
}
