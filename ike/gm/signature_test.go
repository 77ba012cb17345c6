package gm

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"testing"

	"github.com/emmansun/gmsm/sm2"
)

// signer is a key outside that answers with what it is told.
type signer struct {
	key    *sm2.PrivateKey
	answer func(der []byte) ([]byte, error)
}

func (s signer) Public() crypto.PublicKey { return s.key.Public() }

func (s signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != 0 {
		return nil, errors.New("the digest would be hashed again")
	}
	der, err := s.key.Sign(rand, digest, opts)
	if err != nil {
		return nil, err
	}
	return s.answer(der)
}

func TestDigestsAreSignedAndVerified(t *testing.T) {
	key, err := sm2.GenerateKey(counter(5))
	if err != nil {
		t.Fatal(err)
	}
	for _, uid := range []string{"", "ALICE123@YAHOO.COM"} {
		e, err := SignatureDigest(&key.PublicKey, uid, []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := SignDigest(counter(6), key, e[:])
		if err != nil {
			t.Fatal(err)
		}
		if !VerifyDigest(&key.PublicKey, e[:], sig) {
			t.Error("our own signature does not verify")
		}
		if !sm2.VerifyASN1WithSM2(&key.PublicKey, []byte(uid), []byte("message"), sig) {
			t.Error("the library does not verify our signature over the message")
		}
		other, _ := SignatureDigest(&key.PublicKey, uid+"x", []byte("message"))
		if other == e || VerifyDigest(&key.PublicKey, other[:], sig) {
			t.Error("the user ID does not enter the digest")
		}
	}
}

func TestDeviceMaySignInEitherForm(t *testing.T) {
	key, err := sm2.GenerateKey(counter(5))
	if err != nil {
		t.Fatal(err)
	}
	e := SM3([]byte("digest"))
	lost := errors.New("card removed")
	for name, answer := range map[string]func([]byte) ([]byte, error){
		"DER": func(der []byte) ([]byte, error) { return der, nil }, "raw": RawSignature,
	} {
		sig, err := SignDigest(counter(1), signer{key, answer}, e[:])
		if err != nil || sig[0] != 0x30 || !VerifyDigest(&key.PublicKey, e[:], sig) {
			t.Errorf("%s: %x, %v", name, sig, err)
		}
	}
	_, err = SignDigest(counter(1), signer{key, func([]byte) ([]byte, error) { return nil, lost }}, e[:])
	if !errors.Is(err, lost) {
		t.Errorf("the device's error is lost: %v", err)
	}
	if _, err = SignDigest(counter(1), signer{key, func([]byte) ([]byte, error) { return []byte("no"), nil }}, e[:]); err == nil {
		t.Error("an answer that is no signature is passed on")
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := SignDigest(counter(1), key, make([]byte, n)); err == nil {
			t.Errorf("a digest of %d bytes is signed", n)
		}
	}
}

func TestForgedSignaturesDoNotVerify(t *testing.T) {
	e := readExample(t)
	pub := e.public("pub_sign_i")
	msg := SignedMessage(e.get("Ski"), e.nonce("Ni"), e.id("IDi"), e.get("CERT_enc_i_b"), false)
	digest, err := SignatureDigest(pub, "", msg)
	if err != nil {
		t.Fatal(err)
	}
	der := e.get("SIG_i")
	raw, err := RawSignature(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range [][]byte{der, raw} {
		for at := range sig {
			bad := bytes.Clone(sig)
			bad[at] ^= 1
			if VerifyDigest(pub, digest[:], bad) {
				t.Errorf("a signature of %d bytes verifies with byte %d flipped", len(sig), at)
			}
			if VerifyDigest(pub, digest[:], sig[:at]) {
				t.Errorf("the first %d bytes of a signature verify", at)
			}
		}
		if VerifyDigest(pub, digest[:], append(bytes.Clone(sig), 0)) {
			t.Error("a signature verifies with a byte behind it")
		}
		if VerifyDigest(pub, digest[:31], sig) || VerifyDigest(pub, append(digest[:], 0), sig) {
			t.Error("a digest of a wrong length verifies")
		}
		if VerifyDigest(e.public("pub_sign_r"), digest[:], sig) {
			t.Error("the peer's key verifies our signature")
		}
	}
	if VerifyDigest(pub, digest[:], make([]byte, 64)) || VerifyDigest(pub, digest[:], nil) {
		t.Error("zeros verify")
	}
}

func TestRawSignatureRefusesWhatIsNoDER(t *testing.T) {
	e := readExample(t)
	raw, err := RawSignature(e.get("SIG_r"))
	if err != nil || len(raw) != 64 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	r, s, _ := derSignature(e.get("SIG_r"))
	if !bytes.Equal(raw, append(bytes.Clone(r), s...)) {
		t.Error("not r|s")
	}
	short := derSequence(derInteger([]byte{1}), derInteger([]byte{0x80}))
	raw, err = RawSignature(short)
	if err != nil || len(raw) != 64 || raw[31] != 1 || raw[63] != 0x80 || !bytes.Equal(raw[:31], make([]byte, 31)) {
		t.Errorf("short numbers are not filled up: %x, %v", raw, err)
	}
	for name, bad := range map[string][]byte{
		"nothing":       nil,
		"raw":           make([]byte, 64),
		"one number":    derSequence(derInteger([]byte{1})),
		"three numbers": derSequence(derInteger([]byte{1}), derInteger([]byte{2}), derInteger([]byte{3})),
		"no sequence":   derInteger([]byte{1}),
		"s of 33 bytes": derSequence(derInteger([]byte{1}), derInteger(bytes.Repeat([]byte{1}, 33))),
		"trailing":      append(derSequence(derInteger([]byte{1}), derInteger([]byte{2})), 0),
	} {
		if got, err := RawSignature(bad); err == nil {
			t.Errorf("%s: %x", name, got)
		}
	}
}

func TestLengthsOfDERAreMinimal(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 255, 256, 65535} {
		b := derOctets(make([]byte, n))
		body, rest, ok := derElement(append(b, 9), tagOctets)
		if !ok || len(body) != n || !bytes.Equal(rest, []byte{9}) {
			t.Errorf("%d bytes: %d, %x, %v", n, len(body), rest, ok)
		}
	}
	for name, b := range map[string][]byte{
		"127 in the long form":   append([]byte{4, 0x81, 127}, make([]byte, 127)...),
		"255 in two bytes":       append([]byte{4, 0x82, 0, 255}, make([]byte, 255)...),
		"three bytes of length":  append([]byte{4, 0x83, 1, 0, 0}, make([]byte, 65536)...),
		"length cut":             {4, 0x82, 1},
		"length of one byte cut": {4, 0x81},
		"indefinite":             {4, 0x80, 0, 0},
		"body cut":               {4, 2, 0},
		"another tag":            {5, 0},
		"a tag alone":            {4},
	} {
		if body, _, ok := derElement(b, tagOctets); ok {
			t.Errorf("%s: %d bytes", name, len(body))
		}
	}
}
