package gm

import (
	"crypto"
	"crypto/cipher"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/sm4"

	"yumen/policy"
	"yumen/policy/secret"
)

// KeyLen is the length of an SM4 key and of the temporary key Sk, in bytes.
const KeyLen = 16

// BlockLen is the block of SM4 in bytes.
const BlockLen = sm4.BlockSize

// PublicKey is an SM2 public key. Keys on other curves are refused where they
// are used.
type PublicKey = ecdsa.PublicKey

// EncryptCBC encrypts whole blocks with SM4-CBC into a new slice. A key, IV or
// plaintext of a wrong length is a mistake of the caller and gives nil.
func EncryptCBC(key, iv, plain []byte) []byte {
	block, err := sm4.NewCipher(key)
	if err != nil || len(iv) != BlockLen || len(plain)%BlockLen != 0 {
		return nil
	}
	out := make([]byte, len(plain))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, plain)
	return out
}

// DecryptCBC decrypts whole blocks of SM4-CBC into a new slice. Anything but a
// positive number of whole blocks is an error; padding is not looked at.
func DecryptCBC(key, iv, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) == 0 || len(ciphertext)%BlockLen != 0 {
		return nil, fmt.Errorf("sm4-cbc: %d bytes are no positive number of whole blocks", len(ciphertext))
	}
	if len(iv) != BlockLen {
		return nil, fmt.Errorf("sm4-cbc: iv of %d bytes", len(iv))
	}
	block, err := sm4.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("sm4-cbc: %w", err)
	}
	out := make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, ciphertext)
	return out, nil
}

func isSM2(pub *ecdsa.PublicKey) bool { return pub != nil && sm2.IsSM2PublicKey(pub) }

var errNotSM2 = errors.New("public key: not on the SM2 curve")

// SealEnvelope encrypts the 16 bytes of Sk to the peer's encryption key and
// returns the body of an SK payload: DER of GM/T 0009, or, as enc says, the raw
// point with its 04 byte followed by C3 and C2 in one of the two orders.
func SealEnvelope(rand io.Reader, pub *ecdsa.PublicKey, sk []byte, enc policy.SKEncoding) ([]byte, error) {
	if !isSM2(pub) {
		return nil, errNotSM2
	}
	if len(sk) != KeyLen {
		return nil, fmt.Errorf("envelope: a key of %d bytes, must be %d", len(sk), KeyLen)
	}
	opts := sm2.ASN1EncrypterOpts
	switch enc {
	case policy.SKC1C3C2:
		opts = sm2.NewPlainEncrypterOpts(sm2.MarshalUncompressed, sm2.C1C3C2)
	case policy.SKC1C2C3:
		opts = sm2.NewPlainEncrypterOpts(sm2.MarshalUncompressed, sm2.C1C2C3)
	}
	body, err := sm2.Encrypt(rand, pub, sk, opts)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	return body, nil
}

// OpenEnvelope decrypts the body of an SK payload with our encryption key and
// returns Sk, which has exactly 16 bytes. It reads DER, raw 04|x|y|C3|C2 and
// x|y|C3|C2, and both raw forms with C3 and C2 exchanged. The key sees DER of
// GM/T 0009 only, with nil options, so a device needs to know no other form.
//
// The number of private-key operations hangs on the outer form of body alone,
// which everybody can see: one for DER, two for a raw form whichever order fits.
// A body that has no form at all costs one too, over a stand-in, because every
// failure in M3 and M4 shall cost the same work.
func OpenEnvelope(key crypto.Decrypter, body []byte) (secret.Secret, error) {
	sk, _, err := OpenEnvelopeForm(key, body)
	return sk, err
}

// OpenEnvelopeForm is OpenEnvelope that also says in which form the body was.
func OpenEnvelopeForm(key crypto.Decrypter, body []byte) (secret.Secret, policy.SKEncoding, error) {
	forms, formErr := envelopeForms(body)
	var found secret.Secret
	var first error
	form := policy.SKDER
	for i, f := range forms {
		plain, err := key.Decrypt(nil, f, nil)
		if err == nil && len(plain) != KeyLen {
			err = fmt.Errorf("plaintext of %d bytes, must be %d", len(plain), KeyLen)
		}
		if err == nil && formErr == nil && found.Len() == 0 {
			found = secret.New(plain)
			if len(forms) > 1 {
				form = policy.SKC1C3C2 + policy.SKEncoding(i)
			}
		}
		clear(plain)
		if first == nil {
			first = err
		}
	}
	if formErr != nil {
		first = formErr
	}
	if found.Len() != KeyLen {
		return secret.Secret{}, form, fmt.Errorf("envelope: %w", first)
	}
	return found, form, nil
}

// onCurve says whether the coordinates, 32 bytes each, are a point of the curve.
func onCurve(x, y []byte) bool {
	point := append(append([]byte{4}, x...), y...)
	_, err := sm2.NewPublicKey(point)
	return err == nil
}

// basePoint returns the coordinates of the curve's generator.
func basePoint() (x, y []byte) {
	p := sm2.P256().Params()
	return p.Gx.FillBytes(make([]byte, 32)), p.Gy.FillBytes(make([]byte, 32))
}

// newSM3 begins an SM3 (GB/T 32905).
func newSM3() hash.Hash { return sm3.New() }

// SignatureDigest is e = SM3(Z|msg), what SM2 signs (GB/T 32918.2). An empty uid
// stands for 1234567812345678.
func SignatureDigest(pub *ecdsa.PublicKey, uid string, msg []byte) (e [32]byte, err error) {
	if !isSM2(pub) {
		return e, errNotSM2
	}
	za, err := sm2.CalculateZA(pub, []byte(uid))
	if err != nil {
		return e, fmt.Errorf("signature digest: %w", err)
	}
	return SM3(za, msg), nil
}

// SignDigest signs e, the 32 bytes of SignatureDigest, and returns DER. A device
// may answer with 64 raw bytes as well.
func SignDigest(rand io.Reader, key crypto.Signer, e []byte) ([]byte, error) {
	if len(e) != 32 {
		return nil, fmt.Errorf("sign: a digest of %d bytes, must be 32", len(e))
	}
	sig, err := key.Sign(rand, e, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	r, s, ok := signatureParts(sig)
	if !ok {
		return nil, errors.New("sign: the key answered with something that is no SM2 signature")
	}
	return derSequence(derInteger(r), derInteger(s)), nil
}

// VerifyDigest says whether sig, DER or 64 raw bytes r|s, signs e.
func VerifyDigest(pub *ecdsa.PublicKey, e, sig []byte) bool {
	r, s, ok := signatureParts(sig)
	if !ok || !isSM2(pub) || len(e) != 32 {
		return false
	}
	return sm2.VerifyASN1(pub, e, derSequence(derInteger(r), derInteger(s)))
}
