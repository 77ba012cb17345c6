package decode

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

// first takes M1: HDR, SA.
func (s *session) first(m *Message, msg wire.Message, g datagram) {
	m.Name = "M1"
	m.fields(msg)
	m.order(msg.Payloads, "SA")
	s.setSides(initiator, g)
	body := find(msg.Payloads, wire.TypeSA)
	sa, err := wire.ParseSA(body)
	if err != nil {
		m.fail("SA", "%v", err)
		return
	}
	s.phaseOneDeviations(m, sa)
	if s.take(m, 1, s.ckr != wire.Cookie{}) {
		s.saI = body
	}
}

// second takes M2: HDR, SA, CERT_sig_r, CERT_enc_r.
func (s *session) second(m *Message, msg wire.Message, g datagram) {
	m.Name = "M2"
	m.fields(msg)
	s.setSides(responder, g)
	switch {
	case s.view.NonGM != "":
		m.order(msg.Payloads, "SA")
	case find(msg.Payloads, wire.TypeCert) == nil:
		m.order(msg.Payloads, "SA")
		s.deviates(m, "no certificates in M2 (the older profile 1.0)")
	default:
		m.order(msg.Payloads, "SA CERT CERT")
	}
	body := find(msg.Payloads, wire.TypeSA)
	answer, err := wire.ParseSA(body)
	if err != nil {
		m.fail("SA", "%v", err)
		return
	}
	s.phaseOneDeviations(m, answer)
	if s.saI == nil {
		m.unknown("SA", "M1 is missing: what was offered is not known")
	} else if offer, err := wire.ParseSA(s.saI); err == nil {
		s.checkAnswer(m, offer, answer)
	}
	if s.take(m, 2, s.side[responder].signed) {
		s.saR = body
		r := &s.side[responder]
		r.sign, r.enc, r.encBody = nil, nil, nil
		s.certificates(m, msg.Payloads, responder)
	}
}

// certificates reads the pair of one side and tells which key belongs to it.
func (s *session) certificates(m *Message, ps []wire.Payload, side int) {
	h := &s.side[side]
	for _, p := range ps {
		if p.Type != wire.TypeCert {
			continue
		}
		c, err := wire.ParseCert(p.Body)
		if err != nil {
			m.fail("CERT", "%v", err)
			continue
		}
		if c.Encoding != wire.CertSign && c.Encoding != wire.CertEnc {
			m.note("certificate payload with encoding %d (%s) skipped", uint8(c.Encoding), c.Encoding)
			continue
		}
		parsed, err := trust.ParseCertificate(c.Data)
		if err != nil {
			m.fail("CERT "+c.Encoding.String(), "%s: %v", sideName[side], err)
			if c.Encoding == wire.CertEnc && h.encBody == nil {
				h.encBody = p.Body
			}
			continue
		}
		s.certificate(m, c.Encoding, &parsed, side)
		if c.Encoding == wire.CertEnc && h.enc == &parsed {
			h.encBody = p.Body
		}
	}
	if h.sign != nil && h.enc != nil && h.sign.Key.Equal(h.enc.Key) {
		s.deviates(m, "one key for signing and encryption")
	}
}

func (s *session) certificate(m *Message, enc wire.CertEncoding, c *trust.Certificate, side int) {
	h := &s.side[side]
	slot, name := &h.sign, "signing certificate"
	if enc == wire.CertEnc {
		slot, name = &h.enc, "encryption certificate"
	}
	m.add(0, fmt.Sprintf("%s, %s", sideName[side], name), "%s", c.Name)
	m.add(1, "serial", "%s", c.Serial)
	m.add(1, "fingerprint (SM3)", "%s", c.Fingerprint)
	m.add(1, "valid", "%s to %s", c.NotBefore.UTC().Format("2006-01-02 15:04:05"), c.NotAfter.UTC().Format("2006-01-02 15:04:05"))
	if !m.Time.IsZero() && (m.Time.Before(c.NotBefore) || m.Time.After(c.NotAfter)) {
		m.note("the %s was not valid at the time of the capture", name)
	}
	if k, ok := s.d.findKey(c.Key); ok {
		m.add(1, "private key", "%s", k.Name)
		if enc == wire.CertSign {
			m.note("%s is the key of the signing certificate: only encryption keys open envelopes", k.Name)
		}
	}
	if *slot != nil && (*slot).Fingerprint != "" && enc == wire.CertSign {
		m.note("further signing certificate: an intermediate")
		return
	}
	*slot = c
}

// envelope takes M3 or M4: HDR, SK, NONCE, ID [, CERT_sig, CERT_enc], SIG.
func (s *session) envelope(m *Message, msg wire.Message, g datagram) {
	side, known := s.from(g)
	if !known {
		side = responder
		if find(msg.Payloads, wire.TypeCert) != nil { // only M3 carries certificates
			side = initiator
		}
		s.setSides(side, g)
	}
	place := 3 + side
	m.Name = fmt.Sprintf("M%d", place)
	h := &s.side[side]
	if !s.take(m, place, h.signed) {
		m.envelopeFields(msg, nil, nil)
		m.unknown("envelope", "not opened: %s of frame %d was verified", m.Name, s.frames[place])
		return
	}
	if side == initiator {
		if find(msg.Payloads, wire.TypeCert) != nil {
			h.sign, h.enc, h.encBody = nil, nil, nil
			m.order(msg.Payloads, "SK NONCE ID CERT CERT SIG")
			s.certificates(m, msg.Payloads, initiator)
		} else {
			m.order(msg.Payloads, "SK NONCE ID SIG")
			s.deviates(m, "no certificates in M3 (the older profile 1.0)")
		}
	} else {
		m.order(msg.Payloads, "SK NONCE ID SIG")
	}
	s.natDetection(m, msg.Payloads, g)
	e := sealed{side: side, sk: find(msg.Payloads, wire.TypeSK), nonce: find(msg.Payloads, wire.TypeNonce),
		id: find(msg.Payloads, wire.TypeID), sig: find(msg.Payloads, wire.TypeSig)}
	extra := m.Fields // of the certificates: shown after the payloads
	m.Fields = nil
	opened := s.open(m, e)
	result := m.Fields
	m.Fields = nil
	if opened {
		m.envelopeFields(msg, h.nonce, h.id)
	} else {
		m.envelopeFields(msg, nil, nil)
	}
	m.Fields = append(append(m.Fields, extra...), result...)
	s.derive(m)
}

// sealed is the protected part of M3 or M4 as received.
type sealed struct {
	side          int
	sk, nonce, id []byte
	sig           []byte
}

// open opens the envelope with the recipient's key and verifies the signature.
func (s *session) open(m *Message, e sealed) bool {
	h, peer := &s.side[e.side], &s.side[1-e.side]
	h.sk.Wipe()
	h.sk, h.nonce, h.id, h.opened, h.signed = secret.Secret{}, nil, nil, false, false
	if e.sk == nil || e.nonce == nil || e.id == nil {
		return false // the payload list was named already
	}
	sk, key, ok := s.unseal(m, e, peer.enc)
	if !ok {
		return false
	}
	h.sk = sk
	s.skForm(m, e.sk)
	readings := gm.OpenFields(sk.Bytes(), e.nonce, e.id, true)
	if len(readings) == 0 {
		m.fail("nonce and ID", "neither the standard padding nor a known variant fits after decryption with Sk: expected zeros and their count")
		return false
	}
	chosen, noByte, verdict := s.signature(e, readings)
	h.nonce, h.id, h.opened = chosen.Nonce, chosen.ID, true
	m.ok("envelope", "SK opens with %s; nonce of %d bytes and ID decrypted", key.Name, len(h.nonce))
	s.fieldForm(m, e, chosen)
	s.reportSignature(m, e, verdict, noByte)
	s.identity(m, e.side)
	return true
}

// unseal picks the key by the recipient's certificate; without that certificate
// each key is tried.
func (s *session) unseal(m *Message, e sealed, recipient *trust.Certificate) (secret.Secret, Key, bool) {
	to := sideName[1-e.side]
	if recipient != nil {
		k, ok := s.d.findKey(recipient.Key)
		if !ok {
			m.unknown("envelope", "sealed for the %s's encryption certificate %s: its private key was not given", to, recipient.Name)
			return secret.Secret{}, Key{}, false
		}
		sk, err := gm.OpenEnvelope(k.Decrypter, e.sk)
		if err != nil {
			m.fail("envelope", "SK does not open with %s, the key of the %s's encryption certificate: expected an SM2 ciphertext of 16 bytes: %v", k.Name, to, err)
			return secret.Secret{}, k, false
		}
		return sk, k, true
	}
	for _, k := range s.d.opts.Keys {
		if sk, err := gm.OpenEnvelope(k.Decrypter, e.sk); err == nil {
			s.d.fits[k.Name] = true
			return sk, k, true
		}
	}
	m.unknown("envelope", "the %s's encryption certificate is missing from the capture, and SK opens with none of the %d keys given", to, len(s.d.opts.Keys))
	return secret.Secret{}, Key{}, false
}

// finished takes M5 or M6: HDR*, HASH.
func (s *session) finished(m *Message, h wire.Header, g datagram) {
	side, known := s.from(g)
	if !known {
		side = initiator
		if s.frames[5] != 0 {
			side = responder
		}
	}
	place := 5 + side
	m.Name = fmt.Sprintf("M%d", place)
	cipher := g.data[wire.HeaderLen:]
	m.headerFields(h)
	m.add(0, "encrypted body", "%d bytes", len(cipher))
	if s.frames[place] == 0 {
		s.frames[place] = m.Frame
	} else {
		m.note("another %s with the same cookies came in frame %d with other bytes", m.Name, s.frames[place])
	}
	name := [2]string{"HASHi", "HASHr"}[side]
	if !s.derived {
		m.unknown(name, "%s", s.whyNotDerived())
		return
	}
	iv := gm.PhaseOneIV(s.side[initiator].sk.Bytes(), s.side[responder].sk.Bytes())
	if side == responder {
		if !s.last[5].ok {
			m.unknown(name, "M5 is missing, so the IV of M6 is not known")
			return
		}
		iv = s.last[5].iv
	}
	s.checkFinished(m, wire.Message{Header: h}, cipher, finish{side, iv, name})
}

type finish struct {
	side int
	iv   [16]byte
	name string
}

func (s *session) checkFinished(m *Message, msg wire.Message, cipher []byte, f finish) {
	ps, _, err := s.decrypt(m, msg.Header, cipher, f.iv)
	if err != nil {
		m.fail(f.name, "%s does not decrypt to a payload list: %v", m.Name, err)
		s.keepLast(5+f.side, cipher, false)
		return
	}
	msg.Payloads = ps
	m.replaceFields(msg)
	m.order(ps, "HASH")
	got := find(ps, wire.TypeHash)
	i, r := &s.side[initiator], &s.side[responder]
	if f.side == initiator {
		if s.saI == nil {
			m.unknown(f.name, "M1 is missing: SAi_b is not known")
			s.keepLast(5, cipher, true)
			return
		}
		want := gm.HashI(s.keys, s.cki, s.ckr, s.saI, i.id)
		s.done[0] = m.compare(f.name, got, want[:], "PRF(SKEYID, CKY-I | CKY-R | SAi_b | IDi_b)") || s.done[0]
	} else {
		s.checkHashR(m, got, r.id)
	}
	s.keepLast(5+f.side, cipher, !m.failed())
}

func (s *session) keepLast(n int, cipher []byte, good bool) {
	if len(cipher) >= 16 {
		s.last[n].set(cipher, good)
	}
}

// checkHashR accepts SAi_b, as RFC 2409, and SAr_b, as one reading of the text.
func (s *session) checkHashR(m *Message, got, id []byte) {
	if s.saI == nil && s.saR == nil {
		m.unknown("HASHr", "M1 and M2 are missing: no SA body is known")
		return
	}
	const form = "PRF(SKEYID, CKY-R | CKY-I | SA | IDr_b)"
	var want [32]byte
	if s.saR != nil {
		want = gm.HashR(s.keys, s.cki, s.ckr, s.saR, id)
		if bytes.Equal(got, want[:]) && !bytes.Equal(s.saI, s.saR) {
			m.ok("HASHr", "%s with SAr_b, the responder's SA", form)
			s.deviates(m, "HASHr over SAr_b (default: SAi_b)")
			s.done[1] = true
			return
		}
	}
	if s.saI != nil {
		want = gm.HashR(s.keys, s.cki, s.ckr, s.saI, id)
	} else if !bytes.Equal(got, want[:]) {
		m.unknown("HASHr", "does not fit SAr_b, and M1 is missing: SAi_b is not known")
		return
	}
	which := "SAi_b"
	if bytes.Equal(s.saI, s.saR) {
		which = "SAi_b = SAr_b"
	}
	s.done[1] = m.compare("HASHr", got, want[:], form+" with "+which) || s.done[1]
}

// whyNotDerived says which messages or keys are missing for the phase-1 keys.
func (s *session) whyNotDerived() string {
	if s.view.NonGM != "" {
		return "not opened: " + notGM + "; " + sealedByDH
	}
	var why []string
	for side := range s.side {
		switch h := &s.side[side]; {
		case h.opened:
		case s.frames[3+side] == 0:
			why = append(why, fmt.Sprintf("M%d is missing", 3+side))
		default:
			why = append(why, fmt.Sprintf("M%d of frame %d was not opened", 3+side, s.frames[3+side]))
		}
	}
	return "keys not derived: " + strings.Join(why, "; ")
}

// identity compares the ID with the certificates of its sender.
func (s *session) identity(m *Message, side int) {
	h := &s.side[side]
	name := [2]string{"IDi", "IDr"}[side]
	id, err := wire.ParseID(h.id)
	if err != nil {
		m.fail(name, "%v", err)
		return
	}
	text := idText(id)
	if side == initiator {
		s.view.IDi = text
	} else {
		s.view.IDr = text
	}
	if h.sign == nil || h.enc == nil {
		m.unknown(name, "%s: the certificates of the %s are missing", text, sideName[side])
		return
	}
	pair := trust.Pair{Sign: *h.sign, Enc: *h.enc}
	err = pair.MatchID(uint8(id.Type), id.Data, netip.Addr{})
	switch {
	case err == nil && id.Type == wire.IDDN && !trust.EqualNames(id.Data, h.sign.Subject):
		m.ok(name, "%s is the subject of the encryption certificate", text)
		s.deviates(m, "ID is the name in the encryption certificate")
	case err == nil:
		m.ok(name, "%s is a name in the certificates", text)
	case id.Type == wire.IDDN:
		m.fail(name, "%s is neither certificate's subject: expected %s or %s", text, h.sign.Name, h.enc.Name)
	default:
		m.unknown(name, "%s is not in the certificates: a gateway accepts it only if it is bound to the peer by configuration", text)
	}
	if id.Type != wire.IDDN {
		s.deviates(m, "ID of type "+id.Type.String())
	}
}
