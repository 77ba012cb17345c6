package ike

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

const (
	firstResend  = 2 * time.Second // doubled after each try
	maxSends     = 5
	earlyResend  = time.Second // while a peer may be starting again
	earlySends   = 10
	answerGap    = 500 * time.Millisecond // least time between two answers to a duplicate
	maxAnswers   = 5                      // answers to duplicates of one message
	keepAnswer   = 60 * time.Second       // M6 and QM3 answer repeated M5 and QM2 so long
	halfOpenLife = 60 * time.Second       // a responder's session must be proven by then
	maxClaims    = 4
	maxBadProof  = 16 // failed M5 or M6 of one session
)

// sessionState is how far an ISAKMP SA has come.
type sessionState uint8

const (
	sentSA     sessionState = iota // responder: M2 sent; initiator: M2 accepted
	sentFields                     // M3 or M4 sent
	sentProof                      // initiator: M5 sent
	established
	ended
)

// half is what one side brings into main mode.
type half struct {
	sk    secret.Secret
	nonce secret.Secret
	id    []byte // plain body of the ID payload
}

// claim is a peer that passed M3 or M4 and has still to prove that it is fresh.
// Several may stand beside each other in one session, because a recorded or
// re-enveloped M3 verifies completely: the HASH tells which one is real.
type claim struct {
	peer         *peer
	pair         *trust.Pair
	ours, theirs half
	accent       policy.Dialect // as the peer speaks
	dialect      policy.Dialect // as we do
	keys         gm.Keys
	iv           [16]byte // of the next message of phase 1
	seen         answered // the M3 or M4 that made it, and our answer
	nat          natState
}

// session is one ISAKMP SA, from the moment that both cookies are known.
type session struct {
	e             *Engine
	role          Role
	state         sessionState
	cki, ckr      wire.Cookie
	version       uint8
	local, remote netip.AddrPort
	dial          *dial          // initiator, until established
	peer          *peer          // initiator: from the start; responder: once proven
	dialect       policy.Dialect // as we speak
	attempt       attempt        // initiator: how it began
	quickProven   bool           // a quick mode got through in the form we use
	offered       phaseOne       // what the peer offered or answered in phase 1
	accent        policy.Dialect // as the peer speaks, once proven
	saI, saR      []byte         // bodies as sent or received
	created       time.Time
	begun         time.Time // when its M1 was sent or received
	up            time.Time
	lifetime      time.Duration // offered and chosen; ours is applied at the end
	pair          *trust.Pair
	own           half // initiator's, shared by its claims
	claims        []*claim
	proven        *claim
	phase         phase
	keys          keying   // once established
	name, mark    string   // once established: whom the peer proved to be, for people and to compare
	beside        [][]byte // notifications that came with the proof
	lastBlock     [16]byte
	seen          answered
	resend        resend
	life, soft    alarm
	pending       int // private-key operations under way
	badFields     int
	badCerts      int
	badProof      int
	knows         features
	nat           natState
	deviations    []string
	first         *halfOpen // responder: what M1 left, until proven
	pieces        pieces
	reading       map[[32]byte]bool // M3 or M4 whose envelope is being opened
	exchanges     map[uint32]*exchange
	used          map[uint32]struct{}
	quick         *exchange // the one we started
	queue         []*tunnel // that wait for it
	quickForm     policy.HashForm
	crossed       bool
	heard         time.Time // last authentic message
	unanswered    int       // R-U-THERE in a row
	dpdSeq        uint32
	dpd           alarm
	path          *pathProbe     // nil: not looked after
	tried         netip.AddrPort // where a peer behind a NAT seems to be now
	triedAt       time.Time
	triedBy       []uint32 // numbers of what was asked there, the newest last
}

// features are what the peer's Vendor IDs announce. Unauthenticated.
type features struct{ natt, dpd, yumen, pieces bool }

// answered remembers the last message that was answered, and the answer.
type answered struct {
	hash   [32]byte
	answer []byte
	at     time.Time
	count  int
}

// resend repeats packets until it is stopped or gives up.
type resend struct {
	packets []Datagram
	early   int // tries that come every second before the others do
	sends   int
	alarm   alarm
}

func (s *session) key() pairKey { return pairKey{s.cki, s.ckr} }

// cookies returns both cookies, as they stand in SPI fields.
func (s *session) cookies() []byte { return slices.Concat(s.cki[:], s.ckr[:]) }

// event begins an event about s.
func (s *session) event(kind EventKind, reason Reason, detail string) Event {
	v := Event{Kind: kind, Reason: reason, Detail: detail, Role: s.role,
		CookieI: s.cki, CookieR: s.ckr, Local: s.local, Remote: s.remote}
	switch {
	case s.peer != nil:
		v.Peer, v.Claimed = s.peer.entry.Name, s.state != established
	case len(s.claims) > 0:
		v.Peer, v.Claimed = s.claims[len(s.claims)-1].peer.entry.Name, true
	}
	return v
}

// drop tells that a message of this session was dropped and nothing changed.
func (s *session) drop(reason Reason, detail string) {
	s.e.tell(s.event(Dropped, reason, detail))
}

// deviate notes, once, that the peer differs from the standard form.
func (s *session) deviate(what string) {
	if slices.Contains(s.deviations, what) || len(s.deviations) >= 32 {
		return
	}
	s.deviations = append(s.deviations, what)
	s.e.tell(s.event(Deviation, "", what))
}

func (s *session) header(x wire.ExchangeType, id uint32, f wire.Flags) wire.Header {
	return wire.Header{Initiator: s.cki, Responder: s.ckr, Version: s.version,
		Exchange: x, Flags: f, MessageID: id}
}

func (s *session) datagram(b []byte) Datagram {
	return Datagram{Local: s.local, Remote: s.remote, Data: b}
}

// repeat sends b now and again by the timer until stopped; giveUp is called
// after the last try went unanswered. With add, what is already repeated goes on
// beside b.
func (e *Engine) repeat(r *resend, d Datagram, add bool, giveUp func()) {
	if !add {
		r.packets = nil
	}
	r.packets = append(r.packets, d)
	r.sends = 1
	e.send(d)
	e.clock.set(&r.alarm, e.now.Add(r.pause()), func() { e.again(r, giveUp) })
}

func (e *Engine) again(r *resend, giveUp func()) {
	if r.sends >= maxSends {
		giveUp()
		return
	}
	if r.early > 0 {
		r.early--
		e.send(r.packets...)
		e.clock.set(&r.alarm, e.now.Add(r.pause()), func() { e.again(r, giveUp) })
		return
	}
	r.sends++
	e.send(r.packets...)
	e.tell(Event{Kind: Repeated, Reason: Timeout, Local: r.packets[0].Local, Remote: r.packets[0].Remote,
		Detail: fmt.Sprintf("try %d of %d", r.sends, maxSends)})
	e.clock.set(&r.alarm, e.now.Add(r.pause()), func() { e.again(r, giveUp) })
}

// pause is how long to wait before the next try.
func (r *resend) pause() time.Duration {
	if r.early > 0 {
		return earlyResend
	}
	return firstResend << (r.sends - 1)
}

func (e *Engine) quiet(r *resend) {
	e.clock.stop(&r.alarm)
	r.packets = nil
}

// remember keeps an answer for duplicates of the message with that hash.
func (a *answered) remember(hash [32]byte, answer []byte, now time.Time) {
	*a = answered{hash: hash, answer: answer, at: now}
}

// repeatAnswer answers a duplicate within the limits of RFC-style
// retransmission: one each 500 ms, 5 in all, and never when our own timer runs.
func (s *session) repeatAnswer(a *answered, timerRuns bool, d Datagram) {
	v := s.event(Repeated, Duplicate, "")
	switch {
	case timerRuns:
		v.Detail = "not answered: our own timer is running"
	case a.answer == nil:
		v.Detail = "not answered: last message of its exchange"
	case a.count >= maxAnswers:
		v.Detail = "not answered: too many"
	case s.e.now.Sub(a.at) < answerGap:
		v.Detail = "not answered: too soon"
	default:
		a.count++
		a.at = s.e.now
		s.e.send(Datagram{Local: d.Local, Remote: d.Remote, Data: a.answer})
		v.Detail = "answered again"
	}
	s.e.tell(v)
}

// end removes the session from every table and wipes its keys. Children stay.
func (s *session) end() {
	if s.state == ended {
		return
	}
	e := s.e
	s.state = ended
	delete(e.sessions, s.key())
	e.tellSession(s.key())
	s.openDone()
	e.quiet(&s.resend)
	e.clock.stop(&s.life)
	e.clock.stop(&s.soft)
	e.clock.stop(&s.dpd)
	if s.path != nil {
		e.clock.stop(&s.path.alarm)
	}
	for _, x := range s.exchangeList() {
		x.close()
	}
	s.exchanges, s.used, s.quick = nil, nil, nil
	s.phase.wipe()
	if s.keys != nil {
		s.keys.Wipe()
	}
	if s.peer != nil {
		s.peer.forget(s)
	}
	queue := s.queue
	s.queue = nil
	for _, t := range queue {
		t.queued = false
	}
	for _, t := range queue {
		t.ensure()
	}
}

// exchangeList returns the exchanges in an order that hangs on no map.
func (s *session) exchangeList() []*exchange {
	return slices.SortedFunc(maps.Values(s.exchanges), func(a, b *exchange) int { return cmp.Compare(a.id, b.id) })
}

// openDone takes a session out of the table of those that are not proven.
func (s *session) openDone() {
	if s.first != nil {
		s.e.forget(s.first)
		s.first = nil
	}
}

func (h *half) wipe() {
	h.sk.Wipe()
	h.nonce.Wipe()
}

func (c *claim) wipe() {
	c.ours.wipe()
	c.theirs.wipe()
	c.keys.Wipe()
}
