package gm

import (
	"bytes"
	"slices"

	"yumen/policy"
)

// Bounds of a nonce in bytes (RFC 2409 5).
const (
	minNonce = 8
	maxNonce = 256
)

// idHeadLen is type, protocol and port in front of an ID's data.
const idHeadLen = 4

// maxReadings bounds what OpenFields returns: each reading costs the caller a
// signature check.
const maxReadings = 4

// PadField pads a nonce or an ID body for the digital envelope, into a new
// slice. The standard's form fills the block with n bytes, 1 to 16: n-1 zeros
// and a last byte of value n-1. PadZeros adds nothing to a full block.
func PadField(plain []byte, pad policy.FieldPad) []byte {
	n := BlockLen - len(plain)%BlockLen
	if pad == policy.PadZeros {
		n %= BlockLen
	}
	out := make([]byte, len(plain)+n)
	copy(out, plain)
	switch pad {
	case policy.PadCounted:
		out[len(out)-1] = byte(n - 1)
	case policy.PadPKCS7:
		for i := len(plain); i < len(out); i++ {
			out[i] = byte(n)
		}
	}
	return out
}

// SealFields encrypts nonce and ID body under Sk. The nonce starts from a zero
// IV; the ID goes on from the last block of the nonce, or starts anew when the
// dialect says so.
func SealFields(sk, nonce, id []byte, d policy.Dialect) (nonceBody, idBody []byte) {
	var iv [BlockLen]byte
	plain := PadField(nonce, d.FieldPad)
	nonceBody = EncryptCBC(sk, iv[:], plain)
	clear(plain)
	if !d.IDZeroIV {
		iv = LastBlock(nonceBody)
	}
	return nonceBody, EncryptCBC(sk, iv[:], PadField(id, d.FieldPad))
}

// Fields is one reading of the two encrypted fields of M3 or M4, and how they
// were written: the padding of the nonce, and whether the ID began a chain.
type Fields struct {
	Nonce, ID []byte
	Pad       policy.FieldPad
	ZeroIV    bool
}

// Wipe overwrites the nonce: the keys of the ISAKMP SA hang on it.
func (f Fields) Wipe() { clear(f.Nonce) }

// reading is a plaintext without its padding. A higher cost is a less likely
// peer.
type reading struct {
	b      []byte
	cost   int
	pad    policy.FieldPad
	zeroIV bool
}

// OpenFields decrypts nonce and ID under Sk and returns every plausible reading,
// best first, none twice, at most four: padding of either field as the standard
// has it or PKCS #7, an ID whose length follows from its type, the ID's chain
// continued or new, and with zeroPad a nonce that is the first 16 bytes and a
// string ID with zeros behind it. The signature tells which is meant. Fields
// that are no whole blocks, or hold nothing plausible, give none. The same
// decryptions are done whatever the fields hold.
func OpenFields(sk, nonceBody, idBody []byte, zeroPad bool) []Fields {
	var zero [BlockLen]byte
	chained := LastBlock(nonceBody)
	nonce, errN := DecryptCBC(sk, zero[:], nonceBody)
	idChained, errC := DecryptCBC(sk, chained[:], idBody)
	idAlone, errA := DecryptCBC(sk, zero[:], idBody)
	defer clear(nonce)
	if errN != nil || errC != nil || errA != nil {
		return nil
	}
	nonces := nonceReadings(nonce, zeroPad)
	ids := append(idReadings(idChained, 0, zeroPad), idReadings(idAlone, costZeroIV, zeroPad)...)
	return combine(nonces, ids)
}

// Costs of a reading. Another IV is less likely than another padding.
const (
	costPKCS7   = 1
	costInner   = 2
	costZeros   = 3
	costOddPort = 4 // protocol and port as no IKE peer fills them
	costZeroIV  = 5
)

func nonceReadings(plain []byte, zeroPad bool) (rs []reading) {
	rs = unpad(plain)
	if zeroPad && len(plain) >= 16 {
		rs = append(rs, reading{b: plain[:16], cost: costZeros, pad: policy.PadZeros})
	}
	return slices.DeleteFunc(rs, func(r reading) bool {
		return len(r.b) < minNonce || len(r.b) > maxNonce
	})
}

func idReadings(plain []byte, cost int, zeroPad bool) (rs []reading) {
	rs = unpad(plain)
	if n := innerLen(plain); n > 0 && len(plain)-n <= BlockLen {
		rs = append(rs, reading{b: plain[:n], cost: costInner})
	}
	if zeroPad {
		rs = append(rs, reading{b: bytes.TrimRight(plain, "\x00"), cost: costZeros, pad: policy.PadZeros})
	}
	rs = slices.DeleteFunc(rs, func(r reading) bool { return !plausibleID(r.b) })
	for i := range rs {
		rs[i].cost += cost
		rs[i].zeroIV = cost == costZeroIV
		if !usualPort(rs[i].b) {
			rs[i].cost += costOddPort
		}
	}
	return rs
}

// unpad returns the readings of a padding that carries its own length.
func unpad(plain []byte) (rs []reading) {
	p := int(plain[len(plain)-1])
	if p < BlockLen && p < len(plain) && count(plain[len(plain)-1-p:len(plain)-1], 0) == p {
		rs = append(rs, reading{b: plain[:len(plain)-1-p]})
	}
	if p >= 1 && p <= BlockLen && p <= len(plain) && count(plain[len(plain)-p:], byte(p)) == p {
		rs = append(rs, reading{b: plain[:len(plain)-p], cost: costPKCS7, pad: policy.PadPKCS7})
	}
	return rs
}

func count(b []byte, v byte) (n int) { return bytes.Count(b, []byte{v}) }

// innerLen is the length of an ID body as its type tells it; 0 when it does not
// or the body is shorter. Types as in RFC 2407 4.6.2.1.
func innerLen(id []byte) int {
	if len(id) < idHeadLen {
		return 0
	}
	n := idHeadLen
	switch id[0] {
	case 1: // IPv4 address
		n += 4
	case 4, 7: // IPv4 subnet, range
		n += 8
	case 5: // IPv6 address
		n += 16
	case 6, 8: // IPv6 subnet, range
		n += 32
	case 9, 10: // DER Name, DER GeneralName
		data := id[idHeadLen:]
		if len(data) < 2 || id[0] == 9 && data[0] != tagSequence {
			return 0
		}
		_, rest, ok := derElement(data, data[0])
		if !ok {
			return 0
		}
		n = len(id) - len(rest)
	default:
		return 0
	}
	if n > len(id) {
		return 0
	}
	return n
}

// plausibleID says whether the whole of b is an ID body of a known type.
func plausibleID(b []byte) bool {
	if len(b) <= idHeadLen {
		return false
	}
	switch b[0] {
	case 2, 3: // names
		return count(b[idHeadLen:], 0) == 0
	case 11: // opaque
		return true
	}
	return innerLen(b) == len(b)
}

// usualPort says whether protocol and port are those of an IKE peer: zero, or
// UDP with port 0, 500 or 4500 (RFC 2407 4.6.2).
func usualPort(id []byte) bool {
	port := int(id[2])<<8 | int(id[3])
	switch id[1] {
	case 0:
		return port == 0
	case 17:
		return port == 0 || port == 500 || port == 4500
	}
	return false
}

// combine pairs nonces and IDs, cheapest first, in slices of their own.
func combine(nonces, ids []reading) (out []Fields) {
	type pair struct{ n, id reading }
	var pairs []pair
	for _, n := range nonces {
		for _, id := range ids {
			pairs = append(pairs, pair{n, id})
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int {
		return a.n.cost + a.id.cost - b.n.cost - b.id.cost
	})
	for _, p := range pairs {
		seen := slices.ContainsFunc(out, func(f Fields) bool {
			return bytes.Equal(f.Nonce, p.n.b) && bytes.Equal(f.ID, p.id.b)
		})
		if !seen && len(out) < maxReadings {
			out = append(out, Fields{bytes.Clone(p.n.b), bytes.Clone(p.id.b), p.n.pad, p.id.zeroIV})
		}
	}
	return out
}
