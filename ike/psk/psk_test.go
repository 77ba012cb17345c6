package psk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"net/netip"
	"testing"

	"yumen/policy"
	"yumen/policy/secret"
)

func TestGroup14IsTheSafePrimeOfRFC3526(t *testing.T) {
	p, ok := new(big.Int).SetString(prime, 16)
	if !ok || p.BitLen() != 2048 {
		t.Fatal("no number of 2048 bits")
	}
	q := new(big.Int).Rsh(p, 1)
	if !p.ProbablyPrime(8) || !q.ProbablyPrime(8) {
		t.Error("not a safe prime")
	}
	// RFC 3526 3: 2^2048 - 2^1984 - 1 + 2^64 * { [2^1918 pi] + 124476 }
	two := func(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n) }
	want := new(big.Int).Sub(two(2048), two(1984))
	want.Sub(want, big.NewInt(1))
	want.Add(want, new(big.Int).Mul(two(64), new(big.Int).Add(piTimes(1918), big.NewInt(124476))))
	if want.Cmp(p) != 0 {
		t.Errorf("the formula gives %x", want)
	}
}

// piTimes is floor(2^bits * pi), by Machin's formula.
func piTimes(bits uint) *big.Int {
	const guard = 64
	one := new(big.Int).Lsh(big.NewInt(1), bits+guard)
	arctan := func(x int64) *big.Int { // of 1/x
		sum, term := new(big.Int), new(big.Int).Div(one, big.NewInt(x))
		for n := int64(1); term.Sign() != 0; n += 2 {
			part := new(big.Int).Div(term, big.NewInt(n))
			if n%4 == 1 {
				sum.Add(sum, part)
			} else {
				sum.Sub(sum, part)
			}
			term.Div(term, big.NewInt(x*x))
		}
		return sum
	}
	pi := new(big.Int).Sub(new(big.Int).Mul(arctan(5), big.NewInt(16)), new(big.Int).Mul(arctan(239), big.NewInt(4)))
	return pi.Rsh(pi, guard)
}

func TestBothEndsAgreeAndBigIntegersSaySo(t *testing.T) {
	p, _ := new(big.Int).SetString(prime, 16)
	a, b := bytes.Repeat([]byte{0xa5}, ExponentLen), append(make([]byte, ExponentLen-1), 3)
	ga, err := Raise(nil, a)
	if err != nil {
		t.Fatal(err)
	}
	gb, err := Raise(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	if want := new(big.Int).Exp(big.NewInt(2), new(big.Int).SetBytes(a), p); new(big.Int).SetBytes(ga).Cmp(want) != 0 {
		t.Error("g^a differs from that of math/big")
	}
	if len(gb) != PublicLen || new(big.Int).SetBytes(gb).Int64() != 8 {
		t.Errorf("2^3 is %x", gb)
	}
	one, err1 := Raise(gb, a)
	two, err2 := Raise(ga, b)
	if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
		t.Errorf("the ends do not agree: %v, %v", err1, err2)
	}
}

func TestPublicValuesOfNobodyAreRefused(t *testing.T) {
	p, _ := new(big.Int).SetString(prime, 16)
	value := func(n *big.Int) []byte { return n.FillBytes(make([]byte, PublicLen)) }
	for name, v := range map[string][]byte{
		"nothing": nil, "zero": value(new(big.Int)), "one": value(big.NewInt(1)), "the prime": value(p),
		"p-1": value(new(big.Int).Sub(p, big.NewInt(1))), "too short": value(big.NewInt(5))[1:],
		"too long": append([]byte{0}, value(big.NewInt(5))...), "beyond": bytes.Repeat([]byte{0xff}, PublicLen),
	} {
		if err := CheckPublic(v); !errors.Is(err, ErrPublic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckPublic(value(new(big.Int).Sub(p, big.NewInt(2)))); err != nil {
		t.Errorf("p-2: %v", err)
	}
	if _, err := Raise(value(big.NewInt(1)), make([]byte, ExponentLen)); !errors.Is(err, ErrPublic) {
		t.Errorf("raised: %v", err)
	}
	if _, err := Raise(nil, make([]byte, ExponentLen-1)); err == nil {
		t.Error("a short exponent was taken")
	}
}

func exchange(s policy.IKESuite) Exchange {
	return Exchange{Suite: s, Key: secret.New([]byte("swordfish")), NonceI: []byte("nonce of i......"), NonceR: []byte("nonce of r......"),
		PublicI: bytes.Repeat([]byte{1}, PublicLen), PublicR: bytes.Repeat([]byte{2}, PublicLen),
		Shared: secret.New(bytes.Repeat([]byte{3}, PublicLen)), CookieI: [8]byte{4}, CookieR: [8]byte{5}}
}

// The prf and hash are those of their suite: published answers.
func TestSuitesHaveTheirOwnHash(t *testing.T) {
	for s, want := range map[policy.IKESuite]string{
		policy.AESSHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", // FIPS 180-4
		policy.SM4SM3:    "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0", // GB/T 32905 A.1
	} {
		if got := Hash(s, []byte("a"), []byte("bc")); hex.EncodeToString(got[:]) != want {
			t.Errorf("%v: %x", s, got)
		}
	}
	// RFC 4231 4.2, case 1.
	got := prf(policy.AESSHA256, secret.New(bytes.Repeat([]byte{0x0b}, 20)), []byte("Hi "), []byte("There"))
	if hex.EncodeToString(got[:]) != "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" {
		t.Errorf("hmac: %x", got)
	}
}

// Each key, hash and IV hangs on everything that its formula names.
func TestEverythingEntersTheKeys(t *testing.T) {
	for _, s := range []policy.IKESuite{policy.AESSHA256, policy.SM4SM3} {
		x := exchange(s)
		base := x.Keys()
		for name, change := range map[string]func(*Exchange){
			"key": func(x *Exchange) { x.Key = secret.New([]byte("Swordfish")) }, "ni": func(x *Exchange) { x.NonceI = []byte("other") },
			"nr": func(x *Exchange) { x.NonceR = []byte("other") }, "shared": func(x *Exchange) { x.Shared = secret.New([]byte("x")) },
			"cky-i": func(x *Exchange) { x.CookieI[7]++ }, "cky-r": func(x *Exchange) { x.CookieR[7]++ },
		} {
			y := exchange(s)
			change(&y)
			k := y.Keys()
			if k.e.Equal(base.e.Bytes()) || k.a.Equal(base.a.Bytes()) || k.d.Equal(base.d.Bytes()) {
				t.Errorf("%v: %s does not enter a key", s, name)
			}
		}
		hi, hr := base.HashI(x, []byte("sa"), []byte("id")), base.HashR(x, []byte("sa"), []byte("id"))
		if hi == hr || hi == base.HashI(x, []byte("sb"), []byte("id")) || hr == base.HashR(x, []byte("sa"), []byte("ie")) {
			t.Errorf("%v: the proofs do not differ", s)
		}
		iv := x.IV()
		plain := []byte("sixteen letters!")
		sealed := base.Encrypt(iv, plain)
		opened, err := base.Decrypt(iv, sealed)
		if err != nil || !bytes.Equal(opened, plain) || bytes.Equal(sealed, plain) {
			t.Errorf("%v: %x, %v", s, opened, err)
		}
		if _, err := base.Decrypt(iv, sealed[1:]); err == nil || base.Encrypt(iv, plain[1:]) != nil {
			t.Errorf("%v: half a block was taken", s)
		}
		a := base.Keymat(3, 1, x.NonceI, x.NonceR, 48)
		if b := base.Keymat(3, 2, x.NonceI, x.NonceR, 48); a.Len() != 48 || a.Equal(b.Bytes()) {
			t.Errorf("%v: keymat", s)
		}
		one, two := netip.MustParseAddrPort("192.0.2.1:500"), netip.MustParseAddrPort("192.0.2.1:501")
		if NATD(s, x.CookieI, x.CookieR, one) == NATD(s, x.CookieI, x.CookieR, two) {
			t.Errorf("%v: the port does not enter NAT-D", s)
		}
		base.Wipe()
		if _, err := base.Decrypt(iv, sealed); err == nil || base.Encrypt(iv, plain) != nil {
			t.Errorf("%v: wiped keys still work", s)
		}
	}
}
