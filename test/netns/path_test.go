package netns

import (
	"fmt"
	"strings"
	"testing"

	"yumen/esp"
	"yumen/test/site"
)

// narrow gives the link between the router and B a smaller MTU. A has to learn of
// it from the router, B has it in its own link.
func (two *TwoSites) narrow(t *testing.T, mtu int) {
	t.Helper()
	Run(t, two.Router, "ip", "link", "set", "wan-b", "mtu", fmt.Sprint(mtu))
	Run(t, two.GatewayB, "ip", "link", "set", "wan", "mtu", fmt.Sprint(mtu))
}

// mute keeps the router from saying that packets are too big.
func (two *TwoSites) mute(t *testing.T) {
	t.Helper()
	Run(t, two.Router, "nft", `table inet mute {
		chain out {
			type filter hook output priority 0;
			icmp type destination-unreachable icmp code frag-needed counter drop
			icmpv6 type packet-too-big counter drop
		}
	}`)
}

// fits is the effective MTU of the children of a spec on a path of mtu bytes.
func (s spec) fits(t *testing.T, mtu int) string {
	t.Helper()
	if s.ICV == 0 {
		s.ICV = 96
	}
	pol, err := s.policy()
	Check(t, err)
	return fmt.Sprintf(" mtu %d\n", esp.MaxInner(s.child(0, pol.Tunnels[0]), mtu))
}

// crosses moves TCP and large datagrams through a tunnel, each way, each family.
func (two *TwoSites) crosses(t *testing.T) {
	t.Helper()
	carry(t, two.flows(), 200_000)
	for _, f := range two.flows() {
		if got := sendLarge(t, f, 8888); got != largeSize {
			t.Errorf("%s to %s: %d of %d bytes of a large datagram arrived", f.FromAddr, f.ToAddr, got, largeSize)
		}
	}
}

func TestANarrowPathIsLearnedFromTheRouter(t *testing.T) {
	Need(t)
	t.Parallel()
	for _, s := range []spec{{MSS: -1}, {MSS: -1, V6: true}, {Encap: true}, {Encap: true, V6: true}, {After: true}, {After: true, Encap: true, V6: true}} {
		t.Run(fmt.Sprintf("v6=%t encap=%t after=%t clamp=%s", s.V6, s.Encap, s.After, s.MSS), func(t *testing.T) {
			two := NewTwoSites(t)
			two.narrow(t, 1280)
			s.Children = subnets()
			a, b := two.both(t, s)
			// With DF, so that somebody has something to say about it.
			Run(t, two.HostA, "sh", "-c", "ping -n -q -M do -s 1300 -c 3 -i 0.2 -W 1 "+HostB4+" || true")
			two.crosses(t)
			for side, r := range map[string]*running{"A": a, "B": b} {
				c := r.stop(t)
				if said := r.said(t); !s.After && strings.Count(said, s.fits(t, 1280)) != 2 {
					t.Errorf("%s: want twice%sin:\n%s", side, s.fits(t, 1280), said)
				}
				if c["icmp-foreign"] > 0 || side == "A" && !s.After && c["icmp-believed"] == 0 {
					t.Errorf("%s: errors about size: %v", side, c)
				}
			}
		})
	}
}

// Where the router says nothing, the policy still has what helps: smaller
// segments, fragmentation on the way, or the MTU in the configuration.
func TestANarrowPathThatSaysNothingIsCrossedByPolicy(t *testing.T) {
	Need(t)
	t.Parallel()
	for _, s := range []spec{{MSS: 1100, After: true}, {MTU: 1280, V6: true}, {MTU: 1280, Encap: true, MSS: -1}} {
		t.Run(fmt.Sprintf("v6=%t mtu=%d after=%t clamp=%s", s.V6, s.MTU, s.After, s.MSS), func(t *testing.T) {
			two := NewTwoSites(t)
			two.narrow(t, 1280)
			two.mute(t)
			s.Children = subnets()
			a, b := two.both(t, s)
			two.crosses(t)
			if c := a.stop(t); c["icmp-believed"] > 0 {
				t.Errorf("the router was not mute: %v", c)
			}
			b.stop(t)
		})
	}
}

func TestSegmentSizesAreLoweredInBothDirections(t *testing.T) {
	Need(t)
	t.Parallel()
	for _, x := range []struct {
		a, b   spec
		v4, v6 string
	}{
		{spec{}, spec{}, "mss 1398", "mss 1378"},
		{spec{MSS: -1}, spec{MSS: 1200}, "mss 1200", "mss 1200"}, // B alone serves both
	} {
		t.Run(x.v4, func(t *testing.T) {
			two := NewTwoSites(t)
			x.a.Children, x.b.Children, x.b.B = subnets(), subnets(), true
			start(t, two.GatewayA, x.a)
			start(t, two.GatewayB, x.b)
			const opening = "tcp[tcpflags] & tcp-syn != 0 or (ip6 proto 6 and ip6[53] & 2 != 0)"
			stops := []func() string{Capture(t, two.HostA, "lan", opening), Capture(t, two.HostB, "lan", opening)}
			for _, f := range two.flows() {
				_, err := f.Bulk(50_000)
				Check(t, err)
			}
			for i, stop := range stops {
				file := stop()
				here := []string{HostA4, HostA6, HostB4, HostB6}[2*i:]
				arrived := map[string]int{}
				for line := range strings.Lines(Run(t, two.Router, "tcpdump", "-n", "-r", file)) {
					for j, want := range []string{x.v4, x.v6} {
						if !strings.Contains(line, "IP "+here[j]+".") && !strings.Contains(line, "IP6 "+here[j]+".") &&
							strings.Contains(line, "> "+here[j]+".") {
							arrived[want+fmt.Sprint(j)]++
							if !strings.Contains(line, want+",") {
								t.Errorf("want %s: %s", want, line)
							}
						}
					}
				}
				// Of each family one opening from there and one answer.
				if arrived[x.v4+"0"] != 2 || arrived[x.v6+"1"] != 2 {
					t.Errorf("openings at host %d: %v", i, arrived)
				}
			}
		})
	}
}

func TestJumboPacketsAreCutAfterEncryption(t *testing.T) {
	Need(t)
	t.Parallel()
	for _, s := range []spec{{After: true}, {After: true, V6: true, Encap: true}} {
		t.Run(fmt.Sprintf("v6=%t encap=%t", s.V6, s.Encap), func(t *testing.T) {
			two := NewTwoSites(t)
			for _, end := range []*site.Space{two.HostA, two.GatewayA, two.HostB, two.GatewayB} {
				Run(t, end, "ip", "link", "set", "lan", "mtu", "9000")
			}
			s.Children = subnets()
			a, b := two.both(t, s)
			filter := "ip[6:2] & 0x3fff != 0 or ip6 proto 44"
			outside := Capture(t, two.Router, "wan-a", filter)
			Run(t, two.HostA, "ping", "-n", "-q", "-M", "do", "-s", "8972", "-c", "3", "-i", "0.2", "-W", "2", HostB4)
			Run(t, two.HostA, "ping", "-n", "-q", "-M", "do", "-s", "8952", "-c", "3", "-i", "0.2", "-W", "2", HostB6)
			if n := packets(t, two, outside()); n < 2*2*3*6 {
				t.Errorf("%d outer fragments for 12 packets of 9000 bytes", n)
			}
			for _, r := range []*running{a, b} {
				if c := r.stop(t); c["too-big"] > 0 || c["send"] > 0 {
					t.Errorf("dropped: %v", c)
				}
			}
		})
	}
}
