package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"yumen/test/site"
)

// yumen is the binary under test, built once for all tests.
var yumen string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	if site.Missing() != "" {
		return m.Run() // each test says why it is skipped
	}
	dir, err := os.MkdirTemp("", "yumen-soak-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	yumen = filepath.Join(dir, "yumen")
	if out, err := exec.Command("go", "build", "-o", yumen, "yumen/cmd/yumen").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// newWorld is a world and a folder that are gone after the test, whatever
// happens. Of a test that failed the logs are kept in build/failed.
func newWorld(t *testing.T, tools ...string) (*site.World, string) {
	t.Helper()
	if why := site.Missing(tools...); why != "" {
		t.Skip("SKIP soak: " + why)
	}
	dir, err := os.MkdirTemp("", "yk-") // short: it holds the path of a Unix socket
	if err != nil {
		t.Fatal(err)
	}
	w := site.New()
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
			keep(t, dir)
		}
		_ = os.RemoveAll(dir)
	})
	return w, dir
}

func keep(t *testing.T, dir string) {
	to := filepath.Join("..", "..", "build", "failed", strings.ReplaceAll(t.Name(), "/", "_"))
	_ = os.RemoveAll(to)
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // sockets
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		rel, _ := filepath.Rel(dir, path)
		_ = os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o755)
		_ = os.WriteFile(filepath.Join(to, rel), b, 0o600)
		return nil
	})
	for _, name := range []string{"a", "b"} {
		b, _ := os.ReadFile(filepath.Join(dir, name, "yumen.log"))
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		t.Logf("log of %s ends:\n  %s", name, strings.Join(lines[max(0, len(lines)-12):], "\n  "))
	}
	t.Logf("logs and configurations are in build/failed/%s", filepath.Base(to))
}

// need ends the test at the first error.
func need(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// eventually asks until ask returns nil, and returns how long that took.
func eventually(t *testing.T, what string, limit time.Duration, ask func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	var err error
	for time.Since(begin) < limit {
		if err = ask(); err == nil {
			return time.Since(begin)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s: not after %v: %v", what, limit, err)
	return 0
}
