package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/cmd/internal/bench"
)

// TestMain is the gateway too: `bench` runs its own binary, which here is the test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		main()
	}
	os.Exit(m.Run())
}

func needsNamespaces(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: not root: network namespaces cannot be made")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("SKIP: %v", err)
	}
}

// nothingLeft wants no child, no file of a namespace and no thread in another one, and
// nothing in the folder of temporary files.
func nothingLeft(t *testing.T, temp string) {
	t.Helper()
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if left = remains(t, temp); len(left) == 0 {
			return
		}
	}
	t.Errorf("left behind: %s", strings.Join(left, "; "))
}

func remains(t *testing.T, temp string) (left []string) {
	t.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	threads, _ := filepath.Glob("/proc/self/task/*/ns/net")
	if len(threads) == 0 {
		t.Fatal("no thread found: this test looks at the wrong place")
	}
	for _, f := range threads {
		if at, err := os.Readlink(f); err == nil && at != own {
			left = append(left, f+" in "+at)
		}
	}
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, f := range files {
		if at, _ := os.Readlink(f); strings.HasPrefix(at, "net:[") {
			left = append(left, f+" is "+at)
		}
	}
	children, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range children {
		if b, _ := os.ReadFile(f); len(bytes.TrimSpace(b)) > 0 {
			left = append(left, fmt.Sprintf("children %s", b))
		}
	}
	entries, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	return left
}

func TestAQuickBenchMeasuresAPairAndLeavesNothing(t *testing.T) {
	needsNamespaces(t)
	temp, out := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)
	file := filepath.Join(out, "figures.json")
	// The test asks whether it measures, not what: the machine may be busy.
	status, table, progress := yumen("bench", "--quick", "--accept-loss", "20", "--tunnels", "10", "--ways", "cbc,gcm-udp", "--json", file, "--plot", filepath.Join(out, "plots"))
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, progress)
	}
	nothingLeft(t, temp)
	var r bench.Report
	b, err := os.ReadFile(file)
	if err := errors.Join(err, json.Unmarshal(b, &r)); err != nil {
		t.Fatal(err)
	}
	if len(r.Throughput) < 24 || len(r.Loss) < 12 || len(r.Latency) < 12 || len(r.Tunnels) < 1 || len(r.Kernels) < 2 {
		t.Errorf("figures are missing: %s", table)
	}
	seen := map[string]int{}
	for _, x := range r.Throughput {
		seen[fmt.Sprint(x.Way, x.Directions)]++
		if x.Mbit <= 0 || x.Packets <= 0 || x.Loss > 20 {
			t.Errorf("throughput %+v", x)
		}
	}
	for _, x := range r.Loss {
		if x.Received <= 0 || x.Offered < x.Received*0.99 || x.Loss < 0 || x.Loss >= 100 {
			t.Errorf("loss %+v", x)
		}
	}
	for _, x := range r.Latency {
		if x.Median <= 0 || x.Delay <= 0 || x.P99 < x.Median || x.Samples < 25 {
			t.Errorf("latency %+v", x)
		}
	}
	for _, x := range r.Tunnels {
		if x.PerSecond <= 0 || x.Concurrent != 10 || x.Resident <= 0 {
			t.Errorf("tunnels %+v", x)
		}
	}
	if seen["cbc1"] < 6 || seen["cbc2"] < 6 || seen["gcm-udp1"] < 6 || seen["gcm-udp2"] < 6 {
		t.Errorf("throughput by way: %v", seen)
	}
	planes := map[string]bool{}
	for _, x := range r.Tunnels {
		planes[x.Plane] = true
	}
	for _, g := range r.NotMeasured {
		planes[strings.TrimPrefix(g.What, "plane ")] = g.Reason != ""
	}
	if !planes["user"] || !planes["kernel"] {
		t.Errorf("neither measured nor said why not: %v", planes)
	}
	if !strings.Contains(table, "not line rate") || !strings.Contains(progress, "throughput.svg") {
		t.Errorf("table %s\nprogress %s", table, progress)
	}
}

// interrupt ends a context when a line of progress says so.
type interrupt struct {
	word string
	stop context.CancelFunc
}

func (i interrupt) Write(b []byte) (int, error) {
	if strings.Contains(string(b), i.word) {
		time.AfterFunc(50*time.Millisecond, i.stop)
	}
	return len(b), nil
}

func TestAnInterruptedBenchLeavesNothing(t *testing.T) {
	needsNamespaces(t)
	for _, word := range []string{"latency", "throughput", "10 tunnels"} {
		temp := t.TempDir()
		t.Setenv("TMPDIR", temp)
		ctx, stop := context.WithCancel(context.Background())
		o := bench.Quick()
		o.Tunnels, o.Progress = 10, interrupt{word, stop}
		if word == "10 tunnels" {
			o.Only = []string{"tunnels"}
		}
		if _, err := bench.Run(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at %s: %v", word, err)
		}
		stop()
		nothingLeft(t, temp)
	}
}

func TestBenchRefusesWhatItDoesNotMeasure(t *testing.T) {
	if status, _, stderr := yumen("bench", "--only", "speed"); status != exitFailed || !strings.Contains(stderr, "throughput") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	if status, _, stderr := yumen("bench", "--ways", "ah"); status != exitFailed || !strings.Contains(stderr, "gcm-udp") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	status, out, stderr := yumen("bench", "--quick", "--seconds", "0.05", "--only", "kernels", "--json", "-")
	if status != 0 || !json.Valid([]byte(out)) {
		t.Errorf("exit status %d: %s: %s", status, stderr, out)
	}
}
