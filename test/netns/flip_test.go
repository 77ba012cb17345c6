package netns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/test/numbered"
	"yumen/test/site"
)

// The second path goes by addresses of its own on the same wires.
const secondA4, secondB4 = "192.0.2.11", "198.51.100.11"

// grouped is a group of two paths, as one side sees it, and the children on them.
func grouped(t *testing.T, b bool, mode policy.GroupMode) (*policy.Policy, []esp.Child) {
	t.Helper()
	one := childSpec{Local: "10.1.0.0/24", Remote: "10.2.0.0/24"}
	two := one
	two.From, two.To = secondA4, secondB4
	s := spec{B: b, ICV: 96, Children: []childSpec{one, two}}
	pol := &policy.Policy{Groups: []policy.Group{{Name: "dr", Mode: mode}}}
	tunnels, err := (&spec{B: b, ICV: 96, Children: []childSpec{one}}).policy()
	Check(t, err)
	var children []esp.Child
	for i := range s.Children {
		x := tunnels.Tunnels[0]
		x.Name, x.Peer = fmt.Sprint("t", i), fmt.Sprint("peer", i)
		far := []string{OutsideB4, secondB4}[i]
		if b {
			far = []string{OutsideA4, secondA4}[i]
		}
		pol.Peers = append(pol.Peers, policy.Peer{Name: x.Peer, Remote: policy.Remote{Addr: netip.MustParseAddr(far)}})
		pol.Tunnels = append(pol.Tunnels, x)
		m := policy.Member{Tunnel: x.Name, Priority: i + 1, Weight: 1}
		if mode == policy.LoadShare {
			m.Priority = 1
		}
		pol.Groups[0].Members = append(pol.Groups[0].Members, m)
		children = append(children, s.child(i, x))
	}
	return pol, children
}

func answer(t *testing.T, p *tunnel.Plane, limit time.Duration) (esp.Echo, bool) {
	t.Helper()
	select {
	case e := <-p.Echoes():
		return e, true
	case <-time.After(limit):
		return esp.Echo{}, false
	}
}

// Real sockets, numbered traffic both ways, and both ends that flip all the time: not
// one number is lost or comes twice. Then probes find which path is dead.
func TestFlipsUnderNumberedTrafficLoseNothing(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	Run(t, two.GatewayA, "ip", "addr", "add", secondA4+"/24", "dev", "wan")
	Run(t, two.GatewayB, "ip", "addr", "add", secondB4+"/24", "dev", "wan")
	var planes [2]*tunnel.Plane
	for end, at := range []bool{false, true} {
		pol, children := grouped(t, at, policy.LoadShare)
		gateway := two.GatewayA
		if at {
			gateway = two.GatewayB
		}
		planes[end] = plane(t, gateway, pol)
		for _, c := range children {
			Check(t, planes[end].Install(c, esp.State{}))
			Check(t, planes[end].Use(c.ID))
		}
	}
	var pairs []numbered.Pair
	for range 4 {
		pairs = append(pairs, numbered.Pair{HostA4, HostB4})
	}
	traffic, err := numbered.New(two.World, [2]*site.Space{two.HostA, two.HostB}, pairs)
	Check(t, err)
	stop := Capture(t, two.Router, "wan-a", "")
	traffic.Send([]int{0, 1, 2, 3}, 500)
	time.Sleep(200 * time.Millisecond)
	ways := [][]esp.Weight{
		{{Tunnel: "t0", Weight: 1}}, {{Tunnel: "t1", Weight: 1}},
		{{Tunnel: "t0", Weight: 2}, {Tunnel: "t1", Weight: 1}}, nil,
	}
	for n := range 100 {
		Check(t, planes[n%2].Steer("dr", ways[n/2%len(ways)]))
		time.Sleep(10 * time.Millisecond)
	}
	traffic.Halt()
	time.Sleep(300 * time.Millisecond)
	for pair, f := range traffic.Flows {
		for from := range f {
			got, twice := f[from].Counts()
			if sent := uint64(f[from].Sent.Load()); sent < 100 || got != sent || twice != 0 {
				t.Errorf("pair %d from %d: %d sent, %d came, %d twice; %s", pair, from, sent, got, twice, f[from].Missing())
			}
			t.Logf("pair %d from %d: %d, %d of them overtaken by others of their flow", pair, from, got, f[from].Overtaken())
		}
	}
	nothingClear(t, stop(), []site.Flow{{FromAddr: HostA4, ToAddr: HostB4, Marker: traffic.Marker}})
	probesFind(t, planes[0], planes[1])
}

// probesFind mutes one path at the far end, of which the near end knows nothing.
func probesFind(t *testing.T, near, far *tunnel.Plane) {
	t.Helper()
	for _, c := range []struct {
		muted bool
		name  string
		comes bool
	}{{false, "t0", true}, {false, "t1", true}, {true, "t0", true}, {true, "t1", false}, {false, "t1", true}} {
		Check(t, far.Mute("t1", c.muted))
		at := time.Now()
		Check(t, near.Echo(c.name, 42, at.UnixNano()))
		limit := 5 * time.Second
		if !c.comes {
			limit = 300 * time.Millisecond
		}
		e, came := answer(t, near, limit)
		if came != c.comes || came && (e.Tunnel != c.name || e.Seq != 42 || e.Stamp != at.UnixNano() || e.At.Sub(at) > limit) {
			t.Errorf("%+v: came %t, %+v", c, came, e)
		}
		if came {
			t.Logf("%s: round trip %v, one way %v", c.name, e.At.Sub(at), time.Duration(e.Far-e.Stamp))
		}
	}
}
