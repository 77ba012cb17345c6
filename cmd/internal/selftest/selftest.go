// Package selftest proves at start that the algorithms give their known
// answers and that the random source is not broken; a gateway whose self-test
// fails must not run (GM/T 0028, SP 800-90B 4.4).
//
// It tests what the protocol uses, through the code that the protocol uses. It
// knows nothing of keys in use and changes nothing.
package selftest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"time"

	"yumen/esp"
	"yumen/ike/gm"
	"yumen/policy"
)

// Result is the outcome of one test. Err is nil when it passed.
type Result struct {
	Name string
	Err  error
	Took time.Duration
}

// roundTripBytes bounds what the round trips may draw, so that a source that
// turns bad, on which rejection sampling would never end, ends in an error.
const roundTripBytes = 64 << 10

var errNotRun = errors.New("not run: the random source failed")

// Run carries out every test and returns one result for each, in a fixed order.
// random is the source that the gateway will use; 64 KiB are drawn for its
// health tests. It takes some milliseconds.
func Run(random io.Reader) []Result { return run(random, known()) }

// Err is nil when all passed, else it joins what failed. No result at all is a
// failure too.
func Err(results []Result) error {
	if len(results) == 0 {
		return errors.New("self-test: nothing was tested")
	}
	var failed []error
	for _, r := range results {
		if r.Err != nil {
			failed = append(failed, fmt.Errorf("self-test: %s: %w", r.Name, r.Err))
		}
	}
	return errors.Join(failed...)
}

func run(random io.Reader, v vectors) []Result {
	var out []Result
	try := func(name string, test func() error) error {
		begin := time.Now()
		err := test()
		out = append(out, Result{name, err, time.Since(begin)})
		return err
	}
	// The source first: what needs it must not run on a broken one.
	sample, healthy := make([]byte, sampleSize), true
	defer clear(sample)
	check := func(name string, test func() error) {
		healthy = try(name, test) == nil && healthy
	}
	check("random source: read", func() error {
		_, err := io.ReadFull(random, sample)
		return err
	})
	check("random source: repetition count", func() error { return repetitionCount(sample) })
	check("random source: adaptive proportion", func() error { return adaptiveProportion(sample) })
	try("sm3", v.testSM3)
	try("hmac-sm3", v.testHMAC)
	try("sm4-cbc", v.testCBC)
	try("sm4-gcm", v.testGCM)
	try("sm2 verify", v.testVerify)
	try("sm2 decrypt", v.testDecrypt)
	try("esp", func() error { return esp.SelfTest(nil) })
	for _, t := range []struct {
		name string
		test func(io.Reader) error
	}{{"sm2 known key pair", v.testPair}, {"sm2 sign and verify", signAndVerify}, {"sm2 encrypt and decrypt", encryptAndDecrypt}} {
		try(t.name, func() error {
			if !healthy {
				return errNotRun
			}
			return t.test(io.LimitReader(random, roundTripBytes))
		})
	}
	return out
}

var errAnswer = errors.New("not the known answer")

// same compares with a known answer; an empty one proves nothing.
func same(got, want []byte) error {
	if len(want) == 0 || !bytes.Equal(got, want) {
		return errAnswer
	}
	return nil
}

func (v vectors) testSM3() error {
	got := gm.SM3(v.sm3Input)
	return same(got[:], v.sm3)
}

func (v vectors) testHMAC() error {
	got := gm.PRF(v.hmacKey, v.hmacInput)
	return same(got[:], v.hmac)
}

func (v vectors) testCBC() error {
	zero := make([]byte, 16)
	if err := same(gm.EncryptCBC(v.cbcKey, zero, v.cbcPlain), v.cbcCipher); err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	plain, err := gm.DecryptCBC(v.cbcKey, zero, v.cbcCipher)
	if err == nil {
		err = same(plain, v.cbcPlain)
	}
	if err != nil {
		return fmt.Errorf("decrypt: %w", err)
	}
	return nil
}

func (v vectors) testGCM() error {
	aead, err := newGCM(v.gcmKey)
	if err != nil {
		return err
	}
	if len(v.gcmNonce) != aead.NonceSize() {
		return errAnswer
	}
	if err := same(aead.Seal(nil, v.gcmNonce, v.gcmPlain, v.gcmAAD), v.gcmCipher); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	plain, err := aead.Open(nil, v.gcmNonce, v.gcmCipher, v.gcmAAD)
	if err == nil {
		err = same(plain, v.gcmPlain)
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if _, err := aead.Open(nil, v.gcmNonce, flipped(v.gcmCipher), v.gcmAAD); err == nil {
		return errors.New("a forged packet opens")
	}
	return nil
}

func (v vectors) testVerify() error {
	pub, err := publicKey(v.signPub)
	if err != nil {
		return err
	}
	e, err := gm.SignatureDigest(pub, "", v.signed)
	if err != nil {
		return err
	}
	if !gm.VerifyDigest(pub, e[:], v.signature) {
		return errAnswer
	}
	if gm.VerifyDigest(pub, flipped(e[:]), v.signature) {
		return errors.New("a forged message verifies")
	}
	return nil
}

func (v vectors) testDecrypt() error {
	key, err := privateKey(v.envelopeKey)
	if err != nil {
		return err
	}
	got, err := gm.OpenEnvelope(key, v.envelope)
	if err != nil {
		return err
	}
	defer got.Wipe()
	if err := same(got.Bytes(), v.temporary); err != nil {
		return err
	}
	if _, err := gm.OpenEnvelope(key, flipped(v.envelope)); err == nil {
		return errors.New("a forged envelope opens")
	}
	return nil
}

// testPair signs with a private key of which the public one is known, and encrypts to
// that. What SM2 signs and encrypts holds a random number, so that its bytes cannot
// be foretold; that the two keys belong together can be.
func (v vectors) testPair(random io.Reader) error {
	key, err := privateKey(v.pairKey)
	if err != nil {
		return err
	}
	pub, err := publicKey(v.pairPub)
	if err != nil {
		return err
	}
	if !pub.Equal(&key.PublicKey) {
		return fmt.Errorf("public key: %w", errAnswer)
	}
	if err := signed(random, key, pub); err != nil {
		return err
	}
	return enveloped(random, key, pub)
}

// signAndVerify is the pairwise consistency of a fresh key.
func signAndVerify(random io.Reader) error {
	key, err := newKey(random)
	if err != nil {
		return err
	}
	return signed(random, key, &key.PublicKey)
}

func encryptAndDecrypt(random io.Reader) error {
	key, err := newKey(random)
	if err != nil {
		return err
	}
	return enveloped(random, key, &key.PublicKey)
}

func signed(random io.Reader, key crypto.Signer, pub *ecdsa.PublicKey) error {
	e, err := gm.SignatureDigest(pub, "", []byte("self-test"))
	if err != nil {
		return err
	}
	sig, err := gm.SignDigest(random, key, e[:])
	if err != nil {
		return err
	}
	if !gm.VerifyDigest(pub, e[:], sig) {
		return errors.New("our own signature does not verify")
	}
	return nil
}

func enveloped(random io.Reader, key crypto.Decrypter, pub *ecdsa.PublicKey) error {
	want := make([]byte, gm.KeyLen)
	if _, err := io.ReadFull(random, want); err != nil {
		return err
	}
	body, err := gm.SealEnvelope(random, pub, want, policy.SKDER)
	if err != nil {
		return err
	}
	got, err := gm.OpenEnvelope(key, body)
	if err != nil {
		return err
	}
	defer got.Wipe()
	return same(got.Bytes(), want)
}

// flipped copies b with its last bit changed.
func flipped(b []byte) []byte {
	out := bytes.Clone(b)
	if len(out) > 0 {
		out[len(out)-1] ^= 1
	}
	return out
}
