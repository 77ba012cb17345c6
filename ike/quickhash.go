package ike

import (
	"crypto/subtle"
	"fmt"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
)

// covers fills in what the hashes of quick mode are made over.
func (x *exchange) covers(rest []wire.Payload) gm.QuickHash {
	q := x.hash
	q.Rest = wire.AppendPayloads(nil, rest)
	var ids [][]byte
	for _, p := range rest {
		switch p.Type {
		case wire.TypeSA:
			q.SA = p.Body
		case wire.TypeNonce:
			q.NonceOwn = p.Body
		case wire.TypeID:
			ids = append(ids, p.Body)
		}
	}
	if len(ids) == 2 {
		q.IDci, q.IDcr = ids[0], ids[1]
	}
	return q
}

// forms are the forms of HASH_1 and HASH_2 in use, the expected one first.
func (s *session) forms() []policy.HashForm {
	if s.peer.entry.Dialect.Exact {
		return []policy.HashForm{s.quickForm}
	}
	return s.keys.Forms(s.quickForm)
}

// recognise finds the form that a received HASH has.
func (s *session) recognise(got []byte, q gm.QuickHash, make func(policy.HashForm, gm.QuickHash) [32]byte) bool {
	for _, form := range s.forms() {
		want := make(form, q)
		if subtle.ConstantTimeCompare(want[:], got) != 1 {
			continue
		}
		if form != s.quickForm {
			s.quickForm = form
			s.accent.QMHash, s.dialect.QMHash = form, form
			s.compare(s.peer.entry.Dialect, s.accent)
		}
		return true
	}
	return false
}

// read decrypts and arranges QM1 or QM2 and checks its HASH.
func (x *exchange) read(d Datagram, h wire.Header) (parts, [16]byte, Reason, error) {
	s := x.s
	p, err := s.open(s.keys, x.iv, d, h)
	if err != nil {
		return parts{}, x.iv, BadHash, err
	}
	got, err := layoutQuick.arrange(p.payloads)
	if err != nil {
		return parts{}, x.iv, PayloadOrder, err
	}
	q := x.hash
	q.Rest, q.SA, q.NonceOwn = p.afterHash(), got.sa, got.nonce
	if len(got.ids) == 2 {
		q.IDci, q.IDcr = got.ids[0], got.ids[1]
	}
	hash := s.keys.Hash2
	if x.role == Responder {
		q.Ni, hash = got.nonce, s.keys.Hash1
	}
	if !s.recognise(got.hash, q, hash) {
		return parts{}, x.iv, BadHash, fmt.Errorf("HASH does not verify")
	}
	s.hearQuick(got.sa)
	if len(got.nonce) < 8 || len(got.nonce) > 256 {
		return parts{}, x.iv, Malformed, fmt.Errorf("a nonce of %d bytes", len(got.nonce))
	}
	return got, p.last, "", nil
}
