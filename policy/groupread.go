package policy

import (
	"fmt"
	"net/netip"
	"time"
)

// groupDefaults is every default of a group.
func groupDefaults() Group {
	return Group{
		Mode:         ActiveStandby,
		PreemptDelay: 30 * time.Second,
		Probe: Probe{
			Interval: 100 * time.Millisecond,
			Lost:     3,
			Loss:     20,
			Delay:    0,
			Recover:  10,
		},
	}
}

// group reads one group. What it says of tunnels is checked when all is read.
func (r *reader) group(n *node, path string, seen names) (Group, groupLines) {
	g, at := groupDefaults(), groupLines{line: n.line}
	o := r.object(n, path)
	o.need("name", "give the group a name").unique(&g.Name, seen)
	choose(o.get("mode"), &g.Mode, ActiveStandby, LoadShare)
	for i, m := range o.need("members", "list at least two tunnels, one for each path").list() {
		at.members = append(at.members, m.line)
		g.Members = append(g.Members, r.member(m, fmt.Sprintf("%s.members[%d]", path, i), g.Mode, i))
	}
	if f := o.get("preempt_delay"); f.given() && f.node.text == "never" {
		g.PreemptDelay = NeverPreempt
	} else {
		f.span(&g.PreemptDelay, 0, maxPreempt)
	}
	if f := o.get("probe"); f.given() {
		at.target = r.probe(f.node, path+".probe", &g.Probe)
	}
	o.done()
	return g, at
}

// member reads member i of a group. Where active-standby gives no priority, the
// order of the list is the order of preference.
func (r *reader) member(n *node, path string, mode GroupMode, i int) Member {
	m := Member{Priority: 1, Weight: 1}
	if mode == ActiveStandby {
		m.Priority = i + 1
	}
	o := r.object(n, path)
	o.need("tunnel", "name one of tunnels").text(&m.Tunnel)
	o.get("priority").int(&m.Priority, 1, maxMemberPrio)
	weight := o.get("weight")
	weight.int(&m.Weight, 1, maxWeight)
	if weight.given() && mode == ActiveStandby {
		weight.fault("is of mode: load-share; in active-standby write priority, of which the lowest carries")
	}
	o.done()
	return m
}

// probe reads how paths are tried, and returns the line of target.
func (r *reader) probe(n *node, path string, p *Probe) (target int) {
	o := r.object(n, path)
	o.get("interval").span(&p.Interval, MinProbeInterval, MaxProbeInterval)
	o.get("lost").int(&p.Lost, 1, maxProbeLost)
	o.get("loss").int(&p.Loss, 0, 100)
	o.get("delay").span(&p.Delay, 0, maxProbeDelay)
	o.get("recover").int(&p.Recover, 1, maxProbeRecover)
	f := o.get("target")
	if s, ok := f.word(); ok {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			f.fault("%q is no address; write the address of a host at the far site that answers ping", s)
		} else {
			p.Target = a
		}
	}
	o.done()
	return f.line
}

// span reads a time with a unit, in whole milliseconds, from low to high.
func (f field) span(dst *time.Duration, low, high time.Duration) {
	s, ok := f.word()
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		f.fault("%q is no duration; write it with a unit, as 100ms or 30s", s)
	case d%time.Millisecond != 0:
		f.fault("%s is not in whole milliseconds", s)
	case d < low || d > high:
		f.fault("%s is out of range; write %s to %s", s, short(low), short(high))
	default:
		*dst = d
	}
}
