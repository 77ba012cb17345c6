package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The best kernel of a machine is the last that the benchmarks print.
func TestRatiosAreReadFromWhatBenchmarksPrint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	text := `goos: linux
BenchmarkRatios/aesni/seal-CBC-HMAC/24-2   1  640.15 MB/s  9.000 aim  6.000 must  7.897 x
BenchmarkRatios/vaes/seal-CBC-HMAC/24-2    1  700.12 MB/s  9.000 aim  6.000 must  8.698 x
BenchmarkRatios/vaes/seal-CBC-HMAC/48-2    1  700.12 MB/s  9.000 aim  6.000 must  1.5 x
BenchmarkRatios/vaes/SM4-GCM-seal          1  700.12 MB/s  2.4 x
BenchmarkHandshake-16  100  5018421 ns/op  0.8000 aim  634.0 handshakes/s  0.6000 must  1167 sm2-bound/s  0.5434 x-of-bound
BenchmarkHandshakeOther-16  100  0.9 x-of-bound
PASS
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := fromBenchmarks(file)
	if err != nil || len(list) != 7 {
		t.Fatalf("%d rows, %v", len(list), err)
	}
	for i, want := range map[int]float64{0: 8.698, 1: 0, 4: 2.4, 6: 0.5434} {
		if list[i].measured != want {
			t.Errorf("%s: %v, want %v", list[i].what, list[i].measured, want)
		}
	}
	if !strings.HasSuffix(list[0].how, "kernel vaes") || strings.Contains(list[6].how, "kernel") {
		t.Errorf("%q, %q", list[0].how, list[6].how)
	}
	if _, err := fromBenchmarks(file + "none"); err == nil {
		t.Error("a file that is not there")
	}
}
