package ike

import (
	"time"

	"yumen/esp"
	"yumen/policy"
)

// Adopt hands over children that outlived the engine before this one, because the
// data plane carried on with them. It comes before the first Tick. They count as up
// and are renewed soon; the session is made anew. What the policy no longer has, or
// would no longer allow, is removed.
type Adopt struct{ Children []Adopted }

// Adopted is one child in use, without its keys.
type Adopted struct {
	Child     esp.Child
	Installed time.Time // its limits count from here
}

func (Adopt) input() {}

// adoptionSpread is how soon adopted children are renewed: within so long, at random,
// so that a gateway with many peers does not call all of them at once.
const adoptionSpread = 5 * time.Second

func (e *Engine) adopt(list []Adopted) {
	for _, a := range list {
		e.lastChild = max(e.lastChild, a.Child.ID)
		if t := e.tunnelNamed(a.Child.Tunnel); t != nil && e.adoptable(t, a) {
			t.adopt(a)
			continue
		}
		e.effect(Remove{Child: a.Child.ID})
	}
}

// adoptable reports whether a child that we did not negotiate may go on under the
// entry that its tunnel now has.
func (e *Engine) adoptable(t *tunnel, a Adopted) bool {
	c := a.Child
	allowed := false
	for _, s := range t.entry.Suites {
		allowed = allowed || s == c.Suite
	}
	sameICV := c.Suite == policy.SM4GCM128 || c.ICVBits == t.entry.ICVBits || t.entry.ICVBits == policy.ICVAuto
	return !e.started && t.current == nil && e.children[c.ID] == nil && c.ID != 0 &&
		allowed && sameICV && c.Lane == 0 && t.entry.Peer == c.Peer &&
		c.Selector.Within(t.entry.Selector) && !a.Installed.After(e.now) &&
		c.Limits.HardTime > 0 && e.now.Before(a.Installed.Add(c.Limits.HardTime))
}

func (t *tunnel) adopt(a Adopted) {
	e := t.e
	c := &child{Child: a.Child, e: e, t: t, adopted: true, up: true, heard: true,
		started: a.Installed, installed: a.Installed, upAt: a.Installed}
	c.In.Keymat, c.Out.Keymat = none, none
	e.children[c.ID], e.spis[c.In.SPI] = c, c.ID
	t.children, t.current = append(t.children, c), c
	if t.entry.ICVBits == policy.ICVAuto && c.Suite == policy.SM4CBCHMACSM3 && c.ICVBits > 0 {
		t.icv = c.ICVBits // found out by the engine before
	}
	// INITIAL-CONTACT would have the peer throw away what it still sends on.
	t.peer.greeted = true
	e.clock.set(&c.hard, a.Installed.Add(c.Limits.HardTime), func() { c.end(Expired, tellPeer) })
	e.clock.set(&c.soft, e.now.Add(time.Duration(e.random64()%uint64(adoptionSpread))), c.rekey)
	e.tell(c.event(ChildUp, "", "adopted from the gateway before"))
}
