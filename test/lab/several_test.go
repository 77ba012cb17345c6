package lab

import (
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// twoOfOne has two machines of one subject, i and j, that call r from where a says, each
// for a tunnel of its own.
func twoOfOne(seed uint64, where func(i, j, r *Site)) (l *Lab, a, b, far *Gateway) {
	m := members()
	i, r := m.Pair()
	j := i.Clone()
	j.Name, j.Own = "j", m.Root.Issue(SubjectI, Validity{})
	r.Peer().Remote = policy.Remote{Any: true}
	second := *r.Tunnel()
	second.Name, second.Selector.Protocol = "lab", 6
	r.Policy.Tunnels = append(r.Policy.Tunnels, second)
	j.Tunnel().Name, j.Tunnel().Selector.Protocol = "lab", 6
	where(&i, &j, &r)
	l = New(seed, i, j, r)
	return l, l.Gateway("i"), l.Gateway("j"), l.Gateway("r")
}

// A second machine of the same name says INITIAL-CONTACT. What the first one negotiated,
// which lives at another address, is not older than its life: it stays.
func TestInitialContactLeavesTheChildrenOfAnotherPairThatLives(t *testing.T) {
	l, _, b, far := twoOfOne(1, func(_, j, _ *Site) {
		j.Addr = netip.MustParseAddr("192.0.2.77")
		j.Tunnel().Start = policy.StartNone
	})
	l.Run(time.Minute)
	first, up := far.Plane.InUse("office")
	if !up {
		t.Fatal("not up")
	}
	b.Start("lab")
	l.Run(10 * time.Second)
	if _, up := far.Plane.InUse("lab"); !up {
		t.Fatal("the second machine does not come up")
	}
	if now, up := far.Plane.InUse("office"); !up || now.ID != first.ID {
		t.Errorf("up %v, child %d was %d\n%v", up, now.ID, first.ID, l.Story.String())
	}
}

// Of two peers behind one NAT the one that sends on an SA that is gone is told, and no
// other; where the port does not say which one it is, both are.
func TestUnknownSPIIsToldToWhoSentIt(t *testing.T) {
	l, a, b, far := twoOfOne(2, func(i, j, r *Site) {
		i.Addr, i.Public = netip.MustParseAddr("172.16.0.5"), netip.MustParseAddr("192.0.2.1")
		j.Addr, j.Public = netip.MustParseAddr("172.16.0.6"), i.Public
		other := *r.Peer()
		other.Name = "j"
		r.Policy.Peers = append(r.Policy.Peers, other)
		r.Policy.Tunnels[1].Peer = "j"
		j.Own, other.Identity.Subject = members().Third, "CN=gw-t,O=Example,C=CN"
		r.Policy.Peers[1] = other
	})
	l.Run(time.Minute)
	place := map[*Gateway]netip.AddrPort{}
	for _, s := range far.Engine.Status().Sessions {
		place[l.Gateway(s.Peer)] = s.Remote
	}
	if len(place) != 2 || place[a].Addr() != place[b].Addr() {
		t.Fatalf("sessions from %v", place)
	}
	told := map[string]int{}
	l.Hook = func(p Packet) []Packet {
		if p.Label == "info" && p.From == far.Name {
			told[p.Dest.String()]++
		}
		return []Packet{p}
	}
	for _, c := range []struct {
		from     netip.AddrPort
		toA, toB int
		what     string
	}{
		{place[a], 1, 0, "from the first"},
		{place[b], 0, 1, "from the second"},
		{netip.AddrPortFrom(place[a].Addr(), 0), 1, 1, "from one of them"},
	} {
		clear(told)
		l.Run(time.Minute)
		clear(told)
		far.Feed(ike.Plane{Event: esp.Event{Kind: esp.UnknownSPI, SPI: 0x1234, Remote: c.from}})
		if told[place[a].String()] != c.toA || told[place[b].String()] != c.toB {
			t.Errorf("%s: told %v", c.what, told)
		}
	}
}

// When the peer deletes its last ISAKMP SA the children stay, or with
// `children_on_ike_delete: drop` go; a delete of one of two is no such thing.
func TestChildrenOnIKEDelete(t *testing.T) {
	for _, drop := range []bool{false, true} {
		i, r := members().Pair()
		r.Peer().DropChildren = drop
		r.Peer().Dialect.Initiate = policy.InitiateThem
		l := New(3, i, r)
		l.Run(time.Minute)
		a, far := l.Gateway("i"), l.Gateway("r")
		first, _ := far.Plane.InUse("office")
		kept := func() bool { c, up := far.Plane.InUse("office"); return up && c.ID == first.ID }

		a.Feed(ike.Rekey{Tunnel: "office", Session: true})
		l.Run(30 * time.Second) // the old session is deleted, the new one stands
		if len(far.Engine.Status().Sessions) != 1 || !kept() {
			t.Fatalf("drop %v: a renewal took the child along", drop)
		}
		l.Hook = func(p Packet) []Packet { // i gives its session up, and no other follows
			if p.Label == "main 1" || p.Label == "quick 1" {
				return nil
			}
			return []Packet{p}
		}
		a.Feed(ike.Rekey{Tunnel: "office"})
		if !l.RunUntil(2*time.Minute, func() bool { return len(far.Engine.Status().Sessions) == 0 }) {
			t.Fatalf("drop %v: the session has no end", drop)
		}
		if kept() == drop {
			t.Errorf("drop %v: kept %v", drop, kept())
		}
	}
}
