package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/emmansun/gmsm/pkcs"
	"github.com/emmansun/gmsm/pkcs8"
	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/smx509"
)

// This is the only file that imports gmsm. The package works on its X.509
// structures under the names given here; none of them is exported.
type (
	x509Certificate = smx509.Certificate
	x509Request     = smx509.CertificateRequest
	x509CRL         = smx509.RevocationList
	x509Revoked     = smx509.RevocationListEntry
)

const (
	useCertSign     = smx509.KeyUsageCertSign
	useCRLSign      = smx509.KeyUsageCRLSign
	useSignature    = smx509.KeyUsageDigitalSignature
	useCommitment   = smx509.KeyUsageContentCommitment
	useKeyEncipher  = smx509.KeyUsageKeyEncipherment
	useDataEncipher = smx509.KeyUsageDataEncipherment
	useAgreement    = smx509.KeyUsageKeyAgreement
	signedWithSM2   = smx509.SM2WithSM3
)

func parseCertificate(der []byte) (*x509Certificate, error) { return smx509.ParseCertificate(der) }
func parseRequest(der []byte) (*x509Request, error)         { return smx509.ParseCertificateRequest(der) }
func parseCRL(der []byte) (*x509CRL, error)                 { return smx509.ParseRevocationList(der) }
func isSM2(pub any) bool                                    { return sm2.IsSM2PublicKey(pub) }

func signCertificate(random io.Reader, x, parent *x509Certificate, pub any, key crypto.Signer) ([]byte, error) {
	return smx509.CreateCertificate(random, x, parent, pub, key)
}

func signRequest(random io.Reader, x *x509Request, key crypto.Signer) ([]byte, error) {
	return smx509.CreateCertificateRequest(random, x, key)
}

func signCRL(random io.Reader, x *x509CRL, issuer *x509Certificate, key crypto.Signer) ([]byte, error) {
	return smx509.CreateRevocationList(random, x, issuer, key)
}

func fingerprint(b []byte) string {
	sum := sm3.Sum(b)
	return hex.EncodeToString(sum[:])
}

// keyID is the subject key identifier: the first 160 bits of the hash of the
// public point (RFC 7093 2, method 1, with SM3).
func keyID(pub crypto.PublicKey) ([]byte, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || !sm2.IsSM2PublicKey(key) {
		return nil, errors.New("the public key is not an SM2 key")
	}
	point, err := pointOf(key)
	if err != nil {
		return nil, err
	}
	sum := sm3.Sum(point)
	return sum[:20], nil
}

// pointOf encodes a public key as 04 | x | y.
func pointOf(key *ecdsa.PublicKey) ([]byte, error) {
	p, err := sm2.PublicKeyToECDH(key)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return p.Bytes(), nil
}

// iterations of PBKDF2 with HMAC-SM3 over a passphrase: a good fraction of a
// second for whoever guesses, once at start for a gateway.
const iterations = 300_000

// NewKey makes an SM2 key.
func NewKey(random io.Reader) (crypto.Signer, error) {
	key, err := sm2.GenerateKey(random)
	if err != nil {
		return nil, fmt.Errorf("sm2 key: %w", err)
	}
	return key, nil
}

// EncodeKey writes a key of NewKey as PKCS#8 PEM; with a passphrase encrypted
// by PBES2 (PBKDF2 with HMAC-SM3, SM4-CBC; OpenSSL 3.0 does not know this PRF).
// The caller wipes the result.
func EncodeKey(random io.Reader, key crypto.Signer, passphrase []byte) ([]byte, error) {
	own, ok := key.(*sm2.PrivateKey)
	if !ok {
		return nil, errors.New("key is not an SM2 key")
	}
	plain, err := smx509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, fmt.Errorf("pkcs#8: %w", err)
	}
	defer clear(plain)
	if len(passphrase) == 0 {
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain}), nil
	}
	how := pkcs.NewPBESEncrypter(pkcs.SM4CBC, pkcs.NewPBKDF2Opts(pkcs.SM3, 16, iterations))
	ai, body, err := how.Encrypt(random, passphrase, plain)
	if err != nil {
		return nil, fmt.Errorf("pkcs#8: %w", err)
	}
	der, err := asn1.Marshal(struct { // EncryptedPrivateKeyInfo, RFC 5208 6
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}{*ai, body})
	if err != nil {
		return nil, fmt.Errorf("pkcs#8: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), nil
}

// readPrivate tells whether b is an SM2 private key, without keeping it.
func readPrivate(block *pem.Block) (pub *ecdsa.PublicKey, err error) {
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = pkcs8.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = smx509.ParseTypedECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM block %q is not known", block.Type)
	}
	if err != nil {
		return nil, err
	}
	own, ok := key.(*sm2.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("is a %T, not an SM2 key", key)
	}
	return &own.PublicKey, nil
}
