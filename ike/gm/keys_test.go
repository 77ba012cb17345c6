package gm

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/emmansun/gmsm/sm3"
)

func TestWipedKeysAreGoneFromEveryCopy(t *testing.T) {
	e := readExample(t)
	k := e.keys()
	cp := k
	inside := [][]byte{k.SKEYID.Bytes(), k.D.Bytes(), k.A.Bytes(), k.E.Bytes(), k.CipherKey()}
	k.Wipe()
	for i, b := range inside {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("key %d is not overwritten: %x", i, b)
		}
	}
	if cp.CipherKey() != nil || cp.E.Len() != 0 || cp.SKEYID.Len() != 0 {
		t.Error("a copy still has keys")
	}
	if EncryptCBC(cp.CipherKey(), make([]byte, 16), make([]byte, 16)) != nil {
		t.Error("a wiped key encrypts")
	}
	if (Keys{}).CipherKey() != nil {
		t.Error("no keys have a cipher key")
	}
	Keys{}.Wipe()
}

func TestCipherKeyCannotGrowIntoTheRest(t *testing.T) {
	k := readExample(t).keys()
	before := bytes.Clone(k.E.Bytes())
	_ = append(k.CipherKey(), 1, 2, 3)
	checkBytes(t, "SKEYID_e", k.E.Bytes(), before)
}

func TestKeysAreNeverPrinted(t *testing.T) {
	k := readExample(t).keys()
	for _, verb := range []string{"%v", "%+v", "%s"} {
		s := fmt.Sprintf(verb, k)
		if bytes.Contains([]byte(s), []byte("af75db")) || !bytes.Contains([]byte(s), []byte("[secret]")) {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

func TestKeysHangOnEveryInput(t *testing.T) {
	e := readExample(t)
	cki, ckr := e.cookies()
	ni, nr := e.nonce("Ni"), e.nonce("Nr")
	want := e.keys()
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
		return b
	}
	for name, k := range map[string]Keys{
		"Ni":              DeriveKeys(flip(ni), nr, cki, ckr),
		"Nr":              DeriveKeys(ni, flip(nr), cki, ckr),
		"CKY-I":           DeriveKeys(ni, nr, [8]byte(flip(cki[:])), ckr),
		"CKY-R":           DeriveKeys(ni, nr, cki, [8]byte(flip(ckr[:]))),
		"nonces swapped":  DeriveKeys(nr, ni, cki, ckr),
		"cookies swapped": DeriveKeys(ni, nr, ckr, cki),
	} {
		if k.SKEYID.Equal(want.SKEYID.Bytes()) || k.D.Equal(want.D.Bytes()) ||
			k.A.Equal(want.A.Bytes()) || k.E.Equal(want.E.Bytes()) {
			t.Errorf("%s does not change every key", name)
		}
	}
}

func TestKeyMaterialIsThePRFIterated(t *testing.T) {
	e := readExample(t)
	k := e.keys()
	ni, nr := []byte("nonce of the initiator"), []byte("nonce of the responder")
	seed := append([]byte{2, 0xc7, 0x13, 0xad, 0x06}, append(bytes.Clone(ni), nr...)...)
	var want, prev []byte
	for range 4 {
		sum := PRF(k.D.Bytes(), prev, seed)
		prev = bytes.Clone(sum[:])
		want = append(want, prev...)
	}
	for n := range 129 {
		got := Keymat(k.D, 2, e.u32("SPI resp"), ni, nr, n)
		if !got.Equal(want[:n]) {
			t.Errorf("%d bytes: %x, want %x", n, got.Bytes(), want[:n])
		}
		if cap(got.Bytes()) != n {
			t.Errorf("%d bytes: %d bytes of more key material behind them", n, cap(got.Bytes())-n)
		}
	}
	other := Keymat(k.D, 3, e.u32("SPI resp"), ni, nr, 48)
	if other.Equal(want[:48]) {
		t.Error("AH and ESP with one SPI have one key")
	}
}

func TestLastBlockOfLessThanABlockIsZero(t *testing.T) {
	b := bytes.Repeat([]byte{1}, 15)
	if LastBlock(nil) != [16]byte{} || LastBlock(b) != [16]byte{} {
		t.Error("less than a block gives an IV")
	}
	b = append(b, 2, 3)
	if got := LastBlock(b); !bytes.Equal(got[:], b[1:]) {
		t.Errorf("last block %x", got)
	}
}

func TestEachMessageIDHasItsOwnIV(t *testing.T) {
	last := LastBlock(readExample(t).get("M6 wire"))
	seen := map[[16]byte]uint32{}
	for id := range uint32(1000) {
		iv := PhaseTwoIV(last, id)
		if old, ok := seen[iv]; ok {
			t.Fatalf("message IDs %d and %d share an IV", old, id)
		}
		seen[iv] = id
	}
	sum := SM3(last[:], binary.BigEndian.AppendUint32(nil, 0x01020304))
	if got := PhaseTwoIV(last, 0x01020304); !bytes.Equal(got[:], sum[:16]) {
		t.Errorf("IV %x", got)
	}
}

func TestCBCRefusesWhatIsNoWholeBlock(t *testing.T) {
	key, iv := make([]byte, 16), make([]byte, 16)
	for _, n := range []int{0, 1, 15, 17, 31, 33} {
		if out, err := DecryptCBC(key, iv, make([]byte, n)); err == nil || out != nil {
			t.Errorf("%d bytes are decrypted", n)
		}
		if n > 0 && EncryptCBC(key, iv, make([]byte, n)) != nil {
			t.Errorf("%d bytes are encrypted", n)
		}
	}
	for _, n := range []int{0, 15, 17, 32} {
		if out, err := DecryptCBC(make([]byte, n), iv, make([]byte, 16)); err == nil || out != nil {
			t.Errorf("a key of %d bytes decrypts", n)
		}
		if out, err := DecryptCBC(key, make([]byte, n), make([]byte, 16)); err == nil || out != nil {
			t.Errorf("an IV of %d bytes decrypts", n)
		}
		if EncryptCBC(make([]byte, n), iv, make([]byte, 16)) != nil || EncryptCBC(key, make([]byte, n), make([]byte, 16)) != nil {
			t.Errorf("a key or an IV of %d bytes encrypts", n)
		}
	}
}

func TestCBCLeavesItsInputsAlone(t *testing.T) {
	key, iv, plain := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{3}, 64)
	out := EncryptCBC(key, iv, plain)
	back, err := DecryptCBC(key, iv, out)
	if err != nil || !bytes.Equal(back, bytes.Repeat([]byte{3}, 64)) || bytes.Equal(out, plain) {
		t.Errorf("came back as %x, %v", back, err)
	}
	if !bytes.Equal(iv, bytes.Repeat([]byte{2}, 16)) || !bytes.Equal(plain, bytes.Repeat([]byte{3}, 64)) {
		t.Error("an input was changed")
	}
}

func TestPRFIsHMAC(t *testing.T) {
	for _, n := range []int{0, 1, 16, 32, 63, 64, 65, 200} {
		key, msg := bytes.Repeat([]byte{7}, n), bytes.Repeat([]byte{9}, 3*n+1)
		h := hmac.New(sm3.New, key)
		h.Write(msg)
		if sum := PRF(key, msg[:n], nil, msg[n:]); !bytes.Equal(sum[:], h.Sum(nil)) {
			t.Errorf("a key of %d bytes: %x", n, sum)
		}
	}
}
