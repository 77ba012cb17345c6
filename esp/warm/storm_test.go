package warm_test

import (
	"fmt"
	"testing"
	"time"

	"yumen/esp/warm"
	"yumen/policy"
)

// groupOf is a group of n paths with ordinary settings.
func groupOf(n int) policy.Group {
	g := policy.Group{Name: "dr", PreemptDelay: 5 * time.Second,
		Probe: policy.Probe{Interval: 100 * time.Millisecond, Lost: 3, Loss: 20, Recover: 10}}
	for i := range n {
		g.Members = append(g.Members, policy.Member{Tunnel: fmt.Sprintf("path-%c", 'a'+i), Priority: i + 1, Weight: 1})
	}
	return g
}

// trouble breaks one path in one of the ways that paths break, and mends it.
func (l *lab) trouble(i int) {
	w := l.wires[i]
	last := time.Duration(200+l.r.IntN(12_000)) * time.Millisecond
	e := l.r.IntN(ends)
	both := func(cut bool) { w.ways[0].cut, w.ways[1].cut = cut, cut }
	switch l.r.IntN(8) {
	case 0:
		both(true)
		l.after(last, func() { both(false) })
	case 1:
		w.ways[e].cut = true
		l.after(last, func() { w.ways[e].cut = false })
	case 2:
		l.link(i, e, false)
		l.after(last, func() { l.link(i, e, true) })
	case 3: // flapping
		for at := time.Duration(0); at < last; at += time.Duration(50+l.r.IntN(1500)) * time.Millisecond {
			cut := l.r.IntN(2) == 0
			l.after(at, func() { both(cut) })
		}
		l.after(last, func() { both(false) })
	case 4:
		before := w.ways[e].delay
		w.ways[e].delay += time.Duration(50+l.r.IntN(1500)) * time.Millisecond
		l.after(last, func() { w.ways[e].delay = before })
	case 5:
		w.ways[e].loss = 0.05 + 0.7*l.r.Float64()
		l.after(last, func() { w.ways[e].loss = 0 })
	case 6: // both ends lose the child and negotiate a new one
		l.child(i, false)
		l.after(last, func() { l.child(i, true) })
	case 7: // the far gateway dies: all paths are silent, and later without children
		for _, one := range l.wires {
			one.ways[0].cut, one.ways[1].cut = true, true
			l.after(last, func() { one.ways[0].cut, one.ways[1].cut = false, false })
		}
	}
}

// storm sets troubles off for a time, and lets the lab live until all is calm.
func (l *lab) storm(d time.Duration) {
	for at := 2 * time.Second; at < d; at += time.Duration(100+l.r.IntN(6000)) * time.Millisecond {
		l.after(at, func() { l.trouble(l.r.IntN(len(l.wires))) })
	}
	l.run(d)
}

func seeds(t *testing.T) uint64 {
	t.Helper()
	if testing.Short() {
		return 150
	}
	return 2000
}

// Thousands of storms of failures at both ends: no end stays on a dead path while
// another one works, flips are bounded, and the calm brings the first choice back.
func TestNoEndIsIdleWhileAPathWorksWhateverBreaks(t *testing.T) {
	for seed := range seeds(t) {
		g := groupOf(2 + int(seed%3))
		g.Probe.Interval = []time.Duration{50, 100, 200}[seed%3] * time.Millisecond
		if seed%4 == 3 {
			g.Mode = policy.LoadShare
			for i := range g.Members {
				g.Members[i].Priority, g.Members[i].Weight = 1+i/2, 1+i
			}
		}
		if seed%5 == 4 {
			g.Probe.Delay = 150 * time.Millisecond
		}
		l := newLab(t, seed, g)
		l.storm(60 * time.Second)
		l.bounded()
		l.calm()
		if l.failed {
			return
		}
	}
}

// calm: when nothing breaks any more, both ends come to rest on what the policy
// prefers, and all paths are good.
func (l *lab) calm() {
	if l.failed {
		return
	}
	l.queue = nil
	for i, w := range l.wires {
		for e := range ends {
			w.ways[e] = way{delay: 5 * time.Millisecond}
			w.link[e] = true
			l.step(e, warm.Link{Member: i, Up: true}) // news of links on their way are gone with the queue
		}
		l.child(i, true)
	}
	for e := range ends {
		l.after(0, func() { l.probe(e) })
	}
	l.run(l.group.PreemptDelay + 40*time.Second)
	for e := range ends {
		for i, p := range l.ends[e].View().Paths {
			want := i == 0
			if l.group.Mode == policy.LoadShare {
				want = l.group.Members[i].Priority == 1
			}
			if p.State != warm.Good || p.Carries != want {
				l.fault("end %d after the storm: %+v", e, p)
			}
		}
	}
	if n := len(l.flips[0]); n > 0 && l.now.Sub(l.flips[0][n-1].At) < 15*time.Second {
		l.fault("end 0 still flips in the calm")
	}
}

// With probes every 100 ms, a path that dies in silence is left within 400 ms by both
// ends, whichever way of it dies and wherever between two probes.
func TestASilentDeathIsLeftWithinFourHundredMilliseconds(t *testing.T) {
	var worst time.Duration
	for seed := range seeds(t) {
		l := newLab(t, seed, groupOf(2))
		l.run(4 * time.Second)
		if seed%2 == 0 { // some answers were slow a moment ago
			before := l.wires[0].ways
			l.wires[0].ways[l.r.IntN(ends)].delay += time.Duration(l.r.IntN(150)) * time.Millisecond
			l.run(300 * time.Millisecond)
			l.wires[0].ways = before
		}
		l.run(time.Second + time.Duration(l.r.IntN(1000))*time.Millisecond)
		died := l.now
		kind := l.r.IntN(3)
		for e := range ends {
			if got := l.ends[e].View(); !got.Paths[0].Carries || got.Paths[1].State != warm.Good {
				l.fault("end %d is not at rest: %+v", e, got)
			}
			l.wires[0].ways[e].cut = kind == 2 || kind == e
		}
		l.run(2 * time.Second)
		for e := range ends {
			n := len(l.flips[e])
			if n == 0 || !l.flips[e][n-1].At.After(died) {
				l.fault("end %d stayed on the dead path", e)
				return
			}
			f := l.flips[e][n-1]
			worst = max(worst, f.At.Sub(died))
			if f.Reason != warm.ProbeLost || f.Cause != "path-a" || f.At.Sub(died) > 400*time.Millisecond {
				l.fault("end %d left after %v because of %s of %s", e, f.At.Sub(died), f.Reason, f.Cause)
			}
		}
		if l.failed {
			return
		}
	}
	t.Logf("the slowest end left after %v", worst)
}

// A path that comes and goes does not take the traffic along: one flip away from it,
// and back only when it has been good for preempt_delay.
func TestAFlappingPathIsLeftOnce(t *testing.T) {
	for seed := range seeds(t) / 10 {
		l := newLab(t, seed, groupOf(2))
		l.run(5 * time.Second)
		before := len(l.flips[0])
		down, flapping := false, true
		var toggle func()
		toggle = func() {
			down = !down && flapping
			l.wires[0].ways[0].cut, l.wires[0].ways[1].cut = down, down
			if flapping {
				// Up for less than preempt_delay, down for long enough to be seen.
				l.after(time.Duration(500+l.r.IntN(2500))*time.Millisecond, toggle)
			}
		}
		l.after(0, toggle)
		l.run(60 * time.Second)
		if n := len(l.flips[0]) - before; n != 1 {
			l.fault("%d flips while one path flapped, want 1", n)
		}
		flapping = false
		l.run(20 * time.Second)
		if n := len(l.flips[0]) - before; n != 2 || l.flips[0][before+1].Reason != warm.Preempt {
			l.fault("%d flips when the path was steady again, want 2", n)
		}
		if l.failed {
			return
		}
	}
}

// A link that is told to be gone is left in the same moment.
func TestALinkThatGoesDownIsLeftAtOnce(t *testing.T) {
	l := newLab(t, 1, groupOf(3))
	l.run(5 * time.Second)
	l.link(0, 0, false)
	went := l.now
	l.run(time.Second)
	f := l.flips[0][len(l.flips[0])-1]
	if f.Reason != warm.LinkDown || f.Cause != "path-a" || f.At.Sub(went) > 5*time.Millisecond {
		t.Errorf("left after %v because of %s of %s", f.At.Sub(went), f.Reason, f.Cause)
	}
}
