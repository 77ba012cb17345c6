package selftest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// failed names what failed.
func failed(results []Result) []string {
	var names []string
	for _, r := range results {
		if r.Err != nil {
			names = append(names, r.Name)
		}
	}
	return names
}

func TestSoundMachinePassesEveryTest(t *testing.T) {
	results := Run(rand.Reader)
	if err := Err(results); err != nil {
		t.Fatal(err)
	}
	if len(results) != 13 {
		t.Fatalf("%d tests ran", len(results))
	}
	for _, r := range results {
		if r.Name == "" || r.Took < 0 {
			t.Errorf("%+v", r)
		}
	}
}

func TestNoResultIsAFailure(t *testing.T) {
	if Err(nil) == nil {
		t.Fatal("nothing tested counts as passed")
	}
}

// Each known answer, corrupted by one bit, must fail its own test and no other.
func TestEachCorruptedKnownAnswerRefuses(t *testing.T) {
	owner := map[string]string{
		"sm3Input": "sm3", "sm3": "sm3",
		"hmacKey": "hmac-sm3", "hmacInput": "hmac-sm3", "hmac": "hmac-sm3",
		"cbcKey": "sm4-cbc", "cbcPlain": "sm4-cbc", "cbcCipher": "sm4-cbc",
		"gcmKey": "sm4-gcm", "gcmNonce": "sm4-gcm", "gcmAAD": "sm4-gcm", "gcmPlain": "sm4-gcm", "gcmCipher": "sm4-gcm",
		"signPub": "sm2 verify", "signed": "sm2 verify", "signature": "sm2 verify",
		"envelopeKey": "sm2 decrypt", "envelope": "sm2 decrypt", "temporary": "sm2 decrypt",
		"pairKey": "sm2 known key pair", "pairPub": "sm2 known key pair",
	}
	shape := reflect.TypeFor[vectors]()
	if shape.NumField() != len(owner) {
		t.Fatalf("%d known answers, %d are corrupted here", shape.NumField(), len(owner))
	}
	for i := range shape.NumField() {
		for name, harm := range map[string]func([]byte) []byte{"flipped": flipped, "empty": func([]byte) []byte { return nil }} {
			v := known()
			// The fields are unexported: reach them by their place.
			field := fields(&v)[i]
			*field = harm(*field)
			got := run(rand.Reader, v)
			want := owner[shape.Field(i).Name]
			if names := failed(got); len(names) != 1 || names[0] != want || Err(got) == nil {
				t.Errorf("%s %s: failed %q, want %q", shape.Field(i).Name, name, names, want)
			}
		}
	}
}

// fields lists the members in the order of the struct.
func fields(v *vectors) []*[]byte {
	return []*[]byte{&v.sm3Input, &v.sm3, &v.hmacKey, &v.hmacInput, &v.hmac, &v.cbcKey, &v.cbcPlain, &v.cbcCipher,
		&v.gcmKey, &v.gcmNonce, &v.gcmAAD, &v.gcmPlain, &v.gcmCipher, &v.signPub, &v.signed, &v.signature,
		&v.envelopeKey, &v.envelope, &v.temporary, &v.pairKey, &v.pairPub}
}

// biased gives the byte 7 once in every n bytes, else good bytes. n is odd, so that
// some windows of the test, whose length is a power of two, begin with a 7.
type biased struct {
	good io.Reader
	n    int
	at   int
}

func (b *biased) Read(p []byte) (int, error) {
	n, err := b.good.Read(p)
	for i := range p[:n] {
		if b.at++; b.at%b.n == 0 {
			p[i] = 7
		}
	}
	return n, err
}

type constant byte

func (c constant) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c)
	}
	return len(p), nil
}

// repeater gives good bytes but repeats each a few times.
type repeater struct{ times int }

func (r repeater) Read(p []byte) (int, error) {
	one := make([]byte, 1)
	for i := range p {
		if i%r.times == 0 {
			if _, err := rand.Read(one); err != nil {
				return i, err
			}
		}
		p[i] = one[0]
	}
	return len(p), nil
}

func TestBrokenRandomSourceRefuses(t *testing.T) {
	const read, repeat, share = "random source: read", "random source: repetition count", "random source: adaptive proportion"
	for name, c := range map[string]struct {
		source io.Reader
		want   []string
	}{
		"stuck at zero":     {constant(0), []string{repeat, share}},
		"stuck at all ones": {constant(255), []string{repeat, share}},
		"repeating":         {repeater{6}, []string{repeat}},
		"biased":            {&biased{good: rand.Reader, n: 3}, []string{share}},
		"short":             {bytes.NewReader(make([]byte, sampleSize-1)), []string{read, repeat, share}},
		"failing":           {iotest.ErrReader(errors.New("no entropy")), []string{read, repeat, share}},
	} {
		t.Run(name, func(t *testing.T) {
			results := Run(c.source)
			err := Err(results)
			names := strings.Join(failed(results), "; ")
			if err == nil || !strings.Contains(names, strings.Join(c.want, "; ")) {
				t.Fatalf("failed %q, want %q", names, c.want)
			}
			if !errors.Is(err, errNotRun) {
				t.Fatal("a key was made from a broken source")
			}
		})
	}
}

// A source that is good for the health tests and then sticks must end in an
// error, not in an endless search for a key.
func TestSourceThatTurnsBadEnds(t *testing.T) {
	for _, value := range []constant{0, 255} {
		source := io.MultiReader(io.LimitReader(rand.Reader, sampleSize), value)
		if Err(Run(source)) == nil {
			t.Fatalf("keys were made of bytes %d", value)
		}
	}
}

func TestCutoffsOfTheHealthTestsAreExact(t *testing.T) {
	sample := make([]byte, 2*window)
	for i := range sample {
		sample[i] = byte(i)
	}
	run := func(n int) []byte {
		s := bytes.Clone(sample)
		for i := range n {
			s[100+i] = 42
		}
		return s
	}
	if err := repetitionCount(run(repetitionCutoff - 1)); err != nil {
		t.Error(err)
	}
	if repetitionCount(run(repetitionCutoff)) == nil {
		t.Error("the repetition count does not see its cut-off")
	}
	share := func(n int) []byte { // n places of the second window hold its first byte
		s := bytes.Clone(sample)
		for i := range window {
			s[window+i] = byte(1 + i%200)
		}
		s[window] = 250
		for i := 1; i < n; i++ {
			s[window+i*7] = 250
		}
		return s
	}
	if err := adaptiveProportion(share(proportionCutoff - 1)); err != nil {
		t.Error(err)
	}
	if adaptiveProportion(share(proportionCutoff)) == nil {
		t.Error("the adaptive proportion does not see its cut-off")
	}
}

// The cut-off of 4.4.2 computed from its definition, exactly.
func TestProportionCutoffFollowsFromAlpha(t *testing.T) {
	// Probabilities in units of 256^-512, so that all are whole numbers.
	total := new(big.Int).Exp(big.NewInt(256), big.NewInt(window), nil)
	limit := new(big.Int).Sub(total, new(big.Int).Rsh(total, 40)) // 1 - alpha
	sum := new(big.Int)
	for k := int64(0); k <= window; k++ {
		term := new(big.Int).Binomial(window, k)
		term.Mul(term, new(big.Int).Exp(big.NewInt(255), big.NewInt(window-k), nil))
		if sum.Add(sum, term).Cmp(limit) >= 0 {
			if 1+k != proportionCutoff {
				t.Fatalf("cut-off is %d", 1+k)
			}
			return
		}
	}
	t.Fatal("no cut-off")
}
