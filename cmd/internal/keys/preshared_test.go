package keys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPreSharedKeyIsTextOrDigitsOfAFileOfItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peer.psk")
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string // key, or a part of the fault behind "!"
	}{
		{"a long enough key\n", 0o600, "a long enough key"},
		{"a long enough key\r\nanother line\n", 0o400, "a long enough key"},
		{"0x6162636465666768\n", 0o600, "abcdefgh"},
		{"0x616\n", 0o600, "!hexadecimal"},
		{"0xzz6162636465666768", 0o600, "!hexadecimal"},
		{"short\n", 0o600, "!at least 8"},
		{"0x61626364", 0o600, "!4 bytes"},
		{"\n", 0o600, "!empty"},
		{"a long enough key\n", 0o640, "!chmod 600"},
	} {
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		key, err := PreShared(path)
		if want, fault := strings.CutPrefix(c.want, "!"); fault {
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%q with mode %o: %v, want %q", c.text, c.mode, err, want)
			}
		} else if err != nil || string(key.Bytes()) != want {
			t.Errorf("%q with mode %o: %q, %v", c.text, c.mode, key.Bytes(), err)
		}
	}
	if _, err := PreShared(path + ".none"); err == nil {
		t.Error("a file that does not exist was read")
	}
}
