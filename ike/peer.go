package ike

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

const (
	firstRetry = 2 * time.Second
	lastRetry  = 60 * time.Second
	// responderGrace lets the end that negotiated phase 1 go on with quick mode
	// before the other starts one of its own for the same tunnel.
	responderGrace = time.Second
	// reunion is the wait before a session is made for tunnels that have none.
	reunion = 5 * time.Second
	// sessionOverlap is how long an ISAKMP SA outlives the one that replaced it.
	sessionOverlap = 10 * time.Second
)

// peer is a configured peer and what is known of it.
type peer struct {
	e        *Engine
	entry    policy.Peer
	how      method
	verifier *trust.Verifier
	key      secret.Secret // pre-shared; empty with certificates
	named    string        // see digest; empty: not worked out yet
	where    whereabouts   // of an FQDN
	dial     *dial
	asked    uint64 // attempt whose addresses are being resolved; 0: none
	live     []*session
	failures int
	retry    alarm
	alone    alarm      // tunnels stand without a session; holds up nothing else
	home     home       // is our address here
	ours     netip.Addr // of the interface in local, as last resolved
	checking bool       // the question is whether a living session has the right addresses
	greeted  bool       // INITIAL-CONTACT was sent since we started
	strayAt  time.Time  // of the last main mode that a stray message started
	path     knownPath
	search   search    // for its dialect, with profile: auto
	leftAt   time.Time // when it deleted our last session
	leaves   int       // in a row, each before a tunnel came up
}

// dial is one attempt to reach a peer: M1 and the sessions that answers to it
// opened. M2 is not signed, so every believable M2 opens a session of its own,
// and the first one that is proven ends the others.
type dial struct {
	peer          *peer
	cki           wire.Cookie
	version       uint8
	local, remote netip.AddrPort
	attempt       attempt
	answered      bool // a message 2 came
	understood    bool // a message 4 came that verified
	offer         wire.SA
	saI           []byte
	sessions      []*session
	resend        resend
	pieces        pieces
	begun         time.Time
	notice        string // unauthenticated notification that came instead of an answer
	lastReason    Reason
	lastDetail    string
}

// session is the one to start quick modes on: the newest that is proven.
func (p *peer) session() *session {
	for _, s := range p.live {
		if s.state == established && !s.crossed {
			return s
		}
	}
	if len(p.live) > 0 {
		return p.live[0]
	}
	return nil
}

// connect begins an attempt unless one is under way or waits for its time, and
// reports whether it begins. A question that is under way, whatever it was asked for,
// finds the addresses of the attempt too.
func (p *peer) connect() bool {
	if p.onlyCalls() || p.e.ending || p.home.away || p.dial != nil || p.retry.pending() {
		return false
	}
	p.home.asking, p.checking = false, false
	if p.asked == 0 {
		p.e.lastAttempt++
		p.asked = p.e.lastAttempt
		p.e.effect(Resolve{Peer: p.entry.Name, Attempt: p.asked})
	}
	return true
}

func (e *Engine) resolved(in Resolved) {
	p := e.peerNamed(in.Peer)
	switch {
	case p == nil || in.Attempt == 0:
		return
	case in.Attempt == p.where.asked:
		p.sought(in)
		return
	case in.Attempt != p.asked:
		return
	}
	p.asked = 0
	p.found(in)
	if p.entry.Local.Interface != "" && in.Err == nil {
		p.ours = in.Local
	}
	if p.located(in) {
		return
	}
	if s := p.session(); p.checking && s != nil {
		p.checking = false
		if in.Err != nil || in.Local == s.local.Addr() && slices.Contains(in.Remote, s.remote.Addr()) {
			return
		}
	}
	if in.Err != nil || len(in.Remote) == 0 {
		detail := noAddress(in)
		e.tell(Event{Kind: IKEFailed, Reason: Unresolved, Peer: p.entry.Name, Detail: detail})
		p.failed(Unresolved, detail)
		return
	}
	p.begin(in.Local, in.Remote[p.failures%len(in.Remote)])
}

// begin sends M1.
func (p *peer) begin(local, remote netip.Addr) {
	e := p.e
	d := &dial{peer: p, cki: e.newCookie(), begun: e.now, attempt: p.attempt(),
		local: netip.AddrPortFrom(local, e.cfg.Ports.IKE), remote: netip.AddrPortFrom(remote, e.cfg.Ports.IKE)}
	dialect := d.attempt.dialect
	d.version, d.offer = p.how.version(dialect), p.how.offer(p.entry, dialect)
	d.saI = d.offer.Append(nil)
	p.dial = d
	e.dials[d.cki] = d
	e.door.expect(d.cki, true)
	m := wire.Message{
		Header:   wire.Header{Initiator: d.cki, Version: d.version, Exchange: wire.MainMode},
		Payloads: append([]wire.Payload{{Type: wire.TypeSA, Body: d.saI}}, vendorIDs(p.entry, dialect)...),
	}
	if !p.leftAt.IsZero() && e.now.Sub(p.leftAt) < leaveTaken {
		d.resend.early = earlySends // perhaps it is starting again: do not miss the moment
	}
	p.search.show(&d.attempt, showsInM1)
	e.tell(d.event(IKEStarted, "", policy.Learned(p.entry.Dialect, dialect)))
	e.repeat(&d.resend, Datagram{Local: d.local, Remote: d.remote, Data: m.Append(nil)}, false,
		func() { d.noAnswer() })
}

func (d *dial) event(kind EventKind, reason Reason, detail string) Event {
	return Event{Kind: kind, Reason: reason, Detail: detail, Peer: d.peer.entry.Name, Claimed: true,
		Role: Initiator, CookieI: d.cki, Local: d.local, Remote: d.remote}
}

func (d *dial) noAnswer() {
	d.peer.e.quiet(&d.resend)
	if len(d.sessions) > 0 {
		return
	}
	if d.lastReason != "" { // what came instead says more than the silence
		d.fail(d.lastReason, d.lastDetail)
		return
	}
	d.fail(Timeout, "no answer to message 1")
}

// lost takes out a session that ended before it was proven.
func (d *dial) lost(s *session, reason Reason, detail string) {
	d.sessions = slices.DeleteFunc(d.sessions, func(o *session) bool { return o == s })
	d.lastReason, d.lastDetail = reason, detail
	if len(d.sessions) == 0 && !d.resend.alarm.pending() {
		d.fail(reason, detail)
	}
}

// fail ends the attempt; the peer is tried again later.
func (d *dial) fail(reason Reason, detail string) {
	d.close()
	d.peer.search.ended(d)
	e := d.peer.e
	e.tell(d.event(IKEFailed, reason, detail))
	d.peer.failed(reason, detail)
}

// close ends the attempt and every session of it that is not proven.
func (d *dial) close() {
	e := d.peer.e
	e.quiet(&d.resend)
	delete(e.dials, d.cki)
	e.door.expect(d.cki, false)
	if d.peer.dial == d {
		d.peer.dial = nil
	}
	sessions := d.sessions
	d.sessions = nil
	for _, s := range sessions {
		if s.state != established {
			s.end()
		}
	}
}

// failed counts an attempt that came to nothing and waits, longer each time.
func (p *peer) failed(reason Reason, detail string) {
	p.failures++
	p.putOff(p.failures, reason, detail)
}

// needed reports whether some tunnel waits for this peer, or stands without a
// session to it.
func (p *peer) needed() bool {
	return slices.ContainsFunc(p.e.tunnels, func(t *tunnel) bool {
		return t.peer == p && (t.lacking() || len(p.live) == 0 && t.current != nil && !t.stopped)
	})
}

// wanted tries again if some tunnel still waits.
func (p *peer) wanted() {
	if p.needed() {
		p.connect()
	}
}

// proven takes a session in that has just been proven.
func (p *peer) proven(s *session) {
	e := p.e
	p.failures = 0
	if p.home.away { // the peer found us here before we looked
		p.takeOver()
	}
	e.clock.stop(&p.retry)
	e.clock.stop(&p.alone)
	p.live = slices.Insert(p.live, 0, s)
	e.door.welcome(s.remote.Addr())
	s.watch()
	s.watchPath()
	s.greet()
	s.limit()
	p.settle(s)
	for _, t := range e.tunnels {
		if t.peer != p {
			continue
		}
		if s.role == Initiator {
			t.ensure()
			t.follow(s)
		} else if t.lacking() && !t.retry.pending() {
			e.clock.set(&t.retry, e.now.Add(responderGrace), t.ensure)
		}
	}
}

// settle decides which of several proven sessions go. Sessions that were there
// before are replaced. Of two Yumens that called each other at once the session
// with the lower initiator cookie stays; the other is deleted by the end that
// started it.
func (p *peer) settle(s *session) {
	e := p.e
	for _, o := range p.live {
		if o == s || o.state != established {
			continue
		}
		loser, wait := o, sessionOverlap
		if o.role != s.role && s.begun.After(o.up) {
			// Perhaps they crossed in the eyes of the peer: let it be first.
			wait += sessionOverlap / 2
		} else if o.role != s.role {
			if !s.knows.yumen {
				continue
			}
			if slices.Compare(s.cki[:], o.cki[:]) > 0 {
				loser = s
			}
		}
		loser.crossed = true
		e.clock.stop(&loser.soft)
		switch {
		case loser.role == Initiator || loser == o && s.role == Initiator:
		case s.knows.yumen: // the other end deletes it, unless that delete is lost
			wait = 3 * sessionOverlap
		default:
			continue
		}
		if at := e.now.Add(wait); at.Before(loser.life.at) {
			e.clock.set(&loser.life, at, loser.replaced)
		}
	}
}

// keeps reports whether some tunnel of this peer is to stay up.
func (p *peer) keeps() bool {
	return slices.ContainsFunc(p.e.tunnels, func(t *tunnel) bool {
		return t.peer == p && !t.stopped && (t.want || t.current != nil)
	})
}

// forget takes a session out that ended.
func (p *peer) forget(s *session) {
	p.live = slices.DeleteFunc(p.live, func(o *session) bool { return o == s })
}

func (e *Engine) peerNamed(name string) *peer {
	i := slices.IndexFunc(e.peers, func(p *peer) bool { return p.entry.Name == name })
	if i < 0 {
		return nil
	}
	return e.peers[i]
}

// candidates are the peers that may speak from remote to local: those
// configured with that address, else those whose address is not known. Of several
// paths between the same two gateways, whose entries have one certificate pair, the
// one whose local address it is comes first.
func (e *Engine) candidates(local, remote netip.Addr) (found []*peer, known bool) {
	var anywhere []*peer
	for _, p := range e.peers {
		if l := p.entry.Local.Addr; l.IsValid() && local.IsValid() && l != local {
			continue
		}
		switch {
		case p.entry.Remote.Any:
			anywhere = append(anywhere, p)
		case p.entry.Remote.Addr == remote || slices.Contains(p.where.addrs, remote):
			found = append(found, p)
		}
	}
	for _, list := range [][]*peer{found, anywhere} {
		slices.SortStableFunc(list, func(a, b *peer) int { return a.distance(local) - b.distance(local) })
	}
	if len(found) > 0 {
		return append(found, anywhere...), true
	}
	return anywhere, false
}

// distance is 0 for the entry that names our address, 2 for one that names another,
// and 1 for one that names none.
func (p *peer) distance(local netip.Addr) int {
	switch place := cmp.Or(p.entry.Local.Addr, p.ours); {
	case !place.IsValid():
		return 1
	case place == local:
		return 0
	}
	return 2
}
