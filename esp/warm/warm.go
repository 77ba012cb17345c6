// Package warm decides by which of several paths the traffic of a group of tunnels
// travels. All paths are established and tried all the time; it is told what became
// of each probe, of links and of children, and says who carries and why.
//
// It is pure: time comes in as an argument, probes are sent by the caller, and a
// decision goes out as a value. One Group is for one goroutine.
//
// Three rules hold always:
//
//   - While some path works, traffic is on one that works, or moves there as soon as
//     probes tell that its own does not.
//   - A path that failed counts as good only after Recover probes in a row, and a good
//     one is left for a better one only after that was good for PreemptDelay. So a
//     path that flaps cannot take the traffic along.
//   - When none works, the last one keeps the traffic, and those that have a child take
//     turns, slowly: it may be that only the probes are lost.
//
// Of a path that never answered probes cannot tell anything: its far end may answer none.
// It counts as one that works, for want of one that is known to.
package warm

import (
	"time"

	"yumen/esp"
	"yumen/policy"
)

// Reason is why traffic moved, or why a path is not good. Each is a word of status,
// events and metrics.
type Reason string

const (
	Start     Reason = "start"      // the first choice, and its correction soon after
	ProbeLost Reason = "probe-lost" // probes in a row had no answer
	Loss      Reason = "loss"       // too many of the last probes had none
	Delay     Reason = "delay"      // answers take too long
	LinkDown  Reason = "link-down"  // the interface, address or route of the path is gone
	NoChild   Reason = "no-child"   // nothing is negotiated
	Drill     Reason = "drill"      // an operator failed the path
	Preempt   Reason = "preempt"    // a better path was good for long enough
	Recovered Reason = "recovered"  // a path came back: to none that worked, or to its share
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{Start, ProbeLost, Loss, Delay, LinkDown, NoChild, Drill, Preempt, Recovered}
}

// State is how well a path works. The lower, the better.
type State uint8

const (
	Good       State = iota
	Bad              // it works, but loses or delays too much
	Untried          // it has a child, and its probes have not yet told enough
	Unanswered       // it has a child, and no probe was ever answered
	Recovering       // it had failed, and answers again, for too short a time
	Down             // it does not work
)

func (s State) String() string {
	return [...]string{"good", "bad", "untried", "unanswered", "recovering", "down"}[min(s, Down)]
}

// States lists every state.
func States() []State { return []State{Good, Bad, Untried, Unanswered, Recovering, Down} }

const (
	// settling is how long after the first choice a better path takes over at once:
	// which of two comes up first is chance.
	settling = 10 * time.Second
	// leastTurn is the shortest time that a path which seems dead keeps the traffic
	// before the next one is tried; turnProbes the same in probes.
	leastTurn  = 2 * time.Second
	turnProbes = 20
)

// Sent says that a probe left by a member.
type Sent struct {
	Member int
	Seq    uint64 // ascending for each member
}

// Answered says that the answer to a probe came, by whatever way. One that nobody
// asked for, or asked long ago, is ignored.
type Answered struct {
	Member int
	Seq    uint64
	At     time.Time // zero: now
}

// Link says whether the link that a member's path begins with is there. It is taken
// for there until told otherwise.
type Link struct {
	Member int
	Up     bool
}

// Child says whether a member has a child to send by.
type Child struct {
	Member int
	Up     bool
}

// Fail says whether an operator wants a member to have failed.
type Fail struct {
	Member int
	On     bool
}

// Late says that until now nobody looked for longer than was due: the machine stood
// still, or was busy elsewhere. Answers may have come meanwhile that have not been handed
// in yet, so what is under way is waited for once more.
type Late struct{}

// Tick says only that time went by: see Group.Next.
type Tick struct{}

// Input is one of Sent, Answered, Link, Child, Fail, Late and Tick.
type Input interface{ input() }

func (Sent) input()     {}
func (Answered) input() {}
func (Link) input()     {}
func (Child) input()    {}
func (Fail) input()     {}
func (Late) input()     {}
func (Tick) input()     {}

// Flip is a change of who carries the traffic.
type Flip struct {
	At       time.Time
	From, To []string // tunnels; From is empty at the start
	Reason   Reason
	Cause    string // the tunnel whose change led to it
	// Turn: no path works, and they take turns. It is neither counted nor the last
	// flip of a View.
	Turn bool
}

// Change is a change of how a path is.
type Change struct {
	Tunnel   string
	From, To State
	Why      Reason // of To; empty when it is good
}

// Out is what a step leads to.
type Out struct {
	Steer   []esp.Weight // who carries from now on; nil: as before
	Flip    *Flip        // with Steer
	Changes []Change
}

// Group is the machine of one group.
type Group struct {
	policy  policy.Group
	paths   []*path
	carry   []bool
	started time.Time // the first choice; zero: none yet
	flipped time.Time // the last one
	last    *Flip
	flips   map[Reason]uint64
	// settling: the first choice has not come about yet.
	settling bool
	// stranded: no path worked when the one that carries failed, so what moves the
	// traffic is that another came back.
	stranded bool
	turned   time.Time // since when the path that carries has its turn
}

// New makes the machine of a group. Nothing carries until a member has a child.
func New(g policy.Group) *Group {
	out := &Group{policy: g, carry: make([]bool, len(g.Members)), flips: map[Reason]uint64{}}
	for _, m := range g.Members {
		out.paths = append(out.paths, newPath(m, g.Probe))
	}
	return out
}

// Inherit takes over what another machine knows of the tunnels that both have: a
// policy that is read anew is no reason to move traffic. It belongs before the first
// Step.
func (g *Group) Inherit(old *Group) {
	for i, p := range g.paths {
		for j, o := range old.paths {
			if p.name == o.name {
				p.inherit(o)
				g.carry[i] = old.carry[j]
			}
		}
	}
	g.started, g.flipped, g.last = old.started, old.flipped, old.last
	g.settling, g.stranded, g.turned = old.settling, old.stranded, old.turned
	for r, n := range old.flips {
		g.flips[r] = n
	}
	if g.carriers() == nil {
		g.started = time.Time{} // all that carried are gone: choose anew
	}
}

// Step takes one input in. Time must not go backwards.
func (g *Group) Step(now time.Time, in Input) Out {
	before := make([]State, len(g.paths))
	for i, p := range g.paths {
		before[i] = p.told
	}
	g.take(now, in)
	var out Out
	for i, p := range g.paths {
		p.judge(now)
		if p.told = p.state(); p.told != before[i] {
			p.since = now
			out.Changes = append(out.Changes, Change{Tunnel: p.name, From: before[i], To: p.told, Why: p.why()})
		}
	}
	if flip := g.decide(now); flip != nil {
		out.Flip, out.Steer = flip, g.Steer()
	}
	return out
}

func (g *Group) take(now time.Time, in Input) {
	switch in := in.(type) {
	case Sent:
		g.paths[in.Member].sent(now, in.Seq)
	case Answered:
		at := in.At
		if at.IsZero() || at.After(now) {
			at = now
		}
		g.paths[in.Member].answered(now, at, in.Seq)
	case Link:
		g.paths[in.Member].setLink(in.Up)
	case Child:
		g.paths[in.Member].setChild(in.Up)
	case Fail:
		g.paths[in.Member].setFailed(in.On)
	case Late:
		for _, p := range g.paths {
			p.late(now)
		}
	}
}

// Steer is who carries now; nil before the first choice.
func (g *Group) Steer() []esp.Weight {
	var out []esp.Weight
	for i, on := range g.carry {
		if on {
			out = append(out, esp.Weight{Tunnel: g.paths[i].name, Weight: max(1, g.paths[i].weight)})
		}
	}
	return out
}

// Next is when, after a Step at now, a Tick is due although nothing else happens;
// zero: not before the next input.
func (g *Group) Next(now time.Time) time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for i, p := range g.paths {
		sooner(p.deadline())
		if p.told == Good && !g.carry[i] && g.policy.PreemptDelay >= 0 && g.better(i) {
			sooner(p.goodSince.Add(g.policy.PreemptDelay))
		}
	}
	if g.stranded {
		sooner(g.flipped.Add(g.hold()))
		sooner(g.turned.Add(g.turn()))
	}
	return next
}
