package ike

import (
	"fmt"
	"net/netip"
	"slices"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

// readings is how many signatures are verified for a message 3 or 4 that does
// not verify, whatever it holds: see read.
const readings = 8

// fieldsMessage is an M3 or M4 whose envelope is being opened.
type fieldsMessage struct {
	d    Datagram
	p    parts
	hash [32]byte
	peer *peer
	pair *trust.Pair
	form policy.SKEncoding // of the envelope
}

// fields takes M3 (responder) or M4 (initiator) up to the envelope. What is
// refused here depends only on what stands in clear.
func (s *session) fields(d Datagram) {
	e := s.e
	x := fieldsMessage{d: d, hash: gm.SM3(d.Data)}
	for _, c := range s.claims {
		if c.seen.hash == x.hash {
			s.repeatAnswer(&c.seen, s.role == Initiator, d)
			return
		}
	}
	switch {
	case s.badFields >= maxBadFields, s.badCerts >= maxBadCerts:
		s.drop(TooManyFailures, "message not read")
		return
	case len(s.claims)+s.pending >= maxClaims:
		s.drop(UnexpectedState, "too many claims in one session")
		return
	case s.reading[x.hash]:
		s.e.tell(s.event(Repeated, Duplicate, "not answered: still at work on it"))
		return
	}
	m, err := wire.Parse(d.Data)
	if err != nil {
		s.drop(Malformed, err.Error())
		return
	}
	want := layoutM3
	if s.role == Initiator {
		want = layoutM4
	}
	if x.p, err = want.arrangeMain(m.Payloads, s.role == Responder && e.knowsCerts(d)); err != nil {
		s.drop(PayloadOrder, err.Error())
		return
	}
	if x.peer, x.pair = s.peer, s.pair; s.role == Responder {
		if !e.door.third(e.now, d.Remote.Addr()) {
			s.drop(RateLimited, "messages 3 of one source, and of all that are unknown, are limited")
			return
		}
		var reason Reason
		if x.peer, x.pair, reason, err = e.identify(d, x.p.certs); err != nil {
			s.badCerts++
			e.refuse(d, s.header(wire.MainMode, 0, 0), wire.InvalidCertificate, reason, err.Error())
			return
		}
		if reason, err := s.admits(x.peer.entry); err != nil {
			s.badCerts++
			s.drop(reason, err.Error())
			return
		}
		from := sender{x.pair.Sign.Fingerprint, d.Remote.Addr()}
		if !e.gate.fields(from, e.now) {
			s.drop(RateLimited, "too many messages 3 under this certificate")
			return
		}
	}
	if e.envelopes.replayed(x.p.sk, s.key()) {
		s.drop(ReplayedEnvelope, "an envelope seen before under other cookies")
		return
	}
	if s.reading == nil {
		s.reading = map[[32]byte]bool{}
	}
	s.reading[x.hash] = true
	e.private(s, PrivateOp{Envelope: x.p.sk}, func(in PrivateDone) {
		s.opened(x, in)
	})
}

// admits judges M1 again by the entry of the peer that the certificates name:
// several entries may allow one address, and another one took the offer.
func (s *session) admits(entry policy.Peer) (Reason, error) {
	switch {
	case !(envelope{}).speaks(s.version, entry):
		return BadVersion, fmt.Errorf("%02x is not spoken with peer %s", s.version, entry.Name)
	case entry.Dialect.Initiate == policy.InitiateUs:
		return WrongInitiator, fmt.Errorf("peer %s only answers (initiate: us)", entry.Name)
	}
	return NoProposal, s.offered.acceptable(entry.Dialect)
}

// identify finds the peer entry that a pair of certificates belongs to, among
// those that may speak from this address.
func (e *Engine) identify(d Datagram, c certificates) (*peer, *trust.Pair, Reason, error) {
	candidates, _ := e.candidates(d.Local.Addr(), d.Remote.Addr())
	reason, first := UnknownPeer, fmt.Errorf("no peer entry allows this address")
	for i, p := range candidates {
		whole, err := p.withKnown(c)
		if err != nil {
			if i == 0 {
				reason, first = PayloadOrder, fmt.Errorf("peer %s: %w", p.entry.Name, err)
			}
			continue
		}
		pair, err := e.verify(p, whole)
		if err == nil {
			return p, pair, "", nil
		}
		if r, _ := refusal(err); i == 0 {
			reason, first = r, fmt.Errorf("peer %s: %w", p.entry.Name, err)
		}
	}
	return nil, nil, reason, first
}

// knowsCerts reports whether a peer that may speak from there needs not send its
// certificates.
func (e *Engine) knowsCerts(d Datagram) bool {
	candidates, _ := e.candidates(d.Local.Addr(), d.Remote.Addr())
	return slices.ContainsFunc(candidates, func(p *peer) bool { return e.cfg.Files[p.entry.Name].Sign != nil })
}

// opened goes on once the envelope was opened or was not. From here on every
// failure has one outcome: nothing is sent, nothing changes, and the work is the
// same, because nonce and ID are under CBC without a MAC and an observable
// padding check would open recorded sessions.
func (s *session) opened(x fieldsMessage, in PrivateDone) {
	e := s.e
	if s.state == established { // while the key was at work
		in.Opened.Wipe()
		return
	}
	sk, reason := in.Opened, Reason("")
	if in.Err != nil || sk.Len() != 16 {
		sk.Wipe()
		sk, reason = secret.Take(e.random(16)), BadEnvelope
	}
	x.form = in.Form
	theirs, accent, why := e.read(s, x, sk)
	if reason == "" {
		reason = why
	}
	s.hearFields(x, sk, reason)
	if reason != "" {
		theirs.wipe()
		sk.Wipe()
		delete(s.reading, x.hash)
		s.badFields++
		detail := "message had no effect"
		if in.Err != nil {
			detail = in.Err.Error()
		}
		s.drop(reason, detail)
		return
	}
	theirs.sk = sk
	c := &claim{peer: x.peer, pair: x.pair, theirs: theirs, accent: accent, dialect: s.dialect}
	s.compare(x.peer.entry.Dialect, accent)
	if s.role == Initiator {
		c.ours = s.own
		s.fifth(c, x)
		return
	}
	c.dialect = inKind(x.peer.entry, accent)
	c.ours = e.newHalf(s.ownID(c.dialect), c.dialect)
	s.sign(c.ours, c.dialect, func(sig []byte) { s.fourth(c, x, sig) })
}

// read finds the reading of nonce and ID that the signature confirms. A reading
// that verifies ends the search: that tells an observer only what the message
// that follows tells him. A message that does not verify always costs the same
// number of verifications.
func (e *Engine) read(s *session, x fieldsMessage, sk secret.Secret) (half, policy.Dialect, Reason) {
	dialect := x.peer.entry.Dialect
	found := gm.OpenFields(sk.Bytes(), x.p.nonce, x.p.ids[0], dialect.ZeroPad)
	reason := BadSignature
	if len(found) == 0 {
		reason = BadPadding
	}
	enc := wire.Cert{Encoding: wire.CertEnc, Data: x.pair.Enc.DER}.Append(nil)
	for i := range readings {
		f := gm.Fields{Nonce: make([]byte, 16), ID: []byte{9, 0, 0, 0}} // a reading that cannot verify
		noByte := i%2 == 1
		if i/2 < len(found) {
			f = found[i/2]
		}
		msg := gm.SignedMessage(sk.Bytes(), f.Nonce, f.ID, enc, noByte)
		e.verified++
		digest, err := gm.SignatureDigest(x.pair.Sign.Key, dialect.SM2ID, msg)
		clear(msg)
		if err != nil || !gm.VerifyDigest(x.pair.Sign.Key, digest[:], x.p.sig) || i/2 >= len(found) {
			continue
		}
		if err := x.checkID(f.ID); err != nil {
			reason = BadID
			continue
		}
		accent := x.accentOf(f, noByte, s.offered.heard(dialect))
		if dialect.Exact && accent.Judged(dialect) != dialect {
			reason = Deviates
			continue
		}
		return half{nonce: secret.New(f.Nonce), id: f.ID}, accent, ""
	}
	return half{}, dialect, reason
}

// checkID compares the ID with the verified certificates.
func (x fieldsMessage) checkID(body []byte) error {
	id, err := wire.ParseID(body)
	if err != nil {
		return err
	}
	if !(id.Protocol == 0 && id.Port == 0 || id.Protocol == 17 && id.Port == portIKE) {
		return fmt.Errorf("protocol %d, port %d in a phase-1 ID", id.Protocol, id.Port)
	}
	bound := x.peer.entry.Remote.Addr
	if x.peer.entry.Remote.FQDN != "" {
		bound = netip.Addr{}
	}
	if name := x.peer.entry.Remote.FQDN; name != "" && id.Type == wire.IDFQDN && string(id.Data) == name {
		return nil // the name that the peer entry binds to these certificates
	}
	if isConfigured(id, x.peer.entry) {
		return nil
	}
	return x.pair.MatchID(uint8(id.Type), id.Data, bound)
}

// derive computes the keys of a claim.
func (s *session) derive(c *claim) {
	i, r := &c.ours, &c.theirs
	if s.role == Responder {
		i, r = r, i
	}
	c.keys = gm.DeriveKeys(i.nonce.Bytes(), r.nonce.Bytes(), s.cki, s.ckr)
	c.iv = gm.PhaseOneIV(i.sk.Bytes(), r.sk.Bytes())
}

// fourth sends M4. The session still counts for nothing.
func (s *session) fourth(c *claim, x fieldsMessage, sig []byte) {
	if s.state == established { // by another claim, while the key was at work
		c.wipe()
		return
	}
	delete(s.reading, x.hash)
	ps, err := s.sealed(c)
	if err != nil {
		s.drop(KeyOperation, err.Error())
		c.wipe()
		return
	}
	s.derive(c)
	encap := encapOf(c.peer.entry, c.dialect)
	c.nat = s.detectNAT(x.p.natd, x.d, encap)
	ps = append(ps, wire.Payload{Type: wire.TypeSig, Body: sig})
	ps = append(ps, s.natPayloads(encap, c.dialect.NATDHash)...)
	s.note(nil, x.p.skipped)
	answer := wire.Message{Header: s.header(wire.MainMode, 0, 0), Payloads: ps}.Append(nil)
	s.claims = append(s.claims, c)
	s.state = sentFields
	c.seen.remember(x.hash, answer, s.e.now)
	s.e.send(Datagram{Local: x.d.Local, Remote: x.d.Remote, Data: answer})
}
