package ike

import (
	"crypto/subtle"
	"fmt"
	"net/netip"
	"slices"

	"yumen/ike/gm"
	"yumen/ike/psk"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/secret"
)

// keyShare is phase 1 of one session with a pre-shared key. The exponentiations
// happen outside Step, like operations with a private key.
type keyShare struct {
	s        *session
	x        psk.Exchange
	exponent secret.Secret
	keys     psk.Keys
	iv       [16]byte // of the next message
	ready    bool     // the keys are there
	busy     bool     // an exponentiation is under way
	in       answered // the M3 or M4 that was taken, and our answer
	nat      natState
}

func (k *keyShare) suite() policy.IKESuite { return k.s.peerEntry().PreShared.Suite }

// peerEntry is the entry of the peer that a session is with, proven or not.
func (s *session) peerEntry() policy.Peer {
	if s.peer == nil {
		return s.first.peer.entry
	}
	return s.peer.entry
}

func (k *keyShare) natd(at netip.AddrPort, _ policy.NATDHash) []byte {
	sum := psk.NATD(k.suite(), k.s.cki, k.s.ckr, at)
	return sum[:]
}

func (k *keyShare) isNATD(body []byte, at netip.AddrPort) bool {
	return subtle.ConstantTimeCompare(body, k.natd(at, policy.NATDSM3)) == 1
}

func (k *keyShare) ours() (public, nonce *[]byte) {
	if k.s.role == Initiator {
		return &k.x.PublicI, &k.x.NonceI
	}
	return &k.x.PublicR, &k.x.NonceR
}

func (k *keyShare) theirs() (public, nonce *[]byte) {
	if k.s.role == Initiator {
		return &k.x.PublicR, &k.x.NonceR
	}
	return &k.x.PublicI, &k.x.NonceI
}

// power asks for base to the power of our exponent; nil is the generator.
func (k *keyShare) power(base []byte, done func(secret.Secret)) {
	s := k.s
	o := PrivateOp{Power: &Power{Base: base, Exponent: secret.New(k.exponent.Bytes())}}
	s.e.private(s, o, func(in PrivateDone) {
		if in.Err != nil {
			s.e.tell(s.event(KeyOpFailed, KeyOperation, in.Err.Error()))
			s.fail(KeyOperation, in.Err.Error())
			return
		}
		done(in.Opened)
	})
}

// share draws our exponent and nonce and goes on with our public value.
func (k *keyShare) share(done func()) {
	e := k.s.e
	public, nonce := k.ours()
	k.exponent, *nonce = secret.Take(e.random(psk.ExponentLen)), e.random(nonceOfOurs)
	k.power(nil, func(v secret.Secret) {
		*public = slices.Clone(v.Bytes())
		done()
	})
}

// message is our M3 or M4.
func (k *keyShare) message() []byte {
	public, nonce := k.ours()
	ps := append([]wire.Payload{{Type: wire.TypeKE, Body: *public}, {Type: wire.TypeNonce, Body: *nonce}},
		k.s.natPayloads(k.s.peerEntry().Encap, policy.NATDSM3)...)
	return wire.Message{Header: k.s.header(wire.MainMode, 0, 0), Payloads: ps}.Append(nil)
}

func (k *keyShare) third() {
	s := k.s
	k.share(func() {
		s.state = sentFields
		s.e.repeat(&s.resend, s.datagram(k.message()), false, func() { k.unanswered("message 3") })
	})
}

// unanswered ends an attempt; a notification that nobody vouches for says more
// than silence.
func (k *keyShare) unanswered(what string) {
	if d := k.s.dial; d != nil && d.notice != "" {
		k.s.fail(PeerRefused, d.notice)
		return
	}
	k.s.fail(Timeout, "no answer to "+what)
}

// fields takes M3 (responder) or M4 (initiator). The first one that can be read is
// the one: whoever can forge it on the path can cut the path as well.
func (k *keyShare) fields(d Datagram) {
	s := k.s
	hash := gm.SM3(d.Data)
	switch {
	case k.in.hash == hash && k.in.answer == nil:
		s.e.tell(s.event(Repeated, Duplicate, "not answered: still at work on it"))
		return
	case k.in.hash == hash:
		s.repeatAnswer(&k.in, s.role == Initiator, d)
		return
	case k.busy || k.ready || s.badFields >= maxBadFields:
		s.drop(UnexpectedState, "another message 3 or 4")
		return
	}
	p, err := k.readShare(d)
	if err != nil {
		s.badFields++
		s.drop(Malformed, err.Error())
		return
	}
	entry := s.peerEntry()
	from := sender{"key " + entry.Name, d.Remote.Addr()}
	if s.role == Responder && !(s.e.door.third(s.e.now, d.Remote.Addr()) && s.e.gate.fields(from, s.e.now)) {
		s.drop(RateLimited, "messages 3 of one source, and of all that are unknown, are limited")
		return
	}
	k.busy = true
	k.in.remember(hash, nil, s.e.now)
	public, nonce := k.theirs()
	*public, *nonce = slices.Clone(p.ke), slices.Clone(p.nonce)
	k.nat = s.detectNAT(p.natd, d, entry.Encap)
	s.note(nil, p.skipped)
	if s.role == Initiator {
		k.agree(func() { k.fifth() })
		return
	}
	k.share(func() { k.agree(func() { k.fourth(d) }) })
}

func (k *keyShare) readShare(d Datagram) (parts, error) {
	m, err := wire.Parse(d.Data)
	if err != nil {
		return parts{}, err
	}
	p, err := layoutKeyShare.arrange(m.Payloads)
	if err != nil {
		return parts{}, err
	}
	if len(p.nonce) < nonceMin || len(p.nonce) > nonceMax {
		return parts{}, fmt.Errorf("a nonce of %d bytes", len(p.nonce))
	}
	return p, psk.CheckPublic(p.ke)
}

// agree computes the shared secret and the keys.
func (k *keyShare) agree(done func()) {
	public, _ := k.theirs()
	k.power(*public, func(shared secret.Secret) {
		s := k.s
		k.x.Suite, k.x.Shared, k.x.CookieI, k.x.CookieR = k.suite(), shared, s.cki, s.ckr
		k.x.Key = k.peer().key
		k.keys, k.iv, k.ready = k.x.Keys(), k.x.IV(), true
		shared.Wipe()
		k.exponent.Wipe()
		done()
	})
}

func (k *keyShare) peer() *peer {
	if k.s.peer == nil {
		return k.s.first.peer
	}
	return k.s.peer
}

func (k *keyShare) fourth(d Datagram) {
	s := k.s
	s.state = sentFields
	k.in.answer = k.message()
	k.in.at = s.e.now
	s.e.send(Datagram{Local: d.Local, Remote: d.Remote, Data: k.in.answer})
}

// fifth sends M5, from port 4500 to port 4500 where there is a NAT.
func (k *keyShare) fifth() {
	s := k.s
	id := k.ownID().Append(nil)
	k.in.answer = k.seal(id, k.keys.HashI(k.x, s.saI, id))
	k.in.at = s.e.now
	out := s.datagram(k.in.answer)
	if k.nat.found() {
		out.Local = netip.AddrPortFrom(s.local.Addr(), s.e.cfg.Ports.NAT)
		out.Remote = netip.AddrPortFrom(s.remote.Addr(), s.e.cfg.Ports.NAT)
	}
	s.state = sentProof
	s.e.repeat(&s.resend, out, false, func() { k.unanswered("message 5: do both ends have the same key?") })
}

func (k *keyShare) ownID() wire.ID {
	text := k.s.peerEntry().PreShared.LocalID
	if text == "" {
		text = k.s.local.Addr().String()
	}
	return plainID(text)
}

// seal encrypts M5 or M6.
func (k *keyShare) seal(id []byte, hash [32]byte) []byte {
	ps := []wire.Payload{{Type: wire.TypeID, Body: id}, {Type: wire.TypeHash, Body: hash[:]}}
	body := k.keys.Encrypt(k.iv, padBlock(wire.AppendPayloads(nil, ps)))
	k.iv = gm.LastBlock(body)
	return k.s.header(wire.MainMode, 0, wire.FlagEncrypted).Append(nil, wire.TypeID, body)
}

// proof reads M5 or M6.
func (k *keyShare) proof(d Datagram, h wire.Header) {
	s := k.s
	hash := gm.SM3(d.Data)
	switch {
	case s.seen.hash == hash:
		if s.e.now.Sub(s.up) < keepAnswer {
			s.repeatAnswer(&s.seen, s.role == Initiator, d)
		}
		return
	case s.state == established, !k.ready, s.role == Initiator && s.state != sentProof, s.role == Responder && s.state != sentFields:
		s.drop(UnexpectedState, "proof out of turn")
		return
	case s.badProof >= maxBadProof:
		s.drop(TooManyFailures, "message not read")
		return
	}
	name, reason, err := k.proven(d, h)
	if err != nil {
		s.badProof++
		s.drop(reason, err.Error())
		return
	}
	s.name, s.mark = name, "id "+name
	s.peer = k.peer()
	s.dialect, s.keys, s.quickForm = s.peer.entry.Dialect, k.keys, policy.HashRFC2409
	s.moveTo(d, k.nat)
	last := gm.LastBlock(d.Data[wire.HeaderLen:])
	if s.role == Initiator {
		s.conclude(hash, nil, last)
		return
	}
	k.iv = last
	id := k.ownID().Append(nil)
	answer := k.seal(id, k.keys.HashR(k.x, s.saI, id))
	s.conclude(hash, answer, k.iv)
}

// proven says whom M5 or M6 proves.
func (k *keyShare) proven(d Datagram, h wire.Header) (name string, reason Reason, err error) {
	s := k.s
	const differ = "the proof does not verify: do both ends have the same key?"
	plain, err := k.keys.Decrypt(k.iv, d.Data[wire.HeaderLen:])
	if err != nil {
		return "", BadHash, err
	}
	defer clear(plain)
	ps, _, err := wire.ParseBody(h.Next, plain, k.keys.Padding())
	if err != nil {
		return "", BadHash, fmt.Errorf("%s (%w)", differ, err)
	}
	p, err := layoutPlainProof.arrange(ps)
	if err != nil {
		return "", BadHash, fmt.Errorf("%s (%w)", differ, err)
	}
	want := k.keys.HashI(k.x, s.saI, p.ids[0])
	if s.role == Initiator {
		want = k.keys.HashR(k.x, s.saI, p.ids[0])
	}
	if subtle.ConstantTimeCompare(want[:], p.hash) != 1 {
		return "", BadHash, fmt.Errorf("%s", differ)
	}
	s.beside = cloned(p.notes)
	id, err := wire.ParseID(slices.Clone(p.ids[0])) // plain is cleared
	if err == nil {
		err = checkPlainID(id, s.peerEntry(), d.Remote.Addr())
	}
	return plainName(id), BadID, err
}

// verdict reads what a peer says about our M5 instead of sending M6.
func (k *keyShare) verdict(d Datagram, h wire.Header) {
	s := k.s
	if s.role != Initiator || s.state != sentProof || s.badProof >= maxBadProof {
		s.drop(UnexpectedState, "informational before the session is proven")
		return
	}
	ps, err := s.authentic(k.keys, k.keys.PhaseTwoIV(k.iv, h.MessageID), d, h)
	if err != nil {
		s.badProof++
		s.drop(BadHash, "informational does not verify")
		return
	}
	detail := "the peer refused our proof"
	for _, p := range ps {
		if n, err := wire.ParseNotification(p.Body); err == nil && p.Type == wire.TypeNotify {
			s.tellNotify(n, NotifyIn)
			detail = fmt.Sprintf("the peer refused our proof: %v", n.Type)
		}
	}
	s.fail(PeerRefused, detail)
}

func (k *keyShare) ownName() string { return plainName(k.ownID()) }

// done leaves the keys alone: the session has them now.
func (k *keyShare) done() { k.exponent.Wipe() }

func (k *keyShare) wipe() {
	k.exponent.Wipe()
	k.x.Shared.Wipe()
	k.keys.Wipe()
}
