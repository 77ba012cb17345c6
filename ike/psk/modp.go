package psk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"filippo.io/bigmod"
)

const (
	// PublicLen is the length of a public value and of the shared secret of group
	// 14, leading zeros included (RFC 2409 5), in bytes.
	PublicLen = 256
	// ExponentLen is the length of a private exponent in bytes: more than twice the
	// strength of the group (RFC 3526 8).
	ExponentLen = 32
)

// prime is that of group 14 (RFC 3526 3); the generator is 2.
const prime = "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74" +
	"020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437" +
	"4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
	"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05" +
	"98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb" +
	"9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b" +
	"e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf695581718" +
	"3995497cea956ae515d2261898fa051015728e5a8aacaa68ffffffffffffffff"

// ErrPublic says that a public value is not one of group 14: of another length, or
// one whose powers are known to everybody.
var ErrPublic = errors.New("no public value of group 14")

// CheckPublic refuses what no honest peer sends as its public value.
func CheckPublic(public []byte) error {
	p, err := hex.DecodeString(prime)
	if err != nil {
		return err
	}
	p[len(p)-1]-- // p-1, of order 2
	small := make([]byte, PublicLen)
	small[PublicLen-1] = 1
	if len(public) != PublicLen || bytes.Compare(public, small) <= 0 || bytes.Compare(public, p) >= 0 {
		return ErrPublic
	}
	return nil
}

// Raise returns base to the power of exponent, PublicLen bytes, in a time that
// hangs on no secret. A base of nil is the generator.
func Raise(base, exponent []byte) ([]byte, error) {
	if base == nil {
		base = make([]byte, PublicLen)
		base[PublicLen-1] = 2
	}
	if err := CheckPublic(base); err != nil {
		return nil, err
	}
	if len(exponent) != ExponentLen {
		return nil, fmt.Errorf("an exponent of %d bytes, must be %d", len(exponent), ExponentLen)
	}
	p, err := hex.DecodeString(prime)
	if err != nil {
		return nil, err
	}
	m, err := bigmod.NewModulus(p)
	if err != nil {
		return nil, fmt.Errorf("group 14: %w", err)
	}
	x, err := bigmod.NewNat().SetBytes(base, m)
	if err != nil {
		return nil, fmt.Errorf("group 14: %w", err)
	}
	return bigmod.NewNat().Exp(x, exponent, m).Bytes(m), nil
}
