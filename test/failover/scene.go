package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"yumen/test/site"
	"yumen/test/soak/forwarder"
)

// scene is one way in which paths fail.
type scene struct {
	name   string
	world  string // kind of world it plays in
	fail   func(s *sites) error
	hold   time.Duration // from the failure to the healing
	heal   func(s *sites) error
	rest   time.Duration
	limits [2]time.Duration // without delivery, from a to b and from b to a; 0: none
	flips  uint64           // at most, at each end
	// lossy: the path is not silent, so what it loses before it is left is its own.
	lossy bool
}

const (
	byProbes = 400 * time.Millisecond // at 100 ms probes
	byEvent  = 50 * time.Millisecond
)

// weather of path 1.
func weather(w forwarder.Weather) func(*sites) error {
	return func(s *sites) error {
		s.wires[0].fwd.Set(w)
		return nil
	}
}

// drop loses everything that goes one way, or both.
func drop(toA, toB bool) forwarder.Weather {
	return forwarder.Weather{Decide: func(b bool, _ forwarder.Identity) forwarder.Fate {
		if b && toB || !b && toA {
			return forwarder.Drop
		}
		return forwarder.Pass
	}}
}

var fine = weather(forwarder.Weather{})

// link takes the interface of path 1 at some ends down or up.
func link(state string, ends ...int) func(*sites) error {
	return func(s *sites) error {
		faults := make([]error, len(ends))
		var both sync.WaitGroup
		for i, end := range ends { // at the same time: a command takes longer than a flip
			both.Go(func() { _, faults[i] = s.gate[end].Run("ip", "link", "set", "out1", state) })
		}
		if both.Wait(); errors.Join(faults...) != nil {
			return errors.Join(faults...)
		}
		if state == "down" {
			return nil
		}
		for _, end := range ends { // the kernel took the route along
			if _, err := s.gate[end].Run("ip", "route", "replace", fmt.Sprintf("10.%d.0.0/16", 2-end), "via", outer(1-end, 0)); err != nil {
				return err
			}
		}
		return nil
	}
}

// flap has path 1 come and go.
func flap(s *sites) error {
	for range 12 {
		if err := weather(drop(true, true))(s); err != nil {
			return err
		}
		time.Sleep(350 * time.Millisecond)
		if err := fine(s); err != nil {
			return err
		}
		time.Sleep(250 * time.Millisecond)
	}
	return nil
}

// both loses everything on both paths.
func both(w forwarder.Weather) func(*sites) error {
	return func(s *sites) error {
		s.wires[0].fwd.Set(w)
		s.wires[1].fwd.Set(w)
		return nil
	}
}

// killed is the death of gb; the routing of its site finds the other gateway.
func killed(s *sites) error {
	s.gate[endB].Daemon().Kill()
	return s.routeB(1)
}

// born is its return.
func born(s *sites) error {
	g := s.gate[endB]
	if err := g.Start(); err != nil {
		return err
	}
	if err := g.WaitUp(20 * time.Second); err != nil {
		return err
	}
	return s.routeB(0)
}

// kinds are the worlds that scenes play in.
func kinds() []kind {
	return []kind{
		{name: "two paths", mode: "active-standby", preempt: "2s", probe: ", delay: 60ms"},
		{name: "two peers", mode: "active-standby", preempt: "2s", twoPeers: true},
		{name: "load-share", mode: "load-share", preempt: "2s", flows: 8},
	}
}

// scenes are all of them. An end whose own link goes down knows at once; who has to
// find out by probes has three of them to miss.
func scenes() []scene {
	const hold, rest = 3 * time.Second, 5 * time.Second
	probes, event := [2]time.Duration{byProbes, byProbes}, [2]time.Duration{byEvent, byEvent}
	outage := [2]time.Duration{hold + 2*time.Second, hold + 2*time.Second}
	return []scene{
		{name: "silent drop", world: "two paths", fail: weather(drop(true, true)), hold: hold, heal: fine, rest: rest, limits: probes, flips: 2},
		{name: "one-way drop, a to b", world: "two paths", fail: weather(drop(false, true)), hold: hold, heal: fine, rest: rest, limits: probes, flips: 2},
		{name: "one-way drop, b to a", world: "two paths", fail: weather(drop(true, false)), hold: hold, heal: fine, rest: rest, limits: probes, flips: 2},
		{name: "link down at a", world: "two paths", fail: link("down", endA), hold: hold, heal: link("up", endA), rest: rest, limits: [2]time.Duration{byEvent, byProbes}, flips: 2},
		{name: "link down at both", world: "two paths", fail: link("down", endA, endB), hold: hold, heal: link("up", endA, endB), rest: rest, limits: event, flips: 2},
		{name: "flapping path", world: "two paths", fail: flap, hold: 0, heal: fine, rest: rest, limits: probes, flips: 4},
		{name: "slow path (+90 ms)", world: "two paths", fail: weather(forwarder.Weather{Delay: 1, Least: 90 * time.Millisecond, Longest: 92 * time.Millisecond}),
			hold: 4 * time.Second, heal: fine, rest: rest, limits: probes, flips: 2},
		{name: "lossy path (45 %)", world: "two paths", fail: weather(forwarder.Weather{Loss: 0.45}), hold: 5 * time.Second, heal: fine, rest: 12 * time.Second,
			limits: probes, flips: 4, lossy: true},
		{name: "both down and back", world: "two paths", fail: both(drop(true, true)), hold: hold, heal: both(forwarder.Weather{}), rest: 8 * time.Second, limits: outage, flips: 8},
		{name: "peer kill -9", world: "two peers", fail: killed, hold: hold, heal: born, rest: 6 * time.Second, limits: [2]time.Duration{byProbes, byProbes}, flips: 2},
		{name: "load-share, silent drop", world: "load-share", fail: weather(drop(true, true)), hold: hold, heal: fine, rest: rest, limits: probes, flips: 4},
	}
}

// judge writes down what is wrong with a row.
func (r *result) judge(c *scene) {
	fault := func(format string, args ...any) { r.faults = append(r.faults, fmt.Sprintf(format, args...)) }
	for way, name := range []string{"a to b", "b to a"} {
		// A machine that stood still so long did not look either.
		if limit := c.limits[way] + r.late[0]; r.fault[way].gap > limit {
			fault("from %s nothing was delivered for %v, more than %v", name, r.fault[way].gap.Round(time.Millisecond), limit)
		}
		if back := r.back[way]; c.limits[way] <= byProbes && back.lost > 0 && !c.lossy {
			fault("from %s %d packets were lost when the path came back", name, back.lost)
		}
	}
	for end, n := range r.flips {
		if n > c.flips {
			fault("end %s flipped %d times, more than %d", string("ab"[end]), n, c.flips)
		}
	}
	if r.clear > 0 {
		fault("%d frames in clear", r.clear)
	}
}

// settled waits until every group sends as it shall and all its paths are good, at
// every gateway.
func (s *sites) settled(limit time.Duration) error {
	var last error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		last = nil
		for _, g := range s.gate {
			st, err := g.Status()
			if err != nil {
				return err
			}
			for _, x := range st.Groups {
				if why := s.unsettled(x); why != "" {
					last = fmt.Errorf("%s: group %s: %s", g.Name, x.Name, why)
				}
			}
		}
		if last == nil {
			return nil
		}
	}
	return last
}

func (s *sites) unsettled(x site.Group) string {
	want := 1
	if s.kind.mode == "load-share" {
		want = len(x.Paths)
	}
	carry := 0
	for i, p := range x.Paths {
		if p.State != "good" {
			return fmt.Sprintf("path %s is %s (%s)", p.Tunnel, p.State, p.Why)
		}
		if p.Carries && i < want {
			carry++
		}
	}
	if carry != want {
		return fmt.Sprintf("it sends by %v", x.Carries)
	}
	return ""
}

// flips are those of the IPv4 group so far, at a and at b; a gateway without groups
// has none.
func (s *sites) flips() (n [2]uint64, err error) {
	for end := range 2 {
		st, err := s.gate[end].Status()
		if err != nil {
			return n, err
		}
		for _, x := range st.Groups {
			if x.Name == groupOf(false) {
				for _, k := range x.Flips {
					n[end] += k
				}
			}
		}
	}
	return n, nil
}
