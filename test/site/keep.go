package site

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// Test is what Begin asks of a *testing.T.
type Test interface {
	Helper()
	Name() string
	Failed() bool
	Skip(args ...any)
	Fatal(args ...any)
	Logf(format string, args ...any)
	Cleanup(f func())
}

// Begin makes a world and a folder that are gone after the test, whatever happens,
// an interrupt too. Of a test that failed, Keep keeps the folder. A test whose
// tools are missing is skipped.
func Begin(t Test, tools ...string) (*World, string) {
	t.Helper()
	if why := Missing(tools...); why != "" {
		t.Skip("SKIP namespaces: " + why)
	}
	dir, err := os.MkdirTemp("", "yt-") // short: it holds the path of a Unix socket
	if err != nil {
		t.Fatal(err)
	}
	w := New()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, interrupted := <-stop; interrupted {
			w.Close()
			os.Exit(130)
		}
	}()
	t.Cleanup(func() {
		signal.Stop(stop)
		close(stop)
		w.Close()
		if t.Failed() {
			Keep(t, dir)
		}
		_ = os.RemoveAll(dir)
	})
	return w, dir
}

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
