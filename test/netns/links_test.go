package netns

import (
	"net/netip"
	"testing"
	"time"

	"yumen/esp/links"
)

func TestAPathIsKnownToBeDownAtOnce(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	var w *links.Watcher
	Check(t, two.GatewayA.Do(func() (err error) { w, err = links.Open(0x59756d65); return err }))
	defer w.Close()
	far, far6 := netip.MustParseAddr(OutsideB4), netip.MustParseAddr(OutsideB6)
	local := netip.MustParseAddr(OutsideA4)
	w.Follow([]links.Path{
		{Name: "any", Remote: far}, {Name: "from", Local: local, Remote: far}, {Name: "by", Interface: "wan", Remote: far},
		{Name: "six", Remote: far6, Local: netip.MustParseAddr(OutsideA6)}, {Name: "inside", Interface: "lan"},
		{Name: "virtual", Local: netip.MustParseAddr("192.0.2.99")},
	})
	states := map[string]links.State{}
	// told waits until the paths are as they should be and returns how long it took
	// from the moment that they were told to be.
	told := func(what string, since time.Time, up map[string]bool) {
		t.Helper()
		late := time.After(5 * time.Second)
		for {
			wrong := ""
			for name, is := range up {
				if s, ok := states[name]; !ok || s.Up != is {
					wrong = name
				}
			}
			if wrong == "" {
				took := time.Since(since)
				t.Logf("%s: %v", what, took)
				if took > 500*time.Millisecond {
					t.Errorf("%s: told after %v", what, took)
				}
				return
			}
			select {
			case s := <-w.States():
				states[s.Name] = s
			case <-late:
				t.Fatalf("%s: %s is %+v", what, wrong, states[wrong])
			}
		}
	}
	told("start", time.Now(), map[string]bool{"any": true, "from": true, "by": true, "six": true, "inside": true, "virtual": false})

	// The other end of the cable is pulled.
	now := time.Now()
	Run(t, two.Router, "ip", "link", "set", "wan-a", "down")
	told("carrier", now, map[string]bool{"any": false, "from": false, "by": false, "six": false, "inside": true})
	if s := states["by"]; s.Why != "interface wan has no carrier" {
		t.Errorf("why: %q", s.Why)
	}
	Run(t, two.Router, "ip", "link", "set", "wan-a", "up")
	told("carrier back", time.Now(), map[string]bool{"any": true, "from": true, "by": true})

	Run(t, two.GatewayA, "ip", "addr", "add", "192.0.2.99/24", "dev", "wan")
	told("an address comes", time.Now(), map[string]bool{"virtual": true})
	now = time.Now()
	Run(t, two.GatewayA, "ip", "addr", "del", "192.0.2.99/24", "dev", "wan")
	told("an address goes", now, map[string]bool{"virtual": false})

	now = time.Now()
	Run(t, two.GatewayA, "ip", "route", "del", "default")
	told("the route goes", now, map[string]bool{"any": false, "from": false, "by": false})
	if s := states["any"]; s.Why != "there is no route to "+OutsideB4 {
		t.Errorf("why: %q", s.Why)
	}
	now = time.Now()
	Run(t, two.GatewayA, "ip", "route", "add", "default", "via", "192.0.2.254")
	told("the route comes back", now, map[string]bool{"any": true, "from": true, "by": true})

	now = time.Now()
	Run(t, two.GatewayA, "ip", "link", "set", "wan", "down")
	told("the interface", now, map[string]bool{"any": false, "from": false, "by": false, "six": false})
}
