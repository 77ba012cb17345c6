package ike

import (
	"fmt"
	"slices"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/secret"
)

// Main mode with the digital envelope (GB/T 36968, 5.1):
//
//	initiator                                   responder
//	M1  SA, VID                           -->
//	                                      <--   M2  SA, CERT sign, CERT enc, VID
//	M3  SK, {NONCE}, {ID}, CERT, CERT,
//	    SIG, NAT-D, NAT-D                 -->
//	                                      <--   M4  SK, {NONCE}, {ID}, SIG, NAT-D, NAT-D
//	M5  [HASH_I]                          -->
//	                                      <--   M6  [HASH_R]
//
// {x} is under Sk, [x] under SKEYID_e. Nothing before M5 (responder) or M6
// (initiator) proves that the peer is fresh.

// first answers M1 with M2.
func (e *Engine) first(d Datagram, h wire.Header) {
	key := firstKeyOf(d)
	if o := e.halfOpen.byFirst[key]; o != nil {
		e.repeated(o, d)
		return
	}
	candidates, known := e.candidates(d.Local.Addr(), d.Remote.Addr())
	if len(candidates) == 0 || e.ending {
		e.stray(d, h, UnknownPeer, "no peer entry allows this address")
		return
	}
	if candidates = mayBegin(candidates); len(candidates) == 0 {
		e.stray(d, h, WrongInitiator, "this peer only answers (initiate: us)")
		return
	}
	if candidates = speaking(candidates, h.Version); len(candidates) == 0 {
		e.refuse(d, h, wire.InvalidMinorVersion, BadVersion, fmt.Sprintf("%02x from a peer that speaks another", h.Version))
		return
	}
	if e.dials[h.Initiator] != nil {
		e.stray(d, h, UnexpectedState, "our own message came back")
		return
	}
	m, err := wire.Parse(d.Data)
	if err != nil {
		e.stray(d, h, Malformed, err.Error())
		return
	}
	p, err := layoutM1.arrange(m.Payloads)
	if err != nil {
		e.stray(d, h, PayloadOrder, err.Error())
		return
	}
	if doi, ok := wire.DOIOf(p.sa); ok && doi != doiIPsec { // what follows it means something else
		e.refuse(d, h, wire.DOINotSupported, NoProposal, fmt.Sprintf("DOI %d: we take %d", doi, doiIPsec))
		return
	}
	sa, err := wire.ParseSA(p.sa)
	if err != nil {
		e.stray(d, h, Malformed, err.Error())
		return
	}
	taker, err := taking(candidates, sa)
	if err != nil {
		e.refuse(d, h, wire.NoProposalChosen, NoProposal, err.Error())
		return
	}
	o := &halfOpen{key: pairKey{h.Initiator, e.newCookie()}, local: d.Local, remote: d.Remote, created: e.now,
		first: key, saI: slices.Clone(p.sa), peer: taker, version: h.Version,
		knows: readVendors(p.vendors), known: known}
	e.admit(o)
	if e.gate.claim(e.now) {
		e.tell(o.event(IKEStarted, "", ""))
	}
	e.send(Datagram{Local: d.Local, Remote: d.Remote, Data: o.second(e)})
}

// mayBegin leaves the peers that main mode may come from.
func mayBegin(peers []*peer) []*peer {
	return slices.DeleteFunc(peers, func(p *peer) bool { return p.entry.Dialect.Initiate == policy.InitiateUs })
}

// speaking leaves the peers that speak that header version.
func speaking(peers []*peer, version uint8) []*peer {
	return slices.DeleteFunc(peers, func(p *peer) bool { return !p.how.speaks(version, p.entry) })
}

// taking is the first peer whose entry takes an offer. Who it really is its
// certificates say, and the offer is then judged again.
func taking(peers []*peer, sa wire.SA) (*peer, error) {
	var first error
	for _, p := range peers {
		_, err := p.how.choose(sa, p.entry)
		if err == nil {
			return p, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func certPayload(encoding wire.CertEncoding, der []byte) wire.Payload {
	return wire.Payload{Type: wire.TypeCert, Body: wire.Cert{Encoding: encoding, Data: der}.Append(nil)}
}

// believe reads M2 and, when its certificates are the peer's, prepares M3.
func (d *dial) believe(in Datagram, h wire.Header) {
	e := d.peer.e
	drop := func(reason Reason, err error) {
		d.lastReason, d.lastDetail = reason, err.Error()
		v := d.event(Dropped, reason, err.Error())
		v.CookieR = h.Responder
		e.tell(v)
	}
	if in.Remote != d.remote || len(d.sessions) >= maxClaims {
		drop(WrongSource, fmt.Errorf("from %v, or too many answers", in.Remote))
		return
	}
	m, err := wire.Parse(in.Data)
	if err != nil {
		drop(Malformed, err)
		return
	}
	p, err := d.peer.how.arrange(d.peer, m.Payloads)
	if err != nil {
		drop(PayloadOrder, err)
		return
	}
	sa, err := wire.ParseSA(p.sa)
	if err != nil {
		drop(Malformed, err)
		return
	}
	x, err := d.peer.how.check(d, sa)
	if err != nil {
		drop(AnswerMismatch, err)
		return
	}
	pair, reason, err := d.peer.how.trust(d.peer, p.certs)
	if err != nil {
		drop(reason, err)
		return
	}
	e.quiet(&d.resend)
	d.answered = true
	s := e.newSession(Initiator, pairKey{h.Initiator, h.Responder}, in)
	s.version, s.dialect, s.dial, s.peer, s.pair = h.Version, d.speaksTo(pair), d, d.peer, pair
	s.begun = d.begun
	s.saI, s.saR = d.saI, slices.Clone(p.sa)
	s.knows = readVendors(p.vendors)
	s.lifetime = seconds(x.seconds)
	s.phase = d.peer.how.begin(s)
	d.sessions = append(d.sessions, s)
	s.offered = x.offered
	s.compare(d.peer.entry.Dialect, x.heard)
	s.note(x.deviations, p.skipped)
	e.clock.set(&s.life, e.now.Add(halfOpenLife+firstResend<<maxSends), func() { s.fail(Timeout, "not proven in time") })
	s.phase.third()
}

// newHalf draws what this side brings into an exchange.
func (e *Engine) newHalf(id []byte, d policy.Dialect) half {
	return half{sk: secret.Take(e.random(16)), nonce: secret.Take(e.random(d.NonceLength())), id: id}
}

// sign asks for the signature over our half and goes on with its wire form.
func (s *session) sign(h half, dialect policy.Dialect, done func(sig []byte)) {
	own := s.e.cfg.Own
	enc := wire.Cert{Encoding: wire.CertEnc, Data: own.Enc.DER}.Append(nil)
	msg := gm.SignedMessage(h.sk.Bytes(), h.nonce.Bytes(), h.id, enc, dialect.SigNoByte)
	defer clear(msg)
	digest, err := gm.SignatureDigest(own.Sign.Key, dialect.SM2ID, msg)
	if err != nil {
		s.fail(KeyOperation, err.Error())
		return
	}
	s.e.private(s, PrivateOp{Digest: digest[:]}, func(in PrivateDone) {
		sig, err := in.Signed, in.Err
		if err == nil && dialect.SigRaw {
			sig, err = gm.RawSignature(sig)
		}
		if err != nil {
			s.e.tell(s.event(KeyOpFailed, KeyOperation, err.Error()))
			s.fail(KeyOperation, err.Error())
			return
		}
		done(sig)
	})
}

// sealed returns SK, NONCE and ID of our half, to the holder of pub.
func (s *session) sealed(c *claim) ([]wire.Payload, error) {
	h := c.ours
	sk, err := gm.SealEnvelope(s.e.cfg.Rand, c.pair.Enc.Key, h.sk.Bytes(), c.dialect.SKEncoding)
	if err != nil {
		return nil, err
	}
	nonce, id := gm.SealFields(h.sk.Bytes(), h.nonce.Bytes(), h.id, c.dialect)
	return []wire.Payload{{Type: wire.TypeSK, Body: sk}, {Type: wire.TypeNonce, Body: nonce},
		{Type: wire.TypeID, Body: id}}, nil
}

// third sends M3.
func (s *session) third(sig []byte) {
	e := s.e
	ps, err := s.sealed(&claim{pair: s.pair, ours: s.own, dialect: s.dialect})
	if err != nil {
		s.fail(KeyOperation, err.Error())
		return
	}
	if s.dialect.SendCerts != policy.CertsNone {
		ps = append(ps, e.cfg.ownCerts(s.peer.entry, s.dialect)...)
	}
	ps = append(ps, wire.Payload{Type: wire.TypeSig, Body: sig})
	ps = append(ps, s.natPayloads(encapOf(s.peer.entry, s.dialect), s.dialect.NATDHash)...)
	m := wire.Message{Header: s.header(wire.MainMode, 0, 0), Payloads: ps}
	s.state = sentFields
	if s.dial != nil {
		s.peer.search.show(&s.dial.attempt, showsInM3)
	}
	third := m.Append(nil)
	e.repeat(&s.resend, s.datagram(third), false, func() {
		if s.dial != nil && s.dial.notice != "" {
			s.fail(PeerRefused, s.dial.notice)
			return
		}
		s.fail(silenceAfter("message 3", len(third)))
	})
}

// fail ends a session that was never proven.
func (s *session) fail(reason Reason, detail string) {
	if s.state == ended || s.state == established {
		return
	}
	d := s.dial
	if d == nil {
		s.e.tell(s.event(IKEFailed, reason, detail))
	} else {
		s.drop(reason, detail)
	}
	s.end()
	if d != nil {
		d.lost(s, reason, detail)
	}
}

// note reports deviations and payloads that were skipped.
func (s *session) note(deviations []string, skipped []wire.PayloadType) {
	for _, d := range deviations {
		s.deviate(d)
	}
	for _, t := range skipped {
		s.deviate(fmt.Sprintf("payload %v skipped", t))
	}
}

func (e *Engine) newSession(role Role, key pairKey, d Datagram) *session {
	s := &session{e: e, role: role, cki: key.i, ckr: key.r, local: d.Local, remote: d.Remote, created: e.now, begun: e.now}
	e.sessions[key] = s
	e.tellSession(key)
	return s
}
