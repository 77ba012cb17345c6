package netns

import (
	"strings"
	"testing"
	"time"

	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/test/site"
)

// shout sends each flow's marker and an echo request; nothing has to arrive.
func shout(flows []site.Flow) {
	for _, f := range flows {
		_ = f.Datagram()
		_, _ = f.From.Run("ping", "-n", "-q", "-c", "1", "-W", "1", "-I", f.FromAddr, f.ToAddr)
	}
}

// gatewayFlows are sent by the gateway itself.
func (two *TwoSites) gatewayFlows() []site.Flow {
	return []site.Flow{
		{From: two.GatewayA, To: two.HostB, FromAddr: InsideA4, ToAddr: HostB4, Marker: site.NewMarker()},
		{From: two.GatewayA, To: two.HostB, FromAddr: InsideA6, ToAddr: HostB6, Marker: site.NewMarker()},
	}
}

func TestNothingLeavesInClearWhenThePlaneIsKilled(t *testing.T) {
	Need(t)
	t.Parallel()
	for _, s := range []spec{
		{Children: subnets()},
		{Children: []childSpec{{Local: "10.1.0.0/24", Remote: "0.0.0.0/0"}, {Local: "fd01::/64", Remote: "::/0"}}},
	} {
		t.Run(s.Children[0].Remote, func(t *testing.T) {
			two := NewTwoSites(t)
			flows := append(two.flows(), two.gatewayFlows()...)

			// Without protection the markers are found, so the search means something.
			stop := Capture(t, two.Router, "wan-a", "")
			shout(flows)
			found, err := site.Found(stop(), site.Needles(flows[:4]...))
			Check(t, err)
			if want := len(site.Needles(flows[:4]...)); len(found) != want {
				t.Fatalf("the search finds %d of %d needles without protection: %q", len(found), want, found)
			}

			a, b := two.both(t, s)
			carry(t, two.flows(), 10_000)
			for i := range flows {
				flows[i].Marker = site.NewMarker()
			}
			stop = Capture(t, two.Router, "wan-a", "")
			a.Kill()
			b.Kill()
			shout(flows)
			if out := Run(t, two.GatewayA, "ip", "-br", "link"); strings.Contains(out, "yumen0") {
				t.Errorf("the device outlived its process: %s", out)
			}
			nothingClear(t, stop(), flows)

			// The administrator's door, and the proof that it was the guard.
			Check(t, two.GatewayA.Do(func() error { return tunnel.RemoveGuard(tunnel.Config{}) }))
			Check(t, two.GatewayB.Do(func() error { return tunnel.RemoveGuard(tunnel.Config{}) }))
			for _, f := range flows[:4] {
				Check(t, f.Ping())
			}
		})
	}
}

// Whoever flushes all policies of the host takes the guard away for a moment only: when
// the plane is killed later it stands.
func TestAGuardThatOthersFlushIsSetAgain(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	a, b := two.both(t, spec{Children: subnets()})
	flows := append(two.flows(), two.gatewayFlows()...)
	policies := func() int { return strings.Count(Run(t, two.GatewayA, "ip", "xfrm", "policy", "list"), "src ") }
	want := policies()
	for i := range 3 {
		Run(t, two.GatewayA, "ip", "xfrm", "policy", "flush")
		limit := time.Now().Add(5 * time.Second)
		for policies() != want {
			if time.Now().After(limit) {
				t.Fatalf("flush %d: %d policies, want %d", i, policies(), want)
			}
		}
	}
	a.await(t, "event guard-mended")
	carry(t, two.flows(), 10_000)
	for i := range flows {
		flows[i].Marker = site.NewMarker()
	}
	stop := Capture(t, two.Router, "wan-a", "")
	a.Kill()
	shout(flows)
	nothingClear(t, stop(), flows)
	b.stop(t)
}

// systemd-networkd takes away rules and routes that it did not make. Without them nothing
// would find the way into the tunnels any more.
func TestIPRulesAndRoutesThatOthersRemoveAreLaidAgain(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	a, b := two.both(t, spec{Children: subnets()})
	laid := func() (out string) {
		for _, family := range []string{"-4", "-6"} {
			out += Run(t, two.GatewayA, "ip", family, "rule") + Run(t, two.GatewayA, "ip", family, "route", "show", "table", "4950")
		}
		return out
	}
	want := laid()
	for _, remove := range []string{
		"for f in -4 -6; do ip $f rule | sed -n 's/^\\(4[0-9]*\\|69[0-9]*\\):.*/\\1/p' | while read p; do ip $f rule del pref $p; done; done",
		"for f in -4 -6; do ip $f route flush table 4950; done",
		"ip rule del pref 4950; ip -6 route del blackhole fd02::/64 table 4950",
	} {
		Run(t, two.GatewayA, "sh", "-ec", remove)
		limit := time.Now().Add(5 * time.Second)
		for got := laid(); got != want; got = laid() {
			if time.Now().After(limit) {
				t.Fatalf("after %s:\n%s\nwant\n%s", remove, got, want)
			}
		}
		carry(t, two.flows(), 10_000)
	}
	a.await(t, "event guard-mended")
	for _, r := range []*running{a, b} {
		r.stop(t)
		r.await(t, "trouble <nil>")
	}
}

func TestClearTextFromOutsideIsDropped(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	a := start(t, two.GatewayA, spec{Children: subnets()}) // B has no gateway: it sends in clear
	lan := Capture(t, two.HostA, "lan", "")
	flows := []site.Flow{two.flows()[1], two.flows()[3]}
	shout(flows)
	for _, to := range []string{InsideA4, InsideA6} { // to the gateway itself
		if out, err := two.HostB.Run("ping", "-n", "-c", "1", "-W", "1", to); err == nil {
			t.Errorf("%s answered a clear packet: %s", to, out)
		}
	}
	nothingClear(t, lan(), flows)
	a.stop(t)
}

func TestBypassedPortsGoInClearAndNothingElse(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	s := spec{Children: subnets(), Rules: []ruleSpec{
		{Action: policy.Bypass, Local: "10.1.0.0/24", Remote: "10.2.0.0/24", Protocol: 17, RemotePort: 9},
		{Action: policy.Bypass, Local: "fd01::/64", Remote: "fd02::/64", Protocol: 17, RemotePort: 9},
	}}
	two.both(t, s)
	stop := Capture(t, two.Router, "wan-a", "")
	flows := two.flows()
	clear := []site.Flow{flows[0], flows[2]}
	for _, f := range clear {
		Check(t, f.Datagram()) // to port 9
		Check(t, f.Ping())
	}
	found, err := site.Found(stop(), site.Needles(clear...))
	Check(t, err)
	if len(found) != 4 {
		t.Errorf("of 2 markers and 2 pairs of addresses in clear: %q", found)
	}
	stop = Capture(t, two.Router, "wan-a", "icmp or icmp6 or tcp")
	carry(t, flows, 20_000)
	nothingClear(t, stop(), flows)
}

func TestNewAddressesAndLinksAreFollowed(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	a, b := two.both(t, spec{Children: []childSpec{{Local: "10.1.0.0/24", Remote: "0.0.0.0/0"}, {Local: "fd01::/64", Remote: "::/0"}}})
	// A subnet that appears while the plane runs is reached directly.
	Run(t, two.HostA, "ip", "addr", "add", "172.16.5.2/24", "dev", "lan")
	Run(t, two.HostA, "ip", "route", "add", "172.16.5.0/24", "dev", "lan", "table", "local", "src", HostA4, "metric", "1")
	Run(t, two.HostA, "ip", "route", "del", "172.16.5.0/24", "dev", "lan", "table", "local")
	Run(t, two.GatewayA, "ip", "addr", "add", "172.16.5.1/24", "dev", "lan")
	limit := time.Now().Add(5 * time.Second)
	for {
		_, err := two.GatewayA.Run("ping", "-c1", "-W1", "-I", InsideA4, "172.16.5.2")
		if err == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
	a.stop(t)
	b.stop(t)
}
