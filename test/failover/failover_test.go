package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"yumen/test/site"
	"yumen/test/soak/forwarder"
)

// yumen is the binary under test, built once for all tests.
var yumen string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	if site.Missing() != "" {
		return m.Run() // each test says why it is skipped
	}
	dir, err := os.MkdirTemp("", "yumen-failover-")
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

// newSites is a world of a kind, under traffic, that is gone after the test.
func newSites(t *testing.T, name string) *sites {
	t.Helper()
	w, dir := site.Begin(t)
	at := slices.IndexFunc(kinds(), func(k kind) bool { return k.name == name })
	s, err := build(w, yumen, dir, kinds()[at])
	need(t, err)
	need(t, s.begin(1))
	return s
}

func need(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// busy is what a test of every day grants a machine that does other things too.
const busy = 150 * time.Millisecond

// playAll plays the named scenes of a world. That `make failover` is held to its aims
// on a machine that is its own; here each may take a little longer.
func playAll(t *testing.T, world string, names ...string) {
	s := newSites(t, world)
	for _, c := range scenes() {
		if c.world != world || !slices.Contains(names, c.name) {
			continue
		}
		for way := range c.limits {
			c.limits[way] += busy
		}
		r, err := s.play(&c)
		need(t, err)
		names = slices.DeleteFunc(names, func(name string) bool { return name == c.name })
		t.Logf("%s: a > b %d lost, %d ms; b > a %d lost, %d ms; back %d and %d lost; flips %v; generator late %v", r.name, r.fault[0].lost, r.fault[0].gap.Milliseconds(),
			r.fault[1].lost, r.fault[1].gap.Milliseconds(), r.back[0].lost, r.back[1].lost, r.flips, r.late)
		for _, f := range r.faults {
			t.Errorf("%s: %s", r.name, f)
		}
		if r.flips[0]+r.flips[1] == 0 {
			t.Errorf("%s: nothing flipped", r.name)
		}
	}
	if len(names) > 0 {
		t.Errorf("no scenes: %q", names)
	}
}

func TestTrafficLeavesAPathThatFails(t *testing.T) {
	playAll(t, "two paths", "one-way drop, a to b", "one-way drop, b to a", "link down at both", "both down and back")
}

// A path that dies in silence, at one end alone, or not quite: one that comes and goes, is
// too slow, or loses too much.
func TestTrafficLeavesAPathThatIsNoLongerGood(t *testing.T) {
	playAll(t, "two paths", "silent drop", "link down at a", "flapping path", "slow path (+90 ms)", "lossy path (45 %)")
}

func TestTrafficLeavesAGatewayThatDies(t *testing.T) { playAll(t, "two peers", "peer kill -9") }

// Each flow stays in its order on one path, both paths are used, and the other takes
// all when one fails.
func TestLoadShareUsesBothPathsAndKeepsEachFlowInOrder(t *testing.T) {
	s := newSites(t, "load-share")
	before := s.wiresSeen()
	for _, f := range s.load.Flows {
		f[0].Watch()
		f[1].Watch()
	}
	time.Sleep(2 * time.Second)
	for path, n := range s.wiresSeen() {
		if n-before[path] < rate/2 {
			t.Errorf("of %d packets a second path %d carried %d in two", 2*rate, path+1, n-before[path])
		}
	}
	for _, pair := range s.load.Flows {
		for _, f := range pair {
			if n := f.Overtaken(); n > 0 {
				t.Errorf("flow %d from %d: %d packets were overtaken", f.Pair, f.From, n)
			}
		}
	}
	if s.clear() > 0 {
		t.Errorf("%d frames in clear", s.clear())
	}
	s.wires[1].fwd.Set(drop(true, true))
	time.Sleep(time.Second)
	mark := s.wiresSeen()
	lost := s.lostIn(time.Second)
	if n := s.wiresSeen()[0] - mark[0]; lost > 0 || n < rate {
		t.Errorf("one path alone: %d lost, it carried %d", lost, n)
	}
	s.wires[1].fwd.Set(forwarder.Weather{})
}

// wiresSeen is how many packets of ESP came by each path.
func (s *sites) wiresSeen() (n [2]uint64) {
	for i, w := range s.wires {
		esp, _ := w.fwd.Totals()
		n[i] = esp.Seen
	}
	return n
}

// lostIn counts what was sent within d and did not arrive.
func (s *sites) lostIn(d time.Duration) (lost int) {
	out, err := s.phase(func() error { return nil }, d)
	if err != nil {
		return -1
	}
	return out[0].lost + out[1].lost
}
