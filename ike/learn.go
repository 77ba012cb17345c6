package ike

import (
	"fmt"
	"slices"

	"yumen/policy"
)

// maxLearned bounds what is kept of one peer: certificates are renewed.
const maxLearned = 4

// Learned is how a peer with profile: auto speaks, as a session proved that got
// as far as M6. The zero value is nothing.
type Learned struct {
	Peer        string
	Fingerprint string // of its signing certificate, SM3 in hex
	Dialect     string // as the value of dialect: in a policy file; empty: the standard form
}

// learnedList is what is known of all peers, the newest last.
type learnedList []Learned

// newest is how p spoke last.
func (l learnedList) newest(p *peer) (policy.Dialect, bool) { return l.of(p, "") }

// of is how p spoke last with that certificate, or with any when it is empty.
func (l learnedList) of(p *peer, fingerprint string) (policy.Dialect, bool) {
	for _, x := range slices.Backward(l) {
		if x.Peer == p.entry.Name && (fingerprint == "" || x.Fingerprint == fingerprint) {
			d, err := policy.Relearn(p.entry.Dialect, x.Dialect)
			return d, err == nil && d != p.entry.Dialect
		}
	}
	return policy.Dialect{}, false
}

// put takes x in and reports whether that is news.
func (l *learnedList) put(x Learned) bool {
	same := func(o Learned) bool { return o.Peer == x.Peer && o.Fingerprint == x.Fingerprint }
	i := slices.IndexFunc(*l, same)
	if i < 0 && x.Dialect == "" || i >= 0 && (*l)[i] == x {
		return false
	}
	*l = slices.DeleteFunc(*l, same)
	if x.Dialect == "" {
		return true
	}
	*l = append(*l, x)
	of := func(o Learned) bool { return o.Peer == x.Peer }
	if n := len(slices.DeleteFunc(slices.Clone(*l), func(o Learned) bool { return !of(o) })); n > maxLearned {
		i := slices.IndexFunc(*l, of)
		*l = slices.Delete(*l, i, i+1)
	}
	return true
}

// keep forgets peers that the policy has no more, or not with profile: auto.
func (l *learnedList) keep(p *policy.Policy) {
	*l = slices.DeleteFunc(*l, func(x Learned) bool {
		return !slices.ContainsFunc(p.Peers, func(o policy.Peer) bool { return o.Name == x.Peer && o.Profile == policy.Auto })
	})
}

// check refuses what no session can have taught.
func (l learnedList) check() error {
	for _, x := range l {
		if _, err := policy.Relearn(policy.Auto.Dialect(), x.Dialect); err != nil {
			return fmt.Errorf("engine: learned of peer %q: %w", x.Peer, err)
		}
	}
	return nil
}

// learn keeps how a proven session speaks. What only quick mode shows counts once
// a quick mode got through.
func (s *session) learn() {
	e, entry := s.e, s.peer.entry
	if entry.Profile != policy.Auto || s.state != established {
		return
	}
	fingerprint, d := s.proven.pair.Sign.Fingerprint, s.dialect
	d.HashrSA = s.accent.HashrSA
	if !s.quickProven {
		before, ok := e.learned.of(s.peer, fingerprint)
		if !ok {
			before = entry.Dialect
		}
		d.QMHash, d.ESPSM4 = before.QMHash, before.ESPSM4
	}
	x := Learned{Peer: entry.Name, Fingerprint: fingerprint, Dialect: policy.Learned(entry.Dialect, d)}
	if !e.learned.put(x) {
		return
	}
	detail := "the standard form again"
	if x.Dialect != "" {
		detail = "dialect: " + x.Dialect
	}
	v := s.event(DialectLearned, "", detail)
	v.Learned = x
	e.tell(v)
}

// throughQuick notes that a quick mode got through: the search is over.
func (s *session) throughQuick() {
	if !s.quickProven {
		s.quickProven = true
		s.peer.search = search{}
	}
	s.learn()
}

// explicit is what a peer entry would say of how the peer speaks; empty when it
// says so already.
func (s *session) explicit() string {
	if s.state != established || s.peer.entry.NonGM() != "" || len(s.accent.Against(s.peer.entry.Dialect)) == 0 {
		return ""
	}
	d := s.accent
	d.ICVBits = s.foundICV(d.ICVBits)
	d.ZeroPad = d.FieldPad == policy.PadZeros
	return policy.Lines(d)
}
