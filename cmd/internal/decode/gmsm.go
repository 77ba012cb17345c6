package decode

import (
	"crypto/cipher"

	"github.com/emmansun/gmsm/sm4"
)

// openGCM is the opening half of SM4-GCM; sealed ends with the 16-byte tag.
func openGCM(key, nonce, sealed, aad []byte) ([]byte, error) {
	block, err := sm4.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nonce, sealed, aad)
}
