// Package golden holds what tests write against files of the tree.
package golden

import (
	"bytes"
	"flag"
	"os"
)

var update = flag.Bool("update", false, "write the golden files anew; then review the difference")

// Check fails t unless the file is exactly got. With -update it writes the file.
func Check(t interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
}, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (-update writes it anew): got\n%s\nwant\n%s", path, got, want)
	}
}
