package wire

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand"
	"os"
	"strings"
	"testing"
)

// messages are the messages of testdata/messages.txt by name.
func messages(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	name := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] != ' ':
			name = strings.TrimSuffix(line, " =")
		default:
			all[name] = append(all[name], unhex(t, strings.TrimSpace(line))...)
		}
	}
	return all
}

// message is one of them, which must exist.
func message(t testing.TB, name string) []byte {
	t.Helper()
	b, ok := messages(t)[name]
	if !ok {
		t.Fatalf("testdata/messages.txt has no %q", name)
	}
	return b
}

// clear parses one of them that is in the clear.
func clearMessage(t testing.TB, name string) Message {
	t.Helper()
	m, err := Parse(message(t, name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

// plainMessage is a decrypted body behind the header that it had on the wire.
func plainMessage(t testing.TB, name string, exchange ExchangeType, id uint32) Message {
	t.Helper()
	m1 := clearMessage(t, "M4")
	plain := message(t, name+" plain")
	m := Message{Header: m1.Header}
	m.Exchange, m.MessageID, m.Flags, m.Next = exchange, id, FlagEncrypted, TypeHash
	m.Length = uint32(HeaderLen + len(plain))
	var err error
	if m.Payloads, _, err = ParseBody(TypeHash, plain, Padding); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

// unhex reads hexadecimal digits, spaces allowed.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

// sized sets the length field of a message to the length that it has, as an
// attacker who cuts or glues would.
func sized(b []byte) []byte {
	b = append([]byte(nil), b...)
	if len(b) >= HeaderLen {
		binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	}
	return b
}

// types are the payload types of a message in order.
func types(ps []Payload) (ts []PayloadType) {
	for _, p := range ps {
		ts = append(ts, p.Type)
	}
	return ts
}

// refused checks that err is there and says want.
func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: accepted, want %q", what, want)
	case err.Error() != want:
		t.Errorf("%s\n got %q\nwant %q", what, err, want)
	}
}

// some returns up to n random bytes, at least min.
func some(r *rand.Rand, min, n int) []byte {
	b := make([]byte, min+r.Intn(n-min+1))
	r.Read(b)
	return b
}
