package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"time"

	"yumen/cmd/internal/control"
	"yumen/esp"
	"yumen/esp/links"
	"yumen/esp/warm"
	"yumen/ike"
	"yumen/policy"
)

// lookAgain is how often the engine is asked who has a child although no event said
// that it changed.
const lookAgain = 5 * time.Second

// groups keeps the paths of every group warm: one runner each. See esp/warm for what
// decides.
type groups struct {
	plane    pathSide
	log      *slog.Logger
	events   *groupCounters
	children func(ctx context.Context) (ike.Status, error)
	changed  chan struct{} // children may have
	links    linkWatch

	mu      sync.Mutex // guards what follows
	ctx     context.Context
	policy  *policy.Policy
	running map[string]*runner
	seats   map[string]seat    // by tunnel
	failed  map[string]failure // by tunnel
	lame    map[string]bool    // tunnels whose path does not begin: see link
}

// seat is the place of a tunnel in its group.
type seat struct {
	*runner
	member int
}

// failure is a path that an operator failed.
type failure struct {
	until time.Time
	timer *time.Timer
}

func newGroups(plane pathSide, watch linkWatch, log *slog.Logger, children func(ctx context.Context) (ike.Status, error)) *groups {
	return &groups{plane: plane, links: watch, log: log, events: newGroupCounters(), children: children, changed: make(chan struct{}, 1),
		running: map[string]*runner{}, failed: map[string]failure{}, lame: map[string]bool{}}
}

// serve keeps the groups of p, and of each policy that apply brings, until ctx ends.
func (g *groups) serve(ctx context.Context, p *policy.Policy) error {
	g.mu.Lock()
	g.ctx = ctx
	g.mu.Unlock()
	g.apply(p)
	var looking sync.WaitGroup
	looking.Go(func() { g.lookout(ctx) })
	defer looking.Wait()
	news := g.links.States()
	for {
		select {
		case <-ctx.Done():
			g.stop()
			return nil
		case e, open := <-g.plane.Echoes():
			if !open {
				<-ctx.Done() // the plane is closed: the gateway ends
				g.stop()
				return nil
			}
			g.hand(e)
		case n, open := <-news:
			if !open {
				news = nil
				continue
			}
			g.link(n)
		}
	}
}

// lookout looks who has a child whenever that may have changed. It is beside serve,
// because an engine that is busy must not hold up answers and news of links.
func (g *groups) lookout(ctx context.Context) {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		g.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-g.changed:
		case <-again.C:
		}
	}
}

// stop ends all runners and the clocks of failed paths.
func (g *groups) stop() {
	g.mu.Lock()
	all := g.running
	g.running, g.seats, g.policy, g.ctx = map[string]*runner{}, nil, nil, nil
	for _, f := range g.failed {
		f.timer.Stop()
	}
	g.mu.Unlock()
	for _, r := range all {
		r.stop()
	}
}

// apply goes over to the groups of p. One that is as before goes on untouched; one
// that changed starts with what is known of its paths.
func (g *groups) apply(p *policy.Policy) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx == nil {
		return // not begun, or at its end
	}
	before := g.running
	g.policy, g.running = p, map[string]*runner{}
	for _, one := range p.Groups {
		old := before[one.Name]
		delete(before, one.Name)
		if old != nil && reflect.DeepEqual(old.policy, one) {
			g.running[one.Name] = old
			continue
		}
		r := newRunner(g, one)
		if old != nil {
			old.stop()
			r.group.Inherit(old.group)
		}
		g.running[one.Name] = r
		r.start(g.ctx)
		for i, m := range one.Members {
			if g.lame[m.Tunnel] { // which is told only when it changes
				r.order(warm.Link{Member: i})
			}
		}
	}
	for _, gone := range before {
		gone.stop()
	}
	g.seats = map[string]seat{}
	for _, r := range g.running {
		for i, m := range r.policy.Members {
			g.seats[m.Tunnel] = seat{r, i}
		}
	}
	maps.DeleteFunc(g.lame, func(tunnel string, _ bool) bool { _, still := g.seats[tunnel]; return !still })
	for tunnel := range g.failed {
		if _, member := p.GroupOf(tunnel); !member {
			g.forgive(tunnel)
		}
	}
	g.childrenChanged()
}

// childrenChanged has who has a child looked up soon.
func (g *groups) childrenChanged() {
	select {
	case g.changed <- struct{}{}:
	default: // it will be anyway
	}
}

// tell takes each event of the engine.
func (g *groups) tell(e ike.Event) {
	switch e.Kind {
	case ike.ChildUp, ike.ChildRekeyed, ike.ChildDown, ike.ChildFailed, ike.PeerMoved:
		g.childrenChanged()
	}
}

// look asks the engine who has a child.
func (g *groups) look(ctx context.Context) {
	g.mu.Lock()
	none := len(g.running) == 0
	g.mu.Unlock()
	if none {
		return
	}
	s, err := g.children(ctx)
	if err != nil {
		return // it is ending
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var paths []links.Path
	for _, t := range s.Tunnels {
		r, i := g.member(t.Name)
		if r == nil {
			continue
		}
		r.order(warm.Child{Member: i, Up: t.InUse != 0})
		paths = append(paths, linkOf(g.policy, t))
	}
	g.links.Follow(paths)
}

// member finds the runner of a tunnel. The caller holds mu.
func (g *groups) member(tunnel string) (*runner, int) {
	at := g.seats[tunnel]
	return at.runner, at.member
}

// hand gives an answer to the group that asked.
func (g *groups) hand(e esp.Echo) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r, i := g.member(e.Tunnel); r != nil {
		r.echo(i, e)
	}
}

// link takes news of the link that a path begins with.
func (g *groups) link(n links.State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r, i := g.member(n.Name); r != nil {
		g.lame[n.Name] = !n.Up
		r.order(warm.Link{Member: i, Up: n.Up})
		if !n.Up {
			g.log.Warn("link-down", "group", r.policy.Name, "tunnel", n.Name, "detail", n.Why)
		}
	}
}

// path finds a path that an operator names.
func (g *groups) path(group, tunnel string) (*runner, int, error) {
	r, err := g.named(group)
	if err != nil {
		return nil, 0, err
	}
	for i, m := range r.policy.Members {
		if m.Tunnel == tunnel {
			return r, i, nil
		}
	}
	return nil, 0, fmt.Errorf("%w: tunnel %q is not in group %q", control.ErrUnknownGroup, tunnel, group)
}

func (g *groups) named(group string) (*runner, error) {
	if r := g.running[group]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("%w: %q", control.ErrUnknownGroup, group)
}

// fail has a path seem dead to both ends, until restored or for limit. The group leaves
// the path before its packets are dropped: at this end the exercise costs nothing.
func (g *groups) fail(group, tunnel string, limit time.Duration) error {
	return g.mute(group, tunnel, limit, true)
}

// cut is fail without a word to the group: it has to find out.
func (g *groups) cut(group, tunnel string, limit time.Duration) error {
	return g.mute(group, tunnel, limit, false)
}

func (g *groups) mute(group, tunnel string, limit time.Duration, announced bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, i, err := g.path(group, tunnel)
	if err != nil {
		return err
	}
	if announced {
		r.orderNow(warm.Fail{Member: i, On: true})
	}
	if err := g.plane.Mute(tunnel, true); err != nil {
		r.order(warm.Fail{Member: i, On: false})
		return err
	}
	if old, ok := g.failed[tunnel]; ok {
		old.timer.Stop()
	}
	until := time.Now().Add(limit)
	g.failed[tunnel] = failure{until, time.AfterFunc(limit, func() { g.expire(group, tunnel, until) })}
	g.log.Warn("path-failed", "group", group, "tunnel", tunnel, "reason", string(warm.Drill), "announced", announced, "restored_after", limit.String())
	return nil
}

// expire restores a path that nobody restored, unless its limit was set anew.
func (g *groups) expire(group, tunnel string, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := g.failed[tunnel]; ok && f.until.Equal(until) {
		g.log.Warn("path-restored", "group", group, "tunnel", tunnel, "detail", "nobody restored it in time")
		g.forgive(tunnel)
	}
}

func (g *groups) restore(group, tunnel string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, _, err := g.path(group, tunnel); err != nil {
		return err
	}
	if _, ok := g.failed[tunnel]; ok {
		g.log.Info("path-restored", "group", group, "tunnel", tunnel)
		g.forgive(tunnel)
	}
	return nil
}

// forgive ends a failure. The caller holds mu.
func (g *groups) forgive(tunnel string) {
	g.failed[tunnel].timer.Stop()
	delete(g.failed, tunnel)
	if err := g.plane.Mute(tunnel, false); err != nil {
		g.log.Debug("unmute", "tunnel", tunnel, "error", err) // its tunnel is gone with the policy
	}
	if r, i := g.member(tunnel); r != nil {
		r.order(warm.Fail{Member: i, On: false})
	}
}
