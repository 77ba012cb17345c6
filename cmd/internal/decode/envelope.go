package decode

import (
	"bytes"
	"fmt"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
)

// signature tries every reading of nonce and ID with both forms of the signed
// message, since the signature covers the plaintext and so tells which is right.
// Without the sender's certificates the first reading is taken.
func (s *session) signature(e sealed, readings []gm.Fields) (chosen gm.Fields, noByte bool, v Verdict) {
	h := &s.side[e.side]
	if h.sign == nil || h.encBody == nil || e.sig == nil {
		return readings[0], false, Unverified
	}
	for _, r := range readings {
		for _, noByte := range []bool{false, true} {
			msg := gm.SignedMessage(h.sk.Bytes(), r.Nonce, r.ID, h.encBody, noByte)
			digest, err := gm.SignatureDigest(h.sign.Key, s.d.opts.SM2ID, msg)
			if err == nil && gm.VerifyDigest(h.sign.Key, digest[:], e.sig) {
				return r, noByte, Verified
			}
		}
	}
	return readings[0], false, Failed
}

func (s *session) reportSignature(m *Message, e sealed, v Verdict, noByte bool) {
	h := &s.side[e.side]
	name := [2]string{"SIGi", "SIGr"}[e.side]
	x := [2]string{"i", "r"}[e.side]
	what := fmt.Sprintf("Sk%s | N%s_b | ID%s_b | CERT_enc_%s_b", x, x, x, x)
	switch v {
	case Verified:
		h.signed = true
		m.ok(name, "SM2/SM3 over %s, by the key of %s", what, h.sign.Name)
	case Failed:
		m.fail(name, "expected SM2/SM3 over %s by the key of %s; it does not verify with any accepted form", what, h.sign.Name)
	default:
		m.unknown(name, "the %s's certificates are missing: M%d is needed", sideName[e.side], 3-e.side)
	}
	if noByte {
		s.deviates(m, "signature without the encoding byte of the certificate")
	}
	if len(e.sig) == 64 {
		s.deviates(m, "signature raw (64 bytes r | s)")
	}
}

// skForm names the form of the SM2 ciphertext.
func (s *session) skForm(m *Message, body []byte) {
	if len(body) > 0 && body[0] == 0x30 && len(body) != 112 && len(body) != 113 {
		return
	}
	if len(body) == 112 || len(body) == 113 && body[0] == 4 {
		s.deviates(m, fmt.Sprintf("SK raw (%d bytes instead of DER)", len(body)))
	}
}

// fieldForm finds how nonce and ID were padded and chained by sealing them again
// in each known form: CBC has no randomness here.
func (s *session) fieldForm(m *Message, e sealed, f gm.Fields) {
	for _, zero := range []bool{false, true} {
		for _, pad := range []policy.FieldPad{policy.PadCounted, policy.PadPKCS7, policy.PadZeros} {
			n, id := gm.SealFields(s.side[e.side].sk.Bytes(), f.Nonce, f.ID, policy.Dialect{FieldPad: pad, IDZeroIV: zero})
			if !bytes.Equal(n, e.nonce) || !bytes.Equal(id, e.id) {
				continue
			}
			switch pad {
			case policy.PadPKCS7:
				s.deviates(m, "field padding PKCS#7")
			case policy.PadZeros:
				s.deviates(m, "field padding zeros without a count")
			}
			if zero {
				s.deviates(m, "ID encrypted with a zero IV (standard form: chained from the nonce)")
			}
			return
		}
	}
	s.deviates(m, "field padding of another form")
}

// natDetection says what the NAT-D payloads tell about the path (RFC 3947 3.2).
func (s *session) natDetection(m *Message, ps []wire.Payload, g datagram) {
	first := true
	own, found := false, false
	for _, p := range ps {
		if p.Type != wire.TypeNATD && p.Type != wire.TypeNATD130 {
			continue
		}
		if len(p.Body) != 32 {
			s.deviates(m, fmt.Sprintf("NAT-D of %d bytes (SM3: 32)", len(p.Body)))
		}
		switch {
		case first && gm.MatchNATD(p.Body, s.cki, s.ckr, g.dst):
			m.note("NAT-D: the receiver's address is as the sender sees it: no NAT before the receiver")
		case first:
			m.note("NAT-D: not the receiver's address and port in this capture: a NAT, or UDP encapsulation is forced")
		default:
			found = true
			own = own || gm.MatchNATD(p.Body, s.cki, s.ckr, g.src)
		}
		first = false
	}
	switch {
	case found && own:
		m.note("NAT-D: the sender's own address is as captured: no NAT before the sender")
	case found:
		m.note("NAT-D: not the sender's address and port in this capture: a NAT, or UDP encapsulation is forced")
	}
}

// decrypt decrypts the body of a whole-message encryption and reads its
// payloads. used counts the bytes up to the end of the last payload.
func (s *session) decrypt(m *Message, h wire.Header, cipher []byte, iv [16]byte) (ps []wire.Payload, body []byte, err error) {
	plain, err := gm.DecryptCBC(s.keys.CipherKey(), iv[:], cipher)
	if err != nil {
		return nil, nil, err
	}
	ps, used, err := wire.ParseBody(h.Next, plain, wire.PaddingBlock)
	if err != nil {
		return nil, plain, err
	}
	if len(bytes.Trim(plain[used:], "\x00")) > 0 {
		s.deviates(m, "message padding not zero")
	}
	return ps, plain[:used], nil
}
