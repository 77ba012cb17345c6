package ike

import (
	"bytes"
	"slices"
	"time"

	"yumen/policy"
	"yumen/policy/trust"
)

// An initiator whose peer has profile: auto begins with the standard form, or
// with what it has learned of that peer. When that comes to nothing it tries
// others, ranked, at most six attempts in all; an hour after the first it begins
// anew, with the standard form.
//
// How far an attempt came is not authentic before M6. It decides which form is
// tried next and nothing else: the forms are the same few, whoever answers what.

const (
	maxAttempts = 6
	searchAgain = time.Hour
)

// stage is the message of an attempt in which a form shows.
type stage uint8

const (
	showsInM1 stage = iota
	showsInM3
	showsInQuick
	nowhere // nothing failed, or nothing that another form would help
)

// variant is one form that is not the standard one.
type variant struct {
	at   stage
	turn func(d *policy.Dialect)
}

// variants is every form that is tried, the likelier first for each stage.
// Never here: RSA, SHA-1, header 1.0, other algorithms, a check let go.
func variants() []variant {
	plain := func(*policy.Dialect) {}
	return []variant{
		{showsInM1, plain},
		{showsInM1, func(d *policy.Dialect) { d.IKESM4 = policy.SM4Draft }},
		{showsInM1, func(d *policy.Dialect) { d.NoDPDVID, d.NoOwnVID = true, true }},
		{showsInM3, plain},
		{showsInM3, func(d *policy.Dialect) { d.SKEncoding, d.SigRaw = policy.SKC1C3C2, true }},
		{showsInM3, func(d *policy.Dialect) { d.SigNoByte = true }},
		{showsInM3, func(d *policy.Dialect) { d.FieldPad = policy.PadPKCS7 }},
		{showsInM3, func(d *policy.Dialect) { d.IDCertEnc = true }},
		{showsInM3, func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C3C2 }},
		{showsInM3, func(d *policy.Dialect) { d.IDZeroIV = true }},
		{showsInM3, func(d *policy.Dialect) { d.SigRaw = true }},
		{showsInM3, func(d *policy.Dialect) { d.SKEncoding = policy.SKC1C2C3 }},
		{showsInM3, func(d *policy.Dialect) { d.FieldPad = policy.PadZeros }},
		{showsInQuick, plain},
		{showsInQuick, func(d *policy.Dialect) { d.QMHash = policy.HashStdFull }},
		{showsInQuick, func(d *policy.Dialect) { d.QMHash = policy.HashStdBody }},
		{showsInQuick, func(d *policy.Dialect) { d.ESPSM4 = policy.ESPOnly129 }},
		{showsInQuick, func(d *policy.Dialect) { d.ESPSM4 = policy.ESPOnly127 }},
	}
}

// attempt is how an initiator speaks in one attempt.
type attempt struct {
	dialect policy.Dialect
	at      stage // at which it differs from those before
	counted bool  // that stage was reached
}

// shown is a form that stood in a message of some stage.
type shown struct {
	dialect policy.Dialect
	at      stage
}

// search is where an initiator is in its list.
type search struct {
	since  time.Time        // of the first attempt of the series; zero: none yet
	spent  int              // attempts of the series
	shown  []shown          // also of earlier series, until nothing is left
	failed stage            // of the last attempt
	base   policy.Dialect   // the standard form
	heard  policy.Dialect   // the form that came farthest
	first  []policy.Dialect // that are tried before all others
}

// attempt is the next one.
func (p *peer) attempt() attempt {
	x := &p.search
	if p.entry.Profile != policy.Auto {
		return attempt{dialect: p.entry.Dialect, at: showsInM1}
	}
	if x.since.IsZero() || p.e.now.Sub(x.since) >= searchAgain {
		x.begin(p)
	}
	if len(x.first) > 0 {
		d := x.first[0]
		x.first = x.first[1:]
		return attempt{dialect: d, at: showsInM1}
	}
	if a, ok := x.next(p); ok {
		return a
	}
	// Nothing is left for this hour: in turns the standard form and the one that
	// came farthest, for perhaps only packets were lost.
	return attempt{dialect: []policy.Dialect{x.base, x.heard}[p.failures%2], at: nowhere}
}

// begin starts a series: with the standard form, and then what was learned. Where
// nothing leads to the peer what was learned comes first; while a session stands
// and is only renewed there is time to see whether the standard form will do.
func (x *search) begin(p *peer) {
	base := p.entry.Dialect
	learned, ok := p.e.learned.newest(p)
	if ok { // quick mode is told by itself, and a session must not fail on it
		base.QMHash, base.ESPSM4 = learned.QMHash, learned.ESPSM4
		base.DPDFirst, base.DPDNoSPI = learned.DPDFirst, learned.DPDNoSPI
	}
	*x = search{since: p.e.now, failed: nowhere, base: base, heard: base, first: []policy.Dialect{base}, shown: x.shown}
	if ok && learned != base {
		x.first = append(x.first, learned)
	}
	if p.session() == nil {
		slices.Reverse(x.first)
	}
	x.shown = slices.DeleteFunc(x.shown, func(s shown) bool { return s.dialect == base })
}

// next is the best form that was not tried, those first that show where the last
// attempt failed; false when the series is spent.
func (x *search) next(p *peer) (attempt, bool) {
	own := p.e.cfg.Own
	if x.spent >= maxAttempts || x.failed == nowhere {
		return attempt{}, false
	}
	list := variants()
	slices.SortStableFunc(list, func(a, b variant) int { return x.distance(a.at) - x.distance(b.at) })
	for range 2 {
		for _, v := range list {
			d := x.base
			if v.at != showsInM1 {
				d = x.heard
			}
			v.turn(&d)
			if bytes.Equal(own.Sign.Subject, own.Enc.Subject) {
				d.IDCertEnc = x.base.IDCertEnc // one name: no other form
			}
			if d = d.Pinned(p.entry.Dialect); !slices.Contains(x.shown, shown{d, v.at}) {
				return attempt{dialect: d, at: v.at}, true
			}
		}
		x.shown = nil // all of them, in earlier series: begin again
	}
	return attempt{}, false
}

// distance orders the stages: where it failed, then those after it, in a ring.
func (x *search) distance(at stage) int { return int(at+nowhere-x.failed) % int(nowhere) }

// show notes that a form stood in a message of a stage. An attempt counts once
// the message was sent in which it differs.
func (x *search) show(a *attempt, at stage) {
	if s := (shown{a.dialect, at}); !slices.Contains(x.shown, s) {
		x.shown = append(x.shown, s)
	}
	if a.at == at && !a.counted {
		a.counted = true
		x.spent++
	}
}

// ended notes how far an attempt came that was not proven.
func (x *search) ended(d *dial) {
	spoke := d.attempt.dialect
	switch {
	case d.understood: // message 3 was: another form helps nothing
		x.failed, x.heard = nowhere, spoke
	case d.answered:
		x.failed, x.heard = showsInM3, x.base
		x.heard.IKESM4, x.heard.NoDPDVID, x.heard.NoOwnVID = spoke.IKESM4, spoke.NoDPDVID, spoke.NoOwnVID
	default:
		x.failed = showsInM1
	}
}

// varyQuick takes another form for the next quick mode with a peer whose profile
// is auto, after one came to nothing.
func (s *session) varyQuick() {
	x, base := &s.peer.search, s.peer.entry.Dialect
	if s.peer.entry.Profile != policy.Auto || s.state != established || s.quickProven {
		return
	}
	if x.since.IsZero() { // the peer called: the series begins here
		x.begin(s.peer)
		x.first = nil
	}
	x.failed, x.heard = showsInQuick, s.dialect
	x.heard.QMHash, x.heard.ESPSM4 = base.QMHash, base.ESPSM4
	a, ok := x.next(s.peer)
	if !ok || a.at != showsInQuick {
		a = attempt{dialect: x.heard, at: nowhere}
	}
	s.attempt = a
	s.dialect.QMHash, s.dialect.ESPSM4, s.quickForm = a.dialect.QMHash, a.dialect.ESPSM4, a.dialect.QMHash
}

// speaksTo is the dialect of an attempt from M3 on. What was learned of another
// certificate than the one that answered counts no more.
func (d *dial) speaksTo(pair *trust.Pair) policy.Dialect {
	e, now := d.peer.e, d.attempt.dialect
	known, learned := e.learned.newest(d.peer)
	if !learned || now != known {
		return now
	}
	if known, learned = e.learned.of(d.peer, pair.Sign.Fingerprint); learned {
		return known
	}
	return d.peer.entry.Dialect
}
