package lab

import (
	"net/netip"
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// natPair is a pair of gateways with i behind a NAT, up for a while.
func natPair(seed uint64, change ...func(i, r *Site)) (l *Lab, a, b *Gateway) {
	i, r := members().Pair()
	behindNAT(&i, &r)
	for _, f := range change {
		f(&i, &r)
	}
	l = New(seed, i, r)
	l.Run(63 * time.Second)
	return l, l.Gateway("i"), l.Gateway("r")
}

// The NAT gives the peer another port while nothing is under way, and the first that
// comes from there is a quick mode: it is answered there.
func TestQuickModeThatComesFirstFromANewMappingIsAnsweredThere(t *testing.T) {
	l, a, b := natPair(1)
	first, _ := a.Plane.InUse("office")
	a.ForgetNAT()
	a.Feed(ike.Rekey{Tunnel: "office"})
	renewed := func(g *Gateway) bool { c, up := g.Plane.InUse("office"); return up && c.ID != first.ID }
	if !l.RunUntil(time.Second, func() bool { return renewed(a) && renewed(b) }) {
		t.Errorf("not renewed after a second\n%v", l.Story.String())
	}
}

// What the peer was asked at its old place reaches it at the new one as soon as it is
// known to be there, not at the next repetition.
func TestQuickModeOfOursFollowsThePeerToItsNewMapping(t *testing.T) {
	l, a, b := natPair(2, func(i, _ *Site) { i.Peer().DPD = policy.DPD{Interval: 10 * time.Second, Tries: 3} })
	first, _ := b.Plane.InUse("office")
	a.ForgetNAT()
	b.Feed(ike.Rekey{Tunnel: "office"})
	l.RunUntil(time.Minute, func() bool { return b.Engine.Status().Sessions[0].Remote != first.Path.Remote })
	renewed := func(g *Gateway) bool { c, up := g.Plane.InUse("office"); return up && c.ID != first.ID }
	if !l.RunUntil(100*time.Millisecond, func() bool { return renewed(a) && renewed(b) }) {
		t.Errorf("not renewed when the peer was found\n%v", l.Story.String())
	}
}

// Whoever sees the answer to an R-U-THERE on its way and sends it on from elsewhere
// does not move the peer there: it answers no question that was asked there.
func TestAnswerToAnotherQuestionMovesNobody(t *testing.T) {
	forger := netip.MustParseAddrPort("203.0.113.66:4500")
	l, a, b := natPair(3, func(_, r *Site) { r.Peer().DPD = policy.DPD{Interval: 10 * time.Second, Tries: 3} })
	home := b.Engine.Status().Sessions[0].Remote
	moved := func() bool {
		c, _ := b.Plane.InUse("office")
		return b.Engine.Status().Sessions[0].Remote != home || c.Path.Remote != home
	}
	forged := 0
	l.Hook = func(p Packet) []Packet {
		if p.From != a.Name || p.Label != "info" || forged >= 3 {
			return []Packet{p}
		}
		forged++
		l.After(0, func() { l.Inject(forger, p.Dest, p.Data) })
		return nil
	}
	if l.RunUntil(2*time.Minute, moved) {
		t.Errorf("the peer was moved to %v\n%v", b.Engine.Status().Sessions[0].Remote, l.Story.String())
	}
	if forged != 3 {
		t.Errorf("%d answers were sent on", forged)
	}
}

// The kernel takes every packet within its window for a sign of life from elsewhere,
// also one that was seen on its way and sent on from there. Nobody follows it until the
// peer answers there; one that is there is followed at once.
func TestPacketsFromElsewhereMoveAKernelChildOnlyWithAnAnswer(t *testing.T) {
	forger := netip.MustParseAddrPort("203.0.113.66:4500")
	l, a, b := natPair(4)
	b.Kernel = true
	home := b.Engine.Status().Sessions[0].Remote
	at := func() netip.AddrPort { c, _ := b.Plane.InUse("office"); return c.Path.Remote }
	l.Hook = func(p Packet) []Packet {
		if p.Label == "esp" && p.From == a.Name {
			l.After(time.Second, func() { p.Source = forger; l.arrive(p) })
			return nil
		}
		return []Packet{p}
	}
	a.Plane.Send("office")
	if l.RunUntil(time.Minute, func() bool { return at() != home || b.Engine.Status().Sessions[0].Remote != home }) {
		t.Fatalf("the child went to %v\n%v", at(), l.Story.String())
	}
	l.Hook = nil
	a.ForgetNAT()
	a.Plane.Send("office")
	if !l.RunUntil(time.Second, func() bool { return at() != home && at() == b.Engine.Status().Sessions[0].Remote }) {
		t.Errorf("not followed: the child is at %v\n%v", at(), l.Story.String())
	}
}
