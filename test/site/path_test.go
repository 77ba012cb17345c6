package site_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/esp"
	"yumen/policy"
	"yumen/test/site"
)

// narrowPath is what the router carries between the two gateways.
const narrowPath = 1400

// narrow has the router carry no more than mtu between the gateways, both ways. Their
// own links stay wide.
func (s *stage) narrow(mtu int) {
	s.Helper()
	for _, route := range []string{
		"-4 route replace 192.0.2.0/24 dev to-a proto kernel scope link src 192.0.2.1 mtu lock %d",
		"-4 route replace 198.51.100.0/24 dev to-b proto kernel scope link src 198.51.100.1 mtu lock %d",
		"-6 route replace 2001:db8:a::/64 dev to-a proto kernel metric 256 mtu lock %d",
		"-6 route replace 2001:db8:b::/64 dev to-b proto kernel metric 256 mtu lock %d",
	} {
		_, err := s.Router.Run(append([]string{"ip"}, strings.Fields(fmt.Sprintf(route, mtu))...)...)
		s.need(err)
	}
}

// mutePath is a narrow path whose router tells nobody when it drops what is larger.
func (s *stage) mutePath() {
	s.Helper()
	s.narrow(narrowPath)
	s.filter(`table inet yumen_mute {
	chain out {
		type filter hook output priority 0;
		icmp type destination-unreachable icmp code frag-needed counter drop
		icmpv6 type packet-too-big counter drop
	}
}
`)
}

// whole reports whether a packet of size bytes gets from host A to host B in one
// piece, or hears from somebody that it does not.
func (s *stage) whole(size int) bool {
	s.Helper()
	out, err := s.HostA.Run("ping", "-n", "-M", "do", "-s", fmt.Sprint(size-28), "-c", "2", "-i", "0.2", "-W", "1", site.HostB4)
	return err == nil || strings.Contains(fmt.Sprint(out, err), "mtu")
}

// The least that every path of IPv6 carries is enough for main mode, whatever the size
// of the certificates: the router cuts messages 2 and 3, or says that the gateways must.
func TestMainModePassesAPathOf1280Bytes(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%t", v6), func(t *testing.T) {
			t.Parallel()
			s := newTwoSites(t)
			s.largeCertificates()
			s.narrow(1280)
			a, b := endA(), endB()
			if v6 {
				a.remote, b.remote = site.GateB6, site.GateA6
			}
			stop := s.capture(s.Router, "to-b")
			s.run(a, b, "dataplane: user")
			s.waitUp(s.A, s.B)
			s.pass(s.Flows()...)
			s.stop(s.A, s.B)
			file := stop()
			s.fragmented(file, v6, true)
			s.verified(file)
			from := "ip.src == " + site.GateA4
			if v6 {
				from = "ipv6.src == " + site.GateA6
			}
			for _, row := range s.tshark(file, from+" && frame.len > 1294", "frame.len") { // 14 of Ethernet
				s.Errorf("a frame of %v bytes came through the router", row)
			}
		})
	}
}

func TestPathThatDropsInSilenceIsMeasured(t *testing.T) {
	for _, c := range []struct {
		name   string
		v6     bool
		encap  bool
		silent bool // path_probe: off
	}{
		{name: "IPv4 outside"}, {name: "IPv4 outside, ESP in UDP", encap: true}, {name: "IPv6 outside", v6: true},
		{name: "IPv6 outside, ESP in UDP", v6: true, encap: true}, {name: "not tried", silent: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newTwoSites(t)
			a, b := endA(), endB()
			if c.v6 {
				a.remote, b.remote = site.GateB6, site.GateA6
			}
			for _, e := range []*end{&a, &b} {
				e.tunnelKeys += ", mss_clamp: off"
				if c.encap {
					e.peerKeys += ", encap: force"
				}
				if c.silent {
					e.peerKeys += ", path_probe: off"
				}
			}
			s.mutePath()
			s.run(a, b, "dataplane: user")
			s.waitUp(s.A, s.B)
			remote := netip.MustParseAddr(a.remote)
			fits := func(outer int) int {
				return esp.MaxInner(esp.Child{Suite: policy.SM4CBCHMACSM3, ICVBits: 96,
					Path: esp.Path{Remote: netip.AddrPortFrom(remote, 4500), Encap: c.encap}}, outer)
			}
			if c.silent { // or else the test would show nothing
				time.Sleep(10 * time.Second)
				if !s.whole(1300) || s.whole(fits(1500)) {
					t.Error("the path is not one that drops large packets in silence")
				}
				return
			}
			s.narrowed([2]int{fits(narrowPath - 16), fits(narrowPath)}, s.A, s.B)
			for _, f := range s.Flows() {
				if _, err := f.Bulk(300_000); err != nil {
					t.Errorf("TCP from %s to %s: %v", f.FromAddr, f.ToAddr, err)
				}
			}
			if !s.whole(fits(narrowPath - 16)) {
				t.Error("a packet that fits does not pass")
			}
		})
	}
}

// narrowed waits until both tunnels of the gateways have an MTU within limits, and
// the log says so once.
func (s *stage) narrowed(limits [2]int, list ...*site.Gateway) {
	s.Helper()
	for _, g := range list {
		s.eventually("the path is measured", 60*time.Second, func() error {
			for _, name := range []string{"office4", "office6"} {
				x := s.tunnel(g, name)
				if len(x.Children) == 0 || x.Children[0].MTU < limits[0] || x.Children[0].MTU > limits[1] {
					return fmt.Errorf("%s: want %v: %+v", g.Dir, limits, x)
				}
			}
			return nil
		})
		log, err := os.ReadFile(filepath.Join(g.Dir, "yumen.log"))
		s.need(err)
		if n := strings.Count(string(log), "path-mtu"); n != 1 {
			s.Errorf("%s: the log tells %d times of the path", g.Dir, n)
		}
	}
}
