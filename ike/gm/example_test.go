package gm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm2"
)

// example is the published worked example, by name of the value.
type example struct {
	t *testing.T
	v map[string][]byte
}

func readExample(t *testing.T) example {
	t.Helper()
	text, err := os.ReadFile("testdata/worked_example.txt")
	if err != nil {
		t.Fatal(err)
	}
	e := example{t, map[string][]byte{}}
	name := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		digits := strings.TrimSpace(line)
		switch {
		case digits == "" || line[0] == '#':
			continue
		case line[0] != ' ':
			name, digits, _ = strings.Cut(line, " =")
			digits = strings.TrimSpace(digits)
		}
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		e.v[name] = append(e.v[name], b...)
	}
	return e
}

func (e example) get(name string) []byte {
	e.t.Helper()
	b, ok := e.v[name]
	if !ok {
		e.t.Fatalf("the worked example has no value %q", name)
	}
	return b
}

func (e example) u32(name string) uint32 { return binary.BigEndian.Uint32(e.get(name)) }

func (e example) cookies() (cki, ckr [8]byte) {
	return [8]byte(e.get("CKY-I")), [8]byte(e.get("CKY-R"))
}

// nonce and id are the plain fields without padding.
func (e example) nonce(name string) []byte { return e.get(name + " plain")[:16] }
func (e example) id(name string) []byte    { return e.get(name + " plain")[:80] }

func (e example) keys() Keys {
	cki, ckr := e.cookies()
	return DeriveKeys(e.nonce("Ni"), e.nonce("Nr"), cki, ckr)
}

func (e example) private(name string) *sm2.PrivateKey {
	e.t.Helper()
	k, err := sm2.NewPrivateKey(e.get(name))
	if err != nil {
		e.t.Fatal(err)
	}
	return k
}

func (e example) public(name string) *PublicKey {
	e.t.Helper()
	k, err := sm2.NewPublicKey(e.get(name))
	if err != nil {
		e.t.Fatal(err)
	}
	return k
}

func (e example) check(name string, got []byte) {
	e.t.Helper()
	if want := e.get(name); !bytes.Equal(got, want) {
		e.t.Errorf("%s\n got %x\nwant %x", name, got, want)
	}
}

func checkBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s\n got %x\nwant %x", what, got, want)
	}
}

// payloads cuts a decrypted body into the bodies of its payloads, of whatever
// type, and says where the last one ends.
func payloads(t *testing.T, plain []byte) (bodies [][]byte, end int) {
	t.Helper()
	for {
		n := int(binary.BigEndian.Uint16(plain[end+2:]))
		next := plain[end]
		bodies = append(bodies, plain[end+4:end+n])
		if end += n; next == 0 {
			return bodies, end
		}
	}
}
