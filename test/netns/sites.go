package netns

import (
	"path/filepath"
	"testing"
	"time"

	"yumen/test/site"
)

// Need skips a test that this machine cannot run and says why.
func Need(t *testing.T) {
	t.Helper()
	if why := site.Missing(); why != "" {
		t.Skip("SKIP network namespaces: " + why)
	}
}

// World is an empty world that is closed when the test ends, however it ends.
func World(t *testing.T) *site.World {
	t.Helper()
	Need(t)
	w := site.New()
	w.Large = true
	t.Cleanup(w.Close)
	return w
}

// TwoSites are two hosts behind two gateways with a router between: the figure
// in package site. The gateways' default routes lead outside and the router knows
// the way to the inner networks, so that whatever leaves in clear arrives.
// Interfaces: a gateway has "lan" and "wan", a host "lan", the router "wan-a" and "wan-b".
type TwoSites struct {
	World                                    *site.World
	HostA, GatewayA, Router, GatewayB, HostB *site.Space
}

// The addresses of TwoSites.
const (
	HostA4, HostA6       = "10.1.0.2", "fd01::2"
	InsideA4, InsideA6   = "10.1.0.1", "fd01::1"
	OutsideA4, OutsideA6 = "192.0.2.1", "2001:db8:a::1"
	OutsideB4, OutsideB6 = "198.51.100.1", "2001:db8:b::1"
	InsideB4, InsideB6   = "10.2.0.1", "fd02::1"
	HostB4, HostB6       = "10.2.0.2", "fd02::2"
)

// NewTwoSites builds them.
func NewTwoSites(t *testing.T) *TwoSites {
	t.Helper()
	s := &TwoSites{World: World(t)}
	for _, x := range []struct {
		at      **site.Space
		name    string
		forward bool
	}{
		{&s.HostA, "ha", false}, {&s.GatewayA, "ga", true}, {&s.Router, "r", true},
		{&s.GatewayB, "gb", true}, {&s.HostB, "hb", false},
	} {
		space, err := s.World.Space(x.name, x.forward)
		Check(t, err)
		*x.at = space
	}
	link := func(a *site.Space, ifA string, addrsA []string, b *site.Space, ifB string, addrsB []string) {
		t.Helper()
		Check(t, s.World.Link(a, ifA, addrsA, b, ifB, addrsB))
	}
	link(s.HostA, "lan", []string{HostA4 + "/24", HostA6 + "/64"}, s.GatewayA, "lan", []string{InsideA4 + "/24", InsideA6 + "/64"})
	link(s.GatewayA, "wan", []string{OutsideA4 + "/24", OutsideA6 + "/64"}, s.Router, "wan-a", []string{"192.0.2.254/24", "2001:db8:a::fe/64"})
	link(s.Router, "wan-b", []string{"198.51.100.254/24", "2001:db8:b::fe/64"}, s.GatewayB, "wan", []string{OutsideB4 + "/24", OutsideB6 + "/64"})
	link(s.GatewayB, "lan", []string{InsideB4 + "/24", InsideB6 + "/64"}, s.HostB, "lan", []string{HostB4 + "/24", HostB6 + "/64"})
	Check(t, s.HostA.Route("default via "+InsideA4, "default via "+InsideA6))
	Check(t, s.HostB.Route("default via "+InsideB4, "default via "+InsideB6))
	Check(t, s.GatewayA.Route("default via 192.0.2.254", "default via 2001:db8:a::fe"))
	Check(t, s.GatewayB.Route("default via 198.51.100.254", "default via 2001:db8:b::fe"))
	Check(t, s.Router.Route("10.1.0.0/24 via "+OutsideA4, "fd01::/64 via "+OutsideA6,
		"10.2.0.0/24 via "+OutsideB4, "fd02::/64 via "+OutsideB6))
	// Links and neighbours take a moment; a test must not measure that.
	for _, to := range []string{HostB4, HostB6} {
		limit := time.Now().Add(10 * time.Second)
		for {
			_, err := s.HostA.Run("ping", "-n", "-c", "1", "-W", "1", to)
			if err == nil {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("the sites cannot reach each other in clear: %v", err)
			}
		}
	}
	return s
}

// Check ends the test if err is not nil.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Run runs a command in a namespace; its failure ends the test.
func Run(t testing.TB, s *site.Space, args ...string) string {
	t.Helper()
	out, err := s.Run(args...)
	Check(t, err)
	return out
}

// Capture records an interface until the function it returns is called, which
// gives the file. The filter is tcpdump's.
func Capture(t testing.TB, s *site.Space, iface, filter string) (stop func() (file string)) {
	t.Helper()
	c, err := s.Capture(iface, filepath.Join(t.TempDir(), iface+".pcap"), filter)
	Check(t, err)
	return func() string {
		t.Helper()
		Check(t, c.Stop())
		return c.File
	}
}
