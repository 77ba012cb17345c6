package esp

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"yumen/policy"
	"yumen/policy/secret"
)

// learner returns a peer that sends with a known length, and our two halves, which do
// not know it. What we send the peer opens with the last.
func learner(t *testing.T, bits int, esn bool) (peer *Outbound, in *Inbound, out *Outbound, back *Inbound) {
	t.Helper()
	known := variant{suite: policy.SM4CBCHMACSM3, icvBits: bits, esn: esn}
	open := known
	open.icvBits = policy.ICVAuto
	st := State{OutSeq: 1<<32 - 3, InSeq: 1<<32 - 3} // with ESN the high half changes soon
	if !esn {
		st = State{}
	}
	peer, back = known.pair(t, st)
	out, in = open.pair(t, st)
	return peer, in, out, back
}

func TestTheFirstAuthenticPacketFixesTheLength(t *testing.T) {
	for _, bits := range []int{96, 128, 256} {
		for _, esn := range []bool{false, true} {
			for _, batch := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d bits, esn %t, batch %t", bits, esn, batch), func(t *testing.T) {
					peer, in, out, back := learner(t, bits, esn)
					seal, open := one, single
					if batch {
						seal, open = oneOfBatch, singleOfBatch
					}
					inner := variant{}.packet(100)
					if n := len(seal(t, out, inner)); n != beforeInner+inPadded(inner)+12 {
						t.Fatalf("unheard, %d bytes are sent", n)
					}
					// Forged packets of every length change nothing.
					for cut := range 40 {
						forged := must(t, peer, inner)
						forged = forged[:len(forged)-cut]
						forged[len(forged)-1] ^= 1
						if _, err := open(in, forged); !errors.Is(err, ErrAuth) {
							t.Fatalf("forged, %d bytes less: %v", cut, err)
						}
					}
					if in.FoundICV() != 0 || in.TookFirst() || in.Drops().BadAuth != 40 {
						t.Fatalf("forged packets: found %d, %+v", in.FoundICV(), in.Drops())
					}
					for n := range 40 {
						inner := variant{}.packet(n)
						got, err := open(in, must(t, peer, inner))
						if err != nil || !bytes.Equal(got, inner) || in.FoundICV() != bits {
							t.Fatalf("packet %d: found %d, %v", n, in.FoundICV(), err)
						}
					}
					if !in.TookFirst() {
						t.Error("the first packet is not told")
					}
					out.FollowICV(in.FoundICV())
					if _, err := back.Open(nil, seal(t, out, variant{}.packet(100))); err != nil {
						t.Errorf("what follows the peer's length: %v", err)
					}
				})
			}
		}
	}
}

// beforeInner is SPI, number and IV.
const beforeInner = 24

func inPadded(inner []byte) int { return (len(inner) + trailerLen + 15) / 16 * 16 }

func one(t *testing.T, o *Outbound, inner []byte) []byte { return must(t, o, inner) }

func oneOfBatch(t *testing.T, o *Outbound, inner []byte) []byte {
	t.Helper()
	jobs := []Sealing{{SA: o, Inner: inner}}
	new(Batch).Seal(jobs)
	if jobs[0].Err != nil {
		t.Fatal(jobs[0].Err)
	}
	return jobs[0].Packet
}

func single(in *Inbound, packet []byte) ([]byte, error) { return in.Open(nil, packet) }

func singleOfBatch(in *Inbound, packet []byte) ([]byte, error) {
	jobs := []Opening{{SA: in, Packet: packet}}
	new(Batch).Open(jobs)
	return jobs[0].Inner, jobs[0].Err
}

func TestALengthOnceFoundStays(t *testing.T) {
	peer, in, _, _ := learner(t, 256, false)
	inner := variant{}.packet(60)
	if _, err := in.Open(nil, must(t, peer, inner)); err != nil {
		t.Fatal(err)
	}
	// The same keys with a shorter length: authentic, but not what was fixed.
	shorter, _, _, _ := learner(t, 96, false)
	for range 5 {
		must(t, shorter, inner)
	}
	for _, open := range []func(*Inbound, []byte) ([]byte, error){single, singleOfBatch} {
		if _, err := open(in, must(t, shorter, inner)); !errors.Is(err, ErrAuth) {
			t.Errorf("a shorter ICV after a longer one: %v", err)
		}
	}
	if in.FoundICV() != 256 {
		t.Errorf("found %d", in.FoundICV())
	}
}

func TestAKnownLengthIsNotLearned(t *testing.T) {
	for _, bits := range []int{128, 256} {
		v := variant{suite: policy.SM4CBCHMACSM3, icvBits: bits}
		out, in := v.pair(t, State{})
		out.FollowICV(96)
		if _, err := in.Open(nil, must(t, out, v.packet(60))); err != nil {
			t.Errorf("a child of %d bits followed another length: %v", bits, err)
		}
		peer, _, _, _ := learner(t, 96, false)
		must(t, peer, v.packet(60))
		if _, err := in.Open(nil, must(t, peer, v.packet(60))); !errors.Is(err, ErrAuth) || in.FoundICV() != 0 {
			t.Errorf("a child of %d bits took 96: %v, found %d", bits, err, in.FoundICV())
		}
	}
}

// In one batch, the packet that fixes the length and those after it all pass, and what
// is sealed on both sides of the moment has one length each.
func TestABatchMayHoldTheMomentOfLearning(t *testing.T) {
	peer, in, out, back := learner(t, 256, true)
	var open []Opening
	for n := range 6 {
		open = append(open, Opening{SA: in, Packet: must(t, peer, variant{}.packet(10*n))})
	}
	open[2].Packet = bytes.Clone(open[2].Packet)
	open[2].Packet[30] ^= 1
	b := new(Batch)
	b.Open(open)
	for n, j := range open {
		if (j.Err != nil) != (n == 2) {
			t.Errorf("packet %d of the batch: %v", n, j.Err)
		}
	}
	inner := variant{}.packet(50)
	out.FollowICV(in.FoundICV())
	seal := []Sealing{{SA: out, Inner: inner}, {SA: out, Inner: inner}, {SA: out, Inner: inner}}
	b.Seal(seal)
	for n, j := range seal {
		if _, err := back.Open(nil, j.Packet); err != nil {
			t.Errorf("sealed packet %d: %v", n, err)
		}
	}
}

func TestRoomIsKeptForTheLongestLength(t *testing.T) {
	c := Child{Suite: policy.SM4CBCHMACSM3, ICVBits: policy.ICVAuto}
	long := c
	long.ICVBits = 256
	if got, want := MaxInner(c, 1500), MaxInner(long, 1500); got != want || got == 0 {
		t.Errorf("largest inner packet %d, want %d", got, want)
	}
	if got, want := Overhead(c.Suite, c.ICVBits), Overhead(c.Suite, 256); got != want {
		t.Errorf("overhead %d, want %d", got, want)
	}
}

func TestLearningAllocatesNothingAfterwards(t *testing.T) {
	peer, in, out, _ := learner(t, 128, false)
	inner := variant{}.packet(200)
	packet := must(t, peer, inner)
	if _, err := in.Open(nil, packet); err != nil {
		t.Fatal(err)
	}
	out.FollowICV(in.FoundICV())
	dst, buf := make([]byte, 0, 512), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(50, func() {
		p, _ := peer.Seal(dst, inner)
		if _, err := in.Open(nil, p); err != nil {
			t.Fatal(err)
		}
		_, _ = out.Seal(buf, inner)
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

func TestOtherSuitesHaveNothingToLearn(t *testing.T) {
	mat := numbered(KeymatLen(policy.SM4GCM128))
	c := Child{Suite: policy.SM4GCM128, ICVBits: policy.ICVAuto, Window: 64, In: Half{SPI: 999, Keymat: secret.New(mat)}}
	in, err := NewInbound(c, State{})
	if err != nil || in.learning {
		t.Errorf("learning %t, %v", in != nil && in.learning, err)
	}
}
