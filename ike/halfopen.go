package ike

import (
	"net/netip"
	"slices"
	"time"

	"yumen/ike/wire"
	"yumen/policy"
)

// halfOpen is what M1 makes a responder keep until M3: little, because anybody
// can send M1. The answer is made anew when it is asked for again.
type halfOpen struct {
	key           pairKey
	local, remote netip.AddrPort
	created       time.Time
	lastAnswer    time.Duration // after created
	first         firstKey
	saI           []byte
	peer          *peer    // the first candidate: how we answer
	session       *session // made by M3
	slot          int32    // in its list, while there is no session
	version       uint8
	answers       uint8
	knows         features
	known         bool // from a configured address
}

// halfOpens is every responder's session that is not proven, by its M1 and by
// its cookies. Those of configured addresses stand apart from the others.
type halfOpens struct {
	byFirst map[firstKey]*halfOpen
	byPair  map[pairKey]*halfOpen
	// Those without a session, of unknown and of configured addresses, and all
	// of them in the order they came.
	waiting  [2][]*halfOpen
	oldest   []*halfOpen
	promoted [2]int // those with a session
	expiry   alarm
}

func class(known bool) int {
	if known {
		return 1
	}
	return 0
}

// admit makes room and takes h in. A full table loses one entry at random, so
// that a flood cannot keep an honest peer out for good.
func (e *Engine) admit(h *halfOpen) {
	o := &e.halfOpen
	list := &o.waiting[class(h.known)]
	if victim := o.victim(*list, h, e.random64()); victim != nil {
		if e.gate.claim(e.now) {
			e.tell(victim.event(Limited, HalfOpenLimit, "an entry made room for a newer one"))
		}
		e.forget(victim)
	}
	h.slot = int32(len(*list))
	*list = append(*list, h)
	o.byPair[h.key] = h
	e.tellSession(h.key)
	o.byFirst[h.first] = h
	o.oldest = append(o.oldest, h)
	if !o.expiry.pending() {
		e.clock.set(&o.expiry, h.created.Add(halfOpenLife), e.expireHalfOpen)
	}
}

// victim picks who goes for h: one of the same source, when that has its share,
// or any one of its class, when that is full.
func (o *halfOpens) victim(list []*halfOpen, h *halfOpen, draw uint64) *halfOpen {
	share := uint64(maxHalfOpenSource)
	if h.known {
		share = maxHalfOpenPeer
	}
	same := uint64(0)
	for _, w := range list {
		if w.remote.Addr() == h.remote.Addr() {
			same++
		}
	}
	if same < share {
		if len(list) < maxHalfOpen {
			return nil
		}
		return list[draw%uint64(len(list))]
	}
	for nth := draw % same; ; list = list[1:] {
		if list[0].remote.Addr() != h.remote.Addr() {
			continue
		}
		if nth == 0 {
			return list[0]
		}
		nth--
	}
}

// stopWaiting takes h out of the lists of those that have no session.
func (o *halfOpens) stopWaiting(h *halfOpen) {
	if h.session != nil {
		return
	}
	list := &o.waiting[class(h.known)]
	last := len(*list) - 1
	moved := (*list)[last]
	(*list)[h.slot], moved.slot = moved, h.slot
	(*list)[last] = nil
	*list = (*list)[:last]
	o.oldest = slices.DeleteFunc(o.oldest, func(w *halfOpen) bool { return w == h })
}

// forget takes h out of every table.
func (e *Engine) forget(h *halfOpen) {
	o := &e.halfOpen
	o.stopWaiting(h)
	if h.session != nil {
		o.promoted[class(h.known)]--
	}
	delete(o.byPair, h.key)
	e.tellSession(h.key)
	delete(o.byFirst, h.first)
}

// expireHalfOpen forgets what M3 never came for.
func (e *Engine) expireHalfOpen() {
	o := &e.halfOpen
	for len(o.oldest) > 0 {
		h := o.oldest[0]
		if at := h.created.Add(halfOpenLife); at.After(e.now) {
			e.clock.set(&o.expiry, at, e.expireHalfOpen)
			return
		}
		if e.gate.claim(e.now) {
			reason, detail := h.silence(e)
			e.tell(h.event(IKEFailed, reason, detail))
		}
		e.forget(h)
	}
}

// count is how many responder's sessions are not proven.
func (o *halfOpens) count() int { return len(o.byPair) }

// silence says what a missing M3 may mean.
func (h *halfOpen) silence(e *Engine) (Reason, string) {
	if size := len(h.second(e)); h.answers > 0 && size > smallestPath {
		return FragmentsBlocked, fragmentsAdvice("message 2", size, "message 1 came again and again")
	}
	return Timeout, "no message 3"
}

func (h *halfOpen) event(kind EventKind, reason Reason, detail string) Event {
	v := Event{Kind: kind, Reason: reason, Detail: detail, Role: Responder, Claimed: true,
		CookieI: h.key.i, CookieR: h.key.r, Local: h.local, Remote: h.remote}
	if h.known {
		v.Peer = h.peer.entry.Name
	}
	return v
}

// second is M2. Everything in it follows from what is kept.
func (h *halfOpen) second(e *Engine) []byte {
	m := wire.Message{
		Header: wire.Header{Initiator: h.key.i, Responder: h.key.r, Version: h.version, Exchange: wire.MainMode},
		Payloads: slices.Concat([]wire.Payload{{Type: wire.TypeSA, Body: h.answer()}},
			h.peer.how.second(e, h.peer.entry), vendorIDs(h.peer.entry, h.dialect())),
	}
	return m.Append(nil)
}

// answer is the SA body of M2. The offer was read once already.
func (h *halfOpen) answer() []byte {
	sa, err := wire.ParseSA(h.saI)
	if err != nil {
		return nil
	}
	x, err := h.peer.how.choose(sa, h.peer.entry)
	if err != nil {
		return nil
	}
	return x.answer.Append(nil)
}

func (h *halfOpen) dialect() policy.Dialect { return h.peer.entry.Dialect }

// repeated answers M1 again within the limits for duplicates.
func (e *Engine) repeated(h *halfOpen, d Datagram) {
	v := h.event(Repeated, Duplicate, "answered again")
	switch {
	case h.session != nil:
		v.Detail = "not answered: not the last message"
	case h.answers >= maxAnswers:
		v.Detail = "not answered: too many"
	case e.now.Sub(h.created)-h.lastAnswer < answerGap:
		v.Detail = "not answered: too soon"
	default:
		h.answers++
		h.lastAnswer = e.now.Sub(h.created)
		e.send(Datagram{Local: d.Local, Remote: d.Remote, Data: h.second(e)})
	}
	e.tell(v)
}

// promote makes a session for an M3 that came, if the message is worth one: as
// long as none of it got as far as our key, the entry stays what it was.
func (e *Engine) promote(h *halfOpen, d Datagram, x wire.Header) {
	o := &e.halfOpen
	if o.promoted[class(h.known)] >= maxUnproven {
		e.tell(h.event(Limited, HalfOpenLimit, "too many sessions that are not proven"))
		return
	}
	sa, err := wire.ParseSA(h.saI)
	if err != nil {
		return
	}
	offer, err := h.peer.how.choose(sa, h.peer.entry)
	if err != nil {
		return
	}
	s := e.newSession(Responder, h.key, Datagram{Local: h.local, Remote: h.remote})
	s.version, s.dialect, s.first, s.created = h.version, h.dialect(), h, h.created
	s.offered, s.saI, s.saR, s.knows, s.lifetime = offer.offered, h.saI, offer.answer.Append(nil), h.knows, seconds(offer.seconds)
	s.phase = h.peer.how.begin(s)
	s.receive(d, x)
	if s.pending == 0 && len(s.claims) == 0 && !s.pieces.begun {
		delete(e.sessions, h.key)
		e.tellSession(h.key)
		s.state = ended
		return
	}
	o.stopWaiting(h)
	o.promoted[class(h.known)]++
	h.session = s
	e.clock.set(&s.life, h.created.Add(halfOpenLife), func() { s.fail(Timeout, "not proven in time") })
	s.note(offer.deviations, nil)
}
