package site_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yumen/test/site"
)

// natd are the two NAT-D payloads behind the signature (RFC 3947 3.2).
const natd = ",20,20"

// TestNegotiationStandsBeforeIndependentJudges has real daemons negotiate and
// tshark, and `yumen decode`, look at what was on the wire.
func TestNegotiationStandsBeforeIndependentJudges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		v6    bool
		large bool // certificates so large that M3 does not fit into one packet
		natt  bool
	}{
		{name: "IPv4 outside", natt: true},
		{name: "IPv4 outside, one end without NAT traversal"},
		{name: "IPv6 outside", v6: true, natt: true},
		{name: "IPv4 outside, large certificates", large: true, natt: true},
		{name: "IPv6 outside, large certificates", v6: true, large: true, natt: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTwoSites(t)
			a, b := endA(), endB()
			if c.v6 {
				a.remote, b.remote = site.GateB6, site.GateA6
			}
			tail := natd
			if !c.natt {
				tail = ""
				b.peerKeys = ", dialect: {nat_t: false}"
			}
			if c.large {
				s.largeCertificates()
			}
			stop := s.capture(s.Router, "to-b")
			s.run(a, b)
			s.waitUp(s.A, s.B)
			flows := s.Flows()
			s.pass(flows...)
			s.stop(s.A, s.B)
			file := stop()

			s.hidden(file, flows...)
			s.wellFormed(file)
			s.negotiated(file, tail)
			if n := s.sequences(file); n != 4 {
				s.Errorf("%d SPIs, expected 4", n)
			}
			if d := s.verified(file); len(d.Sessions) != 1 || len(d.Sessions[0].Children) != 2 || !strings.HasPrefix(d.Sessions[0].State, "authenticated") {
				s.Errorf("decoded sessions: %+v", d.Sessions)
			}
			s.fragmented(file, c.v6, c.large)
		})
	}
}

// largeCertificates gives both gateways certificates with many names.
func (s *stage) largeCertificates() {
	s.Helper()
	var names []string
	for i := range 24 {
		names = append(names, fmt.Sprintf("dns:a-name-that-only-fills-the-certificate-%02d.example.com", i))
	}
	ca, err := site.NewCA(yumen, s.dir+"/large", "Large Root")
	s.need(err)
	for _, g := range []*site.Gateway{s.A, s.B} {
		s.need(ca.Issue(g, "--san", strings.Join(names, ",")))
	}
}

// fragmented wants M2 and M3 to have come in real IP fragments, or nothing to.
func (s *stage) fragmented(file string, v6, want bool) {
	s.Helper()
	filter := "ip.frag_offset > 0 && !ipv6"
	if v6 {
		filter = "ipv6.fraghdr.offset > 0"
	}
	n := 0
	for _, row := range s.tshark(file, filter, "ip.proto", "ipv6.nxt", "ipv6.fraghdr.nxt") {
		if strings.Contains(strings.Join(row, ","), "17") {
			n++
		}
	}
	if want && n < 2 || !want && n > 0 {
		s.Errorf("%d fragments of UDP after the first, expected any: %v", n, want)
	}
}

func TestDecoderNamesOneFlippedBit(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	stop := s.capture(s.Router, "to-b")
	s.run(endA(), endB())
	s.waitUp(s.A, s.B)
	s.pass(s.Flows()...)
	s.stop(s.A, s.B)
	file := stop()
	s.verified(file)

	if d, err := s.decode(file, []*site.Gateway{s.A}); err != nil || d.Failed != 0 || d.Unverified == 0 || d.Verified == 0 {
		s.Errorf("with one key: %v: %d verified, %d failed, %d could not be made", err, d.Verified, d.Failed, d.Unverified)
	}
	if d, err := s.decode(file, nil); err != nil || d.Failed != 0 || d.Unverified == 0 {
		s.Errorf("with no key: %v: %d failed, %d could not be made", err, d.Failed, d.Unverified)
	}
	for _, c := range []struct {
		name string
		pick func(byte, []byte) *byte
		in   string
	}{
		{"a packet of ESP", inESP, "ESP"},
		{"the envelope of M3", inMessage(128, 60), "M3"},
		{"the hash of M5", inMessage(8, 20), "M5"},
	} {
		d, err := s.decode(s.flip(file, c.pick), []*site.Gateway{s.A, s.B})
		if err == nil || d.Failed == 0 {
			s.Errorf("one bit flipped in %s: %d failed, %v", c.name, d.Failed, err)
		}
		named := false
		for _, m := range d.Messages {
			for _, check := range m.Checks {
				named = named || m.Name == c.in && check.Verdict == "failed"
			}
		}
		if !named {
			s.Errorf("one bit flipped in %s: no failed check at %s", c.name, c.in)
		}
	}
}

// TestBothEndsMayStartAtOnce lets both daemons begin together, as after a power
// cut: tunnels come up, and the crossing leaves one way for traffic that works.
func TestBothEndsMayStartAtOnce(t *testing.T) {
	s := newTwoSites(t)
	a, b := endA(), endB()
	b.tunnelKeys = ""
	stop := s.capture(s.Router, "to-b")
	s.need(s.A.Configure(a.policy()), s.B.Configure(b.policy()), s.A.Start(), s.B.Start())
	s.waitUp(s.A, s.B)
	flows := s.Flows()
	s.pass(flows...)
	s.stop(s.A, s.B)
	file := stop()
	s.hidden(file, flows...)
	s.wellFormed(file)
	s.sequences(file)
	s.verified(file)
}

// TestPathThatDropsFragmentsIsPassedInPieces where both ends agreed to cut large
// messages themselves (payload 132).
func TestPathThatDropsFragmentsIsPassedInPieces(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	s.largeCertificates()
	s.filter(`table inet yumen_path {
	chain forward {
		type filter hook forward priority 0;
		ip frag-off & 0x3fff != 0 drop
		exthdr frag exists drop
	}
}
`)
	a, b := endA(), endB()
	a.peerKeys, b.peerKeys = ", ike_fragmentation: true", ", ike_fragmentation: true"
	stop := s.capture(s.Router, "to-b")
	s.run(a, b)
	s.waitUp(s.A, s.B)
	flows := s.Flows()
	s.pass(flows...)
	s.stop(s.A, s.B)
	file := stop()
	s.hidden(file, flows...)
	s.fragmented(file, false, false)
	if rows := s.tshark(file, "isakmp.typepayload == 132", "frame.number"); len(rows) < 4 {
		s.Errorf("%d pieces on the wire", len(rows))
	}
	s.sequences(file)
	s.verified(file)
}

// filter puts rules of nftables into the router.
func (s *stage) filter(rules string) {
	s.Helper()
	file := filepath.Join(s.dir, "router.nft")
	s.need(os.WriteFile(file, []byte(rules), 0o600))
	_, err := s.Router.Run("nft", "-f", file)
	s.need(err)
}
