package ike

import (
	"bytes"
	"slices"
	"time"
)

// yields reports whether a quick mode of the peer gives way to one of ours that is
// under way for t. Both ends know both nonces as soon as they see that their quick
// modes crossed, so both see the same one win: the one with the lower nonce. The
// other is neither answered nor completed.
func (t *tunnel) yields(theirs []byte) bool {
	ours := t.underWay()
	if ours == nil || !ours.s.knows.yumen {
		return false
	}
	if bytes.Compare(ours.hash.Ni, theirs) < 0 {
		return true
	}
	lane := ours.tunnel
	ours.close()
	lane.held = true
	ours.s.nextQuick()
	return false
}

// incoming reports whether the peer's quick mode for t is open: it was answered
// and is not proven. Until then none of ours begins, so that of any two quick
// modes that both ends complete, both ends saw the same one begin first.
func (t *tunnel) incoming() bool {
	return slices.ContainsFunc(t.head.lanes, func(l *tunnel) bool {
		return slices.ContainsFunc(l.children, func(c *child) bool {
			return !c.up && c.exchange != nil && c.exchange.role == Responder
		})
	})
}

// resume starts what waited for the peer's quick mode, if it is still needed.
func (t *tunnel) resume() {
	for _, l := range t.head.lanes {
		if l.held && !l.incoming() && l.underWay() == nil {
			l.held = false
			l.ensure()
			if s := l.peer.session(); s != nil {
				l.follow(s)
			}
		}
	}
}

// settle decides which child t sends on now that c is up, and which of the
// others go: the one that began last stays, and the end that started it deletes
// what it replaced. Other implementations complete both of two that crossed;
// then both stay until one expires, and the newest that was proven is used.
func (t *tunnel) settle(c *child) {
	e := t.e
	yumen := c.exchange != nil && c.exchange.s.knows.yumen
	winner := c
	for _, o := range t.children {
		if o == c || !o.up || o.gone || o.left {
			continue
		}
		crossed := !yumen && c.ours != o.ours && c.started.Before(o.upAt)
		switch {
		case crossed:
		case o.ID > winner.ID: // c was proven late
			winner.retire(o.patience())
			winner = o
		default:
			o.retire(winner.patience())
		}
	}
	if t.current != winner {
		t.current = winner
		e.effect(Use{Child: winner.ID})
	}
	t.hasten()
}

// patience is how long what c replaced stays: the end that started c deletes it,
// the other only when that did not happen.
func (c *child) patience() time.Duration {
	if c.ours {
		return overlap
	}
	return 3 * overlap
}

// retire ends a replaced child after a while, telling the peer.
func (c *child) retire(after time.Duration) {
	c.e.clock.stop(&c.soft)
	at := c.e.now.Add(after)
	if c.overlap.pending() && !at.Before(c.overlap.at) {
		return
	}
	c.ends = after == overlap
	c.e.clock.set(&c.overlap, at, c.leave)
}

// leave tells the peer that a replaced child goes and removes it a while later:
// what the peer still sent on it may be under way when it hears of the delete.
func (c *child) leave() {
	c.left = true
	if s := c.t.peer.session(); s != nil && s.state == established {
		s.sendDelete(c.In.SPI)
	}
	c.e.clock.set(&c.overlap, c.e.now.Add(stragglers), func() { c.end(Replaced, quietly) })
}

// hasten lets the children that were replaced go soon, now that the peer is
// known to send on the current one.
func (t *tunnel) hasten() {
	if t.current == nil || !t.current.heard {
		return
	}
	soon := t.e.now.Add(stragglers)
	for _, o := range t.children {
		if o != t.current && o.ends && soon.Before(o.overlap.at) {
			t.e.clock.set(&o.overlap, soon, o.overlap.ring)
		}
	}
}

// recall takes a retired child back: what replaced it is gone.
func (c *child) recall() {
	e := c.e
	e.clock.stop(&c.overlap)
	c.ends = false
	if !c.soft.pending() {
		at := c.installed.Add(c.Limits.SoftTime)
		if next := e.now.Add(rekeyRetry); at.Before(next) {
			at = next
		}
		e.clock.set(&c.soft, at, c.rekey)
	}
}
