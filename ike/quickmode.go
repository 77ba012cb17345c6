package ike

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"time"

	"yumen/esp"
	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
)

// Quick mode (GB/T 36968, 5.1; RFC 2409 5.5 without KE):
//
//	initiator                                   responder
//	QM1  HASH_1, SA, Ni, IDci, IDcr       -->
//	                                      <--   QM2  HASH_2, SA, Nr, IDci, IDcr
//	QM3  HASH_3                           -->
//
// The responder can receive before it sends QM2 and sends after QM3, or after
// the first good packet on the new inbound SA when QM3 was lost.

// exchange is one quick mode.
type exchange struct {
	s         *session
	role      Role
	id        uint32
	tunnel    *tunnel
	iv        [16]byte // of the next message
	hash      gm.QuickHash
	offer     wire.SA
	selector  policy.Selector
	spi       esp.SPI // ours
	child     *child
	started   time.Time
	seen      answered
	resend    resend
	keep      alarm
	theirLife time.Duration // offered by the peer
	marked    bool          // responder: our SPI names the lane
	waits     bool          // initiator: the responder asked to wait for CONNECTED
	closed    bool
}

// enqueue starts a quick mode for t, one at a time on each session: an error
// notification does not say which one it is about.
func (s *session) enqueue(t *tunnel) {
	if x := t.underWay(); t.incoming() || x != nil && x.s != s {
		t.held = true
		return
	}
	if s.quick != nil {
		if !slices.Contains(s.queue, t) {
			s.queue = append(s.queue, t)
			t.queued = true
		}
		return
	}
	s.startQuick(t)
}

// nextQuick starts what waits.
func (s *session) nextQuick() {
	for s.quick == nil && len(s.queue) > 0 && s.state == established {
		t := s.queue[0]
		s.queue = s.queue[1:]
		t.queued = false
		if !t.stopped && t.quick == nil {
			s.enqueue(t)
		}
	}
}

// startQuick sends QM1.
func (s *session) startQuick(t *tunnel) {
	e := s.e
	e.lastChild++
	x := &exchange{s: s, role: Initiator, id: s.newMessageID(), tunnel: t, selector: t.entry.Selector, started: e.now}
	x.child = &child{e: e, t: t, ours: true, started: e.now, exchange: x}
	x.child.ID = e.lastChild
	x.spi = t.reserve(s, x.child.ID, true)
	x.iv = s.keys.PhaseTwoIV(s.lastBlock, x.id)
	s.peer.search.show(&s.attempt, showsInQuick)
	x.offer = phaseTwoOffer(t.entry, s.dialect, s.udp(), x.spi)
	x.hash.MsgID, x.hash.Ni = x.id, e.random(s.dialect.NonceLength())
	s.quick, t.quick = x, x
	s.exchanges[x.id] = x
	sel := x.selector
	rest := []wire.Payload{
		{Type: wire.TypeSA, Body: x.offer.Append(nil)},
		{Type: wire.TypeNonce, Body: x.hash.Ni},
		{Type: wire.TypeID, Body: clientID(sel.Local, sel.Protocol, sel.LocalPort).Append(nil)},
		{Type: wire.TypeID, Body: clientID(sel.Remote, sel.Protocol, sel.RemotePort).Append(nil)},
	}
	hash := s.keys.Hash1(s.quickForm, x.covers(rest))
	b := x.write(hash, rest)
	e.repeat(&x.resend, s.datagram(b), false, func() {
		s.varyQuick()
		x.abandon(Timeout, "no answer to quick mode")
		s.finish(Dead, "quick mode unanswered")
	})
}

// udp reports whether ESP of this session travels in UDP.
func (s *session) udp() bool { return s.nat.found() && s.local.Port() == s.e.cfg.Ports.NAT }

func (x *exchange) write(hash [32]byte, rest []wire.Payload) []byte {
	h := x.s.header(wire.QuickMode, x.id, wire.FlagEncrypted)
	b, iv := x.s.closeBody(h, x.iv, hash, rest)
	x.iv = iv
	return b
}

// quickMessage sorts a message of quick mode.
func (s *session) quickMessage(d Datagram, h wire.Header) {
	if s.state != established {
		s.drop(UnexpectedState, "quick mode before the session is proven")
		return
	}
	x := s.exchanges[h.MessageID]
	if x == nil {
		if _, used := s.used[h.MessageID]; used {
			s.drop(Duplicate, fmt.Sprintf("message ID %08x was used", h.MessageID))
			return
		}
		s.quickOne(d, h)
		return
	}
	hash := gm.SM3(d.Data)
	switch {
	case x.seen.hash == hash:
		if c := x.child; c != nil && c.useSoon.pending() { // it has not got QM3
			c.useOnceReady(x)
		}
		s.repeatAnswer(&x.seen, x.resend.alarm.pending(), d)
	case x.closed:
		s.drop(UnexpectedState, "quick mode is over")
	case x.role == Initiator && x.resend.alarm.pending():
		x.two(d, h, hash)
	case x.role == Responder && x.resend.alarm.pending():
		x.three(d, h, hash)
	default:
		s.drop(UnexpectedState, "message out of turn")
	}
}

// quickOne reads QM1. Up to its HASH nothing is kept.
func (s *session) quickOne(d Datagram, h wire.Header) {
	e := s.e
	x := &exchange{s: s, role: Responder, id: h.MessageID, iv: s.keys.PhaseTwoIV(s.lastBlock, h.MessageID), started: e.now}
	x.hash.MsgID = x.id
	p, last, reason, err := x.read(d, h)
	if err != nil {
		s.drop(reason, err.Error())
		return
	}
	if !s.spend(x.id) {
		s.drop(RateLimited, "message IDs are used up")
		return
	}
	s.heardFrom(d)
	s.note(nil, p.skipped)
	x.iv, x.hash.Ni = last, slices.Clone(p.nonce)
	sa, err := wire.ParseSA(p.sa)
	if err != nil {
		s.refuseQuick(wire.PayloadMalformed, Malformed, nil, sa, err)
		return
	}
	offered, err := s.selectorOf(p.ids, Responder)
	if err != nil {
		s.refuseQuick(wire.InvalidIDInformation, NoSelector, nil, sa, err)
		return
	}
	t := s.peer.tunnelFor(offered, s.dialect.AllowNarrowing)
	if t == nil {
		s.refuseQuick(wire.InvalidIDInformation, NoSelector, nil, sa,
			fmt.Errorf("no tunnel of peer %s has the selector %v", s.peer.entry.Name, offered))
		return
	}
	pick, err := choosePhaseTwo(sa, t.entry, s.dialect, s.udp())
	if err == nil && p.ke != nil {
		err = errNoPFS
	}
	if err != nil {
		s.refuseQuick(wire.NoProposalChosen, NoSuite, t, sa, err)
		return
	}
	t, x.marked = t.answering(s, pick.spi)
	if len(t.children) >= maxChildren { // no honest peer needs so many
		s.drop(RateLimited, fmt.Sprintf("tunnel %s has %d children", t.entry.Name, len(t.children)))
		return
	}
	if t.yields(p.nonce) {
		delete(s.used, x.id) // a repetition is served once ours is over
		s.drop(Crossed, "ours has the lower nonce")
		return
	}
	s.throughQuick()
	s.note(pick.x.deviations(), nil)
	x.tunnel, x.selector = t, offered
	x.quickTwo(pick, p, d, h)
}

// quickTwo installs the child for receiving and answers with QM2.
func (x *exchange) quickTwo(pick chosen, p parts, d Datagram, h wire.Header) {
	s, e := x.s, x.s.e
	e.lastChild++
	x.child = &child{e: e, t: x.tunnel, started: e.now, exchange: x}
	x.child.ID = e.lastChild
	x.spi = x.tunnel.reserve(s, x.child.ID, x.marked)
	x.hash.Nr = e.random(s.dialect.NonceLength())
	x.child.make(x, pick)
	s.exchanges[x.id] = x
	pick.answer.SPI = spiBytes(x.spi)
	answer := wire.SA{DOI: doiIPsec, Situation: identityOnly, Proposals: []wire.Proposal{pick.answer}}
	rest := []wire.Payload{{Type: wire.TypeSA, Body: answer.Append(nil)}, {Type: wire.TypeNonce, Body: x.hash.Nr}}
	for _, id := range x.idsToSend(p.ids) {
		rest = append(rest, wire.Payload{Type: wire.TypeID, Body: id})
	}
	b := x.write(s.keys.Hash2(s.quickForm, x.covers(rest)), rest)
	x.seen.remember(gm.SM3(d.Data), nil, e.now)
	x.child.install()
	x.heed(p.notes, h, d)
	e.repeat(&x.resend, s.datagram(b), false, func() {
		x.child.end(Timeout, tellPeer)
		x.close()
	})
}

// two reads QM2, installs the child and sends QM3. ESP goes out only in the next
// step: a peer that has not seen QM3 drops it.
func (x *exchange) two(d Datagram, h wire.Header, hash [32]byte) {
	s, e := x.s, x.s.e
	p, last, reason, err := x.read(d, h)
	if err != nil {
		s.drop(reason, err.Error())
		return
	}
	s.heardFrom(d)
	sa, err := wire.ParseSA(p.sa)
	if err != nil {
		x.refuseAnswer(wire.PayloadMalformed, Malformed, sa, err)
		return
	}
	pick, err := checkPhaseTwoAnswer(x.offer, sa, s.dialect)
	if err == nil && p.ke != nil {
		err = errNoPFS
	}
	if err != nil {
		x.refuseAnswer(wire.NoProposalChosen, AnswerMismatch, sa, err)
		return
	}
	if reason, err := x.compareIDs(p.ids); err != nil {
		x.refuseAnswer(wire.InvalidIDInformation, reason, sa, err)
		return
	}
	s.throughQuick()
	s.note(pick.x.deviations(), p.skipped)
	if !x.offers(pick.x.id) {
		s.deviate(fmt.Sprintf("ESP transform %d answered to an offer without it", pick.x.id))
	}
	x.iv, x.hash.Nr = last, slices.Clone(p.nonce)
	x.agree(pick.spi)
	x.child.make(x, pick)
	b := x.write(s.keys.Hash3(x.hash), nil)
	e.quiet(&x.resend)
	x.seen.remember(hash, b, e.now)
	x.child.install()
	e.send(s.datagram(b))
	x.waits = h.Flags&wire.FlagCommit != 0
	x.child.useOnceReady(x)
	x.heed(p.notes, h, d)
	x.settle()
}

func (x *exchange) offers(id uint8) bool {
	return slices.ContainsFunc(x.offer.Proposals[0].Transforms, func(t wire.Transform) bool { return t.ID == id })
}

// three reads QM3.
func (x *exchange) three(d Datagram, h wire.Header, hash [32]byte) {
	s := x.s
	p, err := s.open(s.keys, x.iv, d, h)
	if err != nil {
		s.drop(BadHash, err.Error())
		return
	}
	got, err := layoutProof.arrange(p.payloads)
	want := s.keys.Hash3(x.hash)
	if err != nil || subtle.ConstantTimeCompare(want[:], got.hash) != 1 {
		s.drop(BadHash, "HASH_3 does not verify")
		return
	}
	s.heardFrom(d)
	x.iv = p.last
	x.seen.remember(hash, nil, s.e.now)
	x.child.confirm()
}

// released reads a CONNECTED that came under the message ID of the exchange
// itself (RFC 2408 3.1), whichever way its IV was made.
func (x *exchange) released(d Datagram, h wire.Header) {
	s := x.s
	for _, iv := range [][16]byte{x.iv, s.keys.PhaseTwoIV(s.lastBlock, x.id)} {
		ps, err := s.authentic(s.keys, iv, d, h)
		if err != nil {
			continue
		}
		for _, p := range ps {
			if n, err := wire.ParseNotification(p.Body); err == nil && p.Type == wire.TypeNotify && n.Type == wire.Connected {
				s.tellNotify(n, NotifyIn)
				s.connected(x.id, n.SPI)
			}
		}
		return
	}
	s.drop(BadHash, "CONNECTED does not verify")
}

// connected ends the wait that a commit bit asked for.
func (s *session) connected(id uint32, spi []byte) {
	for _, x := range s.exchanges {
		if x.role != Initiator || !x.waits || x.child == nil {
			continue
		}
		if x.id == id || string(spi) == string(spiBytes(x.child.Out.SPI)) || string(spi) == string(spiBytes(x.spi)) {
			x.waits = false
			x.child.use()
			return
		}
	}
}

// settle ends the active part of an exchange. It stays for a while so that
// duplicates are recognised and a lost QM3 is sent again.
func (x *exchange) settle() {
	e := x.s.e
	e.quiet(&x.resend)
	x.release()
	e.clock.set(&x.keep, e.now.Add(keepAnswer), x.close)
	x.s.nextQuick()
}

// release frees the places of an exchange that we started.
func (x *exchange) release() {
	if x.s.quick == x {
		x.s.quick = nil
	}
	if x.tunnel != nil && x.tunnel.quick == x {
		x.tunnel.quick = nil
	}
}

// close forgets the exchange.
func (x *exchange) close() {
	if x.closed {
		return
	}
	x.closed = true
	e := x.s.e
	e.quiet(&x.resend)
	e.clock.stop(&x.keep)
	x.release()
	delete(x.s.exchanges, x.id)
	if c := x.child; c != nil {
		c.exchange = nil
		if e.spis[x.spi] == c.ID && c.installed.IsZero() {
			delete(e.spis, x.spi)
		}
		if !c.up && !c.useSoon.pending() {
			c.end(Timeout, quietly)
		}
	}
}

// abandon ends an exchange that we started and tries again later.
func (x *exchange) abandon(reason Reason, detail string) {
	if x.closed {
		return
	}
	x.fail(reason, detail)
	x.s.nextQuick()
}

// fail ends an exchange that we started, and starts nothing that waits for it.
func (x *exchange) fail(reason Reason, detail string) {
	s, t := x.s, x.tunnel
	v := s.event(ChildFailed, reason, detail)
	v.Tunnel, v.MessageID = t.entry.Name, x.id
	s.e.tell(v)
	x.close()
	t.failed(reason, detail)
}
