package site_test

import (
	"fmt"
	"testing"
	"time"

	"yumen/test/site"
)

func TestEverySuiteCarriesTrafficAndVerifies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		a, b       string // keys of the tunnels
		peerA      string // keys of the peer entry of a
		suite      string
		icv        int
		esn, encap bool
	}{
		{name: "GCM", a: ", suites: [sm4gcm128]", suite: "ESP:SM4_GCM_128", icv: 128},
		{name: "GCM preferred by one end alone", a: ", suites: [sm4gcm128, sm4cbc-hmacsm3]", b: ", suites: [sm4cbc-hmacsm3]",
			suite: "ESP:SM4_CBC/HMAC_SM3_96", icv: 96},
		{name: "ICV of 128 bits", a: ", icv_bits: 128", suite: "ESP:SM4_CBC/HMAC_SM3_128", icv: 128},
		{name: "ICV of 256 bits", a: ", icv_bits: 256", suite: "ESP:SM4_CBC/HMAC_SM3_256", icv: 256},
		{name: "CBC with ESN", a: ", esn: true", suite: "ESP:SM4_CBC/HMAC_SM3_96", icv: 96, esn: true},
		{name: "GCM with ESN", a: ", esn: true, suites: [sm4gcm128]", suite: "ESP:SM4_GCM_128", icv: 128, esn: true},
		{name: "ESN by one end alone", a: ", esn: true", b: ", esn: false", suite: "ESP:SM4_CBC/HMAC_SM3_96", icv: 96},
		{name: "UDP forced by one end alone", peerA: ", encap: force", suite: "ESP:SM4_CBC/HMAC_SM3_96", icv: 96, encap: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTwoSites(t)
			a, b := endA(), endB()
			if c.b == "" {
				c.b = c.a
			}
			a.tunnelKeys, a.peerKeys = c.a, c.peerA
			b.tunnelKeys += c.b
			stop := s.capture(s.Router, "to-b")
			s.run(a, b)
			s.waitUp(s.A, s.B)
			flows := s.Flows()
			s.pass(flows...)
			for _, g := range []*site.Gateway{s.A, s.B} {
				for _, tunnel := range s.status(g).Tunnels {
					child := tunnel.Children[0]
					if child.Suite != c.suite || child.ESN != c.esn || child.Encap != c.encap {
						s.Errorf("%s %s: %+v", g.Dir, tunnel.Name, child)
					}
				}
			}
			s.stop(s.A, s.B)
			file := stop()
			s.hidden(file, flows...)
			s.wellFormed(file)
			if n := s.sequences(file); n != 4 {
				s.Errorf("%d SPIs, expected 4", n)
			}
			d := s.verified(file, "--icv", fmt.Sprint(c.icv))
			for _, f := range d.Flows {
				if f.ICV != c.icv {
					s.Errorf("SPI %s: ICV of %d bits, expected %d", f.SPI, f.ICV, c.icv)
				}
			}
			s.onPort4500(file, c.encap)
		})
	}
}

// onPort4500 wants all ESP, and IKE from M5 on, in UDP 4500; or nothing there.
func (s *stage) onPort4500(file string, encap bool) {
	s.Helper()
	inUDP, raw := len(s.tshark(file, "esp && udp.port == 4500", "frame.number")), len(s.tshark(file, "esp && !udp", "frame.number"))
	floated := len(s.tshark(file, "isakmp && udp.port == 4500 && (isakmp.flags & 1)", "frame.number"))
	stayed := len(s.tshark(file, "isakmp && udp.port == 500 && (isakmp.flags & 1)", "frame.number"))
	if encap && (inUDP == 0 || raw > 0 || floated == 0 || stayed > 0) || !encap && (inUDP > 0 || raw == 0 || floated > 0 || stayed == 0) {
		s.Errorf("ESP: %d in UDP, %d raw; encrypted ISAKMP: %d on 4500, %d on 500", inUDP, raw, floated, stayed)
	}
}

// TestDifferentICVLengthsPassNothing: the length is not negotiated (HMAC-SM3 has
// one number), so only the data plane can tell.
func TestDifferentICVLengthsPassNothing(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	a, b := endA(), endB()
	b.tunnelKeys += ", icv_bits: 256"
	stop := s.capture(s.Router, "to-b")
	s.run(a, b)
	s.waitUp(s.A, s.B)
	flows := s.Flows()
	s.refuse("ICV of 96 and of 256 bits", flows...)
	for _, g := range []*site.Gateway{s.A, s.B} {
		for _, name := range []string{"office4", "office6"} {
			s.eventually("authentication failures are counted", 3*time.Second, func() error {
				if n := s.tunnel(g, name).Children[0].BadAuth; n == 0 {
					return fmt.Errorf("%s %s: none", g.Dir, name)
				}
				return nil
			})
		}
	}
	s.stop(s.A, s.B)
	s.hidden(stop(), flows...)
}
