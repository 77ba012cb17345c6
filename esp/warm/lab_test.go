package warm_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"yumen/esp/warm"
	"yumen/policy"
)

// The lab: two machines, one at each end, around simulated one-way links, on a clock
// that only the lab moves. Each end probes, answers and chooses for what it sends.

const ends = 2

// way is one direction of a path: from end 0 to end 1, or back.
type way struct {
	cut    bool
	loss   float64
	delay  time.Duration
	jitter time.Duration
}

// wire is one path.
type wire struct {
	ways  [ends]way // by the end that sends
	link  [ends]bool
	child bool
	// sound: both ways open, without loss or delay beyond the ordinary, both links and
	// the child there, since.
	sound time.Time
	// dead: what this end sends arrives nowhere, since; zero: it does.
	dead [ends]time.Time
}

func (w *wire) isSound(ordinary time.Duration) bool {
	for e := range ends {
		if w.ways[e].cut || w.ways[e].loss > 0 || w.ways[e].delay > ordinary || !w.link[e] {
			return false
		}
	}
	return w.child
}

// event is something that happens in the lab.
type event struct {
	at time.Time
	n  int
	do func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].n < q[j].n
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any     { old := *q; x := old[len(old)-1]; *q = old[:len(old)-1]; return x }

type lab struct {
	t        *testing.T
	name     string
	r        *rand.Rand
	now, end time.Time
	queue    queue
	n        int
	group    policy.Group
	ends     [ends]*warm.Group
	seq      [ends]uint64
	flips    [ends][]warm.Flip
	wires    []*wire
	ordinary time.Duration
	outside  [ends]int // links and children that changed, as this end was told
	begin    time.Time
	failed   bool
}

func newLab(t *testing.T, seed uint64, g policy.Group) *lab {
	l := &lab{t: t, name: fmt.Sprintf("seed %d", seed), r: rand.New(rand.NewPCG(seed, 7)), group: g,
		now: time.Unix(1_800_000_000, 0), ordinary: 25 * time.Millisecond}
	l.begin = l.now
	for range g.Members {
		w := &wire{link: [ends]bool{true, true}}
		for e := range ends {
			w.ways[e] = way{delay: time.Duration(1+l.r.IntN(20)) * time.Millisecond, jitter: time.Duration(l.r.IntN(3)) * time.Millisecond}
		}
		l.wires = append(l.wires, w)
	}
	for e := range ends {
		l.ends[e] = warm.New(g)
		l.after(time.Duration(l.r.IntN(100))*time.Millisecond, func() { l.probe(e) })
	}
	for i := range l.wires {
		l.after(time.Duration(l.r.IntN(300))*time.Millisecond, func() { l.child(i, true) })
	}
	return l
}

func (l *lab) after(d time.Duration, do func()) {
	l.n++
	heap.Push(&l.queue, event{l.now.Add(d), l.n, do})
}

func (l *lab) fault(format string, args ...any) {
	if !l.failed {
		l.t.Errorf("%s, %v in: %s", l.name, l.now.Sub(l.begin), fmt.Sprintf(format, args...))
		for e := range ends {
			for _, f := range l.flips[e] {
				l.t.Logf("  end %d at %v: %v > %v, %s of %s", e, f.At.Sub(l.begin), f.From, f.To, f.Reason, f.Cause)
			}
		}
	}
	l.failed = true
}

// step feeds one end and notes what it decides.
func (l *lab) step(e int, in warm.Input) {
	out := l.ends[e].Step(l.now, in)
	if (out.Flip == nil) != (out.Steer == nil) {
		l.fault("end %d steers without a flip, or flips without steering", e)
	}
	if out.Flip != nil {
		l.flips[e] = append(l.flips[e], *out.Flip)
		l.flipped(e, *out.Flip)
	}
}

// probe sends one probe by each path and sets the next one off.
func (l *lab) probe(e int) {
	l.seq[e]++
	for i, w := range l.wires {
		if !w.child {
			continue
		}
		seq := l.seq[e]
		l.step(e, warm.Sent{Member: i, Seq: seq})
		l.travel(i, e, func() {
			l.travel(i, 1-e, func() { l.step(e, warm.Answered{Member: i, Seq: seq}) })
		})
	}
	l.after(l.group.Probe.Interval, func() { l.probe(e) })
}

// travel carries a packet from end e along path i, or loses it.
func (l *lab) travel(i, e int, arrive func()) {
	w := &l.wires[i].ways[e]
	if l.dropped(i, e) || l.r.Float64() < w.loss {
		return
	}
	d := w.delay
	if w.jitter > 0 {
		d += time.Duration(l.r.Int64N(int64(w.jitter)))
	}
	l.after(d, func() {
		if l.dropped(i, e) {
			return
		}
		arrive()
	})
}

func (l *lab) dropped(i, e int) bool {
	w := l.wires[i]
	return w.ways[e].cut || !w.link[0] || !w.link[1] || !w.child
}

func (l *lab) child(i int, up bool) {
	if l.wires[i].child == up {
		return
	}
	l.wires[i].child = up
	for e := range ends {
		l.outside[e]++
		l.step(e, warm.Child{Member: i, Up: up})
	}
}

func (l *lab) link(i, e int, up bool) {
	if l.wires[i].link[e] == up {
		return
	}
	l.wires[i].link[e] = up
	l.outside[e]++
	l.after(5*time.Millisecond, func() { l.step(e, warm.Link{Member: i, Up: l.wires[i].link[e]}) })
}

// run lets the lab live for a time.
func (l *lab) run(d time.Duration) {
	l.end = l.now.Add(d)
	for l.now.Before(l.end) && !l.failed {
		next := l.end
		if len(l.queue) > 0 && l.queue[0].at.Before(next) {
			next = l.queue[0].at
		}
		tick := -1
		for e := range ends {
			if at := l.ends[e].Next(l.now); !at.IsZero() && at.Before(next) {
				next, tick = at, e
			}
		}
		if next.After(l.now) {
			l.now = next
		}
		switch {
		case tick >= 0:
			l.step(tick, warm.Tick{})
		case len(l.queue) > 0 && !l.queue[0].at.After(l.now):
			heap.Pop(&l.queue).(event).do()
		}
		l.look()
	}
}

// look follows the truth of each path and holds the choices against it.
func (l *lab) look() {
	for i, w := range l.wires {
		if !w.isSound(l.ordinary) {
			w.sound = time.Time{}
		} else if w.sound.IsZero() {
			w.sound = l.now
		}
		for e := range ends {
			if !l.dropped(i, e) {
				w.dead[e] = time.Time{}
			} else if w.dead[e].IsZero() {
				w.dead[e] = l.now
			}
		}
	}
	for e := range ends {
		l.idle(e)
	}
}

// idle: no end sends into a dead path while another one works.
func (l *lab) idle(e int) {
	steer := l.ends[e].Steer()
	for _, to := range steer {
		i := int(to.Tunnel[len(to.Tunnel)-1] - 'a')
		dead := l.wires[i].dead[e]
		if dead.IsZero() {
			continue
		}
		for j, w := range l.wires {
			if w.sound.IsZero() || j == i {
				continue
			}
			if since := later(dead, w.sound); l.now.Sub(since) > l.patience() {
				l.fault("end %d sends by %s, dead since %v, while %s works since %v", e, to.Tunnel, dead.Sub(l.begin), l.group.Members[j].Tunnel, w.sound.Sub(l.begin))
			}
		}
	}
	if len(l.flips[e]) > 0 && len(steer) == 0 {
		l.fault("end %d sends by no path", e)
	}
	if l.group.Mode == policy.ActiveStandby && len(steer) > 1 {
		l.fault("end %d sends by %d paths", e, len(steer))
	}
}

// patience is the longest that an end may stay on a dead path while another works:
// the last probe of a path that had become slow is waited for, and one that has just
// come back is not taken right after a flip.
func (l *lab) patience() time.Duration {
	p := l.group.Probe
	return time.Duration(p.Lost+2+p.Recover)*p.Interval + 2*time.Second
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// flipped holds one flip against the rules.
func (l *lab) flipped(e int, f warm.Flip) {
	if len(f.To) == 0 || f.Cause == "" {
		l.fault("end %d: a flip to %v because of %q", e, f.To, f.Cause)
	}
	if f.Reason != warm.Preempt || len(f.To) != 1 {
		return
	}
	for _, p := range l.ends[e].View().Paths {
		if p.Tunnel == f.To[0] && (p.State != warm.Good || l.now.Sub(p.Since) < l.group.PreemptDelay) {
			l.fault("end %d: returned to %s, which is %v for %v only", e, p.Tunnel, p.State, l.now.Sub(p.Since))
		}
	}
}

// bounded: an end flips when it is told of links and children, and else not more often
// than paths can prove themselves.
func (l *lab) bounded() {
	p := l.group.Probe
	lived := l.now.Sub(l.begin)
	most := 4 + len(l.wires)*int(lived/(time.Duration(p.Recover)*p.Interval))
	for e := range ends {
		if n := len(l.flips[e]); n > most+l.outside[e] {
			l.fault("end %d flipped %d times, at most %d are right", e, n, most+l.outside[e])
		}
	}
}
