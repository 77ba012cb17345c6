package ike

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"yumen/esp"
	"yumen/ike/gm"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
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
	Origin    Origin
}

// Origin is whom a child was negotiated with, as far as an engine that comes later must
// know it to judge whether that peer would still be believed. It holds no key.
type Origin struct {
	Entry string         // digest of the peer's entry, and of its key; empty: not known, nobody's
	Certs trust.Standing // of the peer's two certificates; zero: it has none
}

// origin is that of what is negotiated in s.
func (s *session) origin() Origin {
	o := Origin{Entry: s.peer.digest()}
	if s.proven != nil {
		o.Certs = s.proven.pair.Standing()
	}
	return o
}

// digest names the entry of a peer, and with it its pre-shared key: another is another
// peer. What is not set counts for nothing, so that a later version, which knows more
// of a peer, finds the same.
func (p *peer) digest() string {
	if p.named == "" {
		p.named = entryDigest(p.entry, p.key)
	}
	return p.named
}

func entryDigest(entry policy.Peer, key secret.Secret) string {
	b, err := json.Marshal(entry)
	if err != nil {
		return "" // never: it has no such field
	}
	var set any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if d.Decode(&set) != nil {
		return ""
	}
	if b, err = json.Marshal(withoutZeros(set)); err != nil {
		return ""
	}
	sum := gm.PRF(key.Bytes(), b)
	return hex.EncodeToString(sum[:])
}

// withoutZeros leaves out what is not set; nil: nothing is.
func withoutZeros(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for name, member := range x {
			if x[name] = withoutZeros(member); x[name] == nil {
				delete(x, name)
			}
		}
		if len(x) == 0 {
			return nil
		}
	case bool:
		if !x {
			return nil
		}
	case string:
		if x == "" {
			return nil
		}
	case json.Number:
		if x == "0" {
			return nil
		}
	}
	return v
}

// disowns says why a child of that origin would not be made with p today; empty: it
// would.
func (p *peer) disowns(o Origin) (Reason, string) {
	if o.Entry == "" || o.Entry != p.digest() {
		return Reloaded, "the peer's entry or key is another than the gateway before had"
	}
	if p.verifier == nil {
		return "", ""
	}
	if err := p.verifier.Stands(p.e.now, o.Certs); err != nil {
		return refusal(err)
	}
	return "", ""
}

func (Adopt) input() {}

// adoptionSpread is how soon adopted children are renewed: within so long, at random,
// so that a gateway with many peers does not call all of them at once.
const adoptionSpread = 5 * time.Second

func (e *Engine) adopt(list []Adopted) {
	for _, a := range list {
		e.lastChild = max(e.lastChild, a.Child.ID)
		if t := e.tunnelNamed(a.Child.Tunnel); t != nil && e.adoptable(t, a) {
			reason, why := t.peer.disowns(a.Origin)
			if reason == "" {
				t.adopt(a)
				continue
			}
			v := (&child{Child: a.Child, t: t}).event(ChildDown, reason, "not adopted: "+why)
			e.tell(v)
		}
		e.effect(Remove{Child: a.Child.ID})
	}
}

// disown ends children whose peer proved itself by certificates that no longer pass.
// They may have no session that would tell: it has ended, or they were adopted.
func (e *Engine) disown() {
	for _, t := range e.tunnels {
		for _, c := range slices.Clone(t.children) {
			if reason, _ := t.peer.disowns(c.origin); reason != "" {
				c.end(reason, tellPeer)
			}
		}
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
	c := &child{Child: a.Child, e: e, t: t, origin: a.Origin, adopted: true, up: true, heard: true,
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
