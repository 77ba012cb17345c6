package esp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"yumen/policy"
	"yumen/policy/secret"
)

// variant is one way to set up an SA.
type variant struct {
	suite   policy.Suite
	icvBits int
	esn, v6 bool
}

func (v variant) String() string {
	name := fmt.Sprintf("CBC-%d", v.icvBits)
	switch v.suite {
	case policy.SM4GCM128:
		name = "GCM"
	case policy.AESCBCHMACSHA256:
		name = "AES"
	}
	return fmt.Sprintf("%s esn=%v v6=%v", name, v.esn, v.v6)
}

func variants() (all []variant) {
	for _, v := range []variant{
		{suite: policy.SM4CBCHMACSM3, icvBits: 96}, {suite: policy.SM4CBCHMACSM3, icvBits: 128},
		{suite: policy.SM4CBCHMACSM3, icvBits: 256}, {suite: policy.SM4GCM128}, {suite: policy.AESCBCHMACSHA256},
	} {
		for i := range 4 {
			v.esn, v.v6 = i&1 != 0, i&2 != 0
			all = append(all, v)
		}
	}
	return all
}

// ends returns the two ends of a child that carries traffic from here to there, as
// each of them sees it.
func (v variant) ends() (sender, receiver Child) {
	mat := numbered(KeymatLen(v.suite))
	sel := policy.Selector{Local: net("10.1.0.0/16"), Remote: net("10.2.0.0/16")}
	if v.v6 {
		sel = policy.Selector{Local: net("2001:db8:1::/48"), Remote: net("2001:db8:2::/48")}
	}
	c := Child{ID: 3, Tunnel: "t", Suite: v.suite, ICVBits: v.icvBits, ESN: v.esn, Window: 64}
	sender, receiver = c, c
	sender.Selector, receiver.Selector = sel, sel.Reverse()
	sender.Out = Half{SPI: 0x1001, Keymat: secret.New(mat)}
	receiver.In = Half{SPI: 0x1001, Keymat: secret.New(mat)}
	return sender, receiver
}

func (v variant) packet(n int) []byte {
	if v.v6 {
		return ipv6(here6, there6, protoUDP, numbered(n))
	}
	return ipv4(here4, there4, protoUDP, numbered(n))
}

func (v variant) pair(t testing.TB, st State) (*Outbound, *Inbound) {
	t.Helper()
	a, b := v.ends()
	out, err := NewOutbound(a, st, counterReader(1))
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewInbound(b, st)
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

func must(t testing.TB, out *Outbound, inner []byte) []byte {
	t.Helper()
	p, err := out.Seal(nil, inner)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryLengthComesBackAsItWent(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.String(), func(t *testing.T) {
			out, in := v.pair(t, State{})
			var total uint64
			for n := 0; n <= 2000; n++ {
				inner := v.packet(n)
				dst := append(make([]byte, 0, 2200), "head"...)
				sealed, err := out.Seal(dst, inner)
				if err != nil || &sealed[0] != &dst[0] || string(sealed[:4]) != "head" {
					t.Fatalf("length %d: %v", n, err)
				}
				packet := sealed[4:]
				if most := len(inner) + Overhead(v.suite, v.icvBits); len(packet) > most {
					t.Fatalf("length %d: %d bytes, more than %d", n, len(packet), most)
				}
				var got []byte
				if n%2 == 0 {
					got, err = in.Open(nil, packet)
				} else {
					got, err = in.Open(make([]byte, 10, 2200), packet)
				}
				if err != nil || !bytes.Equal(got, inner) {
					t.Fatalf("length %d: %v", n, err)
				}
				total += uint64(len(inner))
			}
			want := Count{Bytes: total, Packets: 2001}
			if out.Count() != want || in.Count() != want || in.Drops() != (Drops{}) || out.Seq() != 2001 {
				t.Fatalf("counts %v %v %v", out.Count(), in.Count(), in.Drops())
			}
		})
	}
}

func TestInnerPacketMayLieWhereThePlaintextGoes(t *testing.T) {
	for _, v := range variants() {
		for _, shift := range []int{0, 1, 5, 40} {
			out, in := v.pair(t, State{})
			inner := v.packet(301)
			buf := make([]byte, 600)
			place := buf[out.HeaderRoom()+shift:]
			copy(place, inner)
			packet, err := out.Seal(buf[:0], place[:len(inner)])
			if err != nil {
				t.Fatal(err)
			}
			got, err := in.Open(nil, packet)
			if err != nil || !bytes.Equal(got, inner) {
				t.Errorf("%v shift %d: %v", v, shift, err)
			}
		}
	}
}

// untouched fails when something but the drop counters of in changed.
func untouched(t *testing.T, in *Inbound, before State) {
	t.Helper()
	after := Export(in, nil)
	if after.InSeq != before.InSeq || after.In != before.In || len(after.Replay) != len(before.Replay) {
		t.Fatalf("state changed: %v, was %v", after, before)
	}
	for i := range after.Replay {
		if after.Replay[i] != before.Replay[i] {
			t.Fatal("window changed")
		}
	}
	if in.first.raised() || in.meter.soft.raised() || in.meter.hard.raised() {
		t.Fatal("notice raised")
	}
}

func TestEveryPrefixAndEveryFlippedBitIsRefused(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.String(), func(t *testing.T) {
			out, in := v.pair(t, State{})
			inner := v.packet(33)
			packet := must(t, out, inner)
			before := Export(in, nil)
			for n := range packet {
				if _, err := in.Open(nil, bytes.Clone(packet[:n])); err == nil {
					t.Fatalf("prefix of %d accepted", n)
				}
				untouched(t, in, before)
			}
			for bit := range len(packet) * 8 {
				forged := bytes.Clone(packet)
				forged[bit/8] ^= 1 << (bit % 8)
				dst := bytes.Repeat([]byte{0}, 300)
				_, err := in.Open(dst[:0], forged)
				if !errors.Is(err, ErrAuth) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrReplayed) {
					t.Fatalf("bit %d: %v", bit, err)
				}
				if !bytes.Equal(dst, make([]byte, 300)) {
					t.Fatalf("bit %d: unauthentic plaintext left behind", bit)
				}
				untouched(t, in, before)
			}
			d := in.Drops()
			if d.BadAuth == 0 || d.Malformed+d.Replayed+d.BadAuth != uint64(len(packet)*9) {
				t.Fatalf("counted %+v for %d", d, len(packet)*9)
			}
			if got, err := in.Open(nil, packet); err != nil || !bytes.Equal(got, inner) {
				t.Fatalf("the packet itself: %v", err)
			}
			if !in.TookFirst() || in.TookFirst() {
				t.Fatal("first packet is told once")
			}
		})
	}
}

func TestTrailingBytesAreRefused(t *testing.T) {
	for _, v := range variants() {
		out, in := v.pair(t, State{})
		packet := must(t, out, v.packet(5))
		for n := 1; n <= 32; n++ {
			if _, err := in.Open(nil, append(bytes.Clone(packet), make([]byte, n)...)); err == nil {
				t.Errorf("%v: %d more bytes accepted", v, n)
			}
		}
	}
}

func TestReplayedPacketIsRefused(t *testing.T) {
	v := variants()[0]
	out, in := v.pair(t, State{})
	var sent [][]byte
	for range 200 {
		sent = append(sent, must(t, out, v.packet(1)))
	}
	open := func(i int, want error) {
		t.Helper()
		if _, err := in.Open(nil, bytes.Clone(sent[i])); !errors.Is(err, want) {
			t.Fatalf("packet %d: %v, want %v", i, err, want)
		}
	}
	open(99, nil)
	open(99, ErrReplayed)
	open(36, nil) // 63 older: the last place of the window
	open(35, ErrReplayed)
	open(36, ErrReplayed)
	open(199, nil)
	open(100, ErrReplayed)
	open(150, nil)
	if d := in.Drops(); d.Replayed != 4 {
		t.Fatalf("%+v", d)
	}
	if !in.Highest(sent[199]) || in.Highest(sent[150]) {
		t.Fatal("highest")
	}
}

func TestSequenceNumbersStopWithoutESN(t *testing.T) {
	for _, v := range variants() {
		if v.esn {
			continue
		}
		out, in := v.pair(t, State{OutSeq: math.MaxUint32 - 2, InSeq: math.MaxUint32 - 2})
		for range 2 {
			if _, err := in.Open(nil, must(t, out, v.packet(1))); err != nil {
				t.Fatal(err)
			}
		}
		if !out.TookSoftLimit() || out.TookHardLimit() {
			t.Fatal("the end is announced")
		}
		for range 2 {
			if got, err := out.Seal(nil, v.packet(1)); err != ErrExhausted || got != nil {
				t.Fatalf("%x, %v", got, err)
			}
		}
		if !out.TookHardLimit() || out.TookHardLimit() || out.Seq() != math.MaxUint32 {
			t.Fatal("hard limit is told once")
		}
	}
}

func TestESNCrossesTheWord(t *testing.T) {
	for _, v := range variants() {
		if !v.esn {
			continue
		}
		const start = math.MaxUint32 - 20
		out, in := v.pair(t, State{OutSeq: start, InSeq: start})
		var sent [][]byte
		for range 40 {
			sent = append(sent, must(t, out, v.packet(9)))
		}
		// Every fifth first, then all: numbers go back and forth across 2^32.
		for i := 0; i < 40; i += 5 {
			if _, err := in.Open(nil, bytes.Clone(sent[i])); err != nil {
				t.Fatalf("%v: packet %d: %v", v, i, err)
			}
		}
		for i, p := range sent {
			_, err := in.Open(nil, bytes.Clone(p))
			if want := i%5 == 0; errors.Is(err, ErrReplayed) != want || !want && err != nil {
				t.Fatalf("%v: packet %d: %v", v, i, err)
			}
		}
		if st := Export(in, out); st.InSeq != start+40 || st.OutSeq != start+40 {
			t.Fatalf("%+v", st)
		}
	}
}

func TestESNEndsAtTheLastNumber(t *testing.T) {
	v := variant{suite: policy.SM4GCM128, esn: true}
	out, in := v.pair(t, State{OutSeq: math.MaxUint64 - 1, InSeq: math.MaxUint64 - 1})
	if _, err := in.Open(nil, must(t, out, v.packet(1))); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Seal(nil, v.packet(1)); err != ErrExhausted {
		t.Fatal(err)
	}
}

func TestHighHalfOfESNIsAuthenticated(t *testing.T) {
	for _, v := range variants() {
		if !v.esn {
			continue
		}
		out, _ := v.pair(t, State{OutSeq: 1<<32 + 5})
		_, in := v.pair(t, State{InSeq: 5}) // one subspace behind: reads 2^32+6 as 6
		if _, err := in.Open(nil, must(t, out, v.packet(1))); err != ErrAuth {
			t.Errorf("%v: %v", v, err)
		}
	}
}

func TestSecondSAGoesOnWhereTheFirstStopped(t *testing.T) {
	for _, v := range variants() {
		out, in := v.pair(t, State{})
		var old [][]byte
		for i := range 100 {
			p := must(t, out, v.packet(i))
			if i%3 == 0 {
				old = append(old, bytes.Clone(p))
				if _, err := in.Open(nil, p); err != nil {
					t.Fatal(err)
				}
			}
		}
		st := Export(in, out)
		out.Close()
		in.Close()
		out2, in2 := v.pair(t, st)
		for _, p := range old {
			// With ESN a number left of the window reads as one of the next subspace,
			// and then the ICV, which covers the high half, cannot match.
			_, err := in2.Open(nil, bytes.Clone(p))
			if err != ErrReplayed && !(v.esn && err == ErrAuth) {
				t.Fatalf("%v: %v", v, err)
			}
		}
		if _, err := in2.Open(nil, must(t, out2, v.packet(1))); err != nil || out2.Seq() != 101 {
			t.Fatalf("%v: %v", v, err)
		}
		if in2.Count().Packets != 35 || out2.Count().Packets != 101 {
			t.Fatalf("counts %v %v", in2.Count(), out2.Count())
		}
	}
}

// TestAnotherICVLengthIsAFailureOfAuthentication whether or not the ciphertext
// still ends between blocks: operators learn of the mismatch by that counter.
func TestAnotherICVLengthIsAFailureOfAuthentication(t *testing.T) {
	lengths := []int{96, 128, 256}
	for _, ours := range lengths {
		for _, theirs := range lengths {
			out, _ := variant{suite: policy.SM4CBCHMACSM3, icvBits: theirs}.pair(t, State{})
			v := variant{suite: policy.SM4CBCHMACSM3, icvBits: ours}
			_, in := v.pair(t, State{})
			_, err := in.Open(nil, must(t, out, v.packet(100)))
			if ours == theirs && err != nil || ours != theirs && (err != ErrAuth || in.Drops().BadAuth != 1) {
				t.Errorf("%d bits here, %d there: %v, %+v", ours, theirs, err, in.Drops())
			}
		}
	}
}
