package xfrm

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"yumen/esp"
)

// listen turns what the kernel tells into events.
func (p *Plane) listen() {
	buf := make([]byte, roomIn)
	for {
		err := p.listener.read(buf, p.hear)
		select {
		case <-p.done:
			return
		default:
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // a broken socket must not spin
		}
	}
}

func (p *Plane) hear(n notice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	switch n.kind {
	case overflowed:
		p.lost.Add(1)
		p.recheck(0)
		return
	case flushed:
		p.recheck(0)
		return
	case acquired:
		p.acquire(n.reqid)
		return
	}
	x, inbound := p.find(n.dst, n.spi)
	if x == nil {
		p.hearOfLeftover(n)
		return
	}
	switch {
	case n.kind == softened:
		p.soften(x)
	case n.kind == hardened:
		p.end(x)
	case n.kind == removed && !x.ended && !x.parked:
		p.recheckPair(x)
	case n.kind == received && inbound:
		p.first(x)
	case n.kind == mapped && inbound && n.remote != x.child.Path.Remote:
		p.mapped(x, n.remote)
	}
}

// mapping is a place that packets came from other than the child's, and when it was told.
type mapping struct {
	remote netip.AddrPort
	at     time.Time
}

// mappingGap is the least time between two events of one place for one child.
const mappingGap = 250 * time.Millisecond

// mapped hears of each authentic packet from another place, until the SA is moved.
// The kernel does so for whatever is within the window, so that nothing is said about
// which number it had.
func (p *Plane) mapped(x *pair, remote netip.AddrPort) {
	now := time.Now()
	if remote == x.mapped.remote && now.Sub(x.mapped.at) < mappingGap {
		return
	}
	x.mapped = mapping{remote, now}
	p.tell(esp.Moved, x, remote)
}

// find is the child that an SA belongs to. True: it is the inbound one.
func (p *Plane) find(dst netip.Addr, spi esp.SPI) (*pair, bool) {
	for _, x := range p.pairs {
		if x.in.spi == spi && x.in.dst == dst {
			return x, true
		}
		if x.out.spi == spi && x.out.dst == dst {
			return x, false
		}
	}
	return nil, false
}

func (p *Plane) tell(kind esp.EventKind, x *pair, remote netip.AddrPort) {
	p.emit(esp.Event{Kind: kind, Child: x.child.ID, Tunnel: x.child.Tunnel, SPI: x.in.spi, Remote: remote})
}

// first hears of a packet on an inbound SA for the first time.
func (p *Plane) first(x *pair) {
	if x.heard {
		return
	}
	x.heard = true
	if err := errors.Join(p.conn.unwatch(x.in.dst, x.in.spi), p.watchAsNeeded()); err != nil {
		p.fault(err)
	}
	p.tell(esp.FirstPacket, x, x.child.Path.Remote)
	if x.turn > 0 {
		p.retireNow(x.child.Tunnel)
	}
}

// watchAsNeeded leaves the group of single packets when no child waits for its
// first.
func (p *Plane) watchAsNeeded() error {
	for _, x := range p.pairs {
		if !x.heard && !x.ended {
			return nil
		}
	}
	return p.listener.watchPackets(false)
}

// has reports whether a tunnel, or a member of the group that it heads, has a child.
func (p *Plane) has(tunnel string) bool {
	if g := groupOf(p.groups, tunnel); g != nil {
		return slices.ContainsFunc(g.members, func(m string) bool { return p.latest(m, 0) != nil })
	}
	return p.latest(tunnel, 0) != nil
}

func (p *Plane) soften(x *pair) {
	if !x.soft {
		x.soft = true
		p.tell(esp.SoftLimit, x, netip.AddrPort{})
	}
}

// end follows a hard limit: the kernel deleted one SA, the other goes with it. What
// the tunnel sent by it is dropped, unless an older child still lives.
func (p *Plane) end(x *pair) {
	if x.ended {
		return
	}
	used := p.inUse(x)
	x.ended = true
	if err := errors.Join(p.conn.deleteState(x.in.dst, x.in.spi), p.conn.deleteState(x.out.dst, x.out.spi)); err != nil {
		p.fault(err)
	}
	if used {
		if err := carryOut(p.switchTo(x.child.Tunnel, templateOf(x.out), p.next(x))); err != nil {
			p.fault(err) // the old template has no SA either: nothing passes
		}
	}
	p.tellPinger()
	p.tell(esp.HardLimit, x, netip.AddrPort{})
}

// acquire asks for a child, once for each gap. Afterwards the template takes new
// addresses, because the kernel would keep silent about the old ones.
func (p *Plane) acquire(reqid uint32) {
	for tunnel, r := range p.reqids {
		if r != reqid || p.headOf(tunnel) != tunnel || !p.waits(tunnel) {
			continue
		}
		if p.has(tunnel) {
			// The packet met the template of before, or the SA that it named is gone.
			p.recheck(r)
			return
		}
		p.emit(esp.Event{Kind: esp.Acquire, Tunnel: tunnel})
		time.AfterFunc(acquireGap, func() { p.rearm(tunnel) })
	}
}

func (p *Plane) rearm(tunnel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !p.waits(tunnel) || p.has(tunnel) {
		return
	}
	from := p.sending(tunnel)
	if !from.isIdle() {
		return
	}
	if err := carryOut(p.switchTo(tunnel, from, p.sending(tunnel))); err != nil {
		p.fault(err)
	}
}
