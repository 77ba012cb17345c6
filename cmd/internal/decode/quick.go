package decode

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
)

// exchange is one quick mode:
//
//	QM1  i->r  HDR*, HASH_1, SA, Ni [, IDci, IDcr]
//	QM2  r->i  HDR*, HASH_2, SA, Nr [, IDci, IDcr]
//	QM3  i->r  HDR*, HASH_3
type exchange struct {
	starter   netip.AddrPort // sender of QM1
	bodies    [3]*quickBody  // QM1, QM2
	last      [4]lastBlock   // of QM1..QM3
	answered  netip.AddrPort
	verified  [4]bool
	made      bool
	lost      bool // its first message is not in the capture
	reflected bool // QM1 is in the capture from both ends
}

// quickBody is what QM1 or QM2 carried.
type quickBody struct {
	sa         wire.SA
	saBody     []byte
	nonce      []byte
	idci, idcr []byte
}

// quick takes one message of a quick mode, told apart by sender and order.
func (s *session) quick(m *Message, h wire.Header, g datagram) {
	m.Name = "quick mode"
	m.headerFields(h)
	cipher := g.data[wire.HeaderLen:]
	m.add(0, "encrypted body", "%d bytes", len(cipher))
	if h.MessageID == 0 {
		m.fail("message ID", "0, expected a random number (RFC 2408 3.1)")
		return
	}
	x := s.exchanges[h.MessageID]
	if x == nil {
		if s.d.phaseTwo >= maxExchanges {
			m.unknown("exchange", "more than %d quick modes in this capture: not followed", maxExchanges)
			return
		}
		s.d.phaseTwo++
		x = &exchange{starter: g.src}
		s.exchanges[h.MessageID] = x
	}
	switch {
	case !x.verified[1] && s.isFirst(h, cipher):
		*x = exchange{starter: g.src} // what came before it was forged, or noise
	case x.reflected && !x.verified[2]:
		x.starter = g.dst // who answers is not the one that began
	}
	if x.lost {
		m.unknown("HASH", "an earlier message of this exchange is missing from the capture")
		return
	}
	n := x.place(g)
	m.Name = fmt.Sprintf("QM%d", n)
	if !s.derived {
		x.last[n].set16(cipher)
		m.unknown(fmt.Sprintf("HASH_%d", n), "%s", s.whyNotDerived())
		return
	}
	iv, why := s.quickIV(x, n, h.MessageID)
	if why != "" {
		m.unknown(fmt.Sprintf("HASH_%d", n), "%s", why)
		x.last[n].set16(cipher)
		return
	}
	s.openQuick(m, x, quickPart{h, n, iv, cipher, g})
}

// repeated notes a message that was seen before: QM1 from both ends leaves open
// who began.
func (s *session) repeated(h wire.Header, g datagram) {
	if x := s.exchanges[h.MessageID]; x != nil && x.verified[1] && !x.last[2].ok &&
		g.src.Addr() != x.starter.Addr() && s.isFirst(h, g.data[wire.HeaderLen:]) {
		x.reflected = true
	}
}

// set16 keeps the IV of a message that could not be judged.
func (l *lastBlock) set16(cipher []byte) {
	if len(cipher) >= 16 {
		l.set(cipher, false)
	}
}

// place tells QM1, QM2 and QM3 apart: what the starter sends first, what comes
// back, what the starter sends then.
func (x *exchange) place(g datagram) int {
	switch {
	case g.src != x.starter && g.src.Addr() != x.starter.Addr(), g.src != x.starter && g.dst == x.starter:
		return 2
	case x.last[1].ok && (x.last[2].ok || x.verified[1]):
		return 3
	}
	return 1
}

type quickPart struct {
	h      wire.Header
	n      int
	iv     [16]byte
	cipher []byte
	g      datagram
}

// quickIV is the IV of message n, or why it is not known (RFC 2409 appendix B).
func (s *session) quickIV(x *exchange, n int, id uint32) (iv [16]byte, why string) {
	if n > 1 {
		if !x.last[n-1].ok {
			return iv, fmt.Sprintf("QM%d is missing, so the IV of QM%d is not known", n-1, n)
		}
		return x.last[n-1].iv, ""
	}
	if !s.last[6].ok {
		return iv, "M6 is missing or was not decrypted, so the IV of phase 2 is not known"
	}
	return gm.PhaseTwoIV(s.last[6].iv, id), ""
}

// openQuick decrypts and verifies one message.
func (s *session) openQuick(m *Message, x *exchange, p quickPart) {
	name := fmt.Sprintf("HASH_%d", p.n)
	ps, body, err := s.decrypt(m, p.h, p.cipher, p.iv)
	if err != nil {
		x.last[p.n].set16(p.cipher)
		if p.n == 1 && s.orphan(p.h, body) {
			x.lost = true
			m.Name = "QM2 or QM3"
			m.unknown(name, "only the first block does not decrypt: an earlier message of this exchange is missing from the capture")
			return
		}
		m.fail(name, "%s does not decrypt to a payload list: %v", m.Name, err)
		return
	}
	m.replaceFields(wire.Message{Header: p.h, Payloads: ps})
	if p.n < 3 {
		q, err := readQuick(ps)
		if err != nil {
			m.fail("payloads", "%v", err)
			x.last[p.n].set16(p.cipher)
			return
		}
		if !x.verified[p.n] {
			x.bodies[p.n] = q
		}
		s.phaseTwoDeviations(m, q.sa)
	}
	if ps[0].Type != wire.TypeHash {
		m.fail(name, "the first payload is %s, expected HASH", ps[0].Type)
	} else {
		s.quickHash(m, x, quickCheck{name, p.n, p.h.MessageID, ps[0].Body, body[4+len(ps[0].Body):]})
	}
	good := !m.failed()
	if len(p.cipher) >= 16 {
		x.last[p.n].set(p.cipher, good)
	}
	if p.n == 2 {
		x.answered = p.g.src
		s.child(m, x, p)
	}
}

// orphan tells a message whose predecessors are not in the capture from a QM1
// that was altered: with a wrong IV only the first block, the start of the HASH
// payload, is lost, and what is left of the hash is no HASH_1.
func (s *session) orphan(h wire.Header, plain []byte) bool {
	const hash = 4 + 32
	if h.Next != wire.TypeHash || len(plain) < hash || bytes.Equal(plain[:4], []byte{byte(wire.TypeSA), 0, 0, hash}) {
		return false
	}
	if len(plain) == 48 && len(bytes.Trim(plain[hash:], "\x00")) == 0 {
		return true // QM3: the hash and zeros
	}
	ps, used, err := wire.ParseBody(wire.TypeSA, plain[hash:], wire.Padding)
	if err != nil {
		return false
	}
	q, err := readQuick(append([]wire.Payload{{Type: wire.TypeHash}}, ps...))
	// the last four bytes of the hash are untouched by the first two blocks
	return err == nil && !s.hashFits(q, quickCheck{msgID: h.MessageID, got: plain[32:hash], rest: plain[hash : hash+used]})
}

// isFirst says whether a message verifies as QM1 of its exchange.
func (s *session) isFirst(h wire.Header, cipher []byte) bool {
	if !s.derived || !s.last[6].ok {
		return false
	}
	ps, body, err := s.decrypt(&Message{}, h, cipher, gm.PhaseTwoIV(s.last[6].iv, h.MessageID))
	if err != nil {
		return false
	}
	q, err := readQuick(ps)
	return err == nil && s.hashFits(q, quickCheck{msgID: h.MessageID, got: ps[0].Body, rest: body[4+len(ps[0].Body):]})
}

// hashFits says whether got is the end of HASH_1 in any form.
func (s *session) hashFits(q *quickBody, c quickCheck) bool {
	in := gm.QuickHash{MsgID: c.msgID, Ni: q.nonce, NonceOwn: q.nonce, Rest: c.rest, SA: q.saBody, IDci: q.idci, IDcr: q.idcr}
	for form := range hashForms() {
		want := gm.Hash1(s.keys, policy.HashForm(form), in)
		if len(c.got) >= 4 && bytes.HasSuffix(want[:], c.got) {
			return true
		}
	}
	return false
}

// hashForms names the forms of HASH_1 and HASH_2 by policy.HashForm.
func hashForms() []string { return []string{"rfc2409", "std-full", "std-body"} }

// readQuick checks the run of payloads of QM1 and QM2 (RFC 2409 5.5).
func readQuick(ps []wire.Payload) (*quickBody, error) {
	q := &quickBody{}
	if len(ps) < 3 || ps[0].Type != wire.TypeHash || ps[1].Type != wire.TypeSA {
		return nil, fmt.Errorf("%s: expected HASH SA NONCE [ID ID]", payloadList(ps))
	}
	var err error
	for _, p := range ps[1:] {
		switch {
		case p.Type == wire.TypeSA && q.saBody == nil:
			q.saBody = p.Body
			q.sa, err = wire.ParseSA(p.Body)
		case p.Type == wire.TypeNonce && q.nonce == nil:
			q.nonce = p.Body
		case p.Type == wire.TypeID && q.idci == nil:
			q.idci = p.Body
		case p.Type == wire.TypeID && q.idcr == nil:
			q.idcr = p.Body
		case p.Type == wire.TypeSA, p.Type == wire.TypeNonce, p.Type == wire.TypeID:
			err = fmt.Errorf("%s: a payload is there twice", payloadList(ps))
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case q.nonce == nil:
		return nil, errors.New("no NONCE payload")
	case q.idci != nil && q.idcr == nil:
		return nil, errors.New("one ID payload: IDs come as a pair or not at all")
	}
	return q, nil
}

type quickCheck struct {
	name  string
	n     int
	msgID uint32
	got   []byte
	rest  []byte
}

// quickHash verifies HASH_1, HASH_2 in each of the three forms, or HASH_3.
func (s *session) quickHash(m *Message, x *exchange, c quickCheck) {
	one, two := x.bodies[1], x.bodies[2]
	q := gm.QuickHash{MsgID: c.msgID, Rest: c.rest}
	if one == nil || (c.n == 3 && two == nil) {
		m.unknown(c.name, "QM1 or QM2 was not decrypted: the nonces are not known")
		return
	}
	q.Ni = one.nonce
	if two != nil {
		q.Nr = two.nonce
	}
	if c.n == 3 {
		want := gm.Hash3(s.keys, q)
		x.verified[3] = m.compare(c.name, c.got, want[:], "PRF(SKEYID_a, 0 | MsgID | Ni_b | Nr_b)") || x.verified[3]
		return
	}
	b := x.bodies[c.n]
	q.SA, q.NonceOwn, q.IDci, q.IDcr = b.saBody, b.nonce, b.idci, b.idcr
	hash := gm.Hash1
	if c.n == 2 {
		hash = gm.Hash2
	}
	for form, text := range hashForms() {
		want := hash(s.keys, policy.HashForm(form), q)
		if bytes.Equal(want[:], c.got) {
			m.ok(c.name, "form %s", text)
			x.verified[c.n] = true
			if form != 0 {
				s.deviates(m, "HASH "+text)
			}
			return
		}
	}
	want := hash(s.keys, policy.HashRFC2409, q)
	m.fail(c.name, "expected %x (form rfc2409; std-full and std-body do not fit either), the message carries %x", want, c.got)
}
