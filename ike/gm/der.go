package gm

import (
	"errors"
	"fmt"
)

// The little DER that the envelope and the signature need, read strictly: one
// form for each value, nothing behind it. A lenient reader would let a peer
// resend the same envelope under another spelling, past the replay cache.

const (
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagSequence = 0x30
)

// derElement cuts the first element off b, which must have tag and a minimal
// length of at most 65535.
func derElement(b []byte, tag byte) (body, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, head := int(b[1]), 2
	switch {
	case n < 0x80:
	case n == 0x81 && len(b) >= 3 && b[2] >= 0x80:
		n, head = int(b[2]), 3
	case n == 0x82 && len(b) >= 4 && b[2] > 0:
		n, head = int(b[2])<<8|int(b[3]), 4
	default:
		return nil, nil, false
	}
	if len(b) < head+n {
		return nil, nil, false
	}
	return b[head : head+n], b[head+n:], true
}

// derNumber cuts off a positive INTEGER of at most 32 bytes and returns it in
// exactly 32.
func derNumber(b []byte) (n, rest []byte, ok bool) {
	v, rest, ok := derElement(b, tagInteger)
	if !ok || len(v) == 0 || v[0] >= 0x80 {
		return nil, nil, false
	}
	if v[0] == 0 { // only in front of a set top bit, or the number is zero
		if v = v[1:]; len(v) == 0 || v[0] < 0x80 {
			return nil, nil, false
		}
	}
	if len(v) > 32 {
		return nil, nil, false
	}
	n = make([]byte, 32)
	copy(n[32-len(v):], v)
	return n, rest, true
}

func derHeader(tag byte, n int) []byte {
	switch {
	case n < 0x80:
		return []byte{tag, byte(n)}
	case n < 0x100:
		return []byte{tag, 0x81, byte(n)}
	}
	return []byte{tag, 0x82, byte(n >> 8), byte(n)}
}

func derInteger(n []byte) []byte {
	for len(n) > 1 && n[0] == 0 {
		n = n[1:]
	}
	if n[0] >= 0x80 {
		n = append([]byte{0}, n...)
	}
	return append(derHeader(tagInteger, len(n)), n...)
}

func derOctets(b []byte) []byte { return append(derHeader(tagOctets, len(b)), b...) }

func derSequence(parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	return append(derHeader(tagSequence, len(body)), body...)
}

// signatureParts reads r and s, 32 bytes each, from DER or from 64 raw bytes.
func signatureParts(sig []byte) (r, s []byte, ok bool) {
	if r, s, ok = derSignature(sig); ok {
		return r, s, true
	}
	if len(sig) != 64 {
		return nil, nil, false
	}
	return sig[:32], sig[32:], true
}

func derSignature(sig []byte) (r, s []byte, ok bool) {
	seq, rest, ok := derElement(sig, tagSequence)
	if !ok || len(rest) > 0 {
		return nil, nil, false
	}
	if r, rest, ok = derNumber(seq); !ok {
		return nil, nil, false
	}
	s, rest, ok = derNumber(rest)
	return r, s, ok && len(rest) == 0
}

// RawSignature turns a DER signature into the 64 bytes r|s.
func RawSignature(der []byte) ([]byte, error) {
	r, s, ok := derSignature(der)
	if !ok {
		return nil, errors.New("signature: no DER sequence of two positive integers of 32 bytes")
	}
	return append(r, s...), nil
}

// ciphertext is an SM2 ciphertext of a key: x and y of C1, C3, C2.
type ciphertext struct{ x, y, c3, c2 []byte }

const (
	rawLen  = 64 + 32 + KeyLen // x|y|C3|C2
	c3Len   = 32
	pointAt = 64
)

func (c ciphertext) der() []byte {
	return derSequence(derInteger(c.x), derInteger(c.y), derOctets(c.c3), derOctets(c.c2))
}

// envelopeForms returns the readings of an SK body as DER of GM/T 0009. When
// there is none, it returns a stand-in to decrypt in its place, and the error.
func envelopeForms(body []byte) ([][]byte, error) {
	c, err := derCiphertext(body)
	if err == nil {
		if !onCurve(c.x, c.y) {
			return [][]byte{standIn()}, errOffCurve
		}
		return [][]byte{c.der()}, nil
	}
	raw, ok := rawCiphertext(body)
	if !ok {
		return [][]byte{standIn()}, err
	}
	x, y, tail := raw[:32], raw[32:pointAt], raw[pointAt:]
	if !onCurve(x, y) {
		return [][]byte{standIn(), standIn()}, errOffCurve
	}
	return [][]byte{
		ciphertext{x, y, tail[:c3Len], tail[c3Len:]}.der(),
		ciphertext{x, y, tail[KeyLen:], tail[:KeyLen]}.der(),
	}, nil
}

// rawCiphertext cuts the 04 off a raw form, which may be left out.
func rawCiphertext(body []byte) (raw []byte, ok bool) {
	if len(body) == rawLen+1 && body[0] == 4 {
		body = body[1:]
	}
	return body, len(body) == rawLen
}

// EnvelopeMark is what the body of an SK payload is known by, however it is written:
// C1, which its sender drew at random, or a body without a form as it is. Whoever
// recorded one can write it anew in each form that OpenEnvelope reads, but cannot
// give it another C1.
func EnvelopeMark(body []byte) []byte {
	if c, err := derCiphertext(body); err == nil {
		return append(c.x, c.y...)
	}
	if raw, ok := rawCiphertext(body); ok {
		return raw[:pointAt]
	}
	return body
}

var errOffCurve = errors.New("c1: not a point of the curve")

// standIn is a well-formed ciphertext over the base point that no key opens,
// save with negligible chance.
func standIn() []byte {
	x, y := basePoint()
	return ciphertext{x, y, make([]byte, c3Len), make([]byte, KeyLen)}.der()
}

func derCiphertext(body []byte) (c ciphertext, err error) {
	seq, rest, ok := derElement(body, tagSequence)
	if !ok || len(rest) > 0 {
		return c, fmt.Errorf("%d bytes are neither one DER sequence nor a raw SM2 ciphertext of a %d-byte key", len(body), KeyLen)
	}
	if c.x, seq, ok = derNumber(seq); !ok {
		return c, errors.New("c1: x is no positive integer of up to 32 bytes")
	}
	if c.y, seq, ok = derNumber(seq); !ok {
		return c, errors.New("c1: y is no positive integer of up to 32 bytes")
	}
	if c.c3, seq, ok = derElement(seq, tagOctets); !ok || len(c.c3) != c3Len {
		return c, fmt.Errorf("c3: no octet string of %d bytes", c3Len)
	}
	if c.c2, seq, ok = derElement(seq, tagOctets); !ok || len(c.c2) != KeyLen {
		return c, fmt.Errorf("c2: no octet string of %d bytes", KeyLen)
	}
	if len(seq) > 0 {
		return c, fmt.Errorf("%d bytes too many in the sequence", len(seq))
	}
	return c, nil
}
