package site_test

import (
	"strings"
	"testing"

	"yumen/test/site"
)

// Servers that are nowhere near the prefixes of either site.
const (
	server4, server6 = "203.0.113.9", "2001:db8:99::9"
	annex4, annex6   = "10.3.0.10", "fd03::10"
)

// TestEverythingOfABranchGoesThroughTheCentre has selectors 0.0.0.0/0 and ::/0.
func TestEverythingOfABranchGoesThroughTheCentre(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	annex := s.annex()
	s.need(s.A.Configure(`site: branch
peers:
  - {name: b, remote: 198.51.100.2, ca: ca.crt, subject: "CN=b,O=Yumen Lab,C=CN"}
tunnels:
  - {name: all4, peer: b, local: 10.1.0.0/24, remote: 0.0.0.0/0}
  - {name: all6, peer: b, local: "fd01::/64", remote: "::/0"}
`), s.B.Configure(`site: centre
peers:
  - {name: a, remote: any, ca: ca.crt, subject: "CN=a,O=Yumen Lab,C=CN"}
tunnels:
  - {name: all4, peer: a, local: 0.0.0.0/0, remote: 10.1.0.0/24, start: respond}
  - {name: all6, peer: a, local: "::/0", remote: "fd01::/64", start: respond}
`))
	stop := s.capture(s.Router, "to-b")
	s.need(s.B.Start())
	s.answers(s.B)
	s.need(s.A.Start())
	s.waitUp(s.A, s.B)

	outside := append(s.Flows(),
		site.Flow{From: s.HostA, To: s.HostB, FromAddr: site.HostA4, ToAddr: server4, Marker: site.NewMarker()},
		site.Flow{From: s.HostA, To: s.HostB, FromAddr: site.HostA6, ToAddr: server6, Marker: site.NewMarker()},
		site.Flow{From: s.HostB, To: s.HostA, FromAddr: server4, ToAddr: site.HostA4, Marker: site.NewMarker()},
		site.Flow{From: s.HostB, To: s.HostA, FromAddr: server6, ToAddr: site.HostA6, Marker: site.NewMarker()})
	s.pass(outside...)
	inside := []site.Flow{ // of the branch's own house: to its gateway, from it, and to the other LAN
		{From: s.HostA, To: s.A.Space, FromAddr: site.HostA4, ToAddr: "10.1.0.1", Marker: site.NewMarker()},
		{From: s.HostA, To: s.A.Space, FromAddr: site.HostA6, ToAddr: "fd01::1", Marker: site.NewMarker()},
		{From: s.A.Space, To: s.HostA, FromAddr: "10.1.0.1", ToAddr: site.HostA4, Marker: site.NewMarker()},
		{From: s.A.Space, To: s.HostA, FromAddr: "fd01::1", ToAddr: site.HostA6, Marker: site.NewMarker()},
		{From: s.HostA, To: annex, FromAddr: site.HostA4, ToAddr: annex4, Marker: site.NewMarker()},
		{From: s.HostA, To: annex, FromAddr: site.HostA6, ToAddr: annex6, Marker: site.NewMarker()},
		{From: annex, To: s.HostA, FromAddr: annex4, ToAddr: site.HostA4, Marker: site.NewMarker()},
		{From: annex, To: s.HostA, FromAddr: annex6, ToAddr: site.HostA6, Marker: site.NewMarker()},
	}
	before := s.tunnel(s.A, "all4").Children[0].Out.Packets + s.tunnel(s.A, "all6").Children[0].Out.Packets
	s.pass(inside...)
	if after := s.tunnel(s.A, "all4").Children[0].Out.Packets + s.tunnel(s.A, "all6").Children[0].Out.Packets; after != before {
		s.Errorf("%d packets of the branch's own house went into the tunnel", after-before)
	}
	s.stop(s.A, s.B)
	file := stop()
	s.hidden(file, append(outside, inside...)...)
	s.wellFormed(file)
	s.sequences(file)
	s.notLooped(s.verified(file))
}

// annex makes a second LAN at gateway a, and servers behind site b whose addresses
// lie in no prefix of either site; the router knows the way to both.
func (s *stage) annex() *site.Space {
	s.Helper()
	annex, err := s.world.Space("annex", false)
	s.need(err, s.world.Link(annex, "eth0", []string{annex4 + "/24", annex6 + "/64"}, s.A.Space, "in2", []string{"10.3.0.1/24", "fd03::1/64"}),
		annex.Route("default via 10.3.0.1", "default via fd03::1"))
	for _, addr := range []string{server4 + "/32", server6 + "/128"} {
		_, err := s.HostB.Run("ip", "addr", "add", addr, "dev", "eth0")
		s.need(err)
	}
	s.need(s.B.Route(server4+" via "+site.HostB4, server6+" via "+site.HostB6),
		s.Router.Route(server4+" via "+site.GateB4, server6+" via "+site.GateB6))
	return annex
}

// notLooped wants nothing of the gateways' own conversation inside the tunnel.
func (s *stage) notLooped(d decoded) {
	s.Helper()
	inner := 0
	for _, m := range d.Messages {
		if !strings.HasPrefix(m.Name, "ESP") {
			continue
		}
		for _, f := range m.Fields {
			if f.Name == "inner packet" {
				inner++
			}
			own := f.Name == "protocol" && (strings.HasPrefix(f.Value, "ESP") || strings.HasSuffix(f.Value, "port 500 -> 500") || strings.HasSuffix(f.Value, "port 4500 -> 4500"))
			if own || f.Name == "inner packet" && (strings.Contains(f.Value, site.GateA4) || strings.Contains(f.Value, site.GateB4)) {
				s.Errorf("inside the tunnel: %s %s", f.Name, f.Value)
			}
		}
	}
	if inner < 50 {
		s.Errorf("only %d packets were opened", inner)
	}
}
