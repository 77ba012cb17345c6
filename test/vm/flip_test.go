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
	"yumen/xfrm"
)

// flipper is what a plane does for groups.
type flipper interface {
	Steer(group string, to []esp.Weight) error
	Echo(tunnel string, seq uint64, stamp int64) error
	EchoGroup(group string, seq uint64, stamp int64) error
	Echoes() <-chan esp.Echo
	Mute(tunnel string, on bool) error
}

// The two paths go to the two addresses of gb; each family has a group of both.
var ways = []struct{ name, far string }{{"p", gateB4}, {"q", gateC4}}

func groupPolicy(b bool) *policy.Policy {
	p := &policy.Policy{}
	for _, w := range ways {
		p.Peers = append(p.Peers, policy.Peer{Name: w.name, Remote: policy.Remote{Addr: netip.MustParseAddr(w.far)}})
	}
	for i, n := range nets {
		target := []string{"10.2.0.1", "fd02::1"}[i]
		if b {
			target = []string{"10.1.0.1", "fd01::1"}[i]
		}
		g := policy.Group{Name: "dr" + n.name, Probe: policy.Probe{Target: netip.MustParseAddr(target)}}
		for k, w := range ways {
			t := twoTunnels(b).Tunnels[i]
			t.Name, t.Peer = w.name+n.name, w.name
			p.Tunnels = append(p.Tunnels, t)
			g.Members = append(g.Members, policy.Member{Tunnel: t.Name, Priority: k + 1, Weight: 1})
		}
		p.Groups = append(p.Groups, g)
	}
	return p
}

// openGroup starts a plane with both groups and a child on each path.
func (w *world) openGroup(t *testing.T, b bool, kind string) (*side, flipper) {
	t.Helper()
	s := &side{b: b, space: w.ga}
	if b {
		s.space = w.gb
	}
	check(t, s.space.Do(func() (err error) {
		if kind == kernel {
			s.dataplane, err = xfrm.New(xfrm.Config{ManageSysctl: true})
		} else {
			s.dataplane, err = tunnel.New(tunnel.Config{})
		}
		if err != nil {
			return err
		}
		return s.SetPolicy(groupPolicy(b))
	}))
	plane := s.dataplane
	t.Cleanup(func() { plane.Close() })
	for k := range ways {
		for i := range nets {
			check(t, s.Install(wayChild(b, k, i, 0), esp.State{}))
			check(t, s.Use(wayChild(b, k, i, 0).ID))
		}
	}
	return s, s.dataplane.(flipper)
}

// wayChild is the n-th child of a path and family.
func wayChild(b bool, k, i, n int) esp.Child {
	c := child(b, i, 0, form{icv: 96})
	c.ID, c.Tunnel, c.Peer = esp.ChildID(100*n+10*k+i+1), ways[k].name+nets[i].name, ways[k].name
	half := func(toB byte) esp.Half {
		return esp.Half{SPI: esp.SPI(0x20000 + 0x100*n + 0x10*k + 4*i + int(toB)), Keymat: secret.New(bytes.Repeat([]byte{byte(64*n+8*k+2*i) + toB}, 48))}
	}
	c.In, c.Out = half(0), half(1)
	far := netip.AddrPortFrom(netip.MustParseAddr(ways[k].far), 0)
	if b {
		c.In, c.Out = c.Out, c.In
		c.Path.Local = far
	} else {
		c.Path.Remote = far
	}
	return c
}

func steer(t *testing.T, f flipper, way string) {
	t.Helper()
	for _, n := range nets {
		check(t, f.Steer("dr"+n.name, []esp.Weight{{Tunnel: way + n.name, Weight: 1}}))
	}
}

// asked sends probes by a tunnel until one is answered, and reports whether one was.
func asked(t *testing.T, f flipper, name string, tries int, wait time.Duration) bool {
	t.Helper()
	for len(f.Echoes()) > 0 {
		<-f.Echoes()
	}
	for n := range tries {
		seq := uint64(1000 + n)
		check(t, f.Echo(name, seq, 77))
		late := time.After(wait)
		for answered := false; !answered; {
			select {
			case e := <-f.Echoes():
				if e.Tunnel == name && e.Answer && e.Stamp == 77 && e.Seq >= 1000 && e.Seq <= seq && !e.At.IsZero() {
					return true
				}
			case <-late:
				answered = true
			}
		}
	}
	return false
}

// Traffic both ways goes on while both ends flip between two paths: not one packet is
// lost or repeated, and both paths carry.
func TestFlipUnderTrafficLosesNothing(t *testing.T) {
	for _, kinds := range [][2]string{{kernel, kernel}, {kernel, user}} {
		t.Run(kinds[0]+"-"+kinds[1], func(t *testing.T) {
			w := inside(t)
			a, fa := w.openGroup(t, false, kinds[0])
			b, fb := w.openGroup(t, true, kinds[1])
			w.everyWay(t, 1)
			toB, toA := w.stream(t, w.ha, hostB4, 4*time.Millisecond), w.stream(t, w.hb, hostA6, 4*time.Millisecond)
			for n := range 30 {
				steer(t, fa, ways[n%2].name)
				time.Sleep(30 * time.Millisecond)
				steer(t, fb, ways[(n/2)%2].name)
				time.Sleep(30 * time.Millisecond)
			}
			for _, s := range []*stream{toB, toA} {
				sent, lost, repeated := w.end(s)
				if sent < 100 || lost != 0 || repeated != 0 {
					t.Errorf("to %s: sent %d, lost %d from %s on, repeated %d", s.to, sent, lost, w.firstLost(s), repeated)
					stats(t, a, b)
				}
			}
			for k := range ways {
				for i := range nets {
					ua, _ := a.Usage(wayChild(false, k, i, 0).ID)
					ub, _ := b.Usage(wayChild(true, k, i, 0).ID)
					if ua.Out.Packets == 0 || ub.In.Packets == 0 || ub.Out.Packets == 0 || ua.In.Packets == 0 {
						t.Errorf("path %s%s carried nothing: %+v, %+v", ways[k].name, nets[i].name, ua, ub)
					}
				}
			}
		})
	}
}

// Each member is asked by itself, whichever carries; a muted one does not answer, the
// others do; and a member that loses its child leaves its traffic to another.
func TestMembersOfAGroupAreProbedMutedAndReplaced(t *testing.T) {
	for _, kinds := range [][2]string{{kernel, kernel}, {kernel, user}, {user, kernel}} {
		t.Run(kinds[0]+"-"+kinds[1], func(t *testing.T) {
			w := inside(t)
			a, fa := w.openGroup(t, false, kinds[0])
			_, fb := w.openGroup(t, true, kinds[1])
			w.everyWay(t, 1)
			steer(t, fa, "q")
			for _, f := range []flipper{fa, fb} {
				for _, name := range []string{"pt4", "qt4", "pt6", "qt6"} {
					if !asked(t, f, name, 5, time.Second) {
						t.Errorf("%s is not answered", name)
						stats(t, a)
					}
				}
			}
			out := func(k int) uint64 { u, _ := a.Usage(wayChild(false, k, 0, 0).ID); return u.Out.Packets }
			p, q := out(0), out(1)
			if !asked(t, fa, "pt4", 1, 2*time.Second) || out(0) != p+1 || out(1) != q {
				t.Errorf("a probe of p left by p %d, by q %d times", out(0)-p, out(1)-q)
			}
			check(t, fa.EchoGroup("drt4", 5, 6))
			if e := <-fa.Echoes(); !e.Group || e.Seq != 5 || e.Stamp != 6 {
				t.Errorf("an echo of the group came back as %+v", e)
			}
			if out(1) != q+1 {
				t.Error("an echo of the group took another path than its traffic")
			}

			// The far end answers by the path that it was asked by, though its traffic goes
			// by one that is dead.
			steer(t, fb, "p")
			for _, name := range []string{"pt4", "pt6"} {
				check(t, fa.Mute(name, true))
			}
			for _, name := range []string{"qt4", "qt6"} {
				if !asked(t, fa, name, 3, time.Second) {
					t.Errorf("%s is not answered while the far end sends by the other path", name)
				}
			}
			for _, name := range []string{"pt4", "pt6"} {
				check(t, fa.Mute(name, false))
			}
			steer(t, fb, "q")
			w.everyWay(t, 1)

			check(t, fa.Mute("qt4", true))
			check(t, fa.Mute("qt6", true))
			w.noWay(t)
			steer(t, fa, "p")
			steer(t, fb, "p")
			w.everyWay(t, 2)
			if asked(t, fa, "qt4", 2, 200*time.Millisecond) {
				t.Error("a muted path is answered")
			}
			if !asked(t, fa, "pt4", 3, time.Second) {
				t.Error("the other path is not answered")
			}
			// A rekey of a muted path is mute too, and comes back with its numbers.
			check(t, fa.Mute("qt4", false))
			check(t, fa.Mute("qt6", false))
			steer(t, fa, "q")
			steer(t, fb, "q")
			w.everyWay(t, 2)
			for i := range nets {
				_, err := a.Remove(wayChild(false, 1, i, 0).ID)
				check(t, err)
			}
			steer(t, fb, "p")
			w.everyWay(t, 2)
			if err := fa.Echo("qt4", 1, 1); err == nil {
				t.Error("a path without a child is probed")
			}
		})
	}
}

// A policy that brings a group to tunnels that stand, or takes it away, leaves their
// children working.
func TestAGroupComesAndGoesOverStandingChildren(t *testing.T) {
	w := inside(t)
	a, _ := w.openGroup(t, false, kernel)
	b, _ := w.openGroup(t, true, kernel)
	for _, grouped := range []bool{false, true} {
		for _, s := range []*side{a, b} {
			p := groupPolicy(s.b)
			if !grouped { // the second path takes other addresses then
				p.Groups = nil
				for i := range p.Tunnels {
					if p.Tunnels[i].Peer == "q" {
						n := policy.NetOf(netip.MustParsePrefix(fmt.Sprintf("10.77.%d.0/24", i)))
						p.Tunnels[i].Selector.Local, p.Tunnels[i].Selector.Remote = n, n
					}
				}
			}
			check(t, s.SetPolicy(p))
		}
		w.everyWay(t, 2)
	}
}
