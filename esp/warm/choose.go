package warm

import (
	"time"

	"yumen/policy"
)

// rank orders paths by how much they are worth to traffic: by state, and among those
// that are down by what is known against them.
func (g *Group) rank(i int) int {
	r := int(g.paths[i].told)
	if g.paths[i].told == Down {
		r += g.paths[i].hopeless()
	}
	return r
}

// hopelessRank is the rank of a path that has no child: it cannot carry.
const hopelessRank = int(Down) + 2

// hold is the shortest time between a flip and one to a path that has only just begun
// to answer again.
func (g *Group) hold() time.Duration {
	return time.Duration(g.policy.Probe.Recover) * g.policy.Probe.Interval
}

// turn is how long one of several dead paths keeps the traffic.
func (g *Group) turn() time.Duration {
	return max(leastTurn, turnProbes*g.policy.Probe.Interval)
}

// settle ends the first time, in which a better path takes over at once: when the
// policy's first choice carries and is good, or when it has not come about for long.
func (g *Group) settle(now time.Time) {
	if !g.settling || g.started.IsZero() {
		return
	}
	g.settling = now.Sub(g.started) < settling
	for i, p := range g.paths {
		if g.carry[i] && p.told != Good || !g.carry[i] && g.better(i) {
			return
		}
	}
	g.settling = false
}

// decide chooses who carries, and tells the flip if that is news.
func (g *Group) decide(now time.Time) *Flip {
	best := hopelessRank
	for i := range g.paths {
		best = min(best, g.rank(i))
	}
	if g.started.IsZero() {
		if best == hopelessRank {
			return nil
		}
		g.started, g.settling = now, true
		return g.flip(now, g.pick(g.ranked(best)))
	}
	current := hopelessRank + 1
	for i, on := range g.carry {
		if on {
			current = min(current, g.rank(i))
		}
	}
	flip := g.flip(now, g.pick(g.wanted(now, best, current)))
	switch {
	case current < int(Recovering) || best < int(Recovering):
		g.stranded = false
	case !g.stranded:
		g.stranded, g.turned = true, now
	case flip != nil:
		g.turned = now
	}
	g.settle(now)
	return flip
}

// wanted is among whom to pick, given the best rank and the best of those that carry.
func (g *Group) wanted(now time.Time, best, current int) []bool {
	switch {
	case current == int(Good):
		return g.filter(func(i int) bool {
			state := g.paths[i].told
			return g.carry[i] && state == Untried || state == Good && (g.carry[i] || g.ripe(now, i))
		})
	case current == int(Untried) && g.settling:
		return g.filter(func(i int) bool { return g.paths[i].told == Good || g.paths[i].told == Untried })
	case current == int(Untried), current == int(Unanswered) && best == int(Untried):
		return g.filter(func(i int) bool { return g.carry[i] && g.unknown(i) }) // it will show soon
	case current == int(Unanswered) && best == int(Unanswered) && g.policy.Mode == policy.LoadShare:
		return g.ranked(best) // also those whose child came later
	case best == int(Recovering) && current > best && now.Sub(g.flipped) < g.hold():
		return g.carry // it may be gone again in a moment
	case best < current:
		return g.ranked(best)
	case best == int(Down) && g.stranded && now.Sub(g.turned) >= g.turn():
		return g.next()
	case best >= int(Down):
		return g.carry
	}
	return g.filter(func(i int) bool { return g.carry[i] && g.rank(i) == best })
}

func (g *Group) filter(keep func(i int) bool) []bool {
	out := make([]bool, len(g.paths))
	for i := range g.paths {
		out[i] = keep(i)
	}
	return out
}

func (g *Group) ranked(rank int) []bool {
	return g.filter(func(i int) bool { return g.rank(i) == rank })
}

// ripe: a good path has been so for long enough to take traffic from another.
func (g *Group) ripe(now time.Time, i int) bool {
	if g.settling {
		return true
	}
	delay := g.policy.PreemptDelay
	return delay != policy.NeverPreempt && now.Sub(g.paths[i].goodSince) >= delay
}

// better: path i would take traffic, were it ripe.
func (g *Group) better(i int) bool {
	for j, on := range g.carry {
		if on && (g.paths[i].priority < g.paths[j].priority ||
			g.policy.Mode == policy.LoadShare && g.paths[i].priority == g.paths[j].priority) {
			return true
		}
	}
	return false
}

// unknown: nothing was heard of path i yet, or ever, and nothing else is against it.
func (g *Group) unknown(i int) bool {
	return g.paths[i].told == Untried || g.paths[i].told == Unanswered
}

// next is the path behind the one that carries, among those that are only dead.
func (g *Group) next() []bool {
	n := len(g.paths)
	for i, on := range g.carry {
		if !on {
			continue
		}
		for k := 1; k < n; k++ {
			if j := (i + k) % n; g.rank(j) == int(Down) {
				return g.filter(func(m int) bool { return m == j })
			}
		}
	}
	return g.carry
}

// pick takes the members of the best priority among some: one in active-standby.
func (g *Group) pick(among []bool) []bool {
	best := -1
	for i, in := range among {
		if in && (best < 0 || g.paths[i].priority < g.paths[best].priority) {
			best = i
		}
	}
	if best < 0 {
		return g.carry
	}
	return g.filter(func(i int) bool {
		if g.policy.Mode == policy.ActiveStandby {
			return i == best
		}
		return among[i] && g.paths[i].priority == g.paths[best].priority
	})
}

// carriers are the tunnels that carry.
func (g *Group) carriers() []string {
	var out []string
	for i, on := range g.carry {
		if on {
			out = append(out, g.paths[i].name)
		}
	}
	return out
}

// flip makes a choice the one that holds, and tells it if it is another.
func (g *Group) flip(now time.Time, to []bool) *Flip {
	left, joined := -1, -1
	for i := range to {
		if g.carry[i] && !to[i] && (left < 0 || g.rank(i) > g.rank(left)) {
			left = i
		}
		if !g.carry[i] && to[i] && joined < 0 {
			joined = i
		}
	}
	if left < 0 && joined < 0 {
		return nil
	}
	f := &Flip{At: now, From: g.carriers(), Turn: left >= 0 && joined >= 0 && g.stranded && g.rank(joined) == int(Down) && g.rank(left) == int(Down)}
	f.Reason, f.Cause = g.reason(left, joined)
	g.carry, g.flipped = to, now
	f.To = g.carriers()
	if !f.Turn {
		g.last = f
		g.flips[f.Reason]++
	}
	return f
}

// reason says why path left goes and path joined comes; -1: none does.
func (g *Group) reason(left, joined int) (Reason, string) {
	switch {
	case g.last == nil || joined >= 0 && g.settling && (left < 0 || g.paths[left].told <= Untried):
		return Start, g.paths[joined].name
	case joined >= 0 && g.stranded && g.paths[joined].told <= Recovering:
		return Recovered, g.paths[joined].name
	case left >= 0 && g.paths[left].why() != "":
		return g.paths[left].why(), g.paths[left].name
	case left >= 0 && joined >= 0:
		return Preempt, g.paths[joined].name
	case joined >= 0:
		return Recovered, g.paths[joined].name
	}
	return Preempt, g.paths[left].name
}
