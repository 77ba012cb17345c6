package ike

import (
	"fmt"
	"net/netip"
	"slices"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/trust"
)

// How a peer speaks is its accent: the dialect that its entry says, with
// everything set that its messages show. A difference is told, and with
// profile: auto it is answered in kind. Nothing here lets a check go: each form
// is covered by the signature or by a HASH, which say which one was meant.

// compare tells each knob in which the peer speaks otherwise than its entry says.
func (s *session) compare(entry, accent policy.Dialect) {
	for _, k := range accent.Against(entry) {
		s.deviate(aboutKnob(k.Name) + ": " + k.String())
	}
}

// aboutKnob is what a knob is about, for people.
func aboutKnob(name string) string {
	switch name {
	case "gm_version":
		return "header version"
	case "ike_sm4_id":
		return "phase-1 SM4 number"
	case "key_length":
		return "key length attribute"
	case "sk_encoding":
		return "form of the envelope"
	case "nonce_length":
		return "length of the nonce"
	case "natd_hash":
		return "hash of NAT detection"
	case "field_pad":
		return "padding of nonce and ID"
	case "id_iv":
		return "IV of the ID"
	case "id_cert":
		return "certificate whose name is the ID"
	case "sig_encoding":
		return "form of the signature"
	case "sig_cert_body":
		return "encoding byte of the signed certificate"
	case "cert_order":
		return "order of certificates"
	case "hashr_sa":
		return "SA in HASH_R"
	case "qm_hash":
		return "form of the quick mode HASH"
	case "esp_sm4_id":
		return "ESP number of SM4-CBC"
	case "dpd_spi":
		return "SPI field of dead peer detection"
	case "dpd_order":
		return "place of HASH in dead peer detection"
	}
	return name
}

// accentOf is how the peer wrote an M3 or M4 that verified as f.
func (x fieldsMessage) accentOf(f gm.Fields, noByte bool, d policy.Dialect) policy.Dialect {
	d.SKEncoding, d.FieldPad, d.IDZeroIV = x.form, f.Pad, f.ZeroIV
	d.SigRaw, d.SigNoByte = len(x.p.sig) == 64, noByte
	if d.Nonce = len(f.Nonce); d.NonceLength() == (policy.Dialect{}).NonceLength() {
		d.Nonce = 0
	}
	if len(x.p.natd) > 0 {
		d.NATDHash = gm.NATDHashOf(x.p.natd[0])
	}
	if len(x.p.certs.order) == 2 {
		d.EncFirst = x.p.certs.order[0] == wire.CertEnc
	}
	// Where both certificates carry one name the ID does not say whose it is.
	if id, err := wire.ParseID(f.ID); err == nil && id.Type == wire.IDDN && !x.pair.OneSubject() {
		d.IDCertEnc = trust.EqualNames(id.Data, x.pair.Enc.Subject)
	}
	return d
}

// inKind is how a peer with profile: auto is answered: as it speaks, in what it
// showed.
func inKind(entry policy.Peer, accent policy.Dialect) policy.Dialect {
	if entry.Profile != policy.Auto {
		return entry.Dialect
	}
	if accent.KeyLength == policy.KeyLengthSend { // that is for whoever offers
		accent.KeyLength = entry.Dialect.KeyLength
	}
	// Both are the sender's own affair, and SHA-1 and MD5 are none of ours to choose.
	accent.Nonce, accent.NATDHash = entry.Dialect.Nonce, entry.Dialect.NATDHash
	return accent
}

// ownCerts are our certificates as payloads, in the order and with the
// intermediates that its entry asks for. A gateway with one certificate for both uses
// sends it once.
func (c Config) ownCerts(p policy.Peer, d policy.Dialect) []wire.Payload {
	sign, enc := certPayload(wire.CertSign, c.Own.Sign.DER), certPayload(wire.CertEnc, c.Own.Enc.DER)
	out := []wire.Payload{sign, enc}
	switch {
	case string(c.Own.Sign.DER) == string(c.Own.Enc.DER):
		out = []wire.Payload{sign}
	case d.EncFirst:
		out = []wire.Payload{enc, sign}
	}
	for _, der := range c.Files[p.Name].Chain {
		out = append(out, certPayload(wire.CertSign, der))
	}
	return out
}

// ownID is what we call ourselves towards a peer.
func (s *session) ownID(d policy.Dialect) []byte {
	own := s.e.cfg.Own
	id := wire.ID{Type: wire.IDDN, Data: own.Sign.Subject}
	switch d.IDType {
	case policy.IDName:
		if d.IDCertEnc {
			id.Data = own.Enc.Subject
		}
	case policy.IDAddress:
		id.Type, id.Data = addressID(s.local.Addr(), d.ID)
	case policy.IDFQDN:
		id.Type, id.Data = wire.IDFQDN, []byte(d.ID)
	case policy.IDUserFQDN:
		id.Type, id.Data = wire.IDUserFQDN, []byte(d.ID)
	case policy.IDKeyID:
		id.Type, id.Data = wire.IDKeyID, []byte(d.ID)
	}
	return id.Append(nil)
}

// withKnown fills in, from the files of the entry, the certificates that a peer
// did not send.
func (p *peer) withKnown(c certificates) (certificates, error) {
	known := p.e.cfg.Files[p.entry.Name]
	if c.sign == nil {
		c.sign = known.Sign
	}
	if c.enc == nil {
		c.enc = known.Enc
	}
	if c.sign == nil || c.enc == nil {
		return c, fmt.Errorf("a signing (4) and an encryption (5) certificate are needed, or peer_certs in the entry of the peer")
	}
	return c, nil
}

// withoutCerts is l for a peer whose certificates we have.
func (l layout) withoutCerts() layout {
	return slices.DeleteFunc(slices.Clone(l), func(t wire.PayloadType) bool { return t == wire.TypeCert })
}

// arrangeMain puts the payloads of M2, M3 or M4 in their places. With known
// certificates of the peer the message may come without any.
func (l layout) arrangeMain(ps []wire.Payload, known bool) (parts, error) {
	if known && !slices.ContainsFunc(ps, func(p wire.Payload) bool { return p.Type == wire.TypeCert }) {
		l = l.withoutCerts()
	}
	p, err := l.arrange(ps)
	if err == nil && !known && slices.Contains(l, wire.TypeCert) {
		err = p.certs.complete()
	}
	return p, err
}

// addressID is an address as an ID: text, or else our own.
func addressID(own netip.Addr, text string) (wire.IDType, []byte) {
	if a, err := netip.ParseAddr(text); err == nil {
		own = a
	}
	if own = own.Unmap(); own.Is4() {
		return wire.IDIPv4, own.AsSlice()
	}
	return wire.IDIPv6, own.AsSlice()
}

// isConfigured reports whether an ID is the one that the entry binds to the
// peer's certificates (peer_id).
func isConfigured(id wire.ID, entry policy.Peer) bool {
	want := entry.Dialect.PeerID
	switch id.Type {
	case wire.IDFQDN, wire.IDUserFQDN, wire.IDKeyID:
		return want != "" && string(id.Data) == want
	case wire.IDIPv4, wire.IDIPv6:
		a, ok := netip.AddrFromSlice(id.Data)
		return ok && a.String() == want
	}
	return false
}

// isDPD reports whether p is a notification of dead peer detection (RFC 3706).
func isDPD(p wire.Payload) bool {
	n, err := wire.ParseNotification(p.Body)
	return p.Type == wire.TypeNotify && err == nil && (n.Type == wire.RUThere || n.Type == wire.RUThereAck)
}

// hashLast writes an informational message whose HASH stands behind what it
// covers, as some peers want it in dead peer detection.
func (s *session) hashLast(h wire.Header, iv [16]byte, ps []wire.Payload) []byte {
	blank := append(slices.Clone(ps), wire.Payload{Type: wire.TypeHash, Body: make([]byte, 32)})
	plain := wire.AppendPayloads(nil, blank)
	covered := len(plain) - 4 - 32
	hash := s.keys.Protected(h.MessageID, plain[:covered])
	copy(plain[covered+4:], hash[:])
	return h.Append(nil, ps[0].Type, s.keys.Encrypt(iv, padBlock(plain)))
}

// mannerOfDPD notes how the peer writes dead peer detection; false when that is
// to be refused. A question shows its SPI field, an answer repeats ours.
func (s *session) mannerOfDPD(p wire.Payload, h wire.Header) bool {
	if !isDPD(p) {
		return true
	}
	accent, asks := s.accent, false
	accent.DPDFirst = h.Next == wire.TypeNotify
	if n, err := wire.ParseNotification(p.Body); err == nil && n.Type == wire.RUThere {
		accent.DPDNoSPI, asks = len(n.SPI) == 0, true
	}
	s.hear(s.peer, Heard{In: InLiveness, Known: true, Accent: accent, Asks: asks})
	entry := s.peer.entry
	if entry.Dialect.Exact && accent != s.accent {
		return false
	}
	s.accent = accent
	s.compare(entry.Dialect, accent)
	if entry.Profile == policy.Auto {
		s.dialect.DPDFirst, s.dialect.DPDNoSPI = accent.DPDFirst, accent.DPDNoSPI
		s.learn()
	}
	return true
}
