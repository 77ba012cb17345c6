package vm

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/test/site"
	"yumen/xfrm"
)

// dataplane is what both planes are to their user.
type dataplane interface {
	SetPolicy(p *policy.Policy) error
	Install(child esp.Child, from esp.State) error
	Use(id esp.ChildID) error
	Rebind(id esp.ChildID, path esp.Path) error
	Remove(id esp.ChildID) (esp.State, error)
	Usage(id esp.ChildID) (esp.Usage, bool)
	Events() <-chan esp.Event
	Close() error
}

// side is one gateway.
type side struct {
	dataplane
	b     bool
	space *site.Space
}

const (
	kernel = "kernel"
	user   = "user"
)

// open starts a plane of a kind on one side, with the policy of two tunnels.
func (w *world) open(t *testing.T, b bool, kind string) *side {
	t.Helper()
	s := &side{b: b, space: w.ga}
	if b {
		s.space = w.gb
	}
	s.start(t, kind, xfrm.Config{ManageSysctl: true})
	return s
}

func (s *side) start(t *testing.T, kind string, cfg xfrm.Config) {
	t.Helper()
	check(t, s.space.Do(func() (err error) {
		if kind == kernel {
			s.dataplane, err = xfrm.New(cfg)
		} else {
			s.dataplane, err = tunnel.New(tunnel.Config{})
		}
		if err != nil {
			return err
		}
		return s.SetPolicy(twoTunnels(s.b))
	}))
	plane := s.dataplane
	t.Cleanup(func() { plane.Close() })
}

var nets = []struct{ name, a, b string }{{"t4", "10.1.0.0/24", "10.2.0.0/24"}, {"t6", "fd01::/64", "fd02::/64"}}

func twoTunnels(b bool) *policy.Policy {
	p := &policy.Policy{Peers: []policy.Peer{{Name: "peer"}}}
	for _, n := range nets {
		local, remote := n.a, n.b
		if b {
			local, remote = remote, local
		}
		p.Tunnels = append(p.Tunnels, policy.Tunnel{
			Name: n.name, Peer: "peer", Suites: []policy.Suite{policy.SM4CBCHMACSM3}, ICVBits: 96, Window: 1024,
			Selector: policy.Selector{Local: policy.NetOf(netip.MustParsePrefix(local)), Remote: policy.NetOf(netip.MustParsePrefix(remote))},
			Outer:    policy.Outer{DSCP: policy.CopyDSCP},
		})
	}
	return p
}

// form is how a child travels.
type form struct {
	icv          int
	v6, udp, esn bool
}

func (f form) String() string {
	word := func(on bool, yes, no string) string {
		if on {
			return yes
		}
		return no
	}
	return fmt.Sprintf("icv%d-%s-%s-%s", f.icv, word(f.v6, "outer6", "outer4"), word(f.udp, "udp", "raw"), word(f.esn, "esn", "32bit"))
}

func forms() (list []form) {
	for _, icv := range []int{96, 128, 256} {
		for _, v6 := range []bool{false, true} {
			for _, udp := range []bool{false, true} {
				list = append(list, form{icv: icv, v6: v6, udp: udp, esn: len(list)%2 == 1})
			}
		}
	}
	return append(list, form{icv: 96, esn: true}, form{icv: 96, udp: true})
}

// child is the n-th child of tunnel number i as one side sees it; the two sides'
// fit together.
func child(b bool, i, n int, f form) esp.Child {
	half := func(toB bool) esp.Half {
		k := byte(8*n + 2*i)
		if toB {
			k++
		}
		return esp.Half{SPI: esp.SPI(0x10000 + 16*n + 2*i + int(k&1)), Keymat: secret.New(bytes.Repeat([]byte{k ^ 0x5a}, 48))}
	}
	from, to := gateA4, gateB4
	if f.v6 {
		from, to = gateA6, gateB6
	}
	var port uint16
	if f.udp {
		port = 4500
	}
	c := esp.Child{
		ID: esp.ChildID(2*n + i + 1), Tunnel: nets[i].name, Peer: "peer", Suite: policy.SM4CBCHMACSM3,
		ICVBits: f.icv, ESN: f.esn, Window: 1024, Outer: policy.Outer{DSCP: policy.CopyDSCP},
		In: half(false), Out: half(true),
		Path: esp.Path{
			Local:  netip.AddrPortFrom(netip.MustParseAddr(from), port),
			Remote: netip.AddrPortFrom(netip.MustParseAddr(to), port), Encap: f.udp,
		},
	}
	c.Selector = twoTunnels(b).Tunnels[i].Selector
	if b {
		c.In, c.Out = c.Out, c.In
		c.Path.Local, c.Path.Remote = c.Path.Remote, c.Path.Local
	}
	return c
}

// install installs generation n on both sides, then uses it on both.
func install(t *testing.T, n int, f form, sides ...*side) {
	t.Helper()
	for _, s := range sides {
		for i := range nets {
			check(t, s.Install(child(s.b, i, n, f), esp.State{}))
		}
	}
	for _, s := range sides {
		for i := range nets {
			check(t, s.Use(child(s.b, i, n, f).ID))
		}
	}
}

func remove(t *testing.T, n int, sides ...*side) {
	t.Helper()
	for _, s := range sides {
		for i := range nets {
			_, err := s.Remove(child(s.b, i, n, form{}).ID)
			check(t, err)
		}
	}
}

// await waits for an event of a kind and returns it; others pass by.
func (s *side) await(t *testing.T, kind esp.EventKind, limit time.Duration) esp.Event {
	t.Helper()
	e, ok := s.event(kind, limit)
	if !ok {
		t.Fatalf("no event %s", kind)
	}
	return e
}

func (s *side) event(kind esp.EventKind, limit time.Duration) (esp.Event, bool) {
	timer := time.After(limit)
	for {
		select {
		case e, ok := <-s.Events():
			if !ok {
				return e, false
			}
			if e.Kind == kind {
				return e, true
			}
		case <-timer:
			return esp.Event{}, false
		}
	}
}

// everyWay asks for an answer in both families, begun by either side.
func (w *world) everyWay(t *testing.T, n int) {
	t.Helper()
	for _, x := range []struct {
		from *site.Space
		to   string
	}{{w.ha, hostB4}, {w.hb, hostA4}, {w.ha, hostB6}, {w.hb, hostA6}} {
		if got := w.exchange(x.from, x.to, n); got != n {
			t.Errorf("to %s: %d of %d came back", x.to, got, n)
		}
	}
}

// noWay asserts that nothing passes.
func (w *world) noWay(t *testing.T) {
	t.Helper()
	for _, x := range []struct {
		from *site.Space
		to   string
	}{{w.ha, hostB4}, {w.hb, hostA4}, {w.ha, hostB6}, {w.hb, hostA6}} {
		if got := w.exchangeWithin(x.from, x.to, 1, 200*time.Millisecond); got != 0 {
			t.Errorf("to %s: an answer came back", x.to)
		}
	}
}
