package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"yumen/test/numbered"
	"yumen/test/site"
	"yumen/test/soak/forwarder"
)

// rate of all flows together in each direction, packets a second.
const rate = 1000

// begin starts wires, daemons and traffic, and returns when every group is as it
// shall be.
func (s *sites) begin(seed uint64) error {
	var pairs []numbered.Pair
	for range max(1, s.kind.flows) {
		pairs = append(pairs, numbered.Pair(hosts4), numbered.Pair(hosts6))
	}
	var err error
	if s.load, err = numbered.New(s.world, s.host, pairs); err != nil {
		return err
	}
	for i, w := range s.wires {
		if err := s.forward(w, seed+uint64(i)); err != nil {
			return err
		}
	}
	for i := range s.gate {
		if err := s.gate[len(s.gate)-1-i].Start(); err != nil {
			return err
		}
	}
	for _, g := range s.gate {
		if err := g.WaitUp(20 * time.Second); err != nil {
			return err
		}
	}
	for end, list := range [2][]string{{"10.1.0.1", "fd01::1"}, {"10.2.0.1", "fd02::1"}} {
		for _, at := range list {
			if s.kind.twoPeers && end == endB {
				continue // 172.16, and asked by the first packet
			}
			if _, err := s.host[end].Run("ping", "-n", "-q", "-c", "1", "-w", "10", at); err != nil {
				return err
			}
		}
	}
	list := make([]int, len(pairs))
	for i := range list {
		list[i] = i
	}
	s.load.Send(list, rate/float64(len(list)))
	return s.settled(20 * time.Second)
}

func (s *sites) forward(w *wire, seed uint64) error {
	log, err := os.Create(filepath.Join(s.dir, filepath.Base(w.space.Name)+".log"))
	if err != nil {
		return err
	}
	err = w.space.Do(func() (err error) {
		w.fwd, err = forwarder.New(forwarder.Config{A: "to-a", B: "to-b", Seed: seed, Log: log, Needles: s.needles()})
		return err
	})
	if err != nil {
		log.Close()
		return err
	}
	s.world.Defer(func() { w.fwd.Close(); log.Close() })
	return nil
}

// needles are the marker of the payload, and the inner addresses as they stand side
// by side in an IP header.
func (s *sites) needles() (out [][]byte) {
	for _, p := range [][2]string{hosts4, hosts6} {
		for _, x := range site.Needles(site.Flow{FromAddr: p[0], ToAddr: p[1], Marker: s.load.Marker},
			site.Flow{FromAddr: p[1], ToAddr: p[0], Marker: s.load.Marker}) {
			out = append(out, x.Bytes)
		}
	}
	return out
}

// clear counts frames with something of the traffic in clear.
func (s *sites) clear() (n uint64) {
	for _, w := range s.wires {
		n += w.fwd.Clear()
	}
	return n
}

// outcome is what one phase of a case did to the traffic of one direction: the worst
// of all flows.
type outcome struct {
	lost int
	gap  time.Duration
}

// result is one row of the report.
type result struct {
	name   string
	fault  [2]outcome // from a to b, from b to a
	back   [2]outcome // while the path comes back
	flips  [2]uint64  // at each end, of one group
	clear  uint64
	late   [2]time.Duration // how far behind its schedule the generator was, in each phase
	limits [2]time.Duration
	faults []string // what is wrong with it
}

// phase does something and tells what became of the traffic until hold later.
func (s *sites) phase(do func() error, hold time.Duration) (out [2]outcome, err error) {
	marks := make([][2]uint32, len(s.load.Flows))
	for i, f := range s.load.Flows {
		for end := range f {
			f[end].Watch()
			marks[i][end] = f[end].Sent.Load()
		}
	}
	if err := do(); err != nil {
		return out, err
	}
	time.Sleep(hold)
	now := time.Now()
	var ends [][2]uint32
	for _, f := range s.load.Flows {
		ends = append(ends, [2]uint32{f[0].Sent.Load(), f[1].Sent.Load()})
	}
	var gaps [2]time.Duration
	for _, f := range s.load.Flows {
		for end := range f {
			gaps[end] = max(gaps[end], f[end].Gap(now))
		}
	}
	time.Sleep(300 * time.Millisecond) // what is under way still arrives
	for i, f := range s.load.Flows {
		for end := range f {
			out[end].lost += f[end].Lost(marks[i][end], ends[i][end])
			out[end].gap = gaps[end]
		}
	}
	return out, nil
}

// play runs one case and puts everything back.
func (s *sites) play(c *scene) (r result, err error) {
	r = result{name: c.name, limits: c.limits}
	if err := s.settled(30 * time.Second); err != nil {
		return r, fmt.Errorf("%s: before: %w", c.name, err)
	}
	clear, flips, err := s.clear(), [2]uint64{}, error(nil)
	if flips, err = s.flips(); err != nil {
		return r, err
	}
	s.load.Late.Store(0)
	if r.fault, err = s.phase(func() error { return c.fail(s) }, c.hold); err != nil {
		return r, fmt.Errorf("%s: %w", c.name, err)
	}
	r.late[0] = time.Duration(s.load.Late.Swap(0))
	if r.back, err = s.phase(func() error { return c.heal(s) }, c.rest); err != nil {
		return r, fmt.Errorf("%s: %w", c.name, err)
	}
	r.late[1] = time.Duration(s.load.Late.Load())
	if err := s.settled(30 * time.Second); err != nil {
		return r, fmt.Errorf("%s: after: %w", c.name, err)
	}
	now, err := s.flips()
	if err != nil {
		return r, err
	}
	for end := range r.flips {
		r.flips[end] = now[end] - flips[end]
	}
	r.clear = s.clear() - clear
	r.judge(c)
	return r, nil
}
