package lab

import (
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// A gateway whose own address changes renews session and tunnel at once, long
// before dead peer detection could notice.
func TestChangedAddressIsFollowedAtOnce(t *testing.T) {
	i, r := members().Pair()
	peer := r.Peer()
	peer.Remote = policy.Remote{Any: true}
	r.Tunnel().Start = policy.StartNone
	l := New(7, i, r)
	a, b := l.Gateway("i"), l.Gateway("r")
	if !l.RunUntil(10*time.Second, func() bool { _, up := b.Plane.InUse("office"); return up }) {
		t.Fatal("the tunnel does not come up")
	}
	old, _ := a.Plane.InUse("office")

	l.Run(time.Minute)
	a.Addr = netip.MustParseAddr("192.0.2.77")
	a.Feed(ike.Plane{Event: esp.Event{Kind: esp.HostChanged}})
	moved := func(g *Gateway, at func(esp.Path) netip.AddrPort) bool {
		c, up := g.Plane.InUse("office")
		return up && c.ID != old.ID && at(c.Path).Addr() == a.Addr
	}
	if !l.RunUntil(3*time.Second, func() bool {
		return moved(a, func(p esp.Path) netip.AddrPort { return p.Local }) &&
			moved(b, func(p esp.Path) netip.AddrPort { return p.Remote })
	}) {
		t.Fatal("the new address is not followed")
	}

	sessions := len(a.Engine.Status().Sessions)
	a.Feed(ike.Plane{Event: esp.Event{Kind: esp.HostChanged}})
	l.Run(3 * time.Second)
	if got := len(a.Engine.Status().Sessions); got > sessions {
		t.Errorf("a change that does not concern the peer made %d sessions of %d", got, sessions)
	}
	l.Run(time.Minute)
	for _, g := range []*Gateway{a, b} {
		if n := len(g.Plane.Installed()); n != 1 {
			t.Errorf("%s keeps %d children", g.Name, n)
		}
	}
}
