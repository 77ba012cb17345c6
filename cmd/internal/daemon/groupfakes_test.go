package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yumen/cmd/internal/control"
	"yumen/esp"
	"yumen/esp/links"
	"yumen/ike"
	"yumen/policy"
)

// fakePaths is a data plane whose far end answers at once, unless a path is dead.
type fakePaths struct {
	echoes chan esp.Echo

	mu     sync.Mutex
	steers map[string][][]string
	dead   map[string]bool
	muted  map[string]bool
	asked  map[string]int
	refuse error // of Steer
	unsent error // of Echo
}

func newFakePaths() *fakePaths {
	return &fakePaths{echoes: make(chan esp.Echo, 1000), steers: map[string][][]string{}, dead: map[string]bool{}, muted: map[string]bool{}, asked: map[string]int{}}
}

func (f *fakePaths) Steer(group string, to []esp.Weight) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	var names []string
	for _, w := range to {
		names = append(names, w.Tunnel)
	}
	f.steers[group] = append(f.steers[group], names)
	return nil
}

func (f *fakePaths) Echo(name string, seq uint64, _ int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if name == "childless" {
		return fmt.Errorf("probe: %w", esp.ErrNoChild)
	}
	if f.unsent != nil {
		return f.unsent
	}
	f.asked[name]++
	if !f.dead[name] && !f.muted[name] {
		f.echoes <- esp.Echo{Answer: true, Seq: seq, Tunnel: name, At: time.Now()}
	}
	return nil
}

func (f *fakePaths) EchoGroup(group string, seq uint64, _ int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.steers[group]
	if len(list) == 0 {
		return errors.New("nobody carries")
	}
	if by := list[len(list)-1][0]; !f.dead[by] && !f.muted[by] {
		f.echoes <- esp.Echo{Answer: true, Group: true, Seq: seq, Tunnel: by, At: time.Now(), Far: 77}
	}
	return nil
}

func (f *fakePaths) Echoes() <-chan esp.Echo { return f.echoes }

func (f *fakePaths) Mute(name string, on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.muted[name] = on
	return nil
}

func (f *fakePaths) kill(name string, dead bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead[name] = dead
}

func (f *fakePaths) isMuted(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.muted[name]
}

func (f *fakePaths) carries(group string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if list := f.steers[group]; len(list) > 0 {
		return strings.Join(list[len(list)-1], ",")
	}
	return ""
}

type fakeLinks struct {
	states chan links.State
	mu     sync.Mutex
	list   []links.Path
}

func (f *fakeLinks) Follow(list []links.Path) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.Clone(list)
}
func (f *fakeLinks) States() <-chan links.State { return f.states }

// groupPolicy has one group of these tunnels, each to a peer of its own.
func groupPolicy(tunnels ...string) *policy.Policy {
	p := &policy.Policy{}
	g := policy.Group{Name: "dr", PreemptDelay: 300 * time.Millisecond,
		Probe: policy.Probe{Interval: 20 * time.Millisecond, Lost: 4, Loss: 0, Recover: 3}}
	for i, name := range tunnels {
		p.Peers = append(p.Peers, policy.Peer{Name: "by-" + name, Remote: policy.Remote{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}})
		p.Tunnels = append(p.Tunnels, policy.Tunnel{Name: name, Peer: "by-" + name})
		g.Members = append(g.Members, policy.Member{Tunnel: name, Priority: i + 1, Weight: 1})
	}
	p.Groups = []policy.Group{g}
	return p
}

// scene is groups at work over fakes.
type scene struct {
	*groups
	plane *fakePaths
	links *fakeLinks
	lines *safeBuffer

	mu sync.Mutex
	up map[string]bool // tunnels that have a child
}

type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) has(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(b.String(), text)
}

func newScene(t *testing.T, p *policy.Policy) *scene {
	t.Helper()
	s := &scene{plane: newFakePaths(), links: &fakeLinks{states: make(chan links.State, 10)}, lines: &safeBuffer{}, up: map[string]bool{}}
	for _, one := range p.Tunnels {
		s.up[one.Name] = true
	}
	s.groups = newGroups(s.plane, s.links, slog.New(slog.NewTextHandler(s.lines, nil)), s.engine)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, p) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Error("groups do not end")
		}
	})
	return s
}

func (s *scene) engine(context.Context) (ike.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out ike.Status
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range s.up {
			if !yield(n) {
				return
			}
		}
	}) {
		t := ike.TunnelStatus{Name: name, Peer: "by-" + name}
		if s.up[name] {
			t.InUse = 1
			t.Children = []esp.Child{{ID: 1, Path: esp.Path{Local: netip.MustParseAddrPort("203.0.113.1:0")}}}
		}
		out.Tunnels = append(out.Tunnels, t)
	}
	return out, nil
}

func (s *scene) child(name string, up bool) {
	s.mu.Lock()
	s.up[name] = up
	s.mu.Unlock()
	s.tell(ike.Event{Kind: ike.ChildDown, Tunnel: name})
}

// until waits for a condition; what names it.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 10 s: %s", what)
}

func (s *scene) carriedBy(t *testing.T, want string) {
	t.Helper()
	until(t, "the group goes by "+want, func() bool { return s.plane.carries("dr") == want })
}

func (s *scene) state(tunnel string) control.Path {
	for _, g := range s.status() {
		for _, p := range g.Paths {
			if p.Tunnel == tunnel {
				return p
			}
		}
	}
	return control.Path{}
}

func (s *scene) good(t *testing.T, tunnels ...string) {
	t.Helper()
	for _, name := range tunnels {
		until(t, name+" is good", func() bool { return s.state(name).State == "good" })
	}
}
