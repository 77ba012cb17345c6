package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yumen/cmd/internal/control"
)

// pair is a gateway with a group of two paths, as far as a drill sees it. Our end
// leaves a path that was cut after ours, the far end after theirs.
type pair struct {
	ours, theirs time.Duration
	states       [2]string
	begun        time.Time
	every        time.Duration
	last         time.Time
	failed       [2]struct{ from, to, until time.Time }
	asked        []string
	stuck        bool // no path takes over
	refuse       error
	recover      int // as a policy says it
	traces       []time.Duration
	pings        bool // what answers is not the far data plane
}

var pathNames = [2]string{"dr-a", "dr-b"}

func newPair() *pair {
	return &pair{ours: 300 * time.Millisecond, theirs: 320 * time.Millisecond, states: [2]string{"good", "good"}, recover: 10}
}

// cut reports whether a path was cut at a time, and since when.
func (p *pair) cut(i int, at time.Time) (since time.Time, is bool) {
	f := p.failed[i]
	is = !f.from.IsZero() && !at.Before(f.from) && (f.to.IsZero() || at.Before(f.to)) && at.Before(f.until)
	return f.from, is
}

// carries is by which path an end with that delay sends at a time.
func (p *pair) carries(at time.Time, delay time.Duration) int {
	if since, is := p.cut(0, at); is && !p.stuck && !at.Before(since.Add(delay)) {
		return 1
	}
	return 0
}

func (p *pair) Status(context.Context) (control.Status, error) {
	now := time.Now()
	at := p.carries(now, p.ours)
	g := control.Group{Name: "dr", Mode: "active-standby", Carries: []string{pathNames[at]}, Works: true,
		Probe: control.Probe{Interval: 100, Lost: 3, Recover: p.recover}}
	if at == 1 {
		g.Last = &control.Flip{At: p.failed[0].from.Add(p.ours), Reason: "probe-lost", Cause: "dr-a"}
	}
	for i, name := range pathNames {
		x := control.Path{Tunnel: name, State: p.states[i], Carries: i == at}
		if since, is := p.cut(i, now); is {
			x.Failed = &p.failed[i].until
			if now.Sub(since) > p.ours {
				x.State, x.Why = "down", "probe-lost"
			}
		}
		g.Paths = append(g.Paths, x)
	}
	return control.Status{Version: "1", Site: "hq", Groups: []control.Group{{Name: "other"}, g}}, p.refuse
}

func (p *pair) CutPath(_ context.Context, _, tunnel string, limit time.Duration) error {
	p.asked = append(p.asked, "cut "+tunnel)
	f := &p.failed[slices.Index(pathNames[:], tunnel)]
	f.from, f.to, f.until = time.Now(), time.Time{}, time.Now().Add(limit)
	return nil
}

func (p *pair) FailPath(ctx context.Context, group, tunnel string, limit time.Duration) error {
	err := p.CutPath(ctx, group, tunnel, limit)
	p.asked[len(p.asked)-1] = "fail " + tunnel
	return err
}

func (p *pair) RestorePath(ctx context.Context, _, tunnel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.asked = append(p.asked, "restore "+tunnel)
	p.failed[slices.Index(pathNames[:], tunnel)].to = time.Now()
	return nil
}

func (p *pair) Trace(ctx context.Context, _ string, every, last time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.asked = append(p.asked, fmt.Sprint("trace ", last > 0))
	p.traces = append(p.traces, last)
	if last > 0 {
		p.begun, p.every = time.Now(), every
	}
	return nil
}

// Samples works out what became of each probe by now.
func (p *pair) Samples(_ context.Context, _ string, from uint64) (control.Samples, error) {
	out := control.Samples{Running: true, Next: from}
	for ; len(out.Probes) < control.MaxSamples; out.Next++ {
		sent := p.begun.Add(time.Duration(out.Next-1) * p.every)
		if sent.After(time.Now()) {
			break
		}
		s := control.Sample{Seq: out.Next, Sent: sent.UnixNano()}
		back := sent.Add(time.Millisecond)
		there, home := p.carries(sent, p.ours), p.carries(back, p.theirs)
		_, lostThere := p.cut(there, sent)
		_, lostBack := p.cut(home, back)
		if !lostThere && !lostBack && !back.After(time.Now()) {
			s.Answered, s.By = back.Add(time.Millisecond).UnixNano(), pathNames[home]
			if !p.pings {
				s.Far = back.UnixNano()
			}
		}
		out.Probes = append(out.Probes, s)
	}
	return out, nil
}

func options() Options {
	o := Standard()
	o.Group, o.Window = "dr", 5*time.Minute
	return o
}

func TestADrillFailsEachPathAndMeasuresBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		r, err := Run(t.Context(), p, options())
		if err != nil || !r.Passed {
			t.Fatalf("%v, %+v", err, r)
		}
		if got := strings.Join(p.asked, ", "); got != "trace true, cut dr-a, restore dr-a, cut dr-b, restore dr-b, trace false" {
			t.Errorf("asked for %s", got)
		}
		a, b := r.Paths[0], r.Paths[1]
		if !a.Carried || b.Carried || a.Failure.There.Lost != 30 || a.Failure.There.Recovered != 300 || a.Failure.Back.Lost > 3 || a.Failure.Back.Lost < 1 ||
			a.Failure.Back.Recovered < 320 || a.Failure.Back.Recovered > 332 || a.Failure.Gap < 310 || a.Failure.Gap > 335 {
			t.Errorf("the path that carried: %+v", a)
		}
		if b.Failure.Lost != 0 || a.Return.Lost != 0 || b.Return.Lost != 0 || b.Failure.Sent < 490 {
			t.Errorf("a path that stood by, and the return: %+v, %+v", b.Failure, a.Return)
		}
		if held := a.Restored.Sub(a.Failed); held < 5*time.Second || held > 6*time.Second {
			t.Errorf("it was failed for %v", held)
		}
	})
}

func TestADrillRestoresWhateverHappens(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *pair, o *Options)
		after  time.Duration // Ctrl-C; 0: never
		why    string
	}{
		"interrupted":        {func(*pair, *Options) {}, 4 * time.Second, "stopped: context canceled"},
		"nothing takes over": {func(p *pair, _ *Options) { p.stuck = true }, 0, "nothing passed until it was restored"},
		"too slow":           {func(_ *pair, o *Options) { o.Limit = 100 * time.Millisecond }, 0, "more than 100"},
		"never good again":   {func(p *pair, o *Options) { time.AfterFunc(4*time.Second, func() { p.states[0] = "recovering" }) }, 0, "not good again"},
		"the window ends": {func(p *pair, o *Options) {
			o.Window = 18 * time.Second
			time.AfterFunc(4*time.Second, func() { p.states[0] = "recovering" })
		}, 0, "window is over"},
		"the other fails": {func(p *pair, o *Options) { time.AfterFunc(7900*time.Millisecond, func() { p.states[0] = "bad" }) }, 0, "no healthy alternative any more"},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, o := newPair(), options()
			c.change(p, &o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.after > 0 {
				time.AfterFunc(c.after, cancel)
			}
			r, err := Run(ctx, p, o)
			if r == nil || r.Passed || !strings.Contains(r.Why, c.why) {
				t.Fatalf("%s: %v, %+v", name, err, r)
			}
			cuts, restores := 0, 0
			for _, a := range p.asked {
				if strings.HasPrefix(a, "cut") {
					cuts++
				}
				if strings.HasPrefix(a, "restore") {
					restores++
				}
			}
			if cuts == 0 || cuts != restores || p.asked[len(p.asked)-1] != "trace false" {
				t.Errorf("%s: asked for %v", name, p.asked)
			}
		})
	}
}

func TestADrillIsRefusedWithoutAHealthyAlternative(t *testing.T) {
	until := time.Now().Add(time.Minute)
	for name, c := range map[string]struct {
		change func(g *control.Group, o *Options)
		why    string
	}{
		"other group":      {func(_ *control.Group, o *Options) { o.Group = "nobody" }, "has: other, dr"},
		"one path is down": {func(g *control.Group, _ *Options) { g.Paths[1].State, g.Paths[1].Why = "down", "link-down" }, "dr-a has no healthy alternative: dr-a is good, dr-b is down (link-down)"},
		"one is bad":       {func(g *control.Group, _ *Options) { g.Paths[0].State = "bad" }, "dr-b has no healthy alternative"},
		"somebody else's":  {func(g *control.Group, _ *Options) { g.Paths[0].Failed = &until }, "somebody else"},
		"a short window":   {func(_ *control.Group, o *Options) { o.Window = 10 * time.Second }, "--window is 10s"},
		"a short hold":     {func(g *control.Group, _ *Options) { g.Probe.Lost = 50 }, "--hold 5s is too short: a path of the group is left after 50 probes without an answer, which takes 5s"},
		"slow to recover":  {func(g *control.Group, _ *Options) { g.Probe.Recover = 1480 }, "it takes about 5m11s, and --window is 5m0s"},
		"longer than told": {func(_ *control.Group, o *Options) { o.Window, o.Hold = 3*time.Hour, 40*time.Minute }, "it takes about 1h20m7s, and a gateway sends probes for 1h0m0s at most"},
	} {
		s, _ := newPair().Status(t.Context())
		o := options()
		c.change(&s.Groups[1], &o)
		if _, err := Check(s, o); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		p.states[1] = "down"
		if r, err := Run(t.Context(), p, options()); r != nil || !errors.Is(err, ErrRefused) || len(p.asked) > 0 {
			t.Errorf("%v, asked for %v", err, p.asked)
		}
	})
}

func TestOptionsThatNoGatewayFollowsAreRefusedByTheirFlags(t *testing.T) {
	for why, change := range map[string]func(o *Options){
		"--window -1m0s is less than 1s":    func(o *Options) { o.Window = -time.Minute },
		"--hold 0s is less than 100ms":      func(o *Options) { o.Hold = 0 },
		"--hold 1h0m0s is more than 59m50s": func(o *Options) { o.Hold = time.Hour },
		"--every 1ms is less than 2ms":      func(o *Options) { o.Every = time.Millisecond },
		"--every 1.5s is more than 1s":      func(o *Options) { o.Every = 1500 * time.Millisecond },
		"--limit 0s is less than 1ms":       func(o *Options) { o.Limit = 0 },
	} {
		p, o := newPair(), options()
		change(&o)
		if _, err := Run(t.Context(), p, o); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), why) || len(p.asked) > 0 {
			t.Errorf("%v, want %q; asked for %v", err, why, p.asked)
		}
	}
}

// A window of hours is an agreement, not the length of the exercise.
func TestALongWindowIsNoLongTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, o := newPair(), options()
		o.Window = 3 * time.Hour
		if r, err := Run(t.Context(), p, o); err != nil || !r.Passed || p.traces[0] != control.MaxTrace {
			t.Errorf("%v, %+v, probes for %v", err, r, p.traces)
		}
	})
}

// The time that a drill grants follows from the probes of the group: one that recovers
// slowly is waited for.
func TestAPathThatRecoversSlowlyIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, o := newPair(), options()
		p.recover, o.Window = 900, 30*time.Minute
		time.AfterFunc(4*time.Second, func() { p.states[0] = "recovering" })
		time.AfterFunc(97*time.Second, func() { p.states[0] = "good" })
		r, err := Run(t.Context(), p, o)
		if err != nil || len(r.Paths) != 2 {
			t.Errorf("%v, %+v", err, r)
		}
	})
}

// However long a pass may take, a path is failed for as long as was said.
func TestALimitHoldsNoPathDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, o := newPair(), options()
		p.stuck, o.Limit = true, time.Minute
		r, _ := Run(t.Context(), p, o)
		if held := r.Paths[0].Restored.Sub(r.Paths[0].Failed); held > 6*time.Second {
			t.Errorf("it was failed for %v", held)
		}
	})
}

func TestThirdPathThatIsDownIsNotFailed(t *testing.T) {
	s, _ := newPair().Status(t.Context())
	s.Groups[1].Paths = append(s.Groups[1].Paths, control.Path{Tunnel: "dr-c", State: "down"})
	p, err := Check(s, options())
	if err != nil || strings.Join(p.Paths, " ") != "dr-a dr-b" || p.Takes != before+answers+14*time.Second {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestReportIsTextJSONAndOnePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := Run(t.Context(), newPair(), options())
		if err != nil {
			t.Fatal(err)
		}
		r.Site = "<hq>"
		var text, js, html strings.Builder
		if err := errors.Join(r.WriteText(&text), r.WriteJSON(&js), r.WriteHTML(&html)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"group dr (active-standby)", "PASSED", "dr-a", "30, 300 ms"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("the text does not say %q:\n%s", want, text.String())
			}
		}
		var back Report
		if err := json.Unmarshal([]byte(js.String()), &back); err != nil || back.Paths[0].Failure.There != r.Paths[0].Failure.There || !back.Passed {
			t.Errorf("JSON: %v, %s", err, js.String())
		}
		for _, want := range []string{"<svg ", "#b03030", "dr-b", "30, 300 ms", "&lt;hq&gt;", "</html>"} {
			if !strings.Contains(html.String(), want) {
				t.Errorf("the page does not hold %q", want)
			}
		}
		if strings.Contains(html.String(), "http://") && strings.Count(html.String(), "http") != strings.Count(html.String(), "http://www.w3.org/2000/svg") {
			t.Error("the page needs another file")
		}
	})
}

func TestAReportOfPingsSaysThatTheWayBackIsNotMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		p.pings = true
		r, err := Run(t.Context(), p, options())
		if err != nil {
			t.Fatal(err)
		}
		var text, js, html strings.Builder
		if err := errors.Join(r.WriteText(&text), r.WriteJSON(&js), r.WriteHTML(&html)); err != nil {
			t.Fatal(err)
		}
		for name, out := range map[string]string{"text": text.String(), "page": html.String()} {
			if !strings.Contains(out, "PASSED on the way there, way back not measured") || !strings.Contains(out, "30, 300 ms") || strings.Contains(out, "answered in the same way") {
				t.Errorf("the %s is\n%s", name, out)
			}
		}
		if !strings.Contains(js.String(), `"back_not_measured": true`) {
			t.Errorf("JSON: %s", js.String())
		}
	})
}
