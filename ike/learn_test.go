package ike

import (
	"fmt"
	"testing"

	"yumen/policy"
)

func TestWhatIsLearnedIsBoundedAndTheNewestCounts(t *testing.T) {
	var l learnedList
	p := &peer{entry: policy.Peer{Name: "b", Profile: policy.Auto, Dialect: policy.Auto.Dialect()}}
	if _, ok := l.newest(p); ok {
		t.Error("something is known of nobody")
	}
	for n := range 10 {
		x := Learned{Peer: "b", Fingerprint: fmt.Sprint(n), Dialect: []string{"{ike_sm4_id: 127}", "{sig_encoding: raw}"}[n%2]}
		if !l.put(x) || l.put(x) {
			t.Errorf("%d: news once and no more", n)
		}
		l.put(Learned{Peer: "c", Fingerprint: "c", Dialect: "{id_iv: zero}"})
	}
	if len(l) != maxLearned+1 {
		t.Errorf("%d are kept: %v", len(l), l)
	}
	if d, ok := l.newest(p); !ok || !d.SigRaw {
		t.Errorf("the newest is %v", d)
	}
	if d, ok := l.of(p, "8"); !ok || d.IKESM4 != policy.SM4Draft {
		t.Errorf("of certificate 8: %v", d)
	}
	if _, ok := l.of(p, "0"); ok {
		t.Error("the oldest is still there")
	}
	if !l.put(Learned{Peer: "b", Fingerprint: "9"}) || l.put(Learned{Peer: "b", Fingerprint: "9"}) {
		t.Error("the standard form is no news once")
	}
	if d, ok := l.newest(p); !ok || d.SigRaw {
		t.Errorf("after the standard form the newest is %v", d)
	}
	l.keep(&policy.Policy{Peers: []policy.Peer{{Name: "b", Profile: policy.Auto}, {Name: "c"}}})
	if len(l) != maxLearned-1 {
		t.Errorf("a peer without auto is kept: %v", l)
	}
}

// What the entry says itself stands above what was learned and what is tried.
func TestEntryStandsAboveWhatWasLearned(t *testing.T) {
	own := policy.Auto.Dialect()
	own.SigRaw = true
	p := &peer{e: &Engine{}, entry: policy.Peer{Name: "b", Profile: policy.Auto, Dialect: own}}
	p.e.learned.put(Learned{Peer: "b", Fingerprint: "1", Dialect: "{sk_encoding: c1c3c2}"})
	if d, ok := p.e.learned.newest(p); !ok || !d.SigRaw || d.SKEncoding != policy.SKC1C3C2 {
		t.Errorf("%v", d)
	}
	p.search.begin(p)
	p.search.failed = showsInM3
	for range 20 {
		a, ok := p.search.next(p)
		if !ok {
			break
		}
		if !a.dialect.SigRaw || a.dialect.GMVersion0 || a.dialect.AnyTransform || a.dialect.NoNATT {
			t.Errorf("tried %v", a.dialect)
		}
		p.search.show(&a, a.at)
	}
	if p.search.spent != maxAttempts {
		t.Errorf("%d attempts", p.search.spent)
	}
}
