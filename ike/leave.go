package ike

import (
	"fmt"
	"slices"
	"time"

	"yumen/policy"
)

// A peer that deletes our last session takes its leave, and may be back in a moment.
// Or it says no: some answer a quick mode that they do not like so, others whatever
// comes. Nothing tells the two apart but that a tunnel comes up in the end; until one
// does each time is followed by a longer wait.

// leaveTaken is how long after a peer took its leave it may be about to return.
const leaveTaken = 20 * time.Second

// deletedSession ends a session of the same proven peer.
func (s *session) deletedSession(b []byte) {
	var k pairKey
	if len(b) != len(k.i)+len(k.r) {
		s.drop(Malformed, fmt.Sprintf("delete of a session with %d bytes of cookies", len(b)))
		return
	}
	copy(k.i[:], b)
	copy(k.r[:], b[8:])
	o := s.e.sessions[k]
	if o == nil || o.state != established || o.peer != s.peer {
		return
	}
	if p := o.peer; len(p.live) == 1 { // with another its tunnels go on there
		p.left(o)
	}
	s.e.tell(o.event(IKEDown, PeerDeleted, ""))
	o.end()
	if p := o.peer; p.session() == nil && p.entry.DropChildren {
		p.dropChildren(PeerDeleted, func(*child) bool { return true })
	}
	o.peer.missing()
}

// left notes that the peer deletes our last session with it, before its end starts
// anything over.
func (p *peer) left(o *session) {
	p.leftAt = p.e.now
	asked := o.quick
	if asked != nil {
		o.varyQuick()
		asked.fail(PeerDeleted, "the peer deleted the session instead of answering")
	}
	if (asked != nil || !o.quickProven) && p.lacks() && !p.onlyCalls() {
		p.leaves++
		p.putOff(p.leaves, PeerDeleted, "the peer deleted the session before a tunnel came up")
	}
}

// onlyCalls reports whether the peer calls and is not called.
func (p *peer) onlyCalls() bool {
	return p.entry.Remote.Any || p.entry.Dialect.Initiate == policy.InitiateThem
}

// lacks reports whether some tunnel to this peer is to be up and is not.
func (p *peer) lacks() bool {
	return slices.ContainsFunc(p.e.tunnels, func(t *tunnel) bool { return t.peer == p && t.lacking() })
}

// putOff lets the next attempt wait after the nth failure in a row.
func (p *peer) putOff(n int, reason Reason, detail string) {
	for _, t := range p.e.tunnels {
		if t.peer == p && t.current == nil {
			t.note(reason, detail)
		}
	}
	if p.e.ending || !p.needed() {
		return
	}
	wait := p.e.jitter(min(firstRetry<<min(n-1, 8), lastRetry))
	p.e.tell(Event{Kind: Retrying, Reason: reason, Peer: p.entry.Name, Detail: fmt.Sprintf("in %.1fs", wait.Seconds())})
	p.e.clock.set(&p.retry, p.e.now.Add(wait), p.wanted)
}
