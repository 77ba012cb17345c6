package ike

import (
	"crypto/subtle"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
)

// block is the block length of SM4 in bytes.
const block = 16

// padBlock pads a message body with zeros to whole blocks, none when it is
// aligned already. This differs from the padding of nonce and ID.
func padBlock(b []byte) []byte {
	if n := len(b) % block; n != 0 {
		b = append(b, make([]byte, block-n)...)
	}
	return b
}

func seconds(n uint64) time.Duration {
	return time.Duration(min(n, uint64(1<<32))) * time.Second
}

// proofHash is HASH_I or HASH_R of a claim, over the SA body given.
func (s *session) proofHash(c *claim, by Role, sa []byte) [32]byte {
	idI, idR := c.ours.id, c.theirs.id
	if s.role == Responder {
		idI, idR = idR, idI
	}
	if by == Initiator {
		return gm.HashI(c.keys, s.cki, s.ckr, s.saI, idI)
	}
	return gm.HashR(c.keys, s.cki, s.ckr, sa, idR)
}

// fifth sends M5 for an M4 that was believed. When a NAT was found, or is
// claimed, it and all that follows go from port 4500 to port 4500.
func (s *session) fifth(c *claim, x fieldsMessage) {
	e := s.e
	s.derive(c)
	if s.dial != nil {
		s.dial.understood = true
		s.attempt = s.dial.attempt
	}
	c.nat = s.detectNAT(x.p.natd, x.d, encapOf(s.peer.entry, c.dialect))
	s.note(nil, x.p.skipped)
	hash := s.proofHash(c, Initiator, nil)
	delete(s.reading, x.hash)
	c.seen.remember(x.hash, s.seal(c, hash[:]), e.now)
	out := s.datagram(c.seen.answer)
	if c.nat.found() {
		out.Local = netip.AddrPortFrom(s.local.Addr(), s.e.cfg.Ports.NAT)
		out.Remote = netip.AddrPortFrom(s.remote.Addr(), s.e.cfg.Ports.NAT)
	}
	s.claims = append(s.claims, c)
	again := s.state == sentProof
	s.state = sentProof
	e.repeat(&s.resend, out, again, func() { s.fail(Timeout, "no answer to message 5") })
}

// seal encrypts M5 or M6 and moves the claim's chain on.
func (s *session) seal(c *claim, hash []byte) []byte {
	ps := []wire.Payload{{Type: wire.TypeHash, Body: hash}}
	body := gm.EncryptCBC(c.keys.CipherKey(), c.iv[:], padBlock(wire.AppendPayloads(nil, ps)))
	c.iv = gm.LastBlock(body)
	return s.header(wire.MainMode, 0, wire.FlagEncrypted).Append(nil, wire.TypeHash, body)
}

// proof reads M5 or M6. Each claim is tried: the HASH tells which one is real.
func (s *session) proof(d Datagram, h wire.Header) {
	hash := gm.SM3(d.Data)
	switch {
	case s.seen.hash == hash:
		if s.e.now.Sub(s.up) < keepAnswer {
			s.repeatAnswer(&s.seen, s.role == Initiator, d)
		}
		return
	case s.state == established, s.role == Initiator && s.state != sentProof, s.role == Responder && s.state != sentFields:
		s.drop(UnexpectedState, "proof out of turn")
		return
	case s.badProof >= maxBadProof:
		s.drop(TooManyFailures, "message not read")
		return
	}
	for _, c := range s.claims {
		if s.fresh(c, d, h) {
			s.establish(c, d, hash)
			return
		}
	}
	s.badProof++
	s.drop(BadHash, "the proof does not verify")
}

// fresh reports whether the message proves c.
func (s *session) fresh(c *claim, d Datagram, h wire.Header) bool {
	plain, err := gm.DecryptCBC(c.keys.CipherKey(), c.iv[:], d.Data[wire.HeaderLen:])
	if err != nil {
		return false
	}
	defer clear(plain)
	ps, _, err := wire.ParseBody(h.Next, plain, wire.Padding)
	if err != nil {
		return false
	}
	p, err := layoutProof.arrange(ps)
	if err != nil {
		return false
	}
	s.beside = cloned(p.notes)
	equal := func(want [32]byte) bool { return subtle.ConstantTimeCompare(want[:], p.hash) == 1 }
	if s.role == Responder {
		return equal(s.proofHash(c, Initiator, nil))
	}
	own, theirs := equal(s.proofHash(c, Responder, s.saI)), equal(s.proofHash(c, Responder, s.saR))
	s.hearProof(c, own, theirs)
	if entry := s.peer.entry.Dialect; theirs != own && theirs != (entry.HashrSA == policy.SAResponder) {
		if entry.Exact {
			return false
		}
		c.accent.HashrSA = policy.SAInitiator
		if theirs {
			c.accent.HashrSA = policy.SAResponder
		}
		s.compare(entry, c.accent)
	}
	return own || theirs
}

// establish makes a claim the peer: from here on it is believed.
func (s *session) establish(c *claim, d Datagram, hash [32]byte) {
	last := gm.LastBlock(d.Data[wire.HeaderLen:])
	s.proven, s.peer, s.dialect, s.accent = c, c.peer, c.dialect, c.accent
	s.keys, s.quickForm = gmKeying{c.keys}, s.dialect.QMHash
	s.name, s.mark = c.pair.Sign.Name, c.pair.Sign.Fingerprint+" "+c.pair.Enc.Fingerprint
	s.moveTo(d, c.nat)
	if s.role == Responder {
		c.iv = last
		sa := s.saI
		if s.dialect.HashrSA == policy.SAResponder {
			sa = s.saR
		}
		proof := s.proofHash(c, Responder, sa)
		answer := s.seal(c, proof[:])
		s.conclude(hash, answer, c.iv)
	} else {
		s.conclude(hash, nil, last)
	}
}

// moveTo takes the place over that the peer's proof came from.
func (s *session) moveTo(d Datagram, nat natState) {
	s.nat = nat
	if nat := s.e.cfg.Ports.NAT; d.Local.Port() == nat {
		if s.local.Port() != nat && !s.nat.found() {
			s.nat.theirs = true // NAT-D is not authentic, but a peer that moves here found a NAT
		}
		s.local, s.remote = d.Local, d.Remote
	}
}

// conclude is the end of phase 1, whichever method it had: the proof with that
// hash was believed, answer is the responder's M6, last its last block (that of
// the M6 that came, at the initiator).
func (s *session) conclude(hash [32]byte, answer []byte, last [16]byte) {
	e := s.e
	s.seen.remember(hash, answer, e.now)
	if answer != nil {
		e.send(s.datagram(answer))
	} else {
		s.dropSiblings()
	}
	s.lastBlock = last
	s.state, s.up, s.pieces = established, e.now, pieces{}
	s.openDone()
	e.quiet(&s.resend)
	s.phase.done()
	s.exchanges, s.used = map[uint32]*exchange{}, map[uint32]struct{}{}
	if s.nat.found() {
		e.tell(s.event(NATFound, "", s.nat.String()))
	}
	up := s.event(IKEUp, "", s.name)
	up.Took = e.now.Sub(s.created)
	e.tell(up)
	s.learn()
	s.peer.proven(s)
	s.heardBeside()
}

// heardBeside acts on what stood beside the HASH of the proof: some peers send
// their INITIAL-CONTACT there. The HASH does not cover it, but it cannot be put
// there without breaking the block in which the first payload begins, whose IV is
// never sent.
func (s *session) heardBeside() {
	notes := s.beside
	s.beside = nil
	for _, body := range notes {
		if n, err := wire.ParseNotification(body); err == nil && n.Type == wire.InitialContact {
			s.tellNotify(n, NotifyIn)
			s.initialContact()
			return
		}
	}
}

func cloned(list [][]byte) (out [][]byte) {
	for _, b := range list {
		out = append(out, slices.Clone(b))
	}
	return out
}

// dropSiblings ends the other sessions of the attempt that s belongs to.
func (s *session) dropSiblings() {
	d := s.dial
	s.dial = nil
	if d == nil {
		return
	}
	d.sessions = slices.DeleteFunc(d.sessions, func(o *session) bool { return o == s })
	d.close()
}

// finish ends a proven session and tells the peer.
func (s *session) finish(reason Reason, detail string) {
	if s.state == ended {
		return
	}
	if s.state == established {
		s.inform(wire.Payload{Type: wire.TypeDelete, Body: wire.Delete{DOI: doiIPsec, Protocol: wire.ProtoISAKMP,
			SPISize: 16, SPIs: [][]byte{s.cookies()}}.Append(nil)})
		s.e.tell(s.event(IKEDown, reason, detail))
	}
	s.end()
	s.peer.missing()
}

// missing starts over for tunnels that are to be up and are not.
func (p *peer) missing() {
	for _, t := range p.e.tunnels {
		if t.peer == p {
			t.ensure()
		}
	}
	if p.keeps() && len(p.live) == 0 && !p.e.ending && !p.alone.pending() {
		p.e.clock.set(&p.alone, p.e.now.Add(p.e.jitter(reunion)), p.reunite)
	}
}

// reunite makes a session for tunnels that stand without one: nothing could be
// renewed or deleted.
func (p *peer) reunite() {
	switch {
	case !p.keeps() || len(p.live) > 0:
	case p.retry.pending(): // an attempt failed: after the next, or in its place
		p.e.clock.set(&p.alone, p.retry.at.Add(time.Millisecond), p.reunite)
	default:
		p.connect()
	}
}

// receive finds whom a datagram is for.
func (e *Engine) receive(d Datagram) {
	h, err := wire.ParseHeader(d.Data)
	if err != nil {
		e.stray(d, h, Malformed, err.Error())
		return
	}
	if d.Door == Turned || d.Door == Unasked && e.door.Ask(e.now, d.Data, d.Remote) != Admitted {
		e.stray(d, h, RateLimited, "what one source, and all together, may ask for without a session is limited")
		return
	}
	s := e.sessions[pairKey{h.Initiator, h.Responder}]
	if !e.versionSuits(d, h, s) {
		return
	}
	if s != nil {
		s.receive(d, h)
		return
	}
	dial, half := e.dials[h.Initiator], e.halfOpen.byPair[pairKey{h.Initiator, h.Responder}]
	switch {
	case dial != nil && h.Next == typeFragment && dial.peer.entry.Fragmentation && d.Remote == dial.remote:
		e.piece(d, h, &dial.pieces)
	case half != nil && h.Exchange == wire.MainMode && h.MessageID == 0 && h.Flags == 0 && d.Remote == half.remote:
		e.promote(half, d, h)
	case h.Exchange == wire.MainMode && h.MessageID == 0 && h.Flags == 0 && h.Responder == (wire.Cookie{}):
		e.first(d, h)
	case h.Exchange == wire.MainMode && h.MessageID == 0 && h.Flags == 0 && dial != nil:
		dial.believe(d, h)
	case h.Exchange == wire.Informational && h.Flags&wire.FlagEncrypted == 0:
		e.clearNotice(d, h, dial)
	case h.Responder == (wire.Cookie{}) && h.MessageID == 0 && h.Flags == 0 && h.Exchange != wire.MainMode:
		e.refuse(d, h, unspoken(h.Exchange), BadExchange, fmt.Sprintf("a first message of exchange %v: there is main mode alone", h.Exchange))
	default:
		e.stray(d, h, UnknownCookies, fmt.Sprintf("exchange %v", h.Exchange))
		if h.Flags&wire.FlagEncrypted != 0 && h.Exchange != wire.MainMode {
			e.lostTrack(d.Local.Addr(), d.Remote.Addr())
		}
	}
}

// unspoken is what is said to an exchange that nobody here begins: one that exists
// (RFC 2408 3.1: base, authentication only, aggressive), or none.
func unspoken(x wire.ExchangeType) wire.NotifyType {
	switch x {
	case 1, 3, 4:
		return wire.UnsupportedExchangeType
	}
	return wire.InvalidExchangeType
}

// receive sorts a message of a known session.
func (s *session) receive(d Datagram, h wire.Header) {
	encrypted := h.Flags&wire.FlagEncrypted != 0
	if !s.mayComeFrom(d, encrypted) {
		s.drop(WrongSource, fmt.Sprintf("from %v", d.Remote))
		return
	}
	switch {
	case h.Next == typeFragment && s.piecewise() && !encrypted:
		s.piece(d, h)
	case h.Exchange == wire.Informational && !encrypted:
		s.e.clearNotice(d, h, s.dial)
	case h.Exchange == wire.MainMode && h.MessageID == 0 && !encrypted && h.Flags == 0:
		s.fieldsOrSA(d, h)
	case h.Exchange == wire.MainMode && h.MessageID == 0 && h.Flags == wire.FlagEncrypted:
		s.phase.proof(d, h)
	case h.MessageID == 0 || !encrypted || h.Flags&^(wire.FlagEncrypted|wire.FlagCommit) != 0:
		s.drop(BadFlags, fmt.Sprintf("exchange %v, message ID %08x, flags %02x", h.Exchange, h.MessageID, h.Flags))
	case h.Exchange == wire.Informational:
		s.protectedNotice(d, h)
	case h.Exchange == wire.QuickMode:
		s.quickMessage(d, h)
	default:
		s.drop(BadExchange, h.Exchange.String())
	}
}

// fieldsOrSA sorts clear messages of main mode by our role and progress.
func (s *session) fieldsOrSA(d Datagram, h wire.Header) {
	switch {
	case s.role == Initiator && h.Next == wire.TypeSA:
		s.e.tell(s.event(Repeated, Duplicate, "message 2 again, or another: not answered"))
	case s.state == established:
		s.e.tell(s.event(Repeated, Duplicate, "not answered: the session is established"))
	case s.role == Initiator && s.state == sentSA:
		s.drop(UnexpectedState, "message 4 before message 3 was sent")
	default:
		s.phase.fields(d)
	}
}

// mayComeFrom checks the source address. Behind a NAT, M5 is the first message
// from port 4500, and its source is what counts once it is proven.
func (s *session) mayComeFrom(d Datagram, encrypted bool) bool {
	if d.Remote == s.remote {
		return true
	}
	return encrypted && s.knows.natt && d.Local.Port() == s.e.cfg.Ports.NAT &&
		(s.state != established || s.nat.theirs)
}

// versionSuits refuses header versions that are not spoken here.
func (e *Engine) versionSuits(d Datagram, h wire.Header, s *session) bool {
	if s != nil {
		if h.Version != s.version {
			s.drop(BadVersion, fmt.Sprintf("%02x", h.Version))
		}
		return h.Version == s.version
	}
	switch {
	case h.Version>>4 != 1:
		e.refuse(d, h, wire.InvalidMajorVersion, BadVersion, fmt.Sprintf("%02x", h.Version))
		return false
	case e.speaks(d, h.Version):
		return true
	}
	e.refuse(d, h, wire.InvalidMinorVersion, BadVersion, fmt.Sprintf("%02x is not spoken with this peer", h.Version))
	return false
}

// speaks reports whether some peer there has that header version. That there is no
// peer at all is told later.
func (e *Engine) speaks(d Datagram, version uint8) bool {
	candidates, _ := e.candidates(d.Local.Addr(), d.Remote.Addr())
	return len(candidates) == 0 && version == wire.Version11 || len(speaking(candidates, version)) > 0
}
