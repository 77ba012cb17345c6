// Package keys loads a gateway's own key pairs: two certificates and the
// private keys that belong to them.
//
// What it hands out is a crypto.Signer and a crypto.Decrypter, so whoever uses
// a key does not know where it lives. It knows nothing of peers, trust anchors
// or the protocol. A passphrase comes from a file or an environment variable,
// never from a command line, which every user of the machine can read.
package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"yumen/policy/trust"
)

// maxFile bounds a certificate or key file; real ones have about one kilobyte.
const maxFile = 64 << 10

// CertKeyPaths names the files of one certificate and its private key.
type CertKeyPaths struct {
	Cert string // PEM or DER
	Key  string // PEM: PKCS#8, plain or encrypted by passphrase (PBES2), or SEC 1
}

// Keys are the private keys of a gateway. Sign makes SM2 signatures over
// digests; Enc opens SM2 ciphertexts.
type Keys struct {
	Sign crypto.Signer
	Enc  crypto.Decrypter
}

// LoadPair reads both certificates and both private keys and checks that they
// fit: each key belongs to its certificate, each certificate has the key usage
// of its role, the two are not swapped, and nobody but the owner can read the
// key files. passphrase opens encrypted keys and may be nil. Validity is not
// checked, for that needs a clock. The error joins every fault; each names the file
// and what to do.
func LoadPair(sign, enc CertKeyPaths, passphrase []byte) (trust.Pair, Keys, error) {
	var pair trust.Pair
	var certFaults, keyFaults [2]error
	pair.Sign, certFaults[0] = LoadCertificate(sign.Cert)
	pair.Enc, certFaults[1] = LoadCertificate(enc.Cert)
	signKey, err := LoadKey(sign.Key, passphrase)
	keyFaults[0] = err
	encKey, err := LoadKey(enc.Key, passphrase)
	keyFaults[1] = err
	faults := append(certFaults[:], keyFaults[:]...)
	if errors.Join(certFaults[:]...) == nil { // what fits what is told by both
		if err := trust.CheckOwnUsage(pair); err != nil {
			faults = append(faults, fmt.Errorf("%s and %s: %w", sign.Cert, enc.Cert, err))
		}
		if keyFaults[0] == nil {
			faults = append(faults, belong(signKey, sign, pair.Sign, pair.Enc))
		}
		if keyFaults[1] == nil {
			faults = append(faults, belong(encKey, enc, pair.Enc, pair.Sign))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return trust.Pair{}, Keys{}, err
	}
	return pair, Keys{signKey, encKey}, nil
}

// Key is a private key of a file: it signs and decrypts.
type Key interface {
	crypto.Signer
	crypto.Decrypter
}

func belong(key Key, at CertKeyPaths, own, other trust.Certificate) error {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	switch {
	case !ok:
		return fmt.Errorf("key %s: holds no SM2 key", at.Key)
	case pub.Equal(own.Key):
		return nil
	case pub.Equal(other.Key):
		return fmt.Errorf("key %s: belongs to the other certificate: the two key files are swapped", at.Key)
	}
	return fmt.Errorf("key %s: does not belong to certificate %s", at.Key, at.Cert)
}

// LoadCertificate reads one certificate file, PEM or DER.
func LoadCertificate(path string) (trust.Certificate, error) {
	b, err := read(path, false)
	if err != nil {
		return trust.Certificate{}, fmt.Errorf("certificate %w", err)
	}
	c, err := trust.ParseCertificatePEM(b)
	if err != nil {
		return trust.Certificate{}, fmt.Errorf("certificate %s: %w", path, err)
	}
	return c, nil
}

// LoadKey reads one SM2 private key file. A file that group or others may read
// or write is refused.
func LoadKey(path string, passphrase []byte) (Key, error) {
	b, err := read(path, true)
	if err != nil {
		return nil, fmt.Errorf("key %w", err)
	}
	defer clear(b)
	key, err := parseKey(b, passphrase)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return key, nil
}

// parseKey finds the key among the PEM blocks: tools put EC PARAMETERS before
// a SEC 1 key.
func parseKey(b, passphrase []byte) (Key, error) {
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, errors.New("holds no PEM private key")
		}
		defer clear(block.Bytes)
		switch {
		case block.Headers["DEK-Info"] != "":
			return nil, errors.New("old OpenSSL encryption is not supported: convert it with 'openssl pkcs8 -topk8'")
		case block.Type == "PRIVATE KEY":
			return parsePlain(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			return parseSEC1(block.Bytes)
		case block.Type == "ENCRYPTED PRIVATE KEY":
			if len(passphrase) == 0 {
				return nil, errors.New("is encrypted: configure a passphrase file or environment variable")
			}
			return parseEncrypted(block.Bytes, passphrase)
		}
		b = rest
	}
}

// Passphrase reads a passphrase from a file (its first line, owner-only like a
// key) or, when file is empty, from the environment variable env. Both empty
// gives nil. The caller wipes it.
func Passphrase(file, env string) ([]byte, error) {
	if file == "" && env == "" {
		return nil, nil
	}
	if file == "" {
		value, ok := os.LookupEnv(env)
		if !ok || value == "" {
			return nil, fmt.Errorf("passphrase: environment variable %s is not set", env)
		}
		return []byte(value), nil
	}
	b, err := read(file, true)
	if err != nil {
		return nil, fmt.Errorf("passphrase %w", err)
	}
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	clear(rest)
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return nil, fmt.Errorf("passphrase %s: the first line is empty", file)
	}
	return line, nil
}

// read reads a regular file. The mode is taken from the open file, so that it
// is the mode of what is read.
func read(path string, private bool) ([]byte, error) {
	// Opening a pipe that nobody writes to would wait for ever.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: is not a regular file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s: is longer than %d bytes", path, maxFile)
	case private && !ours(info):
		return nil, fmt.Errorf("%s: belongs to another user, who can read it: chown it to the user that runs the gateway", path)
	case private && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s: mode %04o lets others read it: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	b := make([]byte, info.Size())
	n, err := io.ReadFull(f, b)
	if err != nil {
		clear(b)
		return nil, fmt.Errorf("%s: read %d of %d bytes: %w", path, n, len(b), err)
	}
	return b, nil
}

// ours reports whether a file belongs to this user or to root, who reads everything.
func ours(info fs.FileInfo) bool {
	x, ok := info.Sys().(*syscall.Stat_t)
	return !ok || x.Uid == 0 || int(x.Uid) == os.Geteuid()
}
