package ike

import (
	"bytes"
	"net/netip"
	"slices"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

// Hearing asks an engine to say what each message shows of how its sender speaks,
// for a probe. It lets no check go: what is refused is refused, and told besides.
type Hearing struct {
	// UserIDs are tried, beside that of the entry, for a signature that does not
	// verify (sm2_id).
	UserIDs []string
}

// HeardIn is the message in which something was heard.
type HeardIn uint8

const (
	InFields   HeardIn = iota // M3 or M4, behind its envelope
	InProof                   // M6
	InQuick                   // QM1 or QM2
	InLiveness                // dead peer detection (RFC 3706)
)

// Heard is what one message showed. Before M5 or M6 it is signed, but may be old.
type Heard struct {
	In      HeardIn
	Peer    string // name of the entry
	CookieI wire.Cookie
	Remote  netip.AddrPort
	Refused Reason         // why the message counts for nothing here; empty: it counts
	Known   bool           // the signature or the HASH verified: the rest is as meant
	Accent  policy.Dialect // the entry's, with what the message shows
	ID      wire.ID        // InFields: what the sender calls itself
	Pair    *trust.Pair    // InFields: its certificates
	OneSA   bool           // InProof: both SA are the same bytes, so that hashr_sa does not show
	NATD    bool           // InFields: NAT-D stood in it, which shows natd_hash
	SA      wire.SA        // InQuick: offered or answered
	Asks    bool           // InLiveness: R-U-THERE, which shows dpd_spi too
}

// hear tells h when somebody listens.
func (s *session) hear(p *peer, h Heard) {
	if s.e.cfg.Hear == nil {
		return
	}
	h.Peer, h.CookieI, h.Remote = p.entry.Name, s.cki, s.remote
	s.e.out.Heard = append(s.e.out.Heard, h)
}

// hearFields tells what an M3 or M4 with a good envelope shows, also when it was
// refused: read with every padding and under every user ID that may be meant.
func (s *session) hearFields(x fieldsMessage, sk secret.Secret, why Reason) {
	if s.e.cfg.Hear == nil {
		return
	}
	entry := x.peer.entry.Dialect
	h := Heard{In: InFields, Refused: why, Accent: entry, Pair: x.pair, NATD: len(x.p.natd) > 0}
	h.Accent.SKEncoding = x.form
	if len(x.p.ids) == 0 || why == BadEnvelope {
		s.hear(x.peer, h)
		return
	}
	enc := wire.Cert{Encoding: wire.CertEnc, Data: x.pair.Enc.DER}.Append(nil)
	users := append([]string{entry.SM2ID, ""}, s.e.cfg.Hear.UserIDs...)
	for _, f := range gm.OpenFields(sk.Bytes(), x.p.nonce, x.p.ids[0], true) {
		for n, user := range users {
			for _, noByte := range []bool{false, true} {
				if h.Known || slices.Contains(users[:n], user) {
					continue
				}
				msg := gm.SignedMessage(sk.Bytes(), f.Nonce, f.ID, enc, noByte)
				digest, err := gm.SignatureDigest(x.pair.Sign.Key, user, msg)
				clear(msg)
				if err != nil || !gm.VerifyDigest(x.pair.Sign.Key, digest[:], x.p.sig) {
					continue
				}
				h.Known, h.Accent = true, x.accentOf(f, noByte, s.offered.heard(entry))
				h.Accent.SM2ID = user
				if id, err := wire.ParseID(f.ID); err == nil {
					h.ID = wire.ID{Type: id.Type, Protocol: id.Protocol, Port: id.Port, Data: bytes.Clone(id.Data)}
				}
			}
		}
		f.Wipe()
	}
	s.hear(x.peer, h)
}

// hearProof tells which SA entered the HASH_R that came.
func (s *session) hearProof(c *claim, own, theirs bool) {
	if own || theirs {
		h := Heard{In: InProof, Known: true, Accent: c.accent, OneSA: bytes.Equal(s.saI, s.saR)}
		h.Accent.HashrSA = policy.SAInitiator
		if theirs {
			h.Accent.HashrSA = policy.SAResponder
		}
		s.hear(s.peer, h)
	}
}

// hearQuick tells the form of a HASH of quick mode that verified, and the SA.
func (s *session) hearQuick(body []byte) {
	if s.e.cfg.Hear == nil {
		return
	}
	h := Heard{In: InQuick, Known: true, Accent: s.accent}
	h.Accent.QMHash = s.quickForm
	h.SA, _ = wire.ParseSA(bytes.Clone(body)) // whoever reads it says what is wrong with it
	s.hear(s.peer, h)
}
