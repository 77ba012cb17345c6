package site_test

import (
	"sync"
	"testing"
	"time"

	"yumen/test/site"
)

// TestNothingInnerIsSeenOutsideWhateverBecomesOfTheDaemon takes a gateway through
// all that can happen to its daemon, under traffic, with a default route to the
// outside and a router that would carry the inner networks. The last step, without
// the guard, proves that the search finds what it looks for.
func TestNothingInnerIsSeenOutsideWhateverBecomesOfTheDaemon(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	flows := s.Flows()
	fromA := []site.Flow{flows[0], flows[2]}
	own := []site.Flow{ // of the gateway itself, from its inner address
		{From: s.A.Space, To: s.HostB, FromAddr: "10.1.0.1", ToAddr: site.HostB4, Marker: site.NewMarker()},
		{From: s.A.Space, To: s.HostB, FromAddr: "fd01::1", ToAddr: site.HostB6, Marker: site.NewMarker()},
	}
	all := append(own, flows...)
	quietly := func(when string, act func()) {
		t.Helper()
		stop := s.capture(s.Router, "to-b")
		act()
		s.refuse(when, all...)
		if found := s.found(stop(), all...); len(found) > 0 {
			t.Errorf("%s: in clear on the outside wire: %v", when, found)
		}
	}
	b := endB()
	b.tunnelKeys = ""
	s.need(s.A.Configure(endA().policy()), s.B.Configure(b.policy()))

	quietly("guard set, no daemon", func() {
		for _, g := range []*site.Gateway{s.A, s.B} {
			_, err := g.Command("guard", "compile")
			s.need(err)
			_, err = g.Command("guard", "set")
			s.need(err)
		}
	})
	quietly("before the first tunnel", func() {
		s.need(s.A.Start())
		s.answers(s.A)
	})
	s.need(s.B.Start())
	s.waitUp(s.A, s.B)
	s.pass(all...)
	quietly("after yumen down", func() {
		s.order("down", s.A, s.B)
	})
	s.order("up", s.B, s.A)
	s.waitUp(s.A, s.B)
	s.pass(all...)
	quietly("after kill -9 under traffic", func() {
		ended := background(all)
		s.A.Daemon().Kill()
		time.Sleep(200 * time.Millisecond)
		ended()
	})
	s.need(s.A.Start())
	s.waitUp(s.A)
	s.eventually("traffic after the restart", 10*time.Second, func() error { return all[0].Talk("udp", 4500, quiet) })
	s.pass(all...)
	quietly("after a clean stop under traffic", func() {
		ended := background(all)
		s.stop(s.A)
		time.Sleep(200 * time.Millisecond)
		ended()
	})
	s.stop(s.B)
	s.unguarded(fromA, flows, all)
}

// order gives both tunnels of each gateway an order.
func (s *stage) order(order string, list ...*site.Gateway) {
	s.Helper()
	for _, g := range list {
		for _, name := range []string{"office4", "office6"} {
			_, err := g.Command(order, name)
			s.need(err)
		}
	}
}

// unguarded takes the guards away, of b first: what comes from there in clear is
// still kept from the hosts of a, until its guard goes too.
func (s *stage) unguarded(fromA, flows, all []site.Flow) {
	s.Helper()
	_, err := s.B.Command("guard", "remove")
	s.need(err)
	inside, outside := s.capture(s.HostA, "eth0"), s.capture(s.Router, "to-b")
	fromB := []site.Flow{flows[1], flows[3]}
	s.refuse("from b in clear", fromB...)
	s.shown(outside(), fromB...)
	s.hidden(inside(), fromB...)
	_, err = s.A.Command("guard", "remove")
	s.need(err)
	stop := s.capture(s.Router, "to-b")
	s.pass(fromA...)
	s.pass(all...)
	s.shown(stop(), all...)
}

// background sends datagrams of all flows without a pause until ended.
func background(flows []site.Flow) (ended func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, f := range flows {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = f.Datagram()
					time.Sleep(2 * time.Millisecond)
				}
			}
		})
	}
	return func() { close(stop); wg.Wait() }
}

// TestResponderThatDiedIsFoundAgain: it lost its keys and starts nothing of its
// own, and the initiator still has keys and nothing to say but ESP.
func TestResponderThatDiedIsFoundAgain(t *testing.T) {
	s := newTwoSites(t)
	a, b := endA(), endB()
	a.peerKeys = ", dpd: {interval: 1s, tries: 2}"
	stop := s.capture(s.Router, "to-b")
	s.run(a, b)
	s.waitUp(s.A, s.B)
	flows := s.Flows()
	s.pass(flows...)
	s.B.Daemon().Kill()
	s.refuse("while b is dead", flows...)
	s.need(s.B.Start())
	s.answers(s.B)
	s.eventually("traffic flows again", 20*time.Second, func() error { return flows[0].Talk("udp", 4242, quiet) })
	s.waitUp(s.A, s.B)
	s.pass(flows...)
	s.stop(s.A, s.B)
	s.hidden(stop(), flows...)
}
