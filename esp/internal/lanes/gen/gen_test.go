package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What stands in the tree is what this generator writes today, and nothing else is
// called generated.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	files := generate()
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not current: run 'go generate ./esp/internal/lanes' (%v)", name, err)
		}
	}
	list, err := filepath.Glob("../*")
	if err != nil || len(list) < len(files) {
		t.Fatalf("%d files: %v", len(list), err)
	}
	for _, path := range list {
		name := filepath.Base(path)
		if strings.HasSuffix(name, ".s") || strings.HasSuffix(name, "_gen.go") {
			if _, ours := files[name]; !ours && name != "cpu_amd64.s" {
				t.Errorf("%s comes from nowhere", name)
			}
		}
	}
}

// No two kernels may have one name, and each must be declared to Go.
func TestEveryKernelIsDeclared(t *testing.T) {
	files := generate()
	seen := map[string]bool{}
	for name, content := range files {
		for line := range strings.Lines(string(content)) {
			rest, ok := strings.CutPrefix(line, "TEXT ·")
			if !ok {
				continue
			}
			kernel, _, _ := strings.Cut(rest, "(")
			if seen[kernel] {
				t.Errorf("%s: %s a second time", name, kernel)
			}
			seen[kernel] = true
			if !bytes.Contains(files["kernels_amd64.go"], []byte("func "+kernel+"(")) {
				t.Errorf("%s: %s is not declared", name, kernel)
			}
		}
	}
	if len(seen) != 25 {
		t.Errorf("%d kernels", len(seen))
	}
}
