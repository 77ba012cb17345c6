package xfrm

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
)

// mendGuard runs when policies went that are perhaps ours.
func (p *Plane) mendGuard() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.policy == nil {
		return
	}
	gone, err := p.apply(p.zones)
	if err != nil {
		p.fault(err)
	}
	if gone > 0 {
		p.mended.Note(gone, time.Now())
		p.emit(esp.Event{Kind: esp.GuardMended})
	}
}

// recheck looks whether what we believe to be in the kernel is there: after messages
// were lost, or where others may have deleted it. reqid: of one tunnel or group; 0: all.
func (p *Plane) recheck(reqid uint32) {
	for _, x := range p.pairs {
		if !x.ended && !x.parked && (reqid == 0 || x.in.reqid == reqid) {
			p.recheckPair(x)
		}
	}
	var gone []notice
	for tunnel, list := range p.leftover {
		for _, l := range list {
			if reqid != 0 && reqid != p.reqids[tunnel] {
				continue
			}
			r, err := p.conn.readState(l.Path.Remote.Addr(), l.SPI, false)
			if errors.Is(err, unix.ESRCH) || err == nil && r.larval {
				gone = append(gone, notice{kind: removed, dst: l.Path.Remote.Addr(), spi: l.SPI})
			}
		}
	}
	for _, n := range gone {
		p.hearOfLeftover(n)
	}
}

// recheckPair: an SA that only waits for keys stands in the place of one that is gone
// and that a packet asked for.
func (p *Plane) recheckPair(x *pair) {
	in, errIn := p.conn.readState(x.in.dst, x.in.spi, false)
	out, errOut := p.conn.readState(x.out.dst, x.out.spi, false)
	switch {
	case errors.Is(errIn, unix.ESRCH) || errors.Is(errOut, unix.ESRCH) || errIn == nil && in.larval || errOut == nil && out.larval:
		p.end(x)
		return
	case errIn != nil || errOut != nil:
		p.fault(errors.Join(errIn, errOut))
		return
	}
	if in.state.seq > 0 {
		p.first(x)
	}
	if passed(in.counts, x.in.limits) || passed(out.counts, x.out.limits) {
		p.soften(x)
	}
}

func passed(c esp.Count, l lifetime) bool {
	return l.softBytes != 0 && c.Bytes >= l.softBytes || l.softPackets != 0 && c.Packets >= l.softPackets
}
