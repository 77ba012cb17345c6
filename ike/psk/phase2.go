package psk

import (
	"encoding/binary"

	"yumen/ike/gm"
	"yumen/policy"
	"yumen/policy/secret"
)

// Forms are the forms of the quick mode hashes that are spoken: RFC 2409 has one.
func (Keys) Forms(policy.HashForm) []policy.HashForm { return []policy.HashForm{policy.HashRFC2409} }

// PhaseTwoIV is the IV of the first message of an exchange under the ISAKMP SA:
// the first 16 bytes of hash(last ciphertext block of phase 1 | message ID).
func (k Keys) PhaseTwoIV(last [16]byte, msgID uint32) (iv [16]byte) {
	sum := Hash(k.suite, last[:], be32(msgID))
	copy(iv[:], sum[:])
	return iv
}

// Protected is HASH(1) of an informational message (RFC 2409 5.7).
func (k Keys) Protected(msgID uint32, rest []byte) [32]byte {
	return prf(k.suite, k.a, be32(msgID), rest)
}

// Hash1 is HASH(1) of quick mode (RFC 2409 5.5): prf(SKEYID_a, M-ID | rest).
func (k Keys) Hash1(_ policy.HashForm, q gm.QuickHash) [32]byte {
	return prf(k.suite, k.a, be32(q.MsgID), q.Rest)
}

// Hash2 is HASH(2): prf(SKEYID_a, M-ID | Ni_b | rest).
func (k Keys) Hash2(_ policy.HashForm, q gm.QuickHash) [32]byte {
	return prf(k.suite, k.a, be32(q.MsgID), q.Ni, q.Rest)
}

// Hash3 is HASH(3): prf(SKEYID_a, 0 | M-ID | Ni_b | Nr_b).
func (k Keys) Hash3(q gm.QuickHash) [32]byte {
	return prf(k.suite, k.a, []byte{0}, be32(q.MsgID), q.Ni, q.Nr)
}

// Keymat is n bytes of key material for the SA with that protocol and SPI (RFC
// 2409 5.5, without KE): K1 = prf(SKEYID_d, protocol | SPI | Ni_b | Nr_b), K2 =
// prf(SKEYID_d, K1 | protocol | SPI | Ni_b | Nr_b) and so on.
func (k Keys) Keymat(protocol uint8, spi uint32, ni, nr []byte, n int) secret.Secret {
	out := make([]byte, 0, n+32) // enough for every append below: no copy is left behind
	var block [32]byte
	defer clear(block[:])
	for prev := []byte(nil); len(out) < n; prev = block[:] {
		block = prf(k.suite, k.d, prev, []byte{protocol}, be32(spi), ni, nr)
		out = append(out, block[:]...)
	}
	clear(out[n:])
	return secret.Take(out[:n:n])
}

// Wipe overwrites all keys, in every copy of k.
func (k Keys) Wipe() {
	for _, s := range []secret.Secret{k.skeyid, k.d, k.a, k.e} {
		s.Wipe()
	}
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
