package lanes

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"

	smcipher "github.com/emmansun/gmsm/cipher"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/sm4"
)

// softKey is SM4 by gmsm, or CBC of another cipher, with its scratch memory.
type softKey struct {
	block    cipher.Block
	enc, dec cbcMode
	ecb      cipher.BlockMode     // SM4 only, as what follows
	stream   [16 * BlockSize]byte // so many blocks keep all of gmsm's lanes at work
}

func newSoftKey(key []byte) (*softKey, error) {
	block, err := sm4.NewCipher(key)
	if err != nil {
		return nil, err
	}
	k, err := newSoftCBC(block)
	if err == nil {
		k.ecb = smcipher.NewECBEncrypter(block)
	}
	return k, err
}

func newSoftCBC(block cipher.Block) (*softKey, error) {
	zero := make([]byte, block.BlockSize())
	enc, okEnc := cipher.NewCBCEncrypter(block, zero).(cbcMode)
	dec, okDec := cipher.NewCBCDecrypter(block, zero).(cbcMode)
	if !okEnc || !okDec || len(zero) != BlockSize {
		return nil, errors.New("the CBC implementation cannot take a new IV")
	}
	return &softKey{block: block, enc: enc, dec: dec}, nil
}

func (k *softKey) encrypt(iv, data []byte) {
	k.enc.SetIV(iv)
	k.enc.CryptBlocks(data, data)
}

func (k *softKey) decrypt(dst, src []byte) {
	k.dec.SetIV(src[:BlockSize])
	k.dec.CryptBlocks(dst, src[BlockSize:])
}

func (k *softKey) counter(dst, src []byte, iv *[BlockSize]byte) {
	n := binary.BigEndian.Uint32(iv[12:])
	for len(src) > 0 {
		size := min(len(src), len(k.stream))
		blocks := (size + BlockSize - 1) / BlockSize
		for i := range blocks {
			at := i * BlockSize
			copy(k.stream[at:], iv[:12])
			binary.BigEndian.PutUint32(k.stream[at+12:], n)
			n++
		}
		s := k.stream[:blocks*BlockSize]
		k.ecb.CryptBlocks(s, s)
		subtle.XORBytes(dst[:size], src[:size], s)
		dst, src = dst[size:], src[size:]
	}
	binary.BigEndian.PutUint32(iv[12:], n)
	clear(k.stream[:])
}

func (k *softKey) gcm() (cipher.AEAD, error) { return cipher.NewGCM(k.block) }

// newSoftMAC is HMAC-SM3 of one message after another.
func newSoftMAC(key []byte) (*softMAC, error) { return newStatefulMAC(sm3.New(), key) }
