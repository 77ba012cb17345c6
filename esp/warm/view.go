package warm

import "time"

// View is a group for people and metrics.
type View struct {
	Paths []PathView // in the order of the policy
	Last  *Flip      // nil: none yet
	Flips map[Reason]uint64
}

// PathView is one path.
type PathView struct {
	Tunnel   string
	State    State
	Why      Reason // of a state that is not good
	Since    time.Time
	Carries  bool
	Weight   int           // while it carries
	Loss     int           // percent of the last ProbeWindow probes
	RTT      time.Duration // median of the last round trips; 0: no answer yet
	Jitter   time.Duration
	Judged   uint64 // probes of which the end is known
	Lost     uint64 // of those
	Failed   bool   // by an operator
	Answered bool   // at some time
}

// View is how the group stands.
func (g *Group) View() View {
	v := View{Last: g.last, Flips: map[Reason]uint64{}}
	for r, n := range g.flips {
		v.Flips[r] = n
	}
	for i, p := range g.paths {
		one := PathView{Tunnel: p.name, State: p.told, Why: p.why(), Since: p.since, Carries: g.carry[i],
			Loss: p.recentLoss(), RTT: p.middle, Jitter: p.jitter, Judged: p.total, Lost: p.gone, Failed: p.drilled, Answered: p.heard}
		if one.State == Good {
			one.Why = ""
		}
		if one.Carries {
			one.Weight = max(1, p.weight)
		}
		v.Paths = append(v.Paths, one)
	}
	return v
}
