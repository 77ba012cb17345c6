package netns

import (
	"fmt"
	"strings"
	"testing"

	"yumen/test/site"
)

func TestEverySuiteAndEncapsulationCarriesTrafficBothWays(t *testing.T) {
	Need(t)
	t.Parallel()
	for _, s := range []spec{
		{}, {ICV: 128}, {ICV: 256, Encap: true}, {ICV: 96, ESN: true, V6: true},
		{GCM: true}, {GCM: true, ESN: true, Encap: true, V6: true},
	} {
		name := fmt.Sprintf("gcm=%t icv=%d esn=%t encap=%t v6=%t", s.GCM, s.ICV, s.ESN, s.Encap, s.V6)
		t.Run(name, func(t *testing.T) {
			two := NewTwoSites(t)
			s.Children = subnets()
			a, b := two.both(t, s)
			stop := Capture(t, two.Router, "wan-a", "")
			flows := two.flows()
			carry(t, flows, 300_000)
			nothingClear(t, stop(), flows)
			for _, r := range []*running{a, b} {
				c := r.stop(t)
				if c["sealed"] == 0 || c["opened"] == 0 {
					t.Errorf("nothing went through: %v", c)
				}
				for _, bad := range []string{"bad-auth", "replayed", "malformed", "bad-selector", "policy-in", "send", "tun"} {
					if c[bad] > 0 {
						t.Errorf("%d packets dropped: %s", c[bad], bad)
					}
				}
			}
		})
	}
}

// carry pings and moves bytes along each flow.
func carry(t *testing.T, flows []site.Flow, size int) {
	t.Helper()
	for _, f := range flows {
		Check(t, f.Ping())
		_, err := f.Bulk(size)
		Check(t, err)
	}
}

func nothingClear(t *testing.T, file string, flows []site.Flow) {
	t.Helper()
	found, err := site.Found(file, site.Needles(flows...))
	Check(t, err)
	if len(found) > 0 {
		t.Errorf("in clear outside: %s", strings.Join(found, "; "))
	}
}

func TestSelectorsForEverythingCoverThePeerWithoutALoop(t *testing.T) {
	Need(t)
	t.Parallel()
	for _, encap := range []bool{false, true} {
		t.Run(fmt.Sprintf("encap=%t", encap), func(t *testing.T) {
			two := NewTwoSites(t)
			s := spec{Encap: encap, Children: []childSpec{{Local: "10.1.0.0/24", Remote: "0.0.0.0/0"}, {Local: "fd01::/64", Remote: "::/0"}}}
			a, b := two.both(t, s)
			stop := Capture(t, two.Router, "wan-a", "")
			flows := two.flows()
			carry(t, flows, 100_000)
			nothingClear(t, stop(), flows)
			// The gateway's own links go on working, and it can be reached outside.
			Run(t, two.HostA, "ping", "-c1", "-W2", InsideA4)
			Run(t, two.HostA, "ping", "-c1", "-W2", InsideA6)
			Run(t, two.Router, "ping", "-c1", "-W2", OutsideA4)
			Run(t, two.Router, "ping", "-c1", "-W2", OutsideA6)
			Run(t, two.GatewayA, "ping", "-c1", "-W2", "-I", OutsideA4, "198.51.100.254")
			Run(t, two.GatewayA, "ping", "-c1", "-W2", "-I", OutsideA6, "2001:db8:b::fe")
			a.stop(t)
			b.stop(t)
		})
	}
}

func TestTheGatewayItselfUsesItsTunnels(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	two.both(t, spec{Children: subnets()})
	stop := Capture(t, two.Router, "wan-a", "net 10.2.0.0/24 or net fd02::/64")
	for _, to := range []string{HostB4, HostB6, InsideB4, InsideB6} {
		Run(t, two.GatewayA, "ping", "-c1", "-W2", to) // the route chooses the source
	}
	if n := packets(t, two, stop()); n > 0 {
		t.Errorf("%d packets in clear outside", n)
	}
}

// packets counts what is in a capture.
func packets(t *testing.T, two *TwoSites, file string) int {
	t.Helper()
	out := Run(t, two.Router, "tcpdump", "-n", "-r", file)
	n := 0
	for line := range strings.Lines(out) {
		if strings.Contains(line, " IP ") || strings.Contains(line, " IP6 ") {
			n++
		}
	}
	return n
}
