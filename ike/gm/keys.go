package gm

import (
	"encoding/binary"

	"yumen/policy/secret"
)

// Keys are the keys of an ISAKMP SA, 32 bytes each.
type Keys struct {
	SKEYID secret.Secret
	D      secret.Secret // SKEYID_d: KEYMAT grows from it
	A      secret.Secret // SKEYID_a: hashes of phase 2
	E      secret.Secret // SKEYID_e: its beginning is the cipher key
}

// DeriveKeys makes the keys from the two nonces, decrypted and without padding,
// and the cookies. There is no Diffie-Hellman secret: whoever knows both nonces
// knows the keys.
//
//	SKEYID   = PRF(SM3(Ni_b | Nr_b), CKY-I | CKY-R)
//	SKEYID_d = PRF(SKEYID, CKY-I | CKY-R | 0)
//	SKEYID_a = PRF(SKEYID, SKEYID_d | CKY-I | CKY-R | 1)
//	SKEYID_e = PRF(SKEYID, SKEYID_a | CKY-I | CKY-R | 2)
func DeriveKeys(ni, nr []byte, cki, ckr [8]byte) Keys {
	seed := SM3(ni, nr)
	defer clear(seed[:])
	var k Keys
	k.SKEYID = box(PRF(seed[:], cki[:], ckr[:]))
	base := k.SKEYID.Bytes()
	k.D = box(PRF(base, cki[:], ckr[:], []byte{0}))
	k.A = box(PRF(base, k.D.Bytes(), cki[:], ckr[:], []byte{1}))
	k.E = box(PRF(base, k.A.Bytes(), cki[:], ckr[:], []byte{2}))
	return k
}

func box(v [32]byte) secret.Secret {
	s := secret.New(v[:])
	clear(v[:])
	return s
}

// CipherKey is the SM4 key of the ISAKMP SA: the first 16 bytes of SKEYID_e. It
// aliases the box, and is nil after Wipe.
func (k Keys) CipherKey() []byte {
	b := k.E.Bytes()
	if len(b) < KeyLen {
		return nil
	}
	return b[:KeyLen:KeyLen]
}

// Wipe overwrites all four keys, in every copy of k.
func (k Keys) Wipe() {
	for _, s := range []secret.Secret{k.SKEYID, k.D, k.A, k.E} {
		s.Wipe()
	}
}

// PhaseOneIV is the IV of M5: the first 16 bytes of SM3(Ski | Skr). That of M6
// is the last ciphertext block of M5.
func PhaseOneIV(ski, skr []byte) (iv [16]byte) {
	sum := SM3(ski, skr)
	copy(iv[:], sum[:])
	return iv
}

// PhaseTwoIV is the IV of the first message of an exchange under the ISAKMP SA:
// the first 16 bytes of SM3(last ciphertext block of phase 1 | message ID).
func PhaseTwoIV(last [16]byte, msgID uint32) (iv [16]byte) {
	sum := SM3(last[:], be32(msgID))
	copy(iv[:], sum[:])
	return iv
}

// LastBlock is the last ciphertext block, the IV of the next message of the same
// exchange; zero when there is less than a block.
func LastBlock(cipher []byte) (iv [16]byte) {
	if len(cipher) >= len(iv) {
		copy(iv[:], cipher[len(cipher)-len(iv):])
	}
	return iv
}

// Keymat is n bytes of key material for the SA with that protocol (3 ESP, 2 AH)
// and SPI, which the receiver of the SA chose, from SKEYID_d and the nonces of
// quick mode (RFC 2409 5.5, without KE):
//
//	K1 = PRF(SKEYID_d, protocol | SPI | Ni_b | Nr_b)
//	K2 = PRF(SKEYID_d, K1 | protocol | SPI | Ni_b | Nr_b) ...
//	KEYMAT = K1 | K2 | ...
func Keymat(d secret.Secret, protocol uint8, spi uint32, ni, nr []byte, n int) secret.Secret {
	out := make([]byte, 0, n+32) // enough for every append below: no copy is left behind
	var k [32]byte
	defer clear(k[:])
	for prev := []byte(nil); len(out) < n; prev = k[:] {
		k = PRF(d.Bytes(), prev, []byte{protocol}, be32(spi), ni, nr)
		out = append(out, k[:]...)
	}
	clear(out[n:])
	return secret.Take(out[:n:n])
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
