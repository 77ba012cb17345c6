package ike

import (
	"bytes"
	"time"
)

// settle decides which child t sends on now that c is up, and which of the
// others go. The end that started a child deletes it, or what it replaced:
//
//   - what was up before its quick mode began is replaced;
//   - of two that crossed, the one whose QM1 nonce is the lower stays.
//
// Whichever way the two ends see the order, they never delete both.
func (t *tunnel) settle(c *child) {
	e := t.e
	yumen := c.exchange != nil && c.exchange.s.knows.yumen
	winner := c
	for _, o := range t.children {
		if o == c || !o.up || o.gone {
			continue
		}
		crossed := c.ours != o.ours && c.started.Before(o.upAt)
		switch {
		case !crossed && c.ours:
			o.retire(overlap)
		case !crossed: // the other end deletes it, unless it never does or its delete is lost
			o.retire(3 * overlap)
		case !yumen:
		case bytes.Compare(c.nonce, o.nonce) > 0:
			winner = o
			c.retire(c.patience())
		default:
			o.retire(o.patience())
		}
	}
	if t.current != winner {
		t.current = winner
		e.effect(Use{Child: winner.ID})
	}
	t.hasten()
}

// patience is how long a child that lost a crossing stays: the end that started
// it deletes it, and the other only when that did not happen.
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
	// When two crossed, what they replaced may at both ends first seem to be the
	// other's to delete.
	c.ends = after == overlap
	c.e.clock.set(&c.overlap, at, c.leave)
}

// leave tells the peer that a replaced child goes and removes it a while later.
// After rekeys that crossed the peer may, for a moment, see another winner and
// send on this one: what is under way when it hears the delete still arrives.
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
