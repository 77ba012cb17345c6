package netns

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/test/site"
)

// routesWritten counts the changes of the plane's table from now on.
func routesWritten(t *testing.T, at *site.Space) *atomic.Int64 {
	t.Helper()
	updates, done := make(chan netlink.RouteUpdate, 4096), make(chan struct{})
	t.Cleanup(func() { close(done) })
	Check(t, at.Do(func() error { return netlink.RouteSubscribe(updates, done) }))
	var n atomic.Int64
	go func() {
		for u := range updates {
			if u.Table == 4950 && (u.Type == unix.RTM_NEWROUTE || u.Type == unix.RTM_DELROUTE) {
				n.Add(1)
			}
		}
	}()
	return &n
}

// settled waits until a count stands still and returns it.
func settled(n *atomic.Int64) int64 {
	for {
		seen := n.Load()
		time.Sleep(200 * time.Millisecond)
		if n.Load() == seen {
			return seen
		}
	}
}

func TestEachNewChildWritesItsOwnRouteOnly(t *testing.T) {
	const tunnels = 300
	two := NewTwoSites(t)
	s := spec{ICV: 96}
	for i := range tunnels {
		s.Children = append(s.Children, childSpec{Local: "10.1.0.0/24", Remote: fmt.Sprintf("10.%d.%d.0/24", 100+i/200, i%200)})
	}
	pol, err := s.policy()
	Check(t, err)
	p := plane(t, two.GatewayA, pol)
	written := routesWritten(t, two.GatewayA)

	Check(t, p.SetPolicy(pol))
	if n := settled(written); n != 0 {
		t.Errorf("the same policy again changed %d routes", n)
	}
	begin := time.Now()
	for i := range tunnels {
		c := s.child(0, pol.Tunnels[i])
		c.ID, c.In.SPI, c.Out.SPI = esp.ChildID(i+1), esp.SPI(0x10000+2*i), esp.SPI(0x10001+2*i)
		Check(t, p.Install(c, esp.State{}))
		Check(t, p.Use(c.ID))
	}
	took := time.Since(begin)
	n := settled(written)
	t.Logf("%d children in %v, %d changes of routes", tunnels, took.Round(time.Millisecond), n)
	if n < tunnels || n > 2*tunnels { // each is a little larger than feared
		t.Errorf("%d children changed %d routes", tunnels, n)
	}

	// What somebody else took away comes back with the next policy.
	Run(t, two.GatewayA, "ip", "route", "del", "10.100.7.0/24", "table", "4950")
	Check(t, p.SetPolicy(pol))
	if out := Run(t, two.GatewayA, "ip", "route", "show", "table", "4950", "10.100.7.0/24"); out == "" {
		t.Error("a route that was deleted did not come back")
	}
}
