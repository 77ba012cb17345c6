package decode

import (
	"net/netip"
	"slices"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

// session is one pair of cookies: what its messages told so far. A message that
// was lost leaves its place empty, and what hangs on it is reported as missing.
type session struct {
	d          *decoder
	view       Session
	cki, ckr   wire.Cookie
	init, resp netip.AddrPort // zero until known
	saI, saR   []byte         // bodies of the SA payloads of M1 and M2
	side       [2]half        // what initiator and responder sent in M3, M4 (certificates: M2, M3)
	frames     [7]int         // frame of M1..M6 that was taken, 0 missing
	keys       gm.Keys
	derived    bool
	last       [7]lastBlock // of M5 and M6
	done       [2]bool      // HASHi, HASHr verified
	exchanges  map[uint32]*exchange
	pieces     map[pieceKey]*gathered
	deleted    bool
}

// Sides of a session.
const (
	initiator = 0
	responder = 1
)

var sideName = [2]string{"initiator", "responder"}

// half is what one side proved, or claims.
type half struct {
	sk        secret.Secret
	nonce, id []byte
	opened    bool
	signed    bool // the signature verified
	sign, enc *trust.Certificate
	encBody   []byte // certificate payload body, with its encoding byte
}

// lastBlock is an IV for what follows. One of a message that verified is not
// replaced by one that did not.
type lastBlock struct {
	iv   [16]byte
	ok   bool
	good bool
}

func (l *lastBlock) set(cipher []byte, good bool) {
	if l.ok && l.good && !good {
		return
	}
	*l = lastBlock{gm.LastBlock(cipher), true, good}
}

// session finds or begins the session of a message; nil when there are too many.
func (d *decoder) session(h wire.Header, g datagram) *session {
	none := wire.Cookie{}
	if h.Responder == none {
		if s := d.halfOpen[h.Initiator]; s != nil {
			return s
		}
		s := d.begin(h)
		if s != nil {
			d.halfOpen[h.Initiator] = s
			s.init, s.resp = g.src, g.dst
		}
		return s
	}
	if s := d.sessions[cookies{h.Initiator, h.Responder}]; s != nil {
		return s
	}
	first := d.halfOpen[h.Initiator]
	// A refusal in the clear may carry a new responder cookie each time: it
	// belongs to the attempt but does not bind it.
	if first != nil && h.Exchange != wire.MainMode && h.Flags&wire.FlagEncrypted == 0 {
		return first
	}
	s := first
	if first == nil || first.ckr != none {
		if s = d.begin(h); s == nil {
			return nil
		}
		if first != nil { // a second answer to the same M1
			s.saI, s.frames[1], s.init, s.resp = first.saI, first.frames[1], first.init, first.resp
		}
	}
	s.ckr = h.Responder
	d.sessions[cookies{h.Initiator, h.Responder}] = s
	return s
}

func (d *decoder) begin(h wire.Header) *session {
	if len(d.order) >= maxSessions {
		return nil
	}
	s := &session{d: d, cki: h.Initiator, exchanges: make(map[uint32]*exchange)}
	s.view.Number = len(d.order) + 1
	d.order = append(d.order, s)
	return s
}

// message dispatches by exchange type.
func (s *session) message(m *Message, h wire.Header, g datagram) {
	encrypted := h.Flags&wire.FlagEncrypted != 0
	switch {
	case h.Exchange == wire.MainMode && encrypted:
		s.finished(m, h, g)
	case h.Exchange == wire.MainMode:
		s.clear(m, h, g)
	case h.Exchange == wire.QuickMode && encrypted:
		s.quick(m, h, g)
	case h.Exchange == wire.Informational && encrypted:
		s.informational(m, h, g)
	case h.Exchange == wire.Informational:
		s.clearInformational(m, h, g)
	default:
		m.headerFields(h)
		m.fail("exchange", "exchange type %s with flags %#02x: expected main mode, or quick mode or informational encrypted", h.Exchange, uint8(h.Flags))
	}
}

// clear dispatches M1 to M4, told apart by cookies, first payload and sender.
func (s *session) clear(m *Message, h wire.Header, g datagram) {
	msg, err := wire.Parse(g.data)
	if err != nil {
		m.Name = "main mode"
		m.headerFields(h)
		m.fail("format", "%v", err)
		return
	}
	first := wire.None
	for _, p := range msg.Payloads { // vendor IDs may stand before
		if p.Type == wire.TypeSA || p.Type == wire.TypeSK || p.Type == wire.TypeKE || p.Type == wire.TypeNotify {
			first = p.Type
			break
		}
	}
	switch {
	case first == wire.TypeSA && h.Responder == wire.Cookie{}:
		s.first(m, msg, g)
	case first == wire.TypeSA:
		s.second(m, msg, g)
	case first == wire.TypeSK:
		s.envelope(m, msg, g)
	case first == wire.TypeKE:
		s.keyShare(m, msg, g)
	default:
		m.Name = "main mode"
		m.fields(msg)
		m.fail("payloads", "%s: expected SA first (M1, M2) or SK first (M3, M4)", payloadList(msg.Payloads))
	}
}

// from says which side sent a datagram; ok is false as long as no message with
// a known direction was seen.
func (s *session) from(g datagram) (side int, ok bool) {
	if !s.init.IsValid() {
		return 0, false
	}
	a, b := s.init, s.resp
	if a.Addr() != b.Addr() { // ports change when NAT is found
		switch {
		case g.src.Addr() == a.Addr(), g.dst.Addr() == b.Addr():
			return initiator, true
		case g.src.Addr() == b.Addr(), g.dst.Addr() == a.Addr():
			return responder, true
		}
		return 0, false
	}
	if g.src.Port() == a.Port() || g.dst.Port() == b.Port() {
		return initiator, true
	}
	return responder, true
}

// setSides remembers who is who.
func (s *session) setSides(side int, g datagram) {
	if s.init.IsValid() {
		return
	}
	s.init, s.resp = g.src, g.dst
	if side == responder {
		s.init, s.resp = g.dst, g.src
	}
}

// take says whether the message of this place is to be believed: the first one,
// or a later one when the first was not proven.
func (s *session) take(m *Message, n int, proven bool) bool {
	if s.frames[n] == 0 {
		s.frames[n] = m.Frame
		return true
	}
	m.note("another %s with the same cookies came in frame %d with other bytes", m.Name, s.frames[n])
	if proven {
		m.note("the one in frame %d stays", s.frames[n])
		return false
	}
	s.frames[n] = m.Frame
	return true
}

// deviates notes a difference from the standard form, at the message and once
// for the session.
func (s *session) deviates(m *Message, text string) {
	m.note("deviation: %s", text)
	if !slices.Contains(s.view.Deviates, text) {
		s.view.Deviates = append(s.view.Deviates, text)
	}
}

// derive makes the keys as soon as both nonces are known.
func (s *session) derive(m *Message) {
	i, r := &s.side[initiator], &s.side[responder]
	if !i.opened || !r.opened {
		return
	}
	s.keys.Wipe()
	s.keys = gm.DeriveKeys(i.nonce, r.nonce, s.cki, s.ckr)
	s.derived = true
	m.add(0, "SKEYID, SKEYID_d, SKEYID_a, SKEYID_e", "derived (never shown)")
}

// conclude fills the summary.
func (s *session) conclude() {
	v := &s.view
	v.CookieI, v.CookieR = s.cki.String(), s.ckr.String()
	if s.init.IsValid() {
		v.Initiator, v.Responder = endpoint(s.init), endpoint(s.resp)
	}
	switch {
	case s.done[initiator] && s.done[responder]:
		v.State = "authenticated: HASHi and HASHr verify"
	case s.derived:
		v.State = "keys derived"
	case s.side[initiator].opened || s.side[responder].opened:
		v.State = "one envelope opened"
	case s.frames[6] != 0:
		v.State = "main mode complete, not opened"
	default:
		v.State = "main mode not complete"
	}
	if s.deleted {
		v.State += "; deleted"
	}
}

func (s *session) wipe() {
	s.keys.Wipe()
	for i := range s.side {
		s.side[i].sk.Wipe()
	}
}
