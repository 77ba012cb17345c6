package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"yumen/test/numbered"
	"yumen/test/site"
	"yumen/test/soak/forwarder"
)

// run is one soak.
type run struct {
	*scenario
	sites    *sites
	traffic  *numbered.Traffic
	desks    [2]*desk
	journals [2]*journal
	before   [2]counters
	dir      string
	seed     uint64
	overflow uint64
	tell     func(format string, args ...any)
}

const (
	repeated = 0.01 // of frames, on a lossy wire
	delayed  = 0.02
	longest  = 50 * time.Millisecond
)

// start brings everything up. Files are in dir; seed is the weather's.
func (s *scenario) start(w *site.World, yumen, dir string, seed uint64) (*run, error) {
	r, err := s.build(w, yumen, dir, seed)
	if err != nil {
		return nil, err
	}
	if err := r.sites.configure(dir, s.plan()); err != nil {
		return nil, err
	}
	return r, r.begin()
}

// build makes the network. The wire is not there yet: interfaces may still change.
func (s *scenario) build(w *site.World, yumen, dir string, seed uint64) (*run, error) {
	for end := range 2 {
		if err := os.MkdirAll(filepath.Join(dir, side(end)), 0o755); err != nil {
			return nil, err
		}
	}
	net, err := newSites(w, yumen, dir)
	if err != nil {
		return nil, err
	}
	r := &run{scenario: s, sites: net, dir: dir, seed: seed, tell: func(string, ...any) {}}
	r.traffic, err = net.numbered(s.count())
	return r, err
}

// begin starts the wire and both daemons.
func (r *run) begin() error {
	log, err := os.Create(filepath.Join(r.dir, "forwarder.log"))
	if err != nil {
		return err
	}
	if err := r.sites.forward(r.seed, log, r.needles()...); err != nil {
		return errors.Join(err, log.Close())
	}
	r.sites.world.Defer(func() { r.sites.fwd.Close(); log.Close() })
	for end := range 2 {
		g := r.sites.gate[1-end] // b first: it waits
		if err := g.Start(); err != nil {
			return err
		}
		r.desks[1-end], r.journals[1-end] = newDesk(g), newJournal(g)
	}
	return nil
}

// needles are the marker of the payload and, of the first tunnels, the inner
// addresses as they stand side by side in an IP header.
func (r *run) needles() [][]byte {
	out := [][]byte{r.traffic.Marker[:]}
	for n := range min(2, r.count()) {
		for _, x := range site.Needles(site.Flow{FromAddr: inner(endA, n), ToAddr: inner(endB, n), Marker: r.traffic.Marker},
			site.Flow{FromAddr: inner(endB, n), ToAddr: inner(endA, n), Marker: r.traffic.Marker}) {
			if len(x.Bytes) < len(r.traffic.Marker) || string(x.Bytes) != string(r.traffic.Marker[:]) {
				out = append(out, x.Bytes)
			}
		}
	}
	return out
}

// waitUp waits until every tunnel is up at both ends, and until each host knows its
// gateway: what a host drops while it asks for a link address is no packet of a
// tunnel's.
func (r *run) waitUp(limit time.Duration) error {
	for end := range 2 {
		for _, gateway := range insideOf(end) {
			if _, err := r.sites.host[end].Run("ping", "-n", "-q", "-c", "1", "-w", "10", gateway); err != nil {
				return err
			}
		}
		if err := r.sites.gate[end].WaitUp(limit); err != nil {
			return err
		}
	}
	return nil
}

// play sends, orders and waits until there were enough rekeys of each kind.
func (r *run) play() (err error) {
	for end := range 2 {
		if r.before[end], err = r.readCounters(end); err != nil {
			return err
		}
	}
	if _, err := r.sites.fwd.Overflow(); err != nil { // of the time before
		return err
	}
	r.sites.fwd.Set(r.weather())
	stop := make(chan struct{})
	orders := make(chan error, len(r.classes))
	for i := range r.classes {
		r.traffic.Send(r.classes[i].tunnels, r.classes[i].rate)
		go func() { orders <- r.order(&r.classes[i], stop) }()
	}
	err = r.wait()
	close(stop)
	for range r.classes {
		err = errors.Join(err, <-orders)
	}
	if r.settle > 0 && err == nil {
		r.sites.fwd.Set(forwarder.Weather{})
		if err = r.settled(); err == nil {
			r.tell("each tunnel has one child at each end")
		}
	}
	r.traffic.Halt()
	time.Sleep(2*longest + 500*time.Millisecond) // what is under way
	r.sites.fwd.Set(forwarder.Weather{})
	n, fault := r.sites.fwd.Overflow()
	r.overflow += n
	return errors.Join(err, fault)
}

func (r *run) weather() forwarder.Weather {
	if r.loss == 0 {
		return forwarder.Weather{}
	}
	return forwarder.Weather{Loss: r.loss, Repeat: repeated, Delay: delayed, Longest: longest}
}

// order gives the orders of one class, spread evenly over its tunnels.
func (r *run) order(c *class, stop <-chan struct{}) error {
	if c.how == byLimit {
		return nil
	}
	tick := time.NewTicker(c.every / time.Duration(len(c.tunnels)))
	defer tick.Stop()
	first := time.After(c.every) // the first generation is to carry its packets
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		case <-first:
		}
		for {
			select {
			case <-stop:
				return nil
			case <-tick.C:
			}
			if err := r.renew(c, n); err != nil {
				return err
			}
			n++
		}
	}
}

func (r *run) renew(c *class, n int) error {
	tunnel := fmt.Sprintf("t%d", c.tunnels[n%len(c.tunnels)])
	if c.how == byBoth {
		return together(r.desks, "/v1/rekey", tunnel)
	}
	return r.desks[n/len(c.tunnels)%2].rekey(tunnel)
}

// wait ends when enough rekeys are counted, or with an error.
func (r *run) wait() error {
	end := time.Now().Add(r.limit)
	told := time.Now()
	for time.Now().Before(end) {
		time.Sleep(time.Second)
		for i := range 2 {
			if r.sites.gate[i].Daemon().Ended() {
				return fmt.Errorf("gateway %s: the daemon ended", side(i))
			}
		}
		t, err := r.tally()
		if err != nil {
			return err
		}
		if t.enough(r.rekeys) {
			return nil
		}
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			r.tell("%d of %d rekeys, %d packets", t.rekeys(), r.rekeys, t.sent)
		}
	}
	t, err := r.tally()
	if err != nil {
		return err
	}
	return fmt.Errorf("only %d of %d rekeys after %v (%v)", t.rekeys(), r.rekeys, r.limit, t.by)
}

// settled waits, while traffic goes on, until each tunnel was seen with exactly
// one child at each end.
func (r *run) settled() error {
	seen := map[string]bool{}
	for end := time.Now().Add(r.settle); ; time.Sleep(200 * time.Millisecond) {
		alone, err := r.sites.alone()
		if err != nil {
			return err
		}
		for name := range alone {
			seen[name] = true
		}
		if len(seen) == r.count() {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("only %d of %d tunnels were seen with one child at each end", len(seen), r.count())
		}
	}
}

// alone lists the tunnels that have exactly one child at each end, the same one.
func (s *sites) alone() (map[string]bool, error) {
	var only [2]map[string]string
	for end, g := range s.gate {
		st, err := g.Status()
		if err != nil {
			return nil, err
		}
		only[end] = map[string]string{}
		for _, t := range st.Tunnels {
			if len(t.Children) != 1 || !t.Children[0].InUse {
				continue
			}
			c := t.Children[0]
			only[end][t.Name] = c.In.SPI + " " + c.Out.SPI
			if end == endB {
				only[end][t.Name] = c.Out.SPI + " " + c.In.SPI
			}
		}
	}
	alone := map[string]bool{}
	for name, pair := range only[endA] {
		if only[endB][name] == pair {
			alone[name] = true
		}
	}
	return alone, nil
}

// verdict is the line that a run ends with; the details come before it.
func (r *run) verdict(out io.Writer) error {
	t, err := r.tally()
	if err != nil {
		return err
	}
	t.details(out, r)
	fmt.Fprintf(out, "rekeys=%d lost=%d duplicated=%d clear=%d\n", t.rekeys(), t.lost, t.twice, t.clear)
	if t.lost != 0 || t.twice != 0 || t.clear != 0 || t.extra != 0 || t.strange != 0 {
		return errors.New("packets were lost, came twice, were seen in clear or are not accounted for: see above")
	}
	return nil
}
