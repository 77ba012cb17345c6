package ike

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"yumen/ike/gm"
	"yumen/ike/wire"
)

// maxMessageIDs bounds what one session remembers of used message IDs: without
// them a recorded QM1 would count as new. Near the bound the session is renewed.
const maxMessageIDs = 1 << 16

// protected is the body of a decrypted phase-2 message.
type protected struct {
	payloads []wire.Payload
	plain    []byte // generic headers and bodies, padding cut off
	last     [16]byte
}

// open decrypts a phase-2 message under iv. Nothing is authentic yet.
func (s *session) open(keys keying, iv [16]byte, d Datagram, h wire.Header) (protected, error) {
	body := d.Data[wire.HeaderLen:]
	plain, err := keys.Decrypt(iv, body)
	if err != nil {
		return protected{}, err
	}
	ps, used, err := wire.ParseBody(h.Next, plain, keys.Padding())
	if err != nil {
		return protected{}, err
	}
	return protected{payloads: ps, plain: plain[:used], last: gm.LastBlock(body)}, nil
}

// afterHash is what HASH(1) and the quick mode hashes cover: everything after
// the HASH payload, which comes first.
func (p protected) afterHash() []byte {
	if len(p.payloads) == 0 || p.payloads[0].Type != wire.TypeHash {
		return nil
	}
	return p.plain[4+len(p.payloads[0].Body):]
}

// closeBody writes a phase-2 message: HASH first, then rest.
func (s *session) closeBody(h wire.Header, iv [16]byte, hash [32]byte, rest []wire.Payload) ([]byte, [16]byte) {
	ps := append([]wire.Payload{{Type: wire.TypeHash, Body: hash[:]}}, rest...)
	body := s.keys.Encrypt(iv, padBlock(wire.AppendPayloads(nil, ps)))
	return h.Append(nil, wire.TypeHash, body), gm.LastBlock(body)
}

// newMessageID draws a message ID that this session has not used.
func (s *session) newMessageID() uint32 {
	for {
		id := binary.BigEndian.Uint32(s.e.random(4))
		if _, taken := s.used[id]; id != 0 && !taken {
			s.spend(id)
			return id
		}
	}
}

// spend marks a message ID as used; false when no more can be remembered.
func (s *session) spend(id uint32) bool {
	if len(s.used) >= maxMessageIDs {
		return false
	}
	s.used[id] = struct{}{}
	if len(s.used) == maxMessageIDs*9/10 {
		s.renew()
	}
	return true
}

// inform sends one protected informational message.
func (s *session) inform(ps ...wire.Payload) {
	s.e.send(s.datagram(s.informational(ps...)))
}

// informational is a protected informational message of those payloads.
func (s *session) informational(ps ...wire.Payload) []byte {
	id := s.newMessageID()
	h, iv := s.header(wire.Informational, id, wire.FlagEncrypted), s.keys.PhaseTwoIV(s.lastBlock, id)
	if s.dialect.DPDFirst && isDPD(ps[0]) {
		return s.hashLast(h, iv, ps)
	}
	hash := s.keys.Protected(id, wire.AppendPayloads(nil, ps))
	b, _ := s.closeBody(h, iv, hash, ps)
	return b
}

// protectedNotice reads an informational message under the session's keys.
// Before M6 it can only be the peer's verdict on M5.
func (s *session) protectedNotice(d Datagram, h wire.Header) {
	if s.state != established {
		s.phase.verdict(d, h)
		return
	}
	if x := s.exchanges[h.MessageID]; x != nil && x.waits {
		x.released(d, h)
		return
	}
	if _, seen := s.used[h.MessageID]; seen {
		s.drop(Duplicate, fmt.Sprintf("message ID %08x was used", h.MessageID))
		return
	}
	ps, err := s.authentic(s.keys, s.keys.PhaseTwoIV(s.lastBlock, h.MessageID), d, h)
	if err == nil && !s.mannerOfDPD(ps[0], h) {
		err = fmt.Errorf("dead peer detection of another form (accept: exact)")
	}
	if err != nil {
		s.drop(BadHash, err.Error())
		return
	}
	if !s.spend(h.MessageID) {
		s.drop(RateLimited, "message IDs are used up")
		return
	}
	s.heardFrom(d)
	for _, p := range ps {
		switch p.Type {
		case wire.TypeNotify:
			s.notified(p.Body, h, d)
		case wire.TypeDelete:
			s.deleted(p.Body)
		}
		if s.state == ended {
			return
		}
	}
}

// authentic decrypts an informational message and checks HASH(1). Some peers
// put the HASH last, over what stands before it.
func (s *session) authentic(keys keying, iv [16]byte, d Datagram, h wire.Header) ([]wire.Payload, error) {
	p, err := s.open(keys, iv, d, h)
	if err != nil {
		return nil, err
	}
	n := len(p.payloads)
	if n < 2 {
		return nil, fmt.Errorf("HASH and one more payload are needed")
	}
	covered, hash, rest := p.afterHash(), p.payloads[0].Body, p.payloads[1:]
	if p.payloads[0].Type != wire.TypeHash && p.payloads[n-1].Type == wire.TypeHash {
		hash, rest = p.payloads[n-1].Body, p.payloads[:n-1]
		covered = p.plain[:len(p.plain)-4-len(hash)]
	}
	want := keys.Protected(h.MessageID, covered)
	ok := subtle.ConstantTimeCompare(want[:], hash) == 1
	if !ok && len(rest) == 1 {
		// The same with the payload written as the only one.
		want = keys.Protected(h.MessageID, wire.AppendPayloads(nil, rest))
		ok = subtle.ConstantTimeCompare(want[:], hash) == 1
	}
	if !ok {
		return nil, fmt.Errorf("HASH(1) does not verify")
	}
	return rest, nil
}

// verdict reads what a peer says about our M5 instead of sending M6. It is
// authentic for the claim whose keys verify it, and ends that claim.
func (s *session) verdict(d Datagram, h wire.Header) {
	if s.role != Initiator || s.state != sentProof || s.badProof >= maxBadProof {
		s.drop(UnexpectedState, "informational before the session is proven")
		return
	}
	for _, c := range s.claims {
		ps, err := s.authentic(gmKeying{c.keys}, gm.PhaseTwoIV(c.iv, h.MessageID), d, h)
		if err != nil {
			continue
		}
		detail := "the peer refused our proof"
		for _, p := range ps {
			if n, err := wire.ParseNotification(p.Body); err == nil && p.Type == wire.TypeNotify {
				s.tellNotify(n, NotifyIn)
				detail = fmt.Sprintf("the peer refused our proof: %v", n.Type)
			}
		}
		if len(s.claims) == 1 {
			s.fail(PeerRefused, detail)
		}
		return
	}
	s.badProof++
	s.drop(BadHash, "informational does not verify")
}

// notified acts on an authentic notification. Dead peer detection is not told:
// it says nothing for months.
func (s *session) notified(body []byte, h wire.Header, d Datagram) {
	n, err := wire.ParseNotification(body)
	if err != nil {
		s.drop(Malformed, err.Error())
		return
	}
	switch n.Type {
	case wire.RUThere:
		n.Type = wire.RUThereAck
		s.inform(wire.Payload{Type: wire.TypeNotify, Body: n.Append(nil)})
		return
	case wire.RUThereAck:
		if len(n.Data) == 4 {
			number := binary.BigEndian.Uint32(n.Data)
			s.arrived(d.Remote, number)
			s.path.acknowledged(number)
		}
		return
	}
	s.tellNotify(n, NotifyIn)
	switch {
	case n.Type == wire.InitialContact:
		s.initialContact()
	case n.Type == wire.ResponderLifetime:
		s.responderLifetime(n)
	case n.Type == wire.Connected:
		s.connected(h.MessageID, n.SPI)
	case n.Type < 16384:
		s.refused(n)
	}
}

// notify sends an authentic notification.
func (s *session) notify(n wire.Notification) {
	s.tellNotify(n, NotifyOut)
	s.inform(wire.Payload{Type: wire.TypeNotify, Body: n.Append(nil)})
}

func (s *session) tellNotify(n wire.Notification, kind EventKind) {
	v := s.event(kind, "", n.Type.String())
	v.Notify = n.Type
	s.e.tell(v)
}

// clearNotice reads a notification that nobody vouches for: it is told and
// never acted upon.
func (e *Engine) clearNotice(d Datagram, h wire.Header, dial *dial) {
	m, err := wire.Parse(d.Data)
	if err != nil {
		e.stray(d, h, Malformed, err.Error())
		return
	}
	for _, p := range m.Payloads {
		n, err := wire.ParseNotification(p.Body)
		if p.Type != wire.TypeNotify || err != nil || !e.gate.stray(e.now) {
			continue
		}
		v := Event{Kind: NotifyIn, Notify: n.Type, Detail: fmt.Sprintf("unauthenticated: %v", n.Type),
			CookieI: h.Initiator, CookieR: h.Responder, Local: d.Local, Remote: d.Remote, Claimed: true}
		if dial != nil && dial.remote.Addr() == d.Remote.Addr() {
			v.Peer = dial.peer.entry.Name
			dial.notice = v.Detail
			if len(dial.sessions) == 0 {
				dial.lastReason, dial.lastDetail = PeerRefused, v.Detail
			}
		}
		e.tell(v)
		return
	}
}

// refuse tells an unproven source why its message was refused, within limits.
func (e *Engine) refuse(d Datagram, h wire.Header, n wire.NotifyType, reason Reason, detail string) {
	v := Event{Kind: Refused, Reason: reason, Detail: detail, CookieI: h.Initiator, CookieR: h.Responder,
		Local: d.Local, Remote: d.Remote, Role: Responder, Notify: n}
	candidates, known := e.candidates(d.Local.Addr(), d.Remote.Addr())
	if len(candidates) == 0 {
		e.stray(d, h, UnknownPeer, detail)
		return
	}
	if known {
		v.Peer, v.Claimed = candidates[0].entry.Name, true
	}
	e.tell(v)
	if h.Exchange == wire.Informational || !e.gate.notice(e.now) {
		return
	}
	r := h.Responder
	if r == (wire.Cookie{}) {
		r = e.newCookie()
	}
	note := wire.Notification{DOI: doiIPsec, Protocol: wire.ProtoISAKMP, Type: n,
		SPI: append(append([]byte(nil), h.Initiator[:]...), r[:]...)}
	m := wire.Message{
		Header: wire.Header{Initiator: h.Initiator, Responder: r, Version: candidates[0].how.version(candidates[0].entry.Dialect),
			Exchange: wire.Informational, MessageID: uint32(e.random64())},
		Payloads: []wire.Payload{{Type: wire.TypeNotify, Body: note.Append(nil)}},
	}
	v.Kind, v.Detail = NotifyOut, "unauthenticated: "+n.String()
	e.tell(v)
	e.send(Datagram{Local: d.Local, Remote: d.Remote, Data: m.Append(nil)})
}

// stray tells, within limits, of a datagram that belongs to nothing.
func (e *Engine) stray(d Datagram, h wire.Header, reason Reason, detail string) {
	if !e.gate.stray(e.now) {
		return
	}
	e.tell(Event{Kind: Dropped, Reason: reason, Detail: detail, CookieI: h.Initiator, CookieR: h.Responder,
		Local: d.Local, Remote: d.Remote, Role: Responder})
}
