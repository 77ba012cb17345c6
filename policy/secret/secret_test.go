package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"yumen/policy/secret"
)

type holder struct {
	Name  string
	Key   secret.Secret
	Inner *struct{ Keys []secret.Secret }
	ByID  map[string]secret.Secret
	any   any
	lower secret.Secret
}

// No four bytes of it look like a word of the output.
var key = []byte{0x9c, 0xe1, 0x7f, 0xd3, 0xb6, 0xa8, 0xc5, 0xf0, 0x8e, 0x93, 0xda, 0xbf, 0xe7, 0x81, 0xcc, 0xf6}

func held() holder {
	s := secret.New(key)
	return holder{
		Name: "n", Key: s, Inner: &struct{ Keys []secret.Secret }{[]secret.Secret{s}},
		ByID: map[string]secret.Secret{"a": s}, any: s, lower: s,
	}
}

// shows reports in which form text holds any four bytes of key.
func shows(text string) string {
	spaced := strings.NewReplacer(" ", "", ",", "", "0x", "").Replace(strings.ToLower(text))
	for i := 0; i+4 <= len(key); i++ {
		part := key[i : i+4]
		decimal := strings.Trim(fmt.Sprint(part), "[]")
		forms := map[string]string{
			"raw": string(part), "hex": hex.EncodeToString(part),
			"decimal": decimal, "list": strings.ReplaceAll(decimal, " ", ","),
		}
		for form, want := range forms {
			if strings.Contains(text, want) || form == "hex" && strings.Contains(spaced, want) {
				return form
			}
		}
	}
	if strings.Contains(text, base64.StdEncoding.EncodeToString(key)[:8]) {
		return "base64"
	}
	return ""
}

func TestTheSearchForAKeyFindsOne(t *testing.T) {
	for _, format := range []string{"%s", "%x", "%v", "%#v", "% x"} {
		if shows(fmt.Sprintf(format, key)) == "" {
			t.Errorf("%s of the bare key is not recognised, so nothing below proves anything", format)
		}
	}
	if b, _ := json.Marshal(key); shows(string(b)) == "" {
		t.Error("JSON of the bare key is not recognised")
	}
}

func TestNoFormatShowsASecret(t *testing.T) {
	h := held()
	for _, v := range []any{h, &h, h.Key, &h.Key, []any{h}, h.Inner, *h.Inner, h.ByID} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			text := fmt.Sprintf(format, v)
			if form := shows(text); form != "" {
				t.Errorf("%s of %T shows the key (%s): %s", format, v, form, text)
			}
		}
	}
}

func TestNoEncodingShowsASecret(t *testing.T) {
	h := held()
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if form := shows(string(b)); form != "" {
		t.Errorf("JSON shows the key (%s): %s", form, b)
	}
	if !bytes.Contains(b, []byte("[secret]")) {
		t.Errorf("JSON does not show that there is a secret: %s", b)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "key", h.Key, "holder", h)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "key", h.Key, "holder", h)
	if form := shows(out.String()); form != "" {
		t.Errorf("slog shows the key (%s): %s", form, out.String())
	}
}

func TestWipeOverwritesEveryCopy(t *testing.T) {
	bytes16 := append([]byte(nil), key...)
	s := secret.Take(bytes16)
	copied := s
	copied.Wipe()
	copied.Wipe()
	if !bytes.Equal(bytes16, make([]byte, 16)) {
		t.Errorf("the bytes remain: %x", bytes16)
	}
	if s.Bytes() != nil || s.Len() != 0 || s.Equal(key) {
		t.Error("a copy still holds the secret")
	}
	var zero secret.Secret
	zero.Wipe()
	if zero.Len() != 0 || !zero.Equal(nil) || zero.Equal(key) {
		t.Error("the zero value is not empty")
	}
}

func TestNewCopiesAndTakeDoesNot(t *testing.T) {
	own := append([]byte(nil), key...)
	copied := secret.New(own)
	clear(own)
	if !copied.Equal(key) {
		t.Error("a secret made by New changed with its source")
	}
	own = append([]byte(nil), key...)
	if taken := secret.Take(own); &taken.Bytes()[0] != &own[0] || taken.Len() != 16 {
		t.Error("Take copied, so the caller's bytes would outlive Wipe")
	}
	if copied.Equal(key[:15]) || copied.Equal(bytes.Repeat([]byte{1}, 16)) {
		t.Error("unequal bytes compare equal")
	}
}
