package lab

import (
	"net/netip"
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// byName has i call r, which knows it by a name only.
func byName(change func(i, r *Site)) (l *Lab, i, r *Gateway) {
	a, b := members().Pair()
	b.Peer().Remote = policy.Remote{FQDN: "branch.example.cn"}
	if change != nil {
		change(&a, &b)
	}
	l = New(21, a, b)
	l.Names = map[string][]netip.Addr{"branch.example.cn": {a.Addr}}
	return l, l.Gateway("i"), l.Gateway("r")
}

// A gateway that never calls, or not before there is traffic, knows by its name
// where its peer calls from.
func TestPeerWithANameIsAnsweredWhereverWeDoNotCallIt(t *testing.T) {
	for name, change := range map[string]func(i, r *Site){
		"respond":    nil,
		"trap":       func(_, r *Site) { r.Tunnel().Start = policy.StartTrap },
		"them":       func(_, r *Site) { r.Tunnel().Start, r.Peer().Dialect.Initiate = policy.StartNow, policy.InitiateThem },
		"local":      func(_, r *Site) { r.Peer().Local = policy.Local{Addr: r.Addr} },
		"trap local": func(_, r *Site) { r.Tunnel().Start, r.Peer().Local = policy.StartTrap, policy.Local{Addr: r.Addr} },
	} {
		l, i, r := byName(change)
		if !l.RunUntil(10*time.Second, func() bool { return carries(i) && carries(r) }) {
			t.Errorf("%s: the tunnel does not come up", name)
		}
	}
}

// A peer of a reloaded policy is looked up at once.
func TestPeerWithANameIsKnownAfterAReload(t *testing.T) {
	l, i, r := byName(func(_, r *Site) { r.Peer().Remote = policy.Remote{Addr: netip.MustParseAddr("203.0.113.5")} })
	l.Run(5 * time.Second)
	r.Peer().Remote = policy.Remote{FQDN: "branch.example.cn"}
	r.Feed(ike.Reload{Config: r.Config()})
	if !l.RunUntil(40*time.Second, func() bool { return carries(i) && carries(r) }) {
		t.Error("the tunnel does not come up")
	}
}

// An address that changes is known a minute later, whether a session to the old one
// stands or not.
func TestPeerWithANameIsFoundAtItsNewAddress(t *testing.T) {
	for _, stands := range []bool{true, false} {
		moved := netip.MustParseAddr("192.0.2.200")
		l, i, r := byName(nil)
		if !stands {
			i.Stop("")
		} else if !l.RunUntil(10*time.Second, func() bool { return carries(i) && carries(r) }) {
			t.Fatal("the tunnel does not come up")
		}
		l.Run(10 * time.Minute)
		i.Addr = moved
		l.Names = map[string][]netip.Addr{"branch.example.cn": {moved}}
		l.Run(time.Minute)
		i.Restart()
		if !l.RunUntil(10*time.Second, func() bool {
			c, up := r.Plane.InUse("office")
			return up && c.Path.Remote.Addr() == moved && carries(i)
		}) {
			t.Errorf("session stands %v: the new address is not known", stands)
		}
	}
}

// A name that leads elsewhere while its peer is where it was shuts nobody out.
func TestPeerThatIsConnectedStaysKnownWhereItIs(t *testing.T) {
	l, i, r := byName(nil)
	l.RunUntil(10*time.Second, func() bool { return carries(i) && carries(r) })
	l.Names = map[string][]netip.Addr{"branch.example.cn": {netip.MustParseAddr("192.0.2.201")}}
	l.Run(5 * time.Minute)
	old, _ := r.Plane.InUse("office")
	i.Restart()
	if !l.RunUntil(10*time.Second, func() bool { c, up := r.Plane.InUse("office"); return up && c.ID != old.ID }) {
		t.Error("a peer whose session stands at an address is unknown there")
	}
}

// A name that leads nowhere is told once, and again when it was found in between;
// what it led to stays meanwhile.
func TestNameThatLeadsNowhereIsToldOnce(t *testing.T) {
	l, i, r := byName(nil)
	names := l.Names
	l.Names = nil
	i.Stop("")
	told := 0
	r.Told = func(v ike.Event) {
		if v.Reason == ike.Unresolved {
			told++
		}
	}
	l.Run(time.Hour)
	if st := r.Engine.Status().Tunnels[0]; told != 1 || st.LastFailure != ike.Unresolved {
		t.Errorf("told %d times in an hour, status says %q", told, st.LastFailure)
	}
	l.Names = names
	l.Run(time.Minute)
	if st := r.Engine.Status().Tunnels[0]; st.LastFailure != "" {
		t.Errorf("status still says %q", st.LastFailure)
	}
	l.Names = nil
	l.Run(time.Hour)
	if told != 2 {
		t.Errorf("told %d times, want 2", told)
	}
	i.Restart()
	if !l.RunUntil(10*time.Second, func() bool { return carries(i) && carries(r) }) {
		t.Error("the last address known was forgotten")
	}
}
