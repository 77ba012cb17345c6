package psk

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"

	"yumen/ike/gm"
	"yumen/policy"
	"yumen/policy/secret"
)

// Exchange is what both ends know at the end of message 4.
type Exchange struct {
	Suite            policy.IKESuite
	Key              secret.Secret // the pre-shared key
	NonceI, NonceR   []byte
	PublicI, PublicR []byte
	Shared           secret.Secret // g^xy
	CookieI, CookieR [8]byte
}

// Keys are the keys of an ISAKMP SA, 32 bytes each.
type Keys struct {
	suite           policy.IKESuite
	skeyid, d, a, e secret.Secret
}

// Hash is the hash of a suite over the concatenated parts.
func Hash(s policy.IKESuite, parts ...[]byte) [32]byte {
	if s == policy.SM4SM3 {
		return gm.SM3(parts...)
	}
	return gm.Digest(sha256.New(), parts...)
}

// prf is HMAC with the hash of a suite.
func prf(s policy.IKESuite, key secret.Secret, parts ...[]byte) [32]byte {
	if s == policy.SM4SM3 {
		return gm.PRF(key.Bytes(), parts...)
	}
	return gm.HMAC(sha256.New(), key.Bytes(), parts...)
}

func box(v [32]byte) secret.Secret {
	s := secret.New(v[:])
	clear(v[:])
	return s
}

// Keys makes the keys (RFC 2409 5):
//
//	SKEYID   = prf(pre-shared-key, Ni_b | Nr_b)
//	SKEYID_d = prf(SKEYID, g^xy | CKY-I | CKY-R | 0)
//	SKEYID_a = prf(SKEYID, SKEYID_d | g^xy | CKY-I | CKY-R | 1)
//	SKEYID_e = prf(SKEYID, SKEYID_a | g^xy | CKY-I | CKY-R | 2)
func (x Exchange) Keys() Keys {
	k := Keys{suite: x.Suite}
	i, r, shared := x.CookieI[:], x.CookieR[:], x.Shared.Bytes()
	k.skeyid = box(prf(x.Suite, x.Key, x.NonceI, x.NonceR))
	k.d = box(prf(x.Suite, k.skeyid, shared, i, r, []byte{0}))
	k.a = box(prf(x.Suite, k.skeyid, k.d.Bytes(), shared, i, r, []byte{1}))
	k.e = box(prf(x.Suite, k.skeyid, k.a.Bytes(), shared, i, r, []byte{2}))
	return k
}

// IV is that of message 5: the first 16 bytes of hash(g^xi | g^xr) (RFC 2409
// appendix B).
func (x Exchange) IV() (iv [16]byte) {
	sum := Hash(x.Suite, x.PublicI, x.PublicR)
	copy(iv[:], sum[:])
	return iv
}

// HashI is the hash of message 5, over the SA body of message 1 and the body of
// the initiator's ID: prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b).
func (k Keys) HashI(x Exchange, sa, id []byte) [32]byte {
	return prf(k.suite, k.skeyid, x.PublicI, x.PublicR, x.CookieI[:], x.CookieR[:], sa, id)
}

// HashR is the hash of message 6, likewise with the responder's ID:
// prf(SKEYID, g^xr | g^xi | CKY-R | CKY-I | SAi_b | IDir_b).
func (k Keys) HashR(x Exchange, sa, id []byte) [32]byte {
	return prf(k.suite, k.skeyid, x.PublicR, x.PublicI, x.CookieR[:], x.CookieI[:], sa, id)
}

// NATD is the body of a NAT-D payload (RFC 3947 3.2), with the negotiated hash.
func NATD(s policy.IKESuite, cki, ckr [8]byte, at netip.AddrPort) [32]byte {
	port := binary.BigEndian.AppendUint16(nil, at.Port())
	return Hash(s, cki[:], ckr[:], at.Addr().Unmap().AsSlice(), port)
}

// cipherKey is the key of the ISAKMP SA: the first 16 bytes of SKEYID_e (RFC 2409
// appendix B). It is nil after Wipe.
func (k Keys) cipherKey() []byte {
	b := k.e.Bytes()
	return b[:min(len(b), gm.KeyLen)]
}

// Padding is the most that may follow the last payload, in bytes: strongSwan adds
// a whole block to what is aligned already.
func (k Keys) Padding() int { return 16 }

// Encrypt encrypts whole blocks by CBC into a new slice; nil for anything else.
func (k Keys) Encrypt(iv [16]byte, plain []byte) []byte {
	if k.suite == policy.SM4SM3 {
		return gm.EncryptCBC(k.cipherKey(), iv[:], plain)
	}
	b, err := aes.NewCipher(k.cipherKey())
	if err != nil || len(plain)%aes.BlockSize != 0 {
		return nil
	}
	out := make([]byte, len(plain))
	cipher.NewCBCEncrypter(b, iv[:]).CryptBlocks(out, plain)
	return out
}

// Decrypt decrypts whole blocks of CBC into a new slice. Anything but a positive
// number of whole blocks is an error.
func (k Keys) Decrypt(iv [16]byte, ciphertext []byte) ([]byte, error) {
	if k.suite == policy.SM4SM3 {
		return gm.DecryptCBC(k.cipherKey(), iv[:], ciphertext)
	}
	b, err := aes.NewCipher(k.cipherKey())
	if err != nil {
		return nil, err
	}
	if len(ciphertext) == 0 || len(ciphertext)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("aes-cbc: %d bytes are no positive number of whole blocks", len(ciphertext))
	}
	out := make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(b, iv[:]).CryptBlocks(out, ciphertext)
	return out, nil
}
