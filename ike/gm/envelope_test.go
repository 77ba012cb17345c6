package gm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm2"

	"yumen/policy"
)

// counter is a reader of predictable bytes; its value is where it starts.
type counter byte

func (c counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c) + byte(i)*37 + 11
	}
	return len(p), nil
}

// device is a key outside: it knows DER of GM/T 0009 only, and counts.
type device struct {
	key   *sm2.PrivateKey
	calls int
	forms [][]byte
	err   error
	plain []byte // answered instead, when set
}

func (d *device) Public() crypto.PublicKey { return d.key.Public() }

func (d *device) Decrypt(_ io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	d.calls++
	d.forms = append(d.forms, bytes.Clone(msg))
	switch {
	case opts != nil:
		return nil, errors.New("options are not understood")
	case msg[0] != 0x30:
		return nil, errors.New("DER only")
	case d.plain != nil:
		return bytes.Clone(d.plain), nil
	case d.err != nil:
		return nil, d.err
	}
	return d.key.Decrypt(nil, msg, nil)
}

// forms are the four bodies a peer may send for one envelope.
func forms(t *testing.T, e example) map[string][]byte {
	t.Helper()
	der := e.get("SKi body")
	c, err := derCiphertext(der)
	if err != nil {
		t.Fatal(err)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	return map[string][]byte{
		"DER":          der,
		"04|x|y|C3|C2": join([]byte{4}, c.x, c.y, c.c3, c.c2),
		"x|y|C3|C2":    join(c.x, c.y, c.c3, c.c2),
		"04|x|y|C2|C3": join([]byte{4}, c.x, c.y, c.c2, c.c3),
		"x|y|C2|C3":    join(c.x, c.y, c.c2, c.c3),
	}
}

func TestEveryFormOfAnEnvelopeOpens(t *testing.T) {
	e := readExample(t)
	for name, body := range forms(t, e) {
		key := &device{key: e.private("d_enc_r")}
		got, err := OpenEnvelope(key, body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		e.check("Ski", got.Bytes())
		want := 2
		if name == "DER" {
			want = 1
		}
		if key.calls != want {
			t.Errorf("%s: %d private-key operations, want %d", name, key.calls, want)
		}
	}
}

// Every form of one envelope has one mark, another envelope has another, and what
// is no envelope stands for itself.
func TestEnvelopeIsKnownByItsPointInEveryForm(t *testing.T) {
	e := readExample(t)
	mark := EnvelopeMark(e.get("SKi body"))
	if len(mark) != 64 {
		t.Fatalf("a mark of %d bytes", len(mark))
	}
	for name, body := range forms(t, e) {
		before := bytes.Clone(body)
		if got := EnvelopeMark(body); !bytes.Equal(got, mark) || !bytes.Equal(body, before) {
			t.Errorf("%s: mark %x, want %x", name, got, mark)
		}
		if got := EnvelopeMark(append(body, 0)); bytes.Equal(got, mark) {
			t.Errorf("%s with a byte more has the same mark", name)
		}
	}
	if bytes.Equal(EnvelopeMark(e.get("SKr body")), mark) {
		t.Error("two envelopes have one mark")
	}
}

func TestSealedEnvelopesOpenInEveryEncoding(t *testing.T) {
	e := readExample(t)
	key := e.private("d_enc_r")
	sk := e.get("Skr")
	for enc, size := range map[policy.SKEncoding]int{policy.SKDER: 0, policy.SKC1C3C2: 113, policy.SKC1C2C3: 113} {
		for i := range 20 {
			body, err := SealEnvelope(counter(i), &key.PublicKey, sk, enc)
			if err != nil {
				t.Fatal(err)
			}
			first := byte(0x30)
			if size > 0 {
				first = 4
			}
			if body[0] != first || size > 0 && len(body) != size {
				t.Errorf("encoding %d: %d bytes beginning with %#02x", enc, len(body), body[0])
			}
			got, err := OpenEnvelope(key, body)
			if err != nil || !got.Equal(sk) {
				t.Errorf("encoding %d: %v", enc, err)
			}
		}
	}
}

func TestEnvelopeIsSealedForSM2KeysAndSixteenBytesOnly(t *testing.T) {
	e := readExample(t)
	pub := &e.private("d_enc_r").PublicKey
	for _, n := range []int{0, 15, 17, 32} {
		if _, err := SealEnvelope(counter(1), pub, make([]byte, n), policy.SKDER); err == nil {
			t.Errorf("%d bytes are sealed", n)
		}
	}
	p256 := elliptic.P256().Params()
	for name, bad := range map[string]*ecdsa.PublicKey{
		"none": nil, "no curve": {}, "P-256": {Curve: elliptic.P256(), X: p256.Gx, Y: p256.Gy},
	} {
		if _, err := SealEnvelope(counter(1), bad, e.get("Ski"), policy.SKDER); !errors.Is(err, errNotSM2) {
			t.Errorf("a key of kind %q: %v", name, err)
		}
		if _, err := SignatureDigest(bad, "", nil); !errors.Is(err, errNotSM2) {
			t.Errorf("a digest for a key of kind %q: %v", name, err)
		}
		if VerifyDigest(bad, make([]byte, 32), e.get("SIG_i")) {
			t.Errorf("a key of kind %q verifies", name)
		}
	}
	broken := io.LimitReader(counter(1), 5)
	if _, err := SealEnvelope(broken, pub, e.get("Ski"), policy.SKDER); err == nil {
		t.Error("an envelope is sealed without randomness")
	}
}

func TestMalformedEnvelopesCostOneOperationOverAStandIn(t *testing.T) {
	e := readExample(t)
	c, _ := derCiphertext(e.get("SKi body"))
	zero := make([]byte, 32)
	raw := func(x, y []byte) []byte { return bytes.Join([][]byte{{4}, x, y, c.c3, c.c2}, nil) }
	seq := func(parts ...[]byte) []byte { return derSequence(parts...) }
	x, y, c3, c2 := derInteger(c.x), derInteger(c.y), derOctets(c.c3), derOctets(c.c2)
	for _, m := range []struct {
		what  string
		body  []byte
		calls int
		want  string
	}{
		{"nothing", nil, 1, "envelope: 0 bytes are neither"},
		{"a byte", []byte{0x30}, 1, "envelope: 1 bytes are neither"},
		{"111 bytes", make([]byte, 111), 1, "envelope: 111 bytes are neither"},
		{"113 bytes without 04", append([]byte{2}, make([]byte, 112)...), 1, "envelope: 113 bytes are neither"},
		{"a byte behind the DER", append(bytes.Clone(e.get("SKi body")), 0), 1, "envelope: 124 bytes are neither"},
		{"DER cut", e.get("SKi body")[:122], 1, "envelope: 122 bytes are neither"},
		{"raw, not on the curve", raw(c.x, c.x), 2, "envelope: c1: not a point"},
		{"raw, zero point", raw(zero, zero), 2, "envelope: c1: not a point"},
		{"raw, coordinate above the prime", raw(bytes.Repeat([]byte{255}, 32), c.y), 2, "envelope: c1: not a point"},
		{"DER, not on the curve", seq(x, x, c3, c2), 1, "envelope: c1: not a point"},
		{"DER, x missing", seq(c3, c2), 1, "envelope: c1: x is no positive"},
		{"DER, y missing", seq(x, c3, c2), 1, "envelope: c1: y is no positive"},
		{"DER, C3 missing", seq(x, y, c2), 1, "envelope: c3: no octet string of 32"},
		{"DER, C3 of 31 bytes", seq(x, y, derOctets(c.c3[:31]), c2), 1, "envelope: c3: no octet string of 32"},
		{"DER, C2 missing", seq(x, y, c3), 1, "envelope: c2: no octet string of 16"},
		{"DER, C2 of 15 bytes", seq(x, y, c3, derOctets(c.c2[:15])), 1, "envelope: c2: no octet string of 16"},
		{"DER, C2 of 32 bytes", seq(x, y, c3, derOctets(c.c3)), 1, "envelope: c2: no octet string of 16"},
		{"DER, something more", seq(x, y, c3, c2, x), 1, "envelope: 35 bytes too many"},
		{"DER, C2 before C3", seq(x, y, c2, c3), 1, "envelope: c3: no octet string of 32"},
		{"DER, x zero", seq([]byte{2, 1, 0}, y, c3, c2), 1, "envelope: c1: x is no positive"},
		{"DER, x empty", seq([]byte{2, 0}, y, c3, c2), 1, "envelope: c1: x is no positive"},
		{"DER, x negative", seq(append([]byte{2, 32}, c.x...), y, c3, c2), 1, "envelope: c1: x is no positive"},
		{"DER, needless zero", seq(x, append([]byte{2, 33, 0}, c.y...), c3, c2), 1, "envelope: c1: y is no positive"},
		{"DER, x of 33 bytes", seq(append([]byte{2, 33, 1}, c.x...), y, c3, c2), 1, "envelope: c1: x is no positive"},
		{"DER, long length", append([]byte{0x30, 0x81}, e.get("SKi body")[1:]...), 1, "envelope: 124 bytes are neither"},
		{"DER, indefinite length", append(append([]byte{0x30, 0x80}, e.get("SKi body")[2:]...), 0, 0), 1, "envelope: 125 bytes are neither"},
	} {
		key := &device{key: e.private("d_enc_r")}
		got, err := OpenEnvelope(key, m.body)
		if err == nil || got.Len() != 0 {
			t.Errorf("%s: opened", m.what)
			continue
		}
		if !strings.HasPrefix(err.Error(), m.want) {
			t.Errorf("%s: %q, want %q", m.what, err, m.want)
		}
		if key.calls != m.calls {
			t.Errorf("%s: %d operations, want %d", m.what, key.calls, m.calls)
		}
		for _, f := range key.forms {
			if c, err := derCiphertext(f); err != nil || !onCurve(c.x, c.y) {
				t.Errorf("%s: the key was given %x: %v", m.what, f, err)
			}
		}
	}
}

func TestFlippedBitsCloseAnEnvelope(t *testing.T) {
	e := readExample(t)
	key := e.private("d_enc_r")
	for name, body := range forms(t, e) {
		for at := range body {
			bad := bytes.Clone(body)
			bad[at] ^= 0x10
			if got, err := OpenEnvelope(key, bad); err == nil {
				t.Errorf("%s: byte %d flipped opens %d bytes", name, at, got.Len())
			}
		}
	}
	if _, err := OpenEnvelope(e.private("d_enc_i"), e.get("SKi body")); err == nil {
		t.Error("the wrong key opens the envelope")
	}
}

func TestEachStrictPrefixOfAnEnvelopeIsRefused(t *testing.T) {
	e := readExample(t)
	key := e.private("d_enc_r")
	for name, body := range forms(t, e) {
		for n := range len(body) {
			if _, err := OpenEnvelope(key, body[:n]); err == nil {
				t.Errorf("%s: the first %d bytes open", name, n)
			}
		}
	}
}

func TestDeviceThatFailsOrAnswersOddlyOpensNothing(t *testing.T) {
	e := readExample(t)
	gone := errors.New("card removed")
	_, err := OpenEnvelope(&device{key: e.private("d_enc_r"), err: gone}, e.get("SKi body"))
	if !errors.Is(err, gone) {
		t.Errorf("the device's error is lost: %v", err)
	}
	for _, n := range []int{0, 15, 17} {
		key := &device{plain: make([]byte, n)}
		if got, err := OpenEnvelope(key, e.get("SKi body")); err == nil {
			t.Errorf("a plaintext of %d bytes is taken: %d", n, got.Len())
		}
	}
	// A device that answers anything does not turn a malformed body into a key.
	if _, err := OpenEnvelope(&device{plain: make([]byte, 16)}, []byte("no envelope")); err == nil {
		t.Error("the answer to the stand-in became a key")
	}
}

func FuzzOpenEnvelope(f *testing.F) {
	key, err := sm2.GenerateKey(counter(3))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		forms, err := envelopeForms(body)
		if n := len(forms); n < 1 || n > 2 {
			t.Fatalf("%d forms", n)
		}
		for _, form := range forms {
			c, e := derCiphertext(form)
			if e != nil || !bytes.Equal(c.der(), form) {
				t.Fatalf("form %x: %v", form, e)
			}
			if err == nil && len(forms) == 1 && !bytes.Equal(form, body) {
				t.Fatalf("%x is read as %x", body, form)
			}
		}
		if _, err := OpenEnvelope(key, body); err == nil {
			t.Fatal("an envelope for another key opens")
		}
	})
}
