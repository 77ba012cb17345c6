package warm_test

import (
	"slices"
	"testing"
	"time"

	"yumen/esp/warm"
	"yumen/policy"
)

// last is the last flip of an end.
func (l *lab) last(e int) warm.Flip {
	l.t.Helper()
	if len(l.flips[e]) == 0 {
		l.t.Fatal("no flip")
	}
	return l.flips[e][len(l.flips[e])-1]
}

func TestEachTroubleIsTheReasonOfItsFlip(t *testing.T) {
	for _, c := range []struct {
		reason warm.Reason
		delay  time.Duration // threshold
		do     func(l *lab)
	}{
		{warm.ProbeLost, 0, func(l *lab) { l.wires[0].ways[1].cut = true }},
		{warm.Loss, 0, func(l *lab) { l.wires[0].ways[0].loss = 0.35 }},
		{warm.Delay, 80 * time.Millisecond, func(l *lab) { l.wires[0].ways[0].delay = 120 * time.Millisecond }},
		{warm.LinkDown, 0, func(l *lab) { l.link(0, 0, false) }},
		{warm.NoChild, 0, func(l *lab) { l.child(0, false) }},
		{warm.Drill, 0, func(l *lab) { l.step(0, warm.Fail{Member: 0, On: true}) }},
	} {
		g := groupOf(2)
		g.Probe.Delay, g.Probe.Lost = c.delay, 5
		l := newLab(t, 42, g)
		l.run(8 * time.Second)
		before := len(l.flips[0])
		c.do(l)
		l.run(12 * time.Second)
		if len(l.flips[0]) != before+1 || l.last(0).Reason != c.reason || l.last(0).Cause != "path-a" {
			t.Errorf("%s: flips are %+v", c.reason, l.flips[0][before:])
		}
		if p := l.ends[0].View().Paths[0]; p.Why != c.reason || p.State == warm.Good {
			t.Errorf("%s: the path is %+v", c.reason, p)
		}
	}
}

func TestWithoutThresholdsASlowPathIsKept(t *testing.T) {
	g := groupOf(2)
	g.Probe.Loss = 0
	l := newLab(t, 1, g)
	l.run(8 * time.Second)
	before := len(l.flips[0])
	l.wires[0].ways[0].delay = 700 * time.Millisecond
	l.run(20 * time.Second)
	// It becomes slow at once, so its answers seem lost until its pace is known; then
	// it is good again, and preferred.
	if n := len(l.flips[0]) - before; n > 2 {
		t.Errorf("%d flips", n)
	}
	if p := l.ends[0].View().Paths[0]; p.State != warm.Good || !p.Carries || p.RTT < 700*time.Millisecond {
		t.Errorf("the slow path is %+v", p)
	}
}

func TestNeverMeansThatTrafficStaysWhereItIs(t *testing.T) {
	g := groupOf(2)
	g.PreemptDelay = policy.NeverPreempt
	l := newLab(t, 3, g)
	l.run(5 * time.Second)
	l.link(0, 0, false)
	l.run(5 * time.Second)
	l.link(0, 0, true)
	l.run(10 * time.Minute)
	if f := l.last(0); f.Reason != warm.LinkDown || l.ends[0].View().Paths[0].State != warm.Good {
		t.Errorf("last flip %+v, path a %v", f, l.ends[0].View().Paths[0].State)
	}
	l.wires[1].ways[0].cut = true
	l.run(5 * time.Second)
	if f := l.last(0); f.Reason != warm.ProbeLost || !slices.Equal(f.To, []string{"path-a"}) {
		t.Errorf("last flip %+v", f)
	}
}

// machine steps one group by hand.
type machine struct {
	t   *testing.T
	g   *warm.Group
	now time.Time
	seq uint64
}

func newMachine(t *testing.T, g policy.Group) *machine {
	return &machine{t: t, g: warm.New(g), now: time.Unix(1_800_000_000, 0)}
}

func (m *machine) step(in warm.Input) *warm.Flip { m.t.Helper(); return m.g.Step(m.now, in).Flip }

// rounds sends n probes by each member, of which those named answer.
func (m *machine) rounds(n int, members int, answer ...int) (flips []warm.Flip) {
	for range n {
		m.seq++
		for i := range members {
			m.g.Step(m.now, warm.Sent{Member: i, Seq: m.seq})
		}
		m.now = m.now.Add(5 * time.Millisecond)
		for _, i := range answer {
			if f := m.step(warm.Answered{Member: i, Seq: m.seq}); f != nil {
				flips = append(flips, *f)
			}
		}
		m.now = m.now.Add(95 * time.Millisecond)
		if f := m.step(warm.Tick{}); f != nil {
			flips = append(flips, *f)
		}
	}
	return flips
}

func (m *machine) up(members int) {
	for i := range members {
		m.step(warm.Child{Member: i, Up: true})
	}
}

func TestDeadPathsTakeTurnsSlowly(t *testing.T) {
	m := newMachine(t, groupOf(3))
	m.up(3)
	m.rounds(20, 3, 0, 1, 2)
	flips := m.rounds(100, 3)
	for i := 1; i < len(flips); i++ {
		if d := flips[i].At.Sub(flips[i-1].At); d < 2*time.Second {
			t.Errorf("turns after %v: %+v", d, flips)
		}
	}
	seen := map[string]bool{}
	for _, f := range flips {
		seen[f.To[0]] = true
		if !f.Turn {
			t.Errorf("%+v is no turn", f)
		}
	}
	if v := m.g.View(); v.Last.Reason != warm.Start || v.Flips[warm.ProbeLost] != 0 {
		t.Errorf("turns count as flips: %+v", v)
	}
	if len(seen) != 3 || len(flips) > 6 {
		t.Errorf("10 s of silence led to %+v", flips)
	}
}

func TestAFarEndThatNeverAnsweredKeepsTheFirstPath(t *testing.T) {
	m := newMachine(t, groupOf(2))
	m.up(2)
	if flips := m.rounds(600, 2); len(flips) != 0 {
		t.Errorf("flips among paths of which nothing is known: %+v", flips)
	}
	if got := m.g.Steer(); len(got) != 1 || got[0].Tunnel != "path-a" {
		t.Errorf("carried by %v", got)
	}
	// It may be that it answers no probes: that is no failure, and no flip when it begins to.
	for _, p := range m.g.View().Paths {
		if p.State != warm.Unanswered || p.Why != warm.ProbeLost {
			t.Errorf("%+v", p)
		}
	}
	if flips := m.rounds(30, 2, 0, 1); len(flips) != 0 || m.g.View().Paths[0].State != warm.Good {
		t.Errorf("when it answers: %+v, %+v", flips, m.g.View().Paths)
	}
	m.rounds(10, 2)
	if v := m.g.View(); v.Paths[0].State != warm.Down || v.Paths[1].State != warm.Down {
		t.Errorf("when it no longer does: %+v", v.Paths)
	}
}

// apart sends probes by two members, the second one a moment later each time, and lets
// every clock strike; the second one is answered, or nobody is.
func (m *machine) apart(n int, answered bool) (flips []warm.Flip) {
	take := func(in warm.Input) {
		if f := m.step(in); f != nil {
			flips = append(flips, *f)
		}
	}
	for range n {
		m.seq++
		for i := range 2 {
			m.now = m.now.Add(time.Millisecond)
			take(warm.Sent{Member: i, Seq: m.seq})
		}
		if answered {
			m.now = m.now.Add(time.Millisecond)
			take(warm.Answered{Member: 1, Seq: m.seq})
		}
		end := m.now.Add(95 * time.Millisecond)
		for next := m.g.Next(m.now); !next.IsZero() && next.Before(end); next = m.g.Next(m.now) {
			m.now = next
			take(warm.Tick{})
		}
		m.now = end
	}
	return flips
}

func TestAPathThatNeverAnsweredIsLeftForOneThatIsKnownToWork(t *testing.T) {
	m := newMachine(t, groupOf(2))
	m.up(2)
	if flips := m.apart(200, false); len(flips) != 0 {
		t.Errorf("one that is not known either took over: %+v", flips)
	}
	if flips := m.apart(9, true); len(flips) != 0 {
		t.Errorf("one that has hardly answered took over: %+v", flips)
	}
	if flips := m.apart(2, true); len(flips) != 1 || flips[0].To[0] != "path-b" || flips[0].Reason != warm.ProbeLost {
		t.Errorf("%+v", flips)
	}
	m.step(warm.Child{Member: 1, Up: false})
	if got := m.g.Steer(); got[0].Tunnel != "path-a" {
		t.Errorf("without a child the other one still carries: %v", got)
	}
}

func TestPathsThatNeverAnsweredShareTheLoad(t *testing.T) {
	g := groupOf(2)
	g.Mode = policy.LoadShare
	g.Members[1].Priority = 1
	m := newMachine(t, g)
	m.up(1)
	m.rounds(200, 1)
	m.step(warm.Child{Member: 1, Up: true})
	m.apart(200, false)
	if got := m.g.Steer(); len(got) != 2 {
		t.Errorf("carried by %v", got)
	}
}

func TestALateAnswerIsNoLoss(t *testing.T) {
	m := newMachine(t, groupOf(2))
	m.up(2)
	m.rounds(20, 2, 0, 1)
	sent := m.now
	m.seq++
	m.step(warm.Sent{Member: 0, Seq: m.seq})
	m.now = m.now.Add(300 * time.Millisecond)
	m.step(warm.Tick{})
	if v := m.g.View().Paths[0]; v.Lost != 1 {
		t.Fatalf("not given up: %+v", v)
	}
	m.step(warm.Answered{Member: 0, Seq: m.seq, At: sent.Add(290 * time.Millisecond)})
	m.step(warm.Answered{Member: 0, Seq: m.seq}) // repeated
	m.step(warm.Answered{Member: 0, Seq: 9999})  // never asked
	if v := m.g.View().Paths[0]; v.Lost != 0 || v.Loss != 0 || v.Judged != 21 {
		t.Errorf("%+v", v)
	}
}

func TestANewPolicyTakesOverWhatIsKnown(t *testing.T) {
	m := newMachine(t, groupOf(2))
	m.up(2)
	m.rounds(20, 2, 0, 1)
	m.step(warm.Link{Member: 0, Up: false})
	changed := groupOf(3)
	changed.Probe.Loss = 50
	changed.Members[0], changed.Members[2] = changed.Members[2], changed.Members[0] // the order is another
	next := warm.New(changed)
	next.Inherit(m.g)
	if got := next.Steer(); len(got) != 1 || got[0].Tunnel != "path-b" {
		t.Fatalf("carried by %v after the change", got)
	}
	v := next.View()
	if p := v.Paths[2]; p.Tunnel != "path-a" || p.Why != warm.LinkDown || p.Answered == false {
		t.Errorf("path a is %+v", p)
	}
	if v.Last == nil || v.Flips[warm.LinkDown] != 1 {
		t.Errorf("flips forgotten: %+v", v)
	}
	gone := groupOf(3)
	gone.Members = []policy.Member{gone.Members[0], gone.Members[2]} // the one that carries went
	last := warm.New(gone)
	last.Inherit(m.g)
	if f := last.Step(m.now, warm.Child{Member: 1, Up: true}).Flip; f == nil || f.To[0] != "path-c" {
		t.Errorf("after its carrier went, the group does %+v", f)
	}
}

// stalled is a machine that stood still for ten seconds with four probes under way by
// each of two paths, and has not handed in what came meanwhile.
func stalled(t *testing.T) *machine {
	m := newMachine(t, groupOf(2))
	m.up(2)
	m.rounds(20, 2, 0, 1)
	for range 4 {
		m.seq++
		m.step(warm.Sent{Member: 0, Seq: m.seq})
		m.step(warm.Sent{Member: 1, Seq: m.seq})
	}
	m.now = m.now.Add(10 * time.Second)
	return m
}

func TestAStallIsNoSilenceOfThePaths(t *testing.T) {
	m := stalled(t)
	if m.step(warm.Tick{}); m.g.View().Paths[0].State != warm.Down {
		t.Fatalf("this is no stall that matters: %+v", m.g.View())
	}
	m = stalled(t)
	before := m.g.View().Paths[0]
	for _, in := range []warm.Input{warm.Late{}, warm.Tick{}} {
		if f := m.step(in); f != nil {
			t.Fatalf("%T: %+v", in, f)
		}
	}
	for i := range 2 {
		for n := range uint64(4) {
			if f := m.step(warm.Answered{Member: i, Seq: m.seq - n}); f != nil {
				t.Fatalf("%+v", f)
			}
		}
	}
	if v := m.g.View().Paths[0]; v.State != warm.Good || v.Lost != 0 || v.Jitter != before.Jitter {
		t.Errorf("after the answers: %+v, before: %+v", v, before)
	}
	m.rounds(2, 2, 0, 1)
	if v := m.g.View(); v.Paths[0].State != warm.Good || v.Paths[1].State != warm.Good || v.Last.Reason != warm.Start {
		t.Errorf("%+v", v)
	}
}

func TestAMachineThatIsAlwaysLateLeavesADeadPath(t *testing.T) {
	m := newMachine(t, groupOf(2))
	m.up(2)
	m.rounds(20, 2, 0, 1)
	for range 10 {
		m.step(warm.Late{})
		m.rounds(1, 2, 1)
	}
	if got := m.g.Steer(); got[0].Tunnel != "path-b" {
		t.Errorf("carried by %v: %+v", got, m.g.View().Paths)
	}
}

func TestAStallHidesADeathNoLongerThanAnAnswerTakes(t *testing.T) {
	m := stalled(t)
	m.step(warm.Late{})
	for n := range uint64(4) {
		m.step(warm.Answered{Member: 1, Seq: m.seq - n})
	}
	end := m.now.Add(100 * time.Millisecond)
	for next := m.g.Next(m.now); !next.IsZero() && next.Before(end); next = m.g.Next(m.now) {
		m.now = next
		m.step(warm.Tick{})
	}
	if got := m.g.Steer(); got[0].Tunnel != "path-b" {
		t.Errorf("after %v still carried by %v", 100*time.Millisecond, got)
	}
}
