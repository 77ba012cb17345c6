package ike

import (
	"errors"
	"slices"
	"time"

	"yumen/policy"
)

// Of several gateways at one site only the one that has the shared address
// negotiates (VRRP, RFC 9568, moves it). A peer entry with `local:` whose address
// this host does not have stands by: it dials nobody and asks again. When the
// address comes, the peer is called at once and told INITIAL-CONTACT, because what
// it has is another machine's whose keys died with it.

// ErrAway in Resolved.Err says that the address of a peer entry's `local:` is not
// on this host.
var ErrAway = errors.New("our address is not on this machine")

const (
	// lookAgain is how often a gateway that stands by looks for its address, beside
	// the data plane's word that something changed.
	lookAgain = time.Second
	// awayGrace is how long sessions and children outlive the address that they stand
	// on: an interface that goes down and up keeps them. Nothing can be sent meanwhile.
	awayGrace = 10 * time.Second
)

// home is whether this host has the address of a peer entry.
type home struct {
	away   bool
	since  time.Time
	again  alarm
	asking bool // the question under way is only this one
}

// look asks whether our address is here, whatever else is under way with the peer.
func (p *peer) look() {
	if !p.entry.Local.Addr.IsValid() || p.e.ending || p.asked != 0 {
		return // an answer that is under way tells it too
	}
	p.e.lastAttempt++
	p.asked, p.home.asking = p.e.lastAttempt, true
	p.e.effect(Resolve{Peer: p.entry.Name, Attempt: p.asked})
}

// located takes the answer to Resolve first, and reports whether that was all.
func (p *peer) located(in Resolved) (done bool) {
	asking := p.home.asking
	p.home.asking = false
	switch {
	case errors.Is(in.Err, ErrAway):
		p.checking = false
		p.standBy(in.Err.Error())
		return true
	case p.home.away:
		p.takeOver()
		if in.Err == nil && (len(p.live) > 0 || p.mayTake()) {
			// A living session may be another machine's by now: a new one replaces it.
			p.checking = false
			return p.dial != nil
		}
		return in.Err == nil || !p.needed()
	case asking:
		return len(p.live) > 0 || p.dial != nil || p.retry.pending() || !p.needed()
	}
	return false
}

// mayTake reports whether a peer is to be called when our address came: whoever
// may have carried traffic on another machine is.
func (p *peer) mayTake() bool {
	return p.entry.Dialect.Initiate != policy.InitiateThem && slices.ContainsFunc(p.e.tunnels, func(t *tunnel) bool {
		return t.peer == p && !t.stopped && t.entry.Start != policy.StartNone
	})
}

// standBy notes that our address is elsewhere.
func (p *peer) standBy(detail string) {
	e := p.e
	if !p.home.away {
		p.home.away, p.home.since = true, e.now
		e.clock.stop(&p.retry)
		e.clock.stop(&p.alone)
		if d := p.dial; d != nil {
			d.close()
			p.search.ended(d)
		}
		for _, t := range e.tunnels {
			if t.peer == p {
				t.note(Standby, detail)
			}
		}
		e.tell(Event{Kind: StandingBy, Reason: Standby, Peer: p.entry.Name, Detail: detail})
	}
	if e.now.Sub(p.home.since) >= awayGrace || len(p.live) == 0 && !p.carries() {
		p.letGo()
	}
	e.clock.set(&p.home.again, e.now.Add(lookAgain), p.look)
}

// carries reports whether a tunnel of the peer has a child.
func (p *peer) carries() bool {
	return slices.ContainsFunc(p.e.tunnels, func(t *tunnel) bool { return t.peer == p && len(t.children) > 0 })
}

// letGo ends, without a word, what stood on our address: whoever has it now has
// sessions of his own. The next session says INITIAL-CONTACT again.
func (p *peer) letGo() {
	for _, s := range slices.Clone(p.live) {
		p.e.tell(s.event(IKEDown, Standby, ""))
		s.end()
	}
	p.dropChildren(Standby, func(*child) bool { return true })
	p.greeted = false
}

// takeOver notes that our address is here. Children that outlived its absence are
// renewed with the next session: the peer may have dropped them for another machine's.
func (p *peer) takeOver() {
	e := p.e
	e.clock.stop(&p.home.again)
	e.tell(Event{Kind: TakingOver, Peer: p.entry.Name, Detail: "our address is here after " + e.now.Sub(p.home.since).Round(time.Millisecond).String()})
	p.home.away, p.failures = false, 0
	for _, t := range e.tunnels {
		if t.peer != p {
			continue
		}
		t.failures = 0
		e.clock.stop(&t.retry)
		if t.reason == Standby {
			t.note("", "")
		}
		for _, c := range t.children {
			c.adopted = true
		}
	}
}

// readdressed asks anew for the addresses of every peer with a session, because
// ours changed: a session with others is replaced. Behind a NAT of the peer its
// address is what it is. And it asks for our own, wherever the policy names it.
func (e *Engine) readdressed() {
	for _, p := range e.peers {
		// Where an attempt is under way already, it is more than the question.
		if s := p.session(); s != nil && !s.nat.theirs && (p.asked == 0 || p.home.asking || p.checking) {
			p.checking = p.connect()
		}
		p.look()
	}
}
