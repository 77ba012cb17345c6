package ike

import (
	"slices"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/secret"
)

// keying protects what follows phase 1, by keys that phase 1 made. Each method
// brings its own; quick mode, informational exchanges and everything that stands
// on them know no other.
type keying interface {
	// Encrypt encrypts whole blocks into a new slice; Decrypt is its reverse.
	Encrypt(iv [16]byte, plain []byte) []byte
	Decrypt(iv [16]byte, ciphertext []byte) ([]byte, error)
	// Padding is the most that may follow the last payload, in bytes.
	Padding() int
	// PhaseTwoIV is the IV of the first message of an exchange.
	PhaseTwoIV(last [16]byte, msgID uint32) [16]byte
	// Protected is HASH(1) of an informational message.
	Protected(msgID uint32, rest []byte) [32]byte
	// Forms are the forms that the hashes of quick mode may have, first the expected.
	Forms(expected policy.HashForm) []policy.HashForm
	Hash1(form policy.HashForm, q gm.QuickHash) [32]byte
	Hash2(form policy.HashForm, q gm.QuickHash) [32]byte
	Hash3(q gm.QuickHash) [32]byte
	// Keymat is n bytes of key material for one SA.
	Keymat(protocol uint8, spi uint32, ni, nr []byte, n int) secret.Secret
	Wipe()
}

// gmKeying is the keying of GB/T 36968.
type gmKeying struct{ gm.Keys }

func (k gmKeying) Padding() int { return wire.Padding }

func (k gmKeying) Encrypt(iv [16]byte, plain []byte) []byte {
	return gm.EncryptCBC(k.CipherKey(), iv[:], plain)
}

func (k gmKeying) Decrypt(iv [16]byte, ciphertext []byte) ([]byte, error) {
	return gm.DecryptCBC(k.CipherKey(), iv[:], ciphertext)
}

func (gmKeying) PhaseTwoIV(last [16]byte, msgID uint32) [16]byte { return gm.PhaseTwoIV(last, msgID) }

func (k gmKeying) Protected(msgID uint32, rest []byte) [32]byte {
	return gm.Protected(k.Keys, msgID, rest)
}

func (gmKeying) Forms(expected policy.HashForm) []policy.HashForm {
	return slices.Compact([]policy.HashForm{expected, policy.HashRFC2409, policy.HashStdFull, policy.HashStdBody})
}

func (k gmKeying) Hash1(form policy.HashForm, q gm.QuickHash) [32]byte {
	return gm.Hash1(k.Keys, form, q)
}

func (k gmKeying) Hash2(form policy.HashForm, q gm.QuickHash) [32]byte {
	return gm.Hash2(k.Keys, form, q)
}

func (k gmKeying) Hash3(q gm.QuickHash) [32]byte { return gm.Hash3(k.Keys, q) }

func (k gmKeying) Keymat(protocol uint8, spi uint32, ni, nr []byte, n int) secret.Secret {
	return gm.Keymat(k.D, protocol, spi, ni, nr, n)
}
