package tunnel

import (
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/policy"
)

const (
	minimumMTU4 = 576  // what every IPv4 host accepts (RFC 791 3.1); less is not believed
	minimumMTU6 = 1280 // RFC 8200 5
	jumboMTU    = 9000 // largest inner packet where the outer one is cut

	learnedFor   = 10 * time.Minute // RFC 1191 6.3
	measureEvery = time.Minute
	reportGap    = 100 * time.Millisecond // between two questions of one worker
)

// report is what a worker found out about a path. mtu 0: the host should know.
type report struct {
	remote netip.Addr
	mtu    int
}

// learned is what the network said about the way to one address.
type learned struct {
	mtu   int
	until time.Time
}

// ends are the addresses of a path.
type ends struct{ local, remote netip.Addr }

func endsOf(local, remote netip.Addr) ends { return ends{local.Unmap(), remote.Unmap()} }

// LearnPath takes the word of somebody who tried it that packets of mtu bytes, all
// headers included, get from local to remote and larger ones do not. It holds for
// ten minutes or until the next word. What the configuration, the host and ICMP
// errors say holds as well: the least counts.
func (p *Plane) LearnPath(local, remote netip.Addr, mtu int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	e, now := endsOf(local, remote), p.cfg.Now()
	before, had := p.probed[e]
	if had = had && now.Before(before.until); mtu >= p.cfg.MTU {
		delete(p.probed, e)
		mtu = 0
	} else {
		p.probed[e] = learned{mtu: mtu, until: now.Add(learnedFor)}
	}
	if had == (mtu > 0) && (!had || before.mtu == mtu) {
		return // nothing new; to measure thousands of paths takes a while
	}
	if err := p.remeasure(); err != nil {
		p.trouble = err
	}
}

// tell hands a report to mind and waits for nobody.
func (p *Plane) tell(r report) {
	select {
	case p.reports <- r:
	default: // there will be another for the next large packet
	}
}

// mind follows path MTUs until the plane is closed.
func (p *Plane) mind() {
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case r := <-p.reports:
			p.learn(r)
		case <-tick.C:
			p.learn(report{})
		}
	}
}

// learn notes a report and measures all paths anew.
func (p *Plane) learn(r report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := p.cfg.Now()
	for remote, l := range p.paths {
		if !now.Before(l.until) {
			delete(p.paths, remote)
		}
	}
	for e, l := range p.probed {
		if !now.Before(l.until) {
			delete(p.probed, e)
		}
	}
	if r.mtu > 0 {
		if l, ok := p.paths[r.remote]; !ok || r.mtu <= l.mtu {
			p.paths[r.remote] = learned{mtu: r.mtu, until: now.Add(learnedFor)}
		}
	}
	if err := p.remeasure(); err != nil {
		p.trouble = err
	}
}

// remeasure gives every child the sizes of its path as it is now. The caller
// holds mu.
func (p *Plane) remeasure() error {
	known := map[ends]int{}
	changed := false
	for id, x := range p.pairs {
		e := endsOf(x.child.Path.Local.Addr(), x.child.Path.Remote.Addr())
		outer, ok := known[e]
		if !ok {
			outer = p.outerMTU(x.child.Path)
			known[e] = outer
		}
		if outer == x.outer {
			continue
		}
		next := *x
		next.size(outer)
		p.pairs[id], changed = &next, true
	}
	if !changed {
		return nil
	}
	p.publish()
	return p.refreshMTU()
}

// outerMTU is the largest packet that reaches the end of a path, as far as is
// known: from the configuration, the host's routes and their cache, ICMP, and
// probes.
func (p *Plane) outerMTU(path esp.Path) int {
	remote := path.Remote.Addr().Unmap()
	mtu, least := p.cfg.MTU, minimumMTU4
	if remote.Is6() {
		least = minimumMTU6
	}
	least = min(least, mtu) // the administrator knows better
	if m := p.kernel.pathMTU(path, p.cfg.Mark); m > 0 {
		mtu = min(mtu, m)
	}
	if l, ok := p.paths[remote]; ok && p.cfg.Now().Before(l.until) {
		mtu = min(mtu, l.mtu)
	}
	if l, ok := p.probed[endsOf(path.Local.Addr(), remote)]; ok && p.cfg.Now().Before(l.until) {
		mtu = min(mtu, l.mtu)
	}
	return max(mtu, least)
}

// size sets what follows from the largest outer packet.
func (x *pair) size(outer int) {
	x.outer = outer
	fits := esp.MaxInner(x.child, outer)
	x.mtu = fits
	if x.child.Outer.Fragment == policy.FragmentAfter {
		x.mtu = max(jumboMTU, fits)
	}
	// TCP is spared outer fragments even where they are allowed.
	switch most := x.child.Outer.MSS; most {
	case policy.MSSOff:
		x.mss4, x.mss6 = 0, 0
	case policy.MSSAuto:
		x.mss4, x.mss6 = max(fits-40, 0), max(fits-60, 0)
	default:
		x.mss4, x.mss6 = int(most), int(most)
	}
}

// clamp lowers the segment size of a connection that is being opened.
func (x *pair) clamp(b []byte, p esp.Packet) {
	most := x.mss4
	if p.Src.Is6() {
		most = x.mss6
	}
	if most > 0 {
		esp.ClampMSS(b, p, most)
	}
}
