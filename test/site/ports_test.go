package site_test

import (
	"fmt"
	"testing"
)

// Two gateways that agreed on other ports negotiate and talk there, and neither
// sends a packet to those of the standard.
func TestOtherPortsCarryNegotiationAndTraffic(t *testing.T) {
	t.Parallel()
	for _, encap := range []bool{false, true} {
		t.Run(fmt.Sprintf("encap %t", encap), func(t *testing.T) {
			s := newTwoSites(t)
			a, b := endA(), endB()
			if encap {
				a.peerKeys = ", encap: force"
			}
			stop := s.capture(s.Router, "to-b")
			s.run(a, b, "ike_port: 5000", "nat_port: 5500")
			s.waitUp(s.A, s.B)
			flows := s.Flows()
			s.pass(flows...)
			s.stop(s.A, s.B)
			file := stop()
			s.hidden(file, flows...)
			count := func(filter string) int { return len(s.tshark(file, filter, "frame.number")) }
			first, nat, raw := count("udp.port == 5000"), count("udp.port == 5500"), count("esp && !udp")
			if standard := count("udp.port == 500 || udp.port == 4500"); standard > 0 || first == 0 || nat > 0 != encap || raw > 0 == encap {
				s.Errorf("%d packets on 5000, %d on 5500, %d of protocol 50, %d on the ports of the standard", first, nat, raw, standard)
			}
		})
	}
}
