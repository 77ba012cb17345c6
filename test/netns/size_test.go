package netns

import (
	"fmt"
	"strings"
	"testing"

	"yumen/policy"
)

func TestPacketsThatDoNotFitAreAnsweredOrFragmented(t *testing.T) {
	Need(t)
	t.Parallel()
	for _, encap := range []bool{false, true} {
		t.Run(fmt.Sprintf("encap=%t", encap), func(t *testing.T) {
			two := NewTwoSites(t)
			a, b := two.both(t, spec{Children: subnets(), Encap: encap})
			outside := Capture(t, two.Router, "wan-a", "ip[6:2] & 0x3fff != 0") // fragments
			// IPv4 with DF and IPv6 of full size learn the size and get through.
			for _, to := range []string{HostB4, HostB6} {
				out, err := two.HostA.Run("ping", "-n", "-M", "do", "-s", "1440", "-c", "2", "-i", "0.2", "-W", "1", to)
				if err == nil {
					t.Errorf("1440 bytes to %s did not meet a limit: %s", to, out)
				}
				if !strings.Contains(out, "mtu") && !strings.Contains(out, "Packet too big") && !strings.Contains(out, "too long") {
					t.Errorf("nobody told the sender to %s the size: %s", to, out)
				}
			}
			// Without DF, and IPv6 fragmented by its sender: real fragments through the tunnel.
			for _, to := range []string{HostB4, HostB6} {
				Run(t, two.HostA, "ping", "-n", "-M", "dont", "-s", "6000", "-c", "3", "-i", "0.2", "-W", "2", to)
			}
			if n := packets(t, two, outside()); n > 0 {
				t.Errorf("%d outer packets are fragments: the inner ones should have been cut", n)
			}
			a.stop(t)
			b.stop(t)
		})
	}
}

func TestFragmentsMeetSelectorsWithPortsOnlyAfterReassembly(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	drop := func(local, remote string) ruleSpec {
		return ruleSpec{Action: policy.Drop, Local: local, Remote: remote, Protocol: 17, RemotePort: 7777}
	}
	s := spec{Children: subnets(), Rules: []ruleSpec{
		drop("10.1.0.0/24", "10.2.0.0/24"), drop("fd01::/64", "fd02::/64"),
	}}
	a, b := two.both(t, s)
	for _, f := range two.flows() {
		if got := sendLarge(t, f, 8888); got != largeSize {
			t.Errorf("%s to %s, allowed port: %d of %d bytes arrived", f.FromAddr, f.ToAddr, got, largeSize)
		}
	}
	for _, i := range []int{0, 2} {
		if got := sendLarge(t, two.flows()[i], 7777); got != 0 {
			t.Errorf("a dropped port got %d bytes by fragments", got)
		}
	}
	a.stop(t)
	b.stop(t)
}
