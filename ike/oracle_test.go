package ike_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/test/lab"
)

// members are the identities of all tests here.
var members = sync.OnceValue(lab.NewMembers)

func pair(seed uint64) *lab.Lab {
	i, r := members().Pair()
	l := lab.New(seed, i, r)
	l.Story.Off = true
	return l
}

// listener is an engine that has answered message 1, and the message 3 meant for
// it that was held back.
func listener(seed uint64, label string) (l *lab.Lab, victim *lab.Gateway, held lab.Packet) {
	l = pair(seed)
	l.Hook = func(p lab.Packet) []lab.Packet {
		if p.Label == label && victim == nil {
			held, victim = p, l.Gateway(p.To)
			return nil
		}
		return []lab.Packet{p}
	}
	l.RunUntil(time.Second, func() bool { return victim != nil })
	return l, victim, held
}

// bodies makes another nonce or ID body: bits, blocks and lengths changed.
func bodies(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	switch r.IntN(6) {
	case 0:
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	case 1: // the block before the padding: what a padding oracle turns
		b[len(b)-17-r.IntN(min(16, len(b)-17))] ^= byte(1 + r.IntN(255))
	case 2:
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	case 3:
		b = b[:16*r.IntN(len(b)/16+1)]
	case 4:
		b = b[:r.IntN(len(b))]
	case 5:
		b = append(b, b[len(b)-16:]...)
	}
	return b
}

// A recorded message 3 or 4 with its nonce or ID changed tells nobody anything:
// no packet leaves, nothing is set up, and the work is the same, whether padding,
// ID or only the signature is wrong. Each try meets an engine that has forgotten
// the ones before; one that remembers does less.
func TestMutatedNonceAndIDGiveNoPacketAndEqualWork(t *testing.T) {
	for _, label := range []string{"main 3", "main 4"} {
		reasons := map[ike.Reason]int{}
		r := rand.New(rand.NewPCG(1, 2))
		for try := range 1000 {
			l, victim, held := listener(1, label)
			m, err := wire.Parse(held.Data)
			if err != nil {
				t.Fatal(err)
			}
			which := 1 + r.IntN(2) // NONCE or ID
			m.Payloads[which].Body = bodies(r, m.Payloads[which].Body)
			if forged := m.Append(nil); !bytes.Equal(forged, held.Data) {
				probe(t, l, victim, held, forged, reasons)
			}
			if t.Failed() {
				t.Fatalf("%s, try %d", label, try)
			}
		}
		if reasons[ike.BadPadding] == 0 || reasons[ike.BadSignature] == 0 {
			t.Errorf("%s: reasons %v: the tries did not reach both paddings and signatures", label, reasons)
		}
	}
}

// work is what one failed message may cost: one private-key operation, and this
// many signatures whatever was wrong.
const work = 8

func probe(t *testing.T, l *lab.Lab, victim *lab.Gateway, held lab.Packet, forged []byte, reasons map[ike.Reason]int) {
	t.Helper()
	keys, verified := victim.Keys, victim.Engine.Verified()
	packets := 0
	l.Hook = func(p lab.Packet) []lab.Packet {
		if p.From == victim.Name {
			packets++
		}
		return nil
	}
	victim.Told = func(v ike.Event) { reasons[v.Reason]++ }
	l.Inject(held.Source, held.Dest, forged)
	l.Run(100 * time.Millisecond)
	if packets != 0 {
		t.Errorf("%d packets left", packets)
	}
	if k, v := victim.Keys-keys, victim.Engine.Verified()-verified; k != 1 || v != work {
		t.Errorf("%d private-key operations and %d signatures, want 1 and %d", k, v, work)
	}
	if n := len(victim.Plane.Installed()); n != 0 {
		t.Errorf("%d children", n)
	}
}

// Within one session the fifth failure is not read any more.
func TestFifthFailedMessageOfASessionIsNotRead(t *testing.T) {
	l, victim, held := listener(1, "main 3")
	m, err := wire.Parse(held.Data)
	if err != nil {
		t.Fatal(err)
	}
	genuine := m.Payloads[1].Body
	for try := range 6 {
		m.Payloads[1].Body = bytes.Clone(genuine)
		m.Payloads[1].Body[0] ^= byte(1 + try)
		keys := victim.Keys
		l.Inject(held.Source, held.Dest, m.Append(nil))
		l.Run(time.Millisecond)
		if read := victim.Keys > keys; read != (try < 4) {
			t.Errorf("try %d: read %v", try+1, read)
		}
	}
}
