package lab

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// Every form of a selector, and both families outside, are negotiated.
func TestEverySelectorFormConnects(t *testing.T) {
	for _, outer := range [][2]string{{"192.0.2.1", "198.51.100.1"}, {"2001:db8:1::1", "2001:db8:2::1"}} {
		for _, c := range []policy.Selector{
			{Local: net("10.1.0.7"), Remote: net("10.2.0.9")},
			{Local: net("10.1.0.0/16"), Remote: net("10.2.0.0-10.2.3.9")},
			{Local: net("0.0.0.0/0"), Remote: net("0.0.0.0/0")},
			{Local: net("2001:db8:a::/48"), Remote: net("2001:db8:b::1-2001:db8:b::ff")},
			{Local: net("2001:db8:a::1"), Remote: net("::/0")},
			{Local: net("10.1.0.0/16"), Remote: net("10.2.0.0/16"), Protocol: 6, RemotePort: 443},
			{Local: net("10.1.0.0/16"), Remote: net("10.2.0.0/16"), Protocol: 17, LocalPort: 53, RemotePort: 53},
			{Local: net("10.1.0.0/16"), Remote: net("10.2.0.0/16"), Protocol: 1},
		} {
			i, r := members().Pair()
			i.Addr, r.Addr = netip.MustParseAddr(outer[0]), netip.MustParseAddr(outer[1])
			i.Peer().Remote.Addr, r.Peer().Remote.Addr = r.Addr, i.Addr
			i.Tunnel().Selector, r.Tunnel().Selector = c, c.Reverse()
			l := New(1, i, r)
			l.Run(10 * time.Second)
			child, up := l.Gateway("r").Plane.InUse("office")
			if !up || child.Selector != c.Reverse() || child.Path.Remote.Addr() != i.Addr || len(l.Faults) > 0 {
				t.Errorf("%v over %v: up %v, %+v, %v\n%v", c, outer, up, child, l.Faults, l.Story.String())
			}
		}
	}
}

func net(s string) policy.Net { return must(policy.ParseNet(s)) }

// A responder that sets the commit bit makes the initiator wait: for CONNECTED,
// for a packet, or for a moment.
func TestCommitBitOnlyDelaysUse(t *testing.T) {
	for _, mute := range []bool{false, true} {
		l := plain(1)
		l.Hook = func(p Packet) []Packet {
			if p.Label == "quick 2" {
				p.Data = append([]byte(nil), p.Data...)
				p.Data[19] |= byte(wire.FlagCommit)
			}
			if p.Label == "esp" && p.From == "r" && mute {
				return nil
			}
			return []Packet{p}
		}
		l.Run(time.Second)
		if _, up := l.Gateway("i").Plane.InUse("office"); up == mute {
			t.Errorf("after a second, packets of r lost %v: in use %v", mute, up)
		}
		l.Run(2 * time.Second)
		if _, up := l.Gateway("i").Plane.InUse("office"); !up {
			t.Error("never used")
		}
	}
}

// A new revocation list ends what stands on the certificate that it names, and
// nothing comes up again.
func TestReloadWithARevocationEndsTheSession(t *testing.T) {
	l := plain(1)
	l.Run(10 * time.Second)
	r := l.Gateway("r")
	r.Verifiers, r.CRL = nil, members().Root.CRL(members().I.Pair.Sign)
	reasons := l.listen("r")
	r.Feed(ike.Reload{Config: r.Config()})
	l.Run(5 * time.Minute)
	l.nothingSetUp(t)
	if len(*reasons) == 0 || (*reasons)[0] != ike.CertRevoked {
		t.Errorf("reasons %v", *reasons)
	}
}

// A reload that changes nothing touches nothing; one that changes a tunnel
// replaces only that.
func TestReloadTouchesOnlyWhatChanged(t *testing.T) {
	i, r := members().Pair()
	for _, s := range []*Site{&i, &r} {
		second := *s.Tunnel()
		second.Name, second.Selector.Protocol = "lab", 6
		s.Policy.Tunnels = append(s.Policy.Tunnels, second)
	}
	l := New(1, i, r)
	l.Run(10 * time.Second)
	g := l.Gateway("i")
	before := fmt.Sprint(g.Plane.Installed())
	if len(g.Plane.Installed()) != 2 {
		t.Fatalf("%d children\n%v", len(g.Plane.Installed()), l.Story.String())
	}
	g.Feed(ike.Reload{Config: g.Config()})
	l.Run(10 * time.Second)
	if after := fmt.Sprint(g.Plane.Installed()); after != before {
		t.Errorf("children\n%s\nwere\n%s", after, before)
	}
	office, _ := g.Plane.InUse("office")
	g.Site = g.Site.Clone()
	g.Policy.Tunnels[1].Lifetime = 30 * time.Minute
	g.Feed(ike.Reload{Config: g.Config()})
	l.Run(30 * time.Second)
	now, _ := g.Plane.InUse("office")
	lab, up := g.Plane.InUse("lab")
	if now.ID != office.ID || !up || lab.Limits.HardTime != 30*time.Minute {
		t.Errorf("office is child %d, was %d; lab up %v, %v", now.ID, office.ID, up, lab.Limits.HardTime)
	}
	for _, f := range l.Faults {
		t.Error(f)
	}
}

// Eight tunnels over one session come up one after the other.
func TestManyTunnelsShareOneSession(t *testing.T) {
	i, r := members().Pair()
	for _, s := range []*Site{&i, &r} {
		first := *s.Tunnel()
		for n := range uint16(7) {
			more := first
			more.Name, more.Selector.Protocol = fmt.Sprint("t", n), 17
			more.Selector.LocalPort, more.Selector.RemotePort = 1000+n, 1000+n
			s.Policy.Tunnels = append(s.Policy.Tunnels, more)
		}
	}
	l := New(1, i, r)
	l.Hook = first("quick 1", 3, Lost)
	l.Run(time.Minute)
	for _, g := range l.gateways {
		if n := len(g.Plane.Installed()); n != 8 || len(g.Engine.Status().Sessions) != 1 {
			t.Errorf("%s: %d children, %d sessions\n%v", g.Name, n, len(g.Engine.Status().Sessions), l.Story.String())
		}
	}
	for _, f := range l.Faults {
		t.Error(f)
	}
}
