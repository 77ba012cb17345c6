package daemon

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yumen/cmd/internal/control"
	"yumen/esp"
	"yumen/esp/links"
	"yumen/esp/warm"
	"yumen/policy"
)

func TestAGroupLeavesADeadPathAndReturnsWhenItIsGoodAgain(t *testing.T) {
	s := newScene(t, groupPolicy("a", "b"))
	s.good(t, "a", "b")
	s.carriedBy(t, "a")
	died := time.Now()
	s.plane.kill("a", true)
	s.carriedBy(t, "b")
	if d := time.Since(died); d > 2*time.Second {
		t.Errorf("left after %v", d)
	}
	until(t, "the flip is told", func() bool { return s.lines.has("msg=flip group=dr from=a to=b reason=probe-lost tunnel=a") })
	g := s.status()[0]
	if g.Last == nil || g.Last.Reason != "probe-lost" || g.Flips["probe-lost"] != 1 || !g.Works || !slices.Equal(g.Carries, []string{"b"}) {
		t.Errorf("the group is %+v", g)
	}
	if g.Probe != (control.Probe{Interval: 20, Lost: 4, Recover: 3}) || g.Probe.Within() != 80*time.Millisecond || g.Probe.Again() != 60*time.Millisecond {
		t.Errorf("its probes are %+v", g.Probe)
	}
	if p := s.state("a"); p.State != "down" || p.Why != "probe-lost" || p.Lost == 0 {
		t.Errorf("the path is %+v", p)
	}
	s.plane.kill("a", false)
	s.carriedBy(t, "a")
	until(t, "the return is told", func() bool { return s.lines.has("reason=preempt") })
}

func TestALinkOrAChildThatGoesMovesTheGroupAtOnce(t *testing.T) {
	s := newScene(t, groupPolicy("a", "b", "c"))
	s.good(t, "a", "b", "c")
	s.links.mu.Lock()
	list := s.links.list
	s.links.mu.Unlock()
	if len(list) != 3 || list[0].Name != "a" || list[0].Local != netip.MustParseAddr("203.0.113.1") || list[0].Remote != netip.MustParseAddr("192.0.2.0") {
		t.Errorf("follows %+v", list)
	}
	s.links.states <- links.State{Name: "a", Why: "eth0 is down"}
	s.carriedBy(t, "b")
	s.child("b", false)
	s.carriedBy(t, "c")
	if !s.lines.has("eth0 is down") || !s.lines.has("reason=link-down") || !s.lines.has("reason=no-child") {
		t.Errorf("told: %s", s.lines)
	}
}

func TestAnExerciseMutesAPathAndEndsByItself(t *testing.T) {
	s := newScene(t, groupPolicy("a", "b"))
	s.good(t, "a", "b")
	if err := s.fail("dr", "a", time.Hour); err != nil {
		t.Fatal(err)
	}
	if s.plane.carries("dr") != "b" || !s.plane.isMuted("a") {
		t.Error("the path is muted before traffic left it, or not at all")
	}
	if p := s.state("a"); p.Why != "drill" || p.Failed == nil {
		t.Errorf("the path is %+v", p)
	}
	if err := s.restore("dr", "a"); err != nil || s.plane.isMuted("a") {
		t.Errorf("restored: %v", err)
	}
	s.carriedBy(t, "a")
	if err := s.fail("dr", "b", time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.fail("dr", "b", 50*time.Millisecond); err != nil { // the limit is set anew
		t.Fatal(err)
	}
	until(t, "the dead man restored it", func() bool { return !s.plane.isMuted("b") && s.state("b").Failed == nil })
	s.good(t, "b")
	for _, err := range []error{s.fail("dr", "c", time.Second), s.restore("no", "a"), s.trace("no", time.Second, time.Second)} {
		if !errors.Is(err, control.ErrUnknownGroup) {
			t.Errorf("got %v", err)
		}
	}
}

func TestATraceTellsWhatBecameOfEachProbe(t *testing.T) {
	s := newScene(t, groupPolicy("a", "b"))
	s.good(t, "a", "b")
	if err := s.trace("dr", 5*time.Millisecond, time.Minute); err != nil {
		t.Fatal(err)
	}
	read := func() control.Samples {
		out, err := s.samples("dr", 0)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	until(t, "twenty probes went", func() bool { return len(read().Probes) > 20 })
	s.plane.kill("a", true)
	s.carriedBy(t, "b")
	n := read().Next
	until(t, "more went by b", func() bool { return read().Next > n+10 })
	if err := s.trace("dr", 0, 0); err != nil {
		t.Fatal(err)
	}
	if got := read(); got.Running || len(got.Probes) != 0 {
		t.Errorf("a trace that ended has %d probes", len(got.Probes))
	}
	if err := s.trace("dr", 5*time.Millisecond, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	until(t, "the trace ends", func() bool { return !read().Running })
	all := read()
	for i, p := range all.Probes {
		if p.Seq != uint64(i+1) || p.By != "b" || p.Far != 77 || p.Answered < p.Sent || p.Answered-p.Sent > int64(5*time.Second) {
			t.Errorf("probe %d: %+v", i, p)
		}
	}
	if rest, _ := s.samples("dr", all.Next-2); len(rest.Probes) != 2 || rest.Next != all.Next {
		t.Errorf("the last two are %+v", rest)
	}
}

func TestANewPolicyMovesNoTrafficThatItNeedNotMove(t *testing.T) {
	s := newScene(t, groupPolicy("a", "b"))
	s.good(t, "a", "b")
	s.plane.kill("a", true)
	s.carriedBy(t, "b")
	next := groupPolicy("a", "b", "c")
	next.Groups[0].Probe.Lost = 5
	s.mu.Lock()
	s.up["c"] = true
	s.mu.Unlock()
	s.apply(next)
	s.good(t, "c")
	if got := s.plane.carries("dr"); got != "b" {
		t.Errorf("after the reload the group goes by %s", got)
	}
	if g := s.status()[0]; g.Flips["probe-lost"] != 1 || len(g.Paths) != 3 {
		t.Errorf("the group is %+v", g)
	}
	if err := s.fail("dr", "c", time.Hour); err != nil {
		t.Fatal(err)
	}
	less := groupPolicy("a", "c")
	less.Groups[0].Name = "other"
	s.apply(less)
	until(t, "the other group begins", func() bool { return s.plane.carries("other") != "" })
	if got := s.status(); len(got) != 1 || got[0].Name != "other" {
		t.Errorf("groups are %+v", got)
	}
	s.apply(&policy.Policy{})
	if s.plane.isMuted("c") || len(s.status()) != 0 {
		t.Error("what is no group's is still muted, or shown")
	}
	s.plane.mu.Lock()
	asked := s.plane.asked["a"]
	s.plane.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	s.plane.mu.Lock()
	defer s.plane.mu.Unlock()
	if s.plane.asked["a"] != asked {
		t.Error("a group that is gone still probes")
	}
}

func TestAPlaneThatRefusesToSteerIsAskedAgain(t *testing.T) {
	p := groupPolicy("a", "b")
	s := newScene(t, p)
	s.good(t, "a", "b")
	s.plane.mu.Lock()
	s.plane.refuse = errors.New("not now")
	s.plane.mu.Unlock()
	s.plane.kill("a", true)
	until(t, "the refusal is told", func() bool { return s.lines.has("not now") })
	s.plane.mu.Lock()
	s.plane.refuse = nil
	s.plane.mu.Unlock()
	s.carriedBy(t, "b")
}

func TestAFarEndThatAnswersNoProbesIsNotTakenForDead(t *testing.T) {
	p := groupPolicy("a", "b")
	s := newScene(t, &policy.Policy{})
	until(t, "it serves", func() bool { s.groups.mu.Lock(); defer s.groups.mu.Unlock(); return s.policy != nil })
	s.plane.kill("a", true)
	s.plane.kill("b", true)
	s.mu.Lock()
	s.up["a"], s.up["b"] = true, true
	s.mu.Unlock()
	s.apply(p)
	until(t, "nothing answers", func() bool { return s.state("a").State == "unanswered" && s.state("b").State == "unanswered" })
	if g := s.status()[0]; !g.Works || !slices.Equal(g.Carries, []string{"a"}) || s.lines.has("group-down") {
		t.Errorf("the group is %+v", g)
	}
	until(t, "the hint is told", func() bool { return s.lines.has("probe.target should name a host") })
}

func TestAProbeThatDoesNotLeaveIsToldOnceAndShown(t *testing.T) {
	s := newScene(t, groupPolicy("a", "b"))
	s.good(t, "a", "b")
	refuse := func(err error) {
		s.plane.mu.Lock()
		defer s.plane.mu.Unlock()
		s.plane.unsent = err
	}
	refuse(errors.New("no address of ours"))
	until(t, "the paths are down", func() bool { return s.state("a").State == "down" && s.state("b").State == "down" })
	if got := s.state("a").Unsent; got != "no address of ours" {
		t.Errorf("the path says %q", got)
	}
	s.lines.mu.Lock()
	told := strings.Count(s.lines.String(), "no address of ours")
	s.lines.mu.Unlock()
	if told != 2 {
		t.Errorf("told %d times, want once for each path", told)
	}
	refuse(nil)
	until(t, "probes leave again", func() bool { return s.state("a").Unsent == "" })
}

// Links are told when they change, and a group that a reload makes is not there then.
func TestALinkThatIsDownIsSoInANewGroup(t *testing.T) {
	s := newScene(t, groupPolicy("a", "b"))
	s.good(t, "a", "b")
	s.links.states <- links.State{Name: "a", Why: "eth0 is down"}
	s.carriedBy(t, "b")
	next := groupPolicy("a", "b")
	next.Groups[0].Name = "other"
	s.apply(next)
	s.good(t, "b")
	if p := s.state("a"); p.Why != "link-down" || s.plane.carries("other") != "b" {
		t.Errorf("the path is %+v, and the group goes by %s", p, s.plane.carries("other"))
	}
	s.links.states <- links.State{Name: "a", Up: true}
	s.good(t, "a")
	s.apply(next)
	s.good(t, "a")
}

// A runner that comes late waits for answers that are still on their way to it.
func TestALateRunnerTakesItsOwnLatenessForNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plane := newFakePaths()
		plane.kill("a", true) // answers come when the test says so
		plane.kill("b", true)
		p := groupPolicy("a", "b").Groups[0]
		r := newRunner(newGroups(plane, &fakeLinks{}, quiet(), nil), p)
		r.seq = 1
		r.carryOut(order{in: warm.Child{Member: 0, Up: true}})
		r.carryOut(order{in: warm.Child{Member: 1, Up: true}})
		come := func(seq uint64) {
			for i := range 2 {
				r.wake()
				r.answered(answer{i, esp.Echo{Seq: seq, At: time.Now()}})
			}
		}
		for range 10 {
			r.wakeAt = time.Now()
			r.probe()
			time.Sleep(time.Millisecond)
			come(r.seq)
		}
		for range p.Probe.Lost {
			r.probe()
		}
		r.wakeAt = time.Now().Add(time.Millisecond)
		time.Sleep(10 * time.Second)
		for i := range uint64(p.Probe.Lost) {
			come(r.seq - i)
		}
		if v := r.view(); v.Paths[0].State != warm.Good || v.Paths[1].State != warm.Good || v.Paths[0].Lost+v.Paths[1].Lost != 0 {
			t.Errorf("%+v", v.Paths)
		}
	})
}
