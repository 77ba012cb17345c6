package links

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// paper is a host on paper.
type paper struct {
	mu      sync.Mutex
	down    map[string]string
	changed chan bool
	over    chan bool
}

func newPaper() *paper {
	return &paper{down: map[string]string{}, changed: make(chan bool, 100), over: make(chan bool)}
}

func (h *paper) check(p Path) string { h.mu.Lock(); defer h.mu.Unlock(); return h.down[p.Name] }
func (h *paper) poke()               { h.changed <- true }
func (h *paper) close()              { close(h.over) }

func (h *paper) wait() bool {
	select {
	case <-h.changed:
		return true
	case <-h.over:
		return false
	}
}

func (h *paper) set(down map[string]string) {
	h.mu.Lock()
	h.down = maps.Clone(down)
	h.mu.Unlock()
	h.poke()
}

func next(t *testing.T, w *Watcher) State {
	t.Helper()
	select {
	case s := <-w.States():
		return s
	case <-time.After(5 * time.Second):
		t.Fatal("nothing is told")
		return State{}
	}
}

func silent(t *testing.T, w *Watcher) {
	t.Helper()
	select {
	case s := <-w.States():
		t.Errorf("told %+v", s)
	case <-time.After(20 * settle):
	}
}

func TestEachChangeOfAPathIsToldOnce(t *testing.T) {
	h := newPaper()
	w := newWatcher(h)
	h.down["b"] = "no carrier"
	w.Follow([]Path{{Name: "a"}, {Name: "b"}})
	for _, want := range []State{{Name: "a", Up: true}, {Name: "b", Why: "no carrier"}} {
		got := next(t, w)
		if got.At.IsZero() {
			t.Error("it has no time")
		}
		if got.At = (time.Time{}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	h.poke()
	h.set(map[string]string{"b": "another reason"})
	silent(t, w)
	h.set(nil)
	if s := next(t, w); s.Name != "b" || !s.Up || s.Why != "" {
		t.Errorf("%+v", s)
	}
	// A path that stays is not told again, one whose ends change is.
	w.Follow([]Path{{Name: "a"}, {Name: "b", Interface: "eth1"}})
	if s := next(t, w); s.Name != "b" || !s.Up {
		t.Errorf("%+v", s)
	}
	silent(t, w)
	w.Close()
	if _, open := <-w.States(); open {
		t.Error("something is told after the end")
	}
}

func TestAWatcherEndsThoughNobodyReads(t *testing.T) {
	h := newPaper()
	w := newWatcher(h)
	list := make([]Path, queue+10)
	for i := range list {
		list[i].Name = time.Duration(i).String()
	}
	w.Follow(slices.Clone(list))
	for len(w.states) < queue {
		time.Sleep(time.Millisecond)
	}
	w.Close()
}
