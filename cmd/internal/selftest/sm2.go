package selftest

import (
	"crypto/cipher"
	"crypto/ecdsa"
	"fmt"
	"io"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm4"
)

// This is the only file that meets gmsm.

func newKey(random io.Reader) (*sm2.PrivateKey, error) { return sm2.GenerateKey(random) }

func privateKey(d []byte) (*sm2.PrivateKey, error) { return sm2.NewPrivateKey(d) }

func publicKey(point []byte) (*ecdsa.PublicKey, error) { return sm2.NewPublicKey(point) }

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := sm4.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("sm4: %w", err)
	}
	return cipher.NewGCM(block)
}
