package ike

import (
	"errors"
	"net/netip"
	"slices"
	"time"
)

// seekAgain is how often the name of a peer is looked up, whatever else goes on.
const seekAgain = time.Minute

// whereabouts are the addresses of a peer that has a name for one. Who dials asks
// for them anyway; but who is only called (start: respond or trap, initiate: them)
// would know the caller at no address, and one that got another address only once
// it was missed. So the name is looked up all the time.
type whereabouts struct {
	addrs []netip.Addr // as last resolved, and those of living sessions
	asked uint64       // attempt number of the question under way; 0: none
	again alarm
	lost  bool // nothing was found, and that was told
}

// seek asks where the peer is by its name, and will ask again.
func (p *peer) seek() {
	e, w := p.e, &p.where
	if p.entry.Remote.FQDN == "" || e.ending {
		return
	}
	e.clock.set(&w.again, e.now.Add(e.jitter(seekAgain)), p.seek)
	if w.asked != 0 || p.asked != 0 {
		return // an answer that is under way tells it too
	}
	e.lastAttempt++
	w.asked = e.lastAttempt
	e.effect(Resolve{Peer: p.entry.Name, Attempt: w.asked})
}

// sought takes the answer to seek. That a name leads nowhere is told once, until it
// leads somewhere again, and not where an attempt of our own tells it. What it led
// to before stays.
func (p *peer) sought(in Resolved) {
	p.where.asked = 0
	if p.found(in) || p.where.lost || p.dial != nil || p.retry.pending() || errors.Is(in.Err, ErrAway) {
		return
	}
	p.where.lost = true
	detail := noAddress(in)
	for _, t := range p.e.tunnels {
		if t.peer == p && t.current == nil {
			t.note(Unresolved, detail)
		}
	}
	p.e.tell(Event{Kind: IKEFailed, Reason: Unresolved, Peer: p.entry.Name, Role: Responder, Detail: detail})
}

// found takes the addresses of a name over, whoever asked, and reports whether there
// are any. A peer that proved itself at another address is where it is, too.
func (p *peer) found(in Resolved) bool {
	if in.Err != nil || len(in.Remote) == 0 {
		return false
	}
	if p.entry.Remote.FQDN == "" {
		return true
	}
	p.where.lost = false
	p.where.addrs = slices.Clone(in.Remote)
	for _, s := range p.live {
		if a := s.remote.Addr(); !slices.Contains(p.where.addrs, a) {
			p.where.addrs = append(p.where.addrs, a)
		}
	}
	for _, t := range p.e.tunnels {
		if t.peer == p && t.reason == Unresolved {
			t.note("", "")
		}
	}
	p.e.tellPlaces()
	return true
}

func noAddress(in Resolved) string {
	if in.Err != nil {
		return in.Err.Error()
	}
	return "no address"
}

// rest stops everything that a peer waits for or asks.
func (p *peer) rest() {
	for _, a := range []*alarm{&p.retry, &p.alone, &p.home.again, &p.where.again} {
		p.e.clock.stop(a)
	}
	p.asked, p.where.asked = 0, 0
}
