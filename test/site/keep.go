package site

import (
	"os"
	"path/filepath"
	"strings"
)

// Keep copies the files of a test that failed to build/failed, from a package two
// levels below the root, and prints the ends of its logs.
func Keep(t interface {
	Name() string
	Logf(format string, args ...any)
}, dir string) {
	to := filepath.Join("..", "..", "build", "failed", strings.ReplaceAll(t.Name(), "/", "_"))
	_ = os.RemoveAll(to)
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		rel, _ := filepath.Rel(dir, path)
		if filepath.Ext(path) == ".log" {
			lines := strings.Split(strings.TrimSpace(string(b)), "\n")
			t.Logf("%s ends:\n  %s", rel, strings.Join(lines[max(0, len(lines)-12):], "\n  "))
		}
		out := filepath.Join(to, rel)
		_ = os.MkdirAll(filepath.Dir(out), 0o755)
		_ = os.WriteFile(out, b, 0o600)
		return nil
	})
	t.Logf("logs, captures and configurations are in build/failed/%s", filepath.Base(to))
}
