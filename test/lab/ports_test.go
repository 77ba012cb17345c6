package lab

import (
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// Two gateways that agreed on other ports use these and no others, behind a NAT and
// with ESP in UDP too.
func TestOtherPortsAreUsedThroughout(t *testing.T) {
	for name, change := range map[string]func(i, r *Site){
		"protocol 50": func(_, _ *Site) {},
		"forced":      func(i, _ *Site) { i.Peer().Encap = policy.EncapForce },
		"pre-shared": func(i, r *Site) {
			i.Peer().Encap = policy.EncapForce
			Plain(policy.AESSHA256, "a key of some length", i, r)
		},
	} {
		i, r := members().Pair()
		i.Ports, r.Ports = ike.Ports{IKE: 5000, NAT: 5500}, ike.Ports{IKE: 5000, NAT: 5500}
		change(&i, &r)
		l := New(41, i, r)
		seen := map[uint16]bool{}
		l.Hook = func(p Packet) []Packet {
			if p.Data != nil {
				seen[p.Source.Port()], seen[p.Dest.Port()] = true, true
			}
			return []Packet{p}
		}
		a, b := l.Gateway("i"), l.Gateway("r")
		if !l.RunUntil(10*time.Second, func() bool { return carries(a) && carries(b) }) {
			t.Errorf("%s: the tunnel does not come up", name)
			continue
		}
		c, _ := a.Plane.InUse("office")
		inUDP := name != "protocol 50"
		if !seen[5000] || seen[5500] != inUDP || c.Path.Encap != inUDP || inUDP && (c.Path.Local.Port() != 5500 || c.Path.Remote.Port() != 5500) {
			t.Errorf("%s: ports %v, ESP from %v to %v, in UDP %v", name, seen, c.Path.Local, c.Path.Remote, c.Path.Encap)
		}
		for port := range seen {
			if port != 5000 && port != 5500 {
				t.Errorf("%s: port %d was used", name, port)
			}
		}
	}
}
