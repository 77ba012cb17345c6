package daemon

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"yumen/cmd/internal/control"
	"yumen/esp/warm"
	"yumen/policy"
)

// groupCounters count what groups did, by name of group, so that a policy that is read
// anew resets nothing.
type groupCounters struct {
	mu    sync.Mutex // guards what follows
	flips map[string]map[warm.Reason]uint64
}

func newGroupCounters() *groupCounters {
	return &groupCounters{flips: map[string]map[warm.Reason]uint64{}}
}

func (c *groupCounters) flipped(group string, why warm.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flips[group] == nil {
		c.flips[group] = map[warm.Reason]uint64{}
	}
	c.flips[group][why]++
}

func (c *groupCounters) of(group string) map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]uint64{}
	for r, n := range c.flips[group] {
		out[string(r)] = n
	}
	return out
}

// tell writes one line for each flip and each path that changed, and one when a group
// has no path that works, or has one again.
func (r *runner) tell(out warm.Out) {
	name := r.policy.Name
	for _, c := range out.Changes {
		level := slog.LevelInfo
		if c.To == warm.Down || c.To == warm.Unanswered || c.To == warm.Bad {
			level = slog.LevelWarn
		}
		attrs := []slog.Attr{slog.String("group", name), slog.String("tunnel", c.Tunnel), slog.String("from", c.From.String()), slog.String("to", c.To.String())}
		if c.Why != "" {
			attrs = append(attrs, slog.String("reason", string(c.Why)))
		}
		if c.To == warm.Unanswered {
			attrs = append(attrs, slog.String("detail", "no probe was ever answered: perhaps the far end answers none, and probe.target should name a host that does"))
		}
		r.all.log.LogAttrs(context.Background(), level, "path", attrs...)
	}
	if f := out.Flip; f != nil {
		level := slog.LevelInfo
		switch {
		case f.Turn:
			level = slog.LevelDebug
		case f.Reason != warm.Start && f.Reason != warm.Preempt && f.Reason != warm.Recovered:
			level = slog.LevelWarn
		}
		r.all.log.Log(context.Background(), level, "flip", "group", name, "from", strings.Join(f.From, ","),
			"to", strings.Join(f.To, ","), "reason", string(f.Reason), "tunnel", f.Cause)
		if !f.Turn {
			r.all.events.flipped(name, f.Reason)
		}
	}
	works := worksBy(r.view())
	if works != r.works {
		if r.works = works; works {
			r.all.log.Info("group-up", "group", name)
		} else {
			r.all.log.Warn("group-down", "group", name, "detail", "no path of the group works")
		}
	}
}

func (r *runner) view() warm.View {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.group.View()
}

// worksBy: traffic of the group is on a path of which nothing says that it is dead.
func worksBy(v warm.View) bool {
	for _, p := range v.Paths {
		if p.Carries && p.State != warm.Down {
			return true
		}
	}
	return false
}

// status is every group, in the order of the policy.
func (g *groups) status() []control.Group {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []control.Group
	if g.policy == nil {
		return nil
	}
	for _, p := range g.policy.Groups {
		if r := g.running[p.Name]; r != nil {
			one := groupOf(p, r.view())
			one.Flips = g.events.of(p.Name)
			r.mu.Lock()
			for i := range one.Paths {
				one.Paths[i].Unsent = r.unsent[i]
			}
			r.mu.Unlock()
			for i := range one.Paths {
				if f, ok := g.failed[one.Paths[i].Tunnel]; ok {
					one.Paths[i].Failed = moment(f.until)
				}
			}
			out = append(out, one)
		}
	}
	return out
}

func groupOf(p policy.Group, v warm.View) control.Group {
	out := control.Group{Name: p.Name, Mode: p.Mode.String(), Works: worksBy(v), Carries: []string{}}
	if f := v.Last; f != nil {
		out.Last = &control.Flip{At: f.At, From: f.From, To: f.To, Reason: string(f.Reason), Cause: f.Cause}
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	out.Probe = control.Probe{Interval: ms(p.Probe.Interval), Lost: p.Probe.Lost, Recover: p.Probe.Recover}
	for i, x := range v.Paths {
		if x.Carries {
			out.Carries = append(out.Carries, x.Tunnel)
		}
		out.Paths = append(out.Paths, control.Path{Tunnel: x.Tunnel, State: x.State.String(), Why: string(x.Why), Since: moment(x.Since),
			Carries: x.Carries, Priority: p.Members[i].Priority, Weight: p.Members[i].Weight, Loss: x.Loss, RTT: ms(x.RTT),
			Jitter: ms(x.Jitter), Probes: x.Judged, Lost: x.Lost})
	}
	return out
}

// groups writes the series of groups. Their labels come from the policy.
func (w page) groups(list []control.Group) {
	for _, g := range list {
		w.gauge("yumen_group_works", "1 while a path of the group carries its traffic and is not down.", truth(g.Works), "group", g.Name)
		for _, why := range warm.Reasons() {
			w.counter("yumen_group_flips_total", "Times that a group's traffic moved, by reason.", g.Flips[string(why)],
				"group", g.Name, "reason", string(why))
		}
		for _, p := range g.Paths {
			l := []string{"group", g.Name, "tunnel", p.Tunnel}
			for _, s := range warm.States() {
				w.gauge("yumen_path_state", "1 for the state of a path.", truth(p.State == s.String()),
					"group", g.Name, "tunnel", p.Tunnel, "state", s.String())
			}
			w.gauge("yumen_path_carries", "1 for a path that carries its group's traffic.", truth(p.Carries), l...)
			w.gauge("yumen_path_loss_ratio", "Lost share of the last 50 probes.", float64(p.Loss)/100, l...)
			w.gauge("yumen_path_rtt_seconds", "Median round trip of the last probes; 0: no answer yet.", p.RTT/1000, l...)
			w.gauge("yumen_path_jitter_seconds", "Smoothed difference of neighbouring round trips.", p.Jitter/1000, l...)
			w.counter("yumen_path_probes_total", "Probes of which the end is known.", p.Probes, l...)
			w.counter("yumen_path_probes_lost_total", "Probes that had no answer.", p.Lost, l...)
		}
	}
}

// FailPath answers `yumen drill` and whoever exercises.
func (g *gateway) FailPath(_ context.Context, group, tunnel string, limit time.Duration) error {
	return g.groups.fail(group, tunnel, limit)
}

// CutPath answers `yumen drill`: the group has to find out.
func (g *gateway) CutPath(_ context.Context, group, tunnel string, limit time.Duration) error {
	return g.groups.cut(group, tunnel, limit)
}

// RestorePath ends what FailPath began.
func (g *gateway) RestorePath(_ context.Context, group, tunnel string) error {
	return g.groups.restore(group, tunnel)
}

// Trace has numbered probes sent as a group's traffic goes.
func (g *gateway) Trace(_ context.Context, group string, every, last time.Duration) error {
	return g.groups.trace(group, every, last)
}

// Samples reads them.
func (g *gateway) Samples(_ context.Context, group string, from uint64) (control.Samples, error) {
	return g.groups.samples(group, from)
}

func (g *groups) trace(group string, every, last time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, err := g.named(group)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.trace.begin(time.Now(), every, last)
	r.mu.Unlock()
	r.order(warm.Tick{}) // the clock is set anew
	return nil
}

func (g *groups) samples(group string, from uint64) (control.Samples, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, err := g.named(group)
	if err != nil {
		return control.Samples{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trace.samples(from), nil
}
