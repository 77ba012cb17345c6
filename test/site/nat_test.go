package site_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// behindNAT has the router masquerade what comes from gateway a, and keeps the
// outside from opening anything towards it.
func (s *stage) behindNAT() {
	s.Helper()
	s.filter(`table ip yumen_nat {
	chain post {
		type nat hook postrouting priority 100;
		oifname "to-b" ip saddr 192.0.2.0/24 masquerade random
	}
	chain forward {
		type filter hook forward priority 0;
		iifname "to-b" ct state new drop
	}
}
`)
}

func TestGatewayBehindNATReachesOneThatDoesNotKnowItsAddress(t *testing.T) {
	s := newTwoSites(t)
	s.behindNAT()
	a, b := endA(), endB()
	b.remote = "any"
	outside, behind := s.capture(s.Router, "to-b"), s.capture(s.Router, "to-a")
	s.run(a, b)
	s.waitUp(s.A, s.B)
	flows := s.Flows()
	for _, f := range flows {
		s.need(f.Ping())
	}
	s.pass(flows...)
	for _, c := range []struct {
		g           *site.Gateway
		nat, remote string
	}{{s.A, "local", "198.51.100.2:4500"}, {s.B, "remote", "198.51.100.1:"}} {
		st := s.status(c.g)
		if len(st.Sessions) != 1 || st.Sessions[0].NAT != c.nat || !strings.HasPrefix(st.Sessions[0].Remote, c.remote) {
			s.Errorf("%s: %+v, expected nat %s and remote %s", c.g.Dir, st.Sessions, c.nat, c.remote)
		}
		for _, tunnel := range st.Tunnels {
			if !tunnel.Children[0].Encap {
				s.Errorf("%s: %s is not in UDP", c.g.Dir, tunnel.Name)
			}
		}
	}
	if text, err := s.B.Command("status"); err != nil || !strings.Contains(text, "nat remote") {
		s.Errorf("status of b: %v: %s", err, text)
	}
	s.stop(s.A, s.B)
	file := behind()
	s.hidden(file, flows...)
	s.negotiated(file, natd)
	s.onPort4500(file, true)
	s.verified(file)
	file = outside()
	s.hidden(file, flows...)
	s.wellFormed(file)
	s.sequences(file)
	s.verified(file)
	if rows := s.tshark(file, "ip.addr == "+site.GateA4, "frame.number"); len(rows) > 0 {
		s.Errorf("the address behind the NAT is outside in %d frames", len(rows))
	}
}

// TestNewMappingOfTheNATIsFollowed throws the mapping away: the next packet from
// behind the NAT comes from another port, and the tunnel goes on.
func TestNewMappingOfTheNATIsFollowed(t *testing.T) {
	s := newTwoSites(t)
	s.behindNAT()
	a, b := endA(), endB()
	b.remote = "any"
	s.run(a, b)
	s.waitUp(s.A, s.B)
	flows := s.Flows()
	s.pass(flows...)
	before := s.status(s.B).Sessions[0]
	spi := s.tunnel(s.B, "office4").Children[0].In.SPI
	_, err := s.Router.Run("nft", "flush ruleset")
	s.need(err)
	s.need(s.forgetMapping())
	s.behindNAT()
	s.eventually("traffic over the new mapping", 10*time.Second, func() error { return flows[0].Talk("udp", 4242, quiet) })
	s.pass(flows...)
	after := s.status(s.B).Sessions[0]
	if after.Remote == before.Remote {
		s.Errorf("the mapping is still %s: nothing was tried", after.Remote)
	}
	if now := s.tunnel(s.B, "office4").Children[0].In.SPI; now != spi {
		s.Errorf("SPI %s became %s: the tunnel was negotiated anew", spi, now)
	}
}

// forgetMapping drops the connections that the router tracks: taking its address
// away for a moment makes masquerading forget them.
func (s *stage) forgetMapping() error {
	for _, args := range []string{"link set to-b down", "link set to-b up"} {
		if _, err := s.Router.Run(append([]string{"ip"}, strings.Fields(args)...)...); err != nil {
			return err
		}
	}
	// Routes and IPv6 addresses went with the link.
	for _, args := range []string{"addr replace 2001:db8:b::1/64 dev to-b", "route replace 10.2.0.0/24 via " + site.GateB4,
		"route replace fd02::/64 via " + site.GateB6} {
		if _, err := s.Router.Run(append([]string{"ip"}, strings.Fields(args)...)...); err != nil {
			return fmt.Errorf("router: %w", err)
		}
	}
	return nil
}
