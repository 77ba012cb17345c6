package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"io"

	"yumen/esp/internal/lanes"
	"yumen/policy"
)

const (
	headerLen  = 8             // SPI and sequence number
	trailerLen = 2             // pad length and next header
	keyLen     = lanes.KeySize // SM4; AES-128 too
	macKeyLen  = lanes.SumSize // HMAC-SM3
	saltLen    = 4             // RFC 4106 4
	gcmIVLen   = 8             // RFC 4106 3.1
	gcmTagLen  = lanes.TagSize
	gcmAlign   = 4 // RFC 4303 2.4
)

// KeymatLen returns how many bytes of KEYMAT one direction of a suite takes: the
// cipher key and then the integrity key (RFC 2409 5.5, RFC 4301 4.5.2) or the
// salt (RFC 4106 8.1). It is 0 for a suite that does not exist.
func KeymatLen(s policy.Suite) int {
	switch s {
	case policy.SM4CBCHMACSM3:
		return keyLen + macKeyLen
	case policy.SM4GCM128:
		return keyLen + saltLen
	case policy.AESCBCHMACSHA256:
		return keyLen + sha256.Size
	}
	return 0
}

// shape is what a suite makes of a packet, in bytes.
type shape struct{ iv, icv, align int }

func shapeOf(s policy.Suite, icvBits int) (shape, error) {
	switch s {
	case policy.SM4CBCHMACSM3:
		switch icvBits {
		case 96, 128, 256:
			return shape{iv: lanes.BlockSize, icv: icvBits / 8, align: lanes.BlockSize}, nil
		case policy.ICVAuto: // may yet be the longest
			return shape{iv: lanes.BlockSize, icv: macKeyLen, align: lanes.BlockSize}, nil
		}
		return shape{}, fmt.Errorf("ICV of %d bits: HMAC-SM3 takes 96, 128 or 256", icvBits)
	case policy.SM4GCM128:
		return shape{iv: gcmIVLen, icv: gcmTagLen, align: gcmAlign}, nil
	case policy.AESCBCHMACSHA256: // RFC 3602 3, RFC 4868 2.3: its ICV has 128 bits
		return shape{iv: aes.BlockSize, icv: sha256.Size / 2, align: aes.BlockSize}, nil
	}
	return shape{}, fmt.Errorf("suite %d does not exist", s)
}

// newKeys builds one direction to be computed by path. It reads the keymat and does
// not keep it.
func newKeys(c Child, h Half, path lanes.Path) (*keys, error) {
	sh, err := shapeOf(c.Suite, c.ICVBits)
	if err != nil {
		return nil, err
	}
	mat := h.Keymat.Bytes()
	if want := KeymatLen(c.Suite); len(mat) != want {
		return nil, fmt.Errorf("keymat of %d bytes: the suite takes %d", len(mat), want)
	}
	if h.SPI < 256 {
		return nil, fmt.Errorf("SPI %d is reserved (RFC 4303 2.1)", h.SPI)
	}
	if learns(c) {
		sh.icv = icvLengths[0] // what is sent until the peer is heard
	}
	k := &keys{shape: sh, esn: c.ESN}
	switch c.Suite {
	case policy.SM4GCM128:
		k.aead, err = lanes.NewGCM(path, mat[:keyLen])
		copy(k.nonce[:], mat[keyLen:])
		k.iv = sequenceIV{}
	case policy.SM4CBCHMACSM3:
		k.cipher, err = lanes.NewKey(path, mat[:keyLen])
		if err == nil {
			k.mac, err = lanes.NewMAC(path, mat[keyLen:])
		}
	case policy.AESCBCHMACSHA256:
		var block cipher.Block
		if block, err = aes.NewCipher(mat[:keyLen]); err == nil {
			k.cipher, err = lanes.NewBlockKey(block)
		}
		if err == nil {
			k.mac, err = lanes.NewHashMAC(sha256.New(), mat[keyLen:])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keys of the suite: %w", err)
	}
	return k, nil
}

// newIVStream draws the key of a stream of CBC IVs from random: 16 bytes, once
// for each SA.
func newIVStream(random io.Reader, path lanes.Path) (*ivStream, error) {
	if random == nil {
		return nil, fmt.Errorf("CBC needs a source of randomness for its IVs")
	}
	key := make([]byte, keyLen)
	defer clear(key)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("key of the IV stream: %w", err)
	}
	k, err := lanes.NewKey(path, key)
	if err != nil {
		return nil, fmt.Errorf("key of the IV stream: %w", err)
	}
	return &ivStream{key: k}, nil
}
