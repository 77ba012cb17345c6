// Package links tells at once when the beginning of a path goes down or comes back:
// its interface, its local address, or the route to its far end. What is behind the
// first hop it does not see; for that there are probes.
//
// It refuses to know tunnels, peers and planes: a path has a name, and what that means
// is its user's business.
package links

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Path is what is watched.
type Path struct {
	Name      string
	Local     netip.Addr // ours; none: what the host chooses
	Interface string     // that must be there; empty: that of the route alone
	Remote    netip.Addr // the far end; none: not known
}

// State is what became of a path.
type State struct {
	Name string
	Up   bool
	Why  string // in words, when it is down
	At   time.Time
}

// host answers what the kernel knows.
type host interface {
	// Check says why a path does not begin; empty: it does.
	check(p Path) string
	// wait returns when something changed; false: it is over.
	wait() bool
	// poke ends a wait.
	poke()
	close()
}

// Watcher watches paths. Its methods are for any goroutine.
type Watcher struct {
	host    host
	states  chan State
	done    chan struct{}
	running sync.WaitGroup

	mu    sync.Mutex // guards what follows
	paths []Path
	last  map[string]State
}

// states that wait for their reader, beyond which the watcher waits too.
const queue = 256

// settle is the least time between two looks: whoever receives a full table of
// routes changes them by the hundred thousand.
const settle = 5 * time.Millisecond

func newWatcher(h host) *Watcher {
	w := &Watcher{host: h, states: make(chan State, queue), done: make(chan struct{}), last: map[string]State{}}
	w.running.Go(w.run)
	return w
}

// Follow replaces the list of paths. The state of each that is new or has changed its
// ends is told, of the others when it changes.
func (w *Watcher) Follow(list []Path) {
	w.mu.Lock()
	known := func(p Path) bool { return slices.Contains(w.paths, p) }
	last := map[string]State{}
	for _, p := range list {
		if s, ok := w.last[p.Name]; ok && known(p) {
			last[p.Name] = s
		}
	}
	w.paths, w.last = slices.Clone(list), last
	w.mu.Unlock()
	w.host.poke()
}

// States are the changes, in order. It is closed by Close.
func (w *Watcher) States() <-chan State { return w.states }

// Close ends the watch.
func (w *Watcher) Close() {
	close(w.done)
	w.host.close()
	w.running.Wait()
	close(w.states)
}

func (w *Watcher) run() {
	for w.host.wait() {
		for _, s := range w.look() {
			select {
			case w.states <- s:
			case <-w.done:
				return
			}
		}
		select {
		case <-time.After(settle):
		case <-w.done:
			return
		}
	}
}

// look checks all paths and returns what is news.
func (w *Watcher) look() (news []State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.paths {
		why := w.host.check(p)
		before, known := w.last[p.Name]
		if known && before.Up == (why == "") {
			continue
		}
		s := State{Name: p.Name, Up: why == "", Why: why, At: time.Now()}
		w.last[p.Name] = s
		news = append(news, s)
	}
	return news
}
