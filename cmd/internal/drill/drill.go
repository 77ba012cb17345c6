// Package drill is an operator's exercise: it fails each path of a group in turn,
// measures what that does to the traffic of the group in both directions, puts
// everything back and writes a report. It speaks to a running gateway and touches
// nothing itself; if it dies, the gateway restores what it failed.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"yumen/cmd/internal/control"
)

// Gateway is what a drill asks of a running gateway: *control.Client.
type Gateway interface {
	Status(ctx context.Context) (control.Status, error)
	FailPath(ctx context.Context, group, tunnel string, limit time.Duration) error
	CutPath(ctx context.Context, group, tunnel string, limit time.Duration) error
	RestorePath(ctx context.Context, group, tunnel string) error
	Trace(ctx context.Context, group string, every, last time.Duration) error
	Samples(ctx context.Context, group string, from uint64) (control.Samples, error)
}

// Options are what an exercise is to be.
type Options struct {
	Group     string
	Window    time.Duration // agreed: at its end everything is as before
	Every     time.Duration // between two probes
	Hold      time.Duration // how long each path is failed
	Limit     time.Duration // longest time without an answer that is a pass
	Announced bool          // our end is told, as for planned work; otherwise it has to find out
	Progress  io.Writer     // a line for each step; nil: none
}

// Standard are the options of the command.
func Standard() Options {
	return Options{Window: 30 * time.Minute, Every: 10 * time.Millisecond, Hold: 5 * time.Second, Limit: time.Second}
}

const (
	before  = 2 * time.Second        // of probes while nothing is wrong
	answers = time.Second            // for those that are under way
	look    = 100 * time.Millisecond // between two questions how it goes
	spare   = 10 * time.Second       // after which a gateway restores a path that nobody restored
	// A path that was restored is good again, and the answers to what was sent are
	// there, after leastReturn or what the probes of its group take; it is waited for
	// three times as long, and for leastPatience at least.
	leastReturn   = 2 * time.Second
	leastPatience = time.Minute
)

// maxHold is the longest that a path may be failed: the gateway restores it before its
// own limit.
const maxHold = control.MaxFailure - spare

// ErrRefused says that nothing was begun, and why in words.
var ErrRefused = errors.New("the drill is refused")

// Validate refuses options that no gateway could follow, each by its flag. The error
// wraps ErrRefused.
func (o Options) Validate() error {
	for _, f := range []struct {
		flag            string
		is, least, most time.Duration
	}{
		{"window", o.Window, time.Second, 0},
		{"hold", o.Hold, look, maxHold},
		{"every", o.Every, control.MinTrace, time.Second},
		{"limit", o.Limit, time.Millisecond, 0},
	} {
		switch {
		case f.is < f.least:
			return fmt.Errorf("%w: --%s %v is less than %v", ErrRefused, f.flag, f.is, f.least)
		case f.most > 0 && f.is > f.most:
			return fmt.Errorf("%w: --%s %v is more than %v", ErrRefused, f.flag, f.is, f.most)
		}
	}
	return nil
}

// recovery is how long a path that was restored takes to be good again.
func recovery(g control.Group) time.Duration { return max(leastReturn, g.Probe.Again()+answers) }

// Plan is what an exercise would do, for whoever has to say yes.
type Plan struct {
	Group control.Group
	Paths []string // in the order in which they are failed
	Takes time.Duration
}

// Check looks whether the group may be exercised. The error wraps ErrRefused.
func Check(s control.Status, o Options) (Plan, error) {
	refuse := func(format string, args ...any) (Plan, error) {
		return Plan{}, fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
	}
	at := slices.IndexFunc(s.Groups, func(g control.Group) bool { return g.Name == o.Group })
	if at < 0 {
		return refuse("the policy has no group %q; it has: %s", o.Group, names(s.Groups))
	}
	g := s.Groups[at]
	if least := g.Probe.Within(); o.Hold <= least {
		return refuse("--hold %v is too short: a path of the group is left after %d probes without an answer, which takes %v", o.Hold, g.Probe.Lost, least)
	}
	p := Plan{Group: g, Takes: before + answers}
	for _, x := range g.Paths {
		if x.Failed != nil {
			return refuse("path %s is failed by somebody else's exercise until %s", x.Tunnel, x.Failed.Format(time.TimeOnly))
		}
		if !alternative(g, x.Tunnel) {
			return refuse("path %s has no healthy alternative: %s", x.Tunnel, states(g))
		}
		if x.State != "good" {
			continue // nothing to fail
		}
		p.Paths = append(p.Paths, x.Tunnel)
		p.Takes += o.Hold + recovery(g)
	}
	switch takes := p.Takes.Round(time.Second); {
	case p.Takes > o.Window:
		return refuse("it takes about %v, and --window is %v", takes, o.Window)
	case p.Takes > control.MaxTrace:
		return refuse("it takes about %v, and a gateway sends probes for %v at most: choose a shorter --hold", takes, control.MaxTrace)
	}
	return p, nil
}

func names(list []control.Group) string {
	var out []string
	for _, g := range list {
		out = append(out, g.Name)
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// alternative reports whether a path other than this one is good.
func alternative(g control.Group, tunnel string) bool {
	return slices.ContainsFunc(g.Paths, func(x control.Path) bool { return x.Tunnel != tunnel && x.State == "good" && x.Failed == nil })
}

func states(g control.Group) string {
	var out []string
	for _, x := range g.Paths {
		word := x.Tunnel + " is " + x.State
		if x.Why != "" {
			word += " (" + x.Why + ")"
		}
		out = append(out, word)
	}
	return strings.Join(out, ", ")
}

// exercise is a drill under way.
type exercise struct {
	Options
	to     Gateway
	report *Report
	probes []control.Sample
	next   uint64
}

// Run carries the exercise out. It returns a report also with an error, as far as it
// got, unless nothing was begun; when ctx ends, it restores first. The error wraps
// ErrRefused when nothing was begun.
func Run(ctx context.Context, to Gateway, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s, err := to.Status(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := Check(s, o)
	if err != nil {
		return nil, err
	}
	e := &exercise{Options: o, to: to, next: 1, report: newReport(s, plan, o)}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Window, errors.New("the agreed window is over"))
	defer cancel()
	if err := to.Trace(ctx, o.Group, o.Every, min(o.Window, control.MaxTrace)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	err = e.all(ctx, plan)
	last, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	err = errors.Join(err, e.read(last), to.Trace(last, o.Group, o.Every, 0))
	e.report.finish(e.probes, err)
	return e.report, err
}

// all fails the paths one after the other.
func (e *exercise) all(ctx context.Context, p Plan) error {
	e.say("%d paths of group %s, each failed for %v; about %v in all", len(p.Paths), e.Group, e.Hold, p.Takes.Round(time.Second))
	if err := e.wait(ctx, before); err != nil {
		return err
	}
	for _, tunnel := range p.Paths {
		if err := e.path(ctx, tunnel); err != nil {
			return err
		}
	}
	return nil
}

// path fails one path, restores it and waits until it is good again.
func (e *exercise) path(ctx context.Context, tunnel string) error {
	g, err := e.group(ctx)
	if err != nil {
		return err
	}
	if !alternative(g, tunnel) { // what has been good a moment ago may not be now
		return fmt.Errorf("path %s has no healthy alternative any more: %s", tunnel, states(g))
	}
	x := Exercise{Path: tunnel, Carried: slices.Contains(g.Carries, tunnel), Failed: time.Now()}
	e.say("%s fails (it %s)", tunnel, map[bool]string{true: "carries traffic", false: "stands by"}[x.Carried])
	fail := e.to.CutPath
	if e.Announced {
		fail = e.to.FailPath
	}
	if err := fail(ctx, e.Group, tunnel, e.Hold+spare); err != nil {
		return fmt.Errorf("fail path %s: %w", tunnel, err)
	}
	x.moved = e.moved(ctx, tunnel, x.Failed)
	held := e.wait(ctx, e.Hold-time.Since(x.Failed))
	if x.moved.IsZero() && held == nil {
		x.moved = e.moved(ctx, tunnel, x.Failed)
	}
	// Also when somebody pressed Ctrl-C, and when the window is over.
	last, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	x.Restored = time.Now()
	if err := e.to.RestorePath(last, e.Group, tunnel); err != nil {
		held = errors.Join(held, fmt.Errorf("restore path %s: %w; the gateway does it by itself after %v", tunnel, err, e.Hold+spare))
	} else {
		e.say("%s is restored", tunnel)
	}
	if held == nil {
		held = e.good(ctx, tunnel)
	}
	x.Good = time.Now()
	e.report.Paths = append(e.report.Paths, x)
	return held
}

// moved waits until the group sends by other paths than the one that failed, for as
// long as a pass may take and the path has failed. Zero: it did not, or it never sent by
// this one.
func (e *exercise) moved(ctx context.Context, tunnel string, since time.Time) time.Time {
	for end := since.Add(min(e.Limit, e.Hold)); ctx.Err() == nil; {
		if g, err := e.group(ctx); err == nil && !slices.Contains(g.Carries, tunnel) {
			if g.Last != nil && g.Last.At.After(since) {
				return g.Last.At
			}
			return time.Time{}
		}
		if !time.Now().Before(end) || e.wait(ctx, look) != nil {
			break
		}
	}
	return time.Time{}
}

// good waits until a path that was restored is good.
func (e *exercise) good(ctx context.Context, tunnel string) error {
	state := ""
	patience := leastPatience
	for begun := time.Now(); time.Since(begun) < patience; {
		g, err := e.group(ctx)
		if err != nil {
			return err
		}
		patience = max(patience, 3*recovery(g))
		for _, x := range g.Paths {
			if state = x.State; x.Tunnel == tunnel && state == "good" {
				return e.wait(ctx, answers)
			}
		}
		if err := e.wait(ctx, look); err != nil {
			return err
		}
	}
	return fmt.Errorf("path %s was restored and is not good again after %v", tunnel, patience)
}

func (e *exercise) group(ctx context.Context) (control.Group, error) {
	s, err := e.to.Status(ctx)
	if err != nil {
		return control.Group{}, err
	}
	for _, g := range s.Groups {
		if g.Name == e.Group {
			return g, nil
		}
	}
	return control.Group{}, fmt.Errorf("the policy has no group %q any more", e.Group)
}

// wait lets time pass and reads probes meanwhile.
func (e *exercise) wait(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped: %w", context.Cause(ctx))
		case <-time.After(min(left, time.Second)):
		}
		if err := e.read(ctx); err != nil {
			return err
		}
	}
}

// read takes in what is known of the probes. Those that may still be answered are read
// again the next time.
func (e *exercise) read(ctx context.Context) error {
	for {
		s, err := e.to.Samples(ctx, e.Group, e.next)
		if err != nil {
			return err
		}
		for _, x := range s.Probes {
			e.take(x)
		}
		if len(s.Probes) < control.MaxSamples {
			break
		}
		e.next = s.Next
	}
	// Behind those whose answer cannot come any more.
	settled := time.Now().Add(-answers).UnixNano()
	for _, x := range e.probes {
		if x.Seq >= e.next && x.Sent < settled {
			e.next = x.Seq + 1
		}
	}
	return nil
}

// take puts a probe in its place, which its number says.
func (e *exercise) take(x control.Sample) {
	at, known := slices.BinarySearchFunc(e.probes, x.Seq, func(s control.Sample, n uint64) int { return int(int64(s.Seq) - int64(n)) })
	if known {
		e.probes[at] = x
		return
	}
	e.probes = slices.Insert(e.probes, at, x)
}

func (e *exercise) say(format string, args ...any) {
	if e.Progress != nil {
		fmt.Fprintf(e.Progress, "%s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
	}
}
