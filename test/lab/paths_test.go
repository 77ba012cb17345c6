package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// Two paths between the same two gateways: at each end two peer entries with the same
// certificates, told apart by address.
var pathAddrs = map[string][2]netip.Addr{
	"i": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.129")},
	"r": {netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.129")},
}

// pathsCase is how the entries of both ends name the paths.
type pathsCase struct {
	name       string
	oneFar     bool   // r has one address, and i two
	localOfTwo bool   // only the second entry of i says which address is ours
	noLocals   bool   // of r
	starts     string // who starts
}

var pathsCases = []pathsCase{
	{name: "two addresses at both ends", starts: "i"},
	{name: "both ends start", starts: "ir"},
	{name: "the far end names none of its addresses", noLocals: true, starts: "i"},
	{name: "one address at the far end", oneFar: true, starts: "i"},
	{name: "called at two addresses by one", oneFar: true, starts: "r"},
	{name: "one of two entries names our address", oneFar: true, localOfTwo: true, starts: "r"},
}

// twoPaths is a lab of two gateways with a group of the tunnels a and b, of peers a
// and b.
func twoPaths(c pathsCase, seed uint64) *Lab {
	i, r := members().Pair()
	for _, s := range []*Site{&i, &r} {
		other := map[string]string{"i": "r", "r": "i"}[s.Name]
		own, far := pathAddrs[s.Name], pathAddrs[other]
		if c.oneFar && s.Name == "r" {
			own[1] = own[0]
		} else if c.oneFar {
			far[1] = far[0]
		}
		s.Addr, s.More, s.Verifiers = own[0], []netip.Addr{own[1]}, nil
		peer, tunnel := *s.Peer(), *s.Tunnel()
		s.Policy.Peers, s.Policy.Tunnels = nil, nil
		g := policy.Group{Name: "dr"}
		for n, name := range []string{"a", "b"} {
			p, t := peer, tunnel
			p.Name, p.Remote.Addr, p.Local.Addr = name, far[n], own[n]
			if c.noLocals && s.Name == "r" || c.localOfTwo && n == 0 && s.Name == "i" {
				p.Local = policy.Local{}
			}
			t.Name, t.Peer, t.Start = name, name, policy.StartNone
			if slices.Contains([]rune(c.starts), rune(s.Name[0])) {
				t.Start = policy.StartNow
			}
			s.Policy.Peers, s.Policy.Tunnels = append(s.Policy.Peers, p), append(s.Policy.Tunnels, t)
			g.Members = append(g.Members, policy.Member{Tunnel: name, Priority: n + 1, Weight: 1})
		}
		s.Policy.Groups = []policy.Group{g}
	}
	return New(seed, i, r)
}

// bothStand says what is wrong with the two paths of a gateway; empty: each has one
// session and one child, on its own addresses.
func bothStand(g *Gateway) string {
	st := g.Engine.Status()
	for n, name := range []string{"a", "b"} {
		entry := g.Policy.Peers[n]
		sessions := 0
		for _, s := range st.Sessions {
			if s.Peer != name {
				continue
			}
			sessions++
			if s.Remote.Addr() != entry.Remote.Addr || entry.Local.Addr.IsValid() && s.Local.Addr() != entry.Local.Addr {
				return fmt.Sprintf("%s: a session of %s from %v to %v", g.Name, name, s.Local, s.Remote)
			}
		}
		if c, up := g.Plane.InUse(name); !up || c.Peer != name || c.Path.Remote.Addr() != entry.Remote.Addr || sessions != 1 {
			return fmt.Sprintf("%s: %d sessions of %s, child %v by %v", g.Name, sessions, name, up, c.Path)
		}
	}
	if n := len(g.Plane.Installed()); n != 2 {
		return fmt.Sprintf("%s: %d children", g.Name, n)
	}
	return ""
}

// settled runs until both ends have both paths and nothing of before.
func settled(t *testing.T, l *Lab, what string) {
	t.Helper()
	ok := func() bool { return bothStand(l.Gateway("i")) == "" && bothStand(l.Gateway("r")) == "" }
	if !l.RunUntil(3*time.Minute, ok) {
		t.Fatalf("%s: %s; %s", what, bothStand(l.Gateway("i")), bothStand(l.Gateway("r")))
	}
}

// watchOthers reports when the word of one path ends something of the other: a session
// or child that is replaced although nothing new of its own peer came up.
func watchOthers(t *testing.T, what string, g *Gateway) {
	fresh := map[string]int{}
	g.Told = func(v ike.Event) {
		switch v.Kind {
		case ike.IKEUp:
			fresh[v.Peer]++
		case ike.IKEDown, ike.ChildDown:
			if v.Reason == ike.Replaced && fresh[v.Peer] == 0 {
				t.Errorf("%s: %s: %v of %s, and only the other path is new", what, g.Name, v.Kind, v.Peer)
			}
		}
	}
}

func TestPathsToOneGatewayDoNotTouchEachOther(t *testing.T) {
	for _, c := range pathsCases {
		for seed := range uint64(10) {
			what := fmt.Sprintf("%s, seed %d", c.name, seed)
			l := twoPaths(c, seed+1)
			settled(t, l, what)
			l.Run(time.Minute)
			if why := bothStand(l.Gateway("r")); why != "" {
				t.Fatalf("%s: a minute later: %s", what, why)
			}
			// One end loses everything and says INITIAL-CONTACT on each path. (One that
			// only answers would wait for the other to notice.)
			for _, name := range strings.Split(c.starts, "") {
				other := l.Gateway(map[string]string{"i": "r", "r": "i"}[name])
				watchOthers(t, what, other)
				l.Gateway(name).Restart()
				settled(t, l, what+", "+name+" restarted")
				other.Told = nil
			}
		}
	}
}

// A second machine with keys of its own takes one address over: what the first one had
// there goes at once, and the other path, which still is the first one's, stays.
func TestTakeOverOfOnePathLeavesTheOtherAlone(t *testing.T) {
	for _, m := range []int{0, 1} {
		l := twoPaths(pathsCases[0], 7)
		settled(t, l, "before")
		l.Run(time.Minute)
		i, r := l.Gateway("i"), l.Gateway("r")
		name := []string{"a", "b"}[m]
		stays := []string{"b", "a"}[m]
		before, _ := r.Plane.InUse(stays)
		old, _ := r.Plane.InUse(name)

		site := i.Site.Clone()
		site.Name, site.Own = "j", members().Root.Issue(SubjectI, Validity{})
		site.Addr, site.More = pathAddrs["i"][m], nil
		site.Policy.Peers, site.Policy.Tunnels = site.Policy.Peers[m:m+1], site.Policy.Tunnels[m:m+1]
		site.Policy.Groups = nil
		i.Addr, i.More = pathAddrs["i"][1-m], nil
		watchOthers(t, name, r)
		j := l.Add(site)
		taken := func() bool { c, up := r.Plane.InUse(name); return up && c.ID != old.ID }
		if !l.RunUntil(2*time.Second, taken) {
			t.Fatalf("%s: no take-over", name)
		}
		l.Run(time.Second)
		if why := bothStand(r); why != "" {
			t.Errorf("%s: %s", name, why)
		}
		if c, up := r.Plane.InUse(stays); !up || c.ID != before.ID {
			t.Errorf("%s: the path that stayed is child %d, was %d", name, c.ID, before.ID)
		}
		if n := len(j.Plane.Installed()); n != 1 {
			t.Errorf("%s: the second machine has %d children", name, n)
		}
	}
}
