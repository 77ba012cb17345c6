package gm

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm3"
)

// What a hash function holds is read as fmt prints it, hidden fields included.
func TestNoHashKeepsWhatItWasGiven(t *testing.T) {
	for name, fresh := range map[string]func() hash.Hash{"SM3": sm3.New, "SHA-256": sha256.New} {
		clean := fmt.Sprint(fresh())
		h := fresh()
		h.Write([]byte("a secret of some bytes"))
		if fmt.Sprint(h) == clean {
			t.Fatalf("%s: a state is not seen by this test", name)
		}
		for _, n := range []int{0, 1, 16, 31, 32, 55, 56, 63, 64, 65, 127, 128, 200} {
			secret := bytes.Repeat([]byte{0xa7}, n)
			if h = fresh(); Digest(h, secret[:n/2], secret[n/2:]) == [32]byte{} || fmt.Sprint(h) != clean {
				t.Errorf("%s of %d bytes left %v", name, n, h)
			}
			if h = fresh(); HMAC(h, secret, secret, []byte{1}) == [32]byte{} || fmt.Sprint(h) != clean {
				t.Errorf("HMAC-%s with a key of %d bytes left %v", name, n, h)
			}
		}
	}
}

func TestHMACIsThatOfTheLibrary(t *testing.T) {
	for name, fresh := range map[string]func() hash.Hash{"SM3": sm3.New, "SHA-256": sha256.New} {
		for _, n := range []int{0, 1, 16, 32, 63, 64, 65, 200} {
			key, text := bytes.Repeat([]byte{7}, n), strings.Repeat("text", n)
			want := hmac.New(fresh, key)
			want.Write([]byte(text))
			if got := HMAC(fresh(), key, []byte(text[:n]), []byte(text[n:])); !hmac.Equal(got[:], want.Sum(nil)) {
				t.Errorf("HMAC-%s with a key of %d bytes: %x", name, n, got)
			}
		}
	}
}
