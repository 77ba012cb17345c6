package lab

import (
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// elsewhere is where a machine is that does not have the shared address.
var elsewhere = netip.MustParseAddr("192.0.2.250")

// sharedSite has two gateways at site i, with certificates of one subject and
// different keys. The address is with the first one.
func sharedSite(start policy.StartMode) (l *Lab, first, second, far *Gateway) {
	m := members()
	i, r := m.Pair()
	i.Peer().Local = policy.Local{Addr: i.Addr}
	i.Tunnel().Start = start
	other := i.Clone()
	i.Name, other.Name = "i", "j"
	other.Own, other.Addr = m.Root.Issue(SubjectI, Validity{}), elsewhere
	l = New(11, i, other, r)
	return l, l.Gateway("i"), l.Gateway("j"), l.Gateway("r")
}

func hostChanged(g *Gateway) { g.Feed(ike.Plane{Event: esp.Event{Kind: esp.HostChanged}}) }

func stateOf(g *Gateway) string { return g.Engine.Status().Tunnels[0].State }

func carries(g *Gateway) bool { _, up := g.Plane.InUse("office"); return up }

// silent counts what a gateway sends.
func silent(l *Lab, g *Gateway) *int {
	n := new(int)
	l.Hook = func(p Packet) []Packet {
		if p.From == g.Name {
			*n++
		}
		return []Packet{p}
	}
	return n
}

func TestStandbyGatewayWaitsAndTakesOverAtOnce(t *testing.T) {
	for _, told := range []bool{true, false} {
		l, first, second, far := sharedSite(policy.StartNow)
		sent := silent(l, second)
		if !l.RunUntil(10*time.Second, func() bool { return carries(first) && carries(far) }) {
			t.Fatal("the tunnel does not come up")
		}
		l.Run(10 * time.Minute)
		if *sent > 0 || stateOf(second) != "standby" || stateOf(first) != "up" {
			t.Fatalf("standing by: %d packets, states %s and %s", *sent, stateOf(first), stateOf(second))
		}
		mine := first.Addr
		first.Addr, second.Addr = elsewhere, mine // the first is dead: nothing of it is heard
		limit := 100 * time.Millisecond
		if told {
			hostChanged(second)
		} else {
			limit += time.Second // it looks by itself
		}
		old, _ := far.Plane.InUse("office")
		if !l.RunUntil(limit, func() bool { c, up := far.Plane.InUse("office"); return up && c.ID != old.ID && carries(second) }) {
			t.Fatalf("told %v: no take-over within %v", told, limit)
		}
		l.Run(time.Second)
		if n, s := len(far.Plane.Installed()), len(far.Engine.Status().Sessions); n != 1 || s != 1 {
			t.Errorf("told %v: the far end keeps %d children and %d sessions of two machines", told, n, s)
		}
	}
}

func TestGatewayThatLostItsAddressLetsGoWithoutAWord(t *testing.T) {
	l, first, second, far := sharedSite(policy.StartNow)
	l.RunUntil(10*time.Second, func() bool { return carries(first) && carries(far) })
	mine := first.Addr
	swap := func(from, to *Gateway) {
		from.Addr, to.Addr = elsewhere, mine
		hostChanged(from)
		hostChanged(to)
	}
	swap(first, second)
	sent := silent(l, first)
	if !l.RunUntil(time.Second, func() bool { return carries(second) }) {
		t.Fatal("no take-over")
	}
	l.Run(15 * time.Second)
	if len(first.Plane.Installed()) > 0 || len(first.Engine.Status().Sessions) > 0 || *sent > 0 || stateOf(first) != "standby" {
		t.Errorf("%d children, %d sessions, %d packets, state %s where nothing should be", len(first.Plane.Installed()),
			len(first.Engine.Status().Sessions), *sent, stateOf(first))
	}
	swap(second, first)
	if !l.RunUntil(time.Second, func() bool { return carries(first) && stateOf(first) == "up" }) {
		t.Fatal("the first does not come back")
	}
	l.Run(time.Second)
	if n, s := len(far.Plane.Installed()), len(far.Engine.Status().Sessions); n != 1 || s != 1 {
		t.Errorf("the far end keeps %d children and %d sessions", n, s)
	}
	if len(l.Faults) > 0 {
		t.Error(l.Faults)
	}
}

// An interface that goes down and comes back costs no packet, and another machine
// that had the address in between no more than a round.
func TestAddressThatComesBackSoonKeepsItsTunnel(t *testing.T) {
	l, first, _, far := sharedSite(policy.StartNow)
	l.RunUntil(10*time.Second, func() bool { return carries(first) && carries(far) })
	l.Run(time.Minute)
	mine := first.Addr
	before, _ := far.Plane.InUse("office")
	first.Addr = elsewhere
	hostChanged(first)
	l.Run(3 * time.Second)
	if stateOf(first) != "standby" {
		t.Fatalf("state %s", stateOf(first))
	}
	first.Addr = mine
	hostChanged(first)
	if l.RunUntil(20*time.Second, func() bool { return !carries(first) || !carries(far) }) {
		t.Fatal("the tunnel was down")
	}
	if now, _ := far.Plane.InUse("office"); now.ID == before.ID {
		t.Error("nothing tells whether the far end still has it: it was not renewed")
	}
	if n, s := len(far.Plane.Installed()), len(far.Engine.Status().Sessions); n != 1 || s != 1 {
		t.Errorf("the far end keeps %d children and %d sessions", n, s)
	}
}

// A tunnel that waits for packets, or for the far end, still clears what the
// machine before left at the far end.
func TestTakeOverOfATunnelThatWaitsForPackets(t *testing.T) {
	l, first, second, far := sharedSite(policy.StartTrap)
	l.Run(time.Second)
	first.Feed(ike.Plane{Event: esp.Event{Kind: esp.Acquire, Tunnel: "office"}})
	if !l.RunUntil(10*time.Second, func() bool { return carries(far) }) {
		t.Fatal("not up")
	}
	l.Run(time.Minute)
	first.Addr, second.Addr = elsewhere, first.Addr
	hostChanged(second)
	if !l.RunUntil(time.Second, func() bool { return !carries(far) }) {
		t.Error("the far end goes on sending to a dead machine")
	}
	second.Feed(ike.Plane{Event: esp.Event{Kind: esp.Acquire, Tunnel: "office"}})
	if !l.RunUntil(time.Second, func() bool { return carries(far) && carries(second) }) {
		t.Error("the first packet does not bring it up")
	}
}
