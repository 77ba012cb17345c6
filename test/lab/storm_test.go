package lab

import (
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	storms = flag.Int("storms", 10000, "how many storms to run")
	only   = flag.Uint64("seed", 0, "run only this storm and print it")
)

// A storm ends with one tunnel up, whatever happened before.
func TestEveryStormEndsWithOneTunnelUp(t *testing.T) {
	if *only != 0 {
		s := NewStorm(members(), *only)
		wrong := s.Rage()
		t.Logf("%v\n%v", s, s.Lab.Story.String())
		for _, w := range wrong {
			t.Error(w)
		}
		return
	}
	rage(t, *storms)
}

// rage runs storms with the seeds from 1 on.
func rage(t *testing.T, storms int, change ...func(i, r *Site)) {
	t.Helper()
	var next, failed atomic.Uint64
	var work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for seed := next.Add(1); seed <= uint64(storms) && failed.Load() < 10; seed = next.Add(1) {
				s := NewStorm(members(), seed, change...)
				s.Lab.Story.Off = true
				if wrong := s.Rage(); len(wrong) > 0 {
					failed.Add(1)
					t.Errorf("%v: %q", s, wrong)
				}
			}
		})
	}
	work.Wait()
}

// The same seed gives the same storm, to the last line of its transcript.
func TestStormsAreDeterministic(t *testing.T) {
	for seed := range uint64(60) {
		a, b := NewStorm(members(), seed), NewStorm(members(), seed)
		a.Rage()
		b.Rage()
		if a.Digest() != b.Digest() {
			t.Fatalf("%v: two runs differ: %s", a, difference(a.Lab.Story.String(), b.Lab.Story.String()))
		}
	}
}
