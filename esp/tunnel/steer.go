package tunnel

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"yumen/esp"
	"yumen/policy"
)

// A group is several tunnels with one selector on different paths. The policy's
// verdict names the first of them, the head, and the way of the head says by whose
// children packets leave. Which members that are is the word of somebody else (Steer);
// here is known only who has a child.

// way is what carries the packets of a tunnel or a group: no child, one, or several
// over which flows are spread so that each stays on one.
type way struct {
	pairs  []*pair
	spread esp.Spread
}

// of is the child that takes a packet; nil: none.
func (y *way) of(f *esp.Flows, p *esp.Packet) *pair {
	switch len(y.pairs) {
	case 0:
		return nil
	case 1:
		return y.pairs[0]
	}
	return y.pairs[y.spread.Way(f.Number(p))]
}

// turn is the child of the n-th packet of somebody who wants to see all of them.
func (y *way) turn(n uint64) *pair {
	if len(y.pairs) == 0 {
		return nil
	}
	return y.pairs[y.spread.Way(uint32(n*0x9e3779b97f4a7c15>>32))%len(y.pairs)]
}

// group is what the control side knows of a group.
type group struct {
	name    string
	members []string // in the order of the policy; the first is the head
	local   policy.Net
	target  netip.Addr
	to      []esp.Weight // the last word about who carries; empty: whoever has a child
	over    []esp.Weight // what spread was made of
	spread  esp.Spread
}

// member is what workers and probes need of a tunnel that is in a group.
type member struct {
	head   int // place in the policy
	tag    uint32
	target netip.Addr // none: the far gateway answers
	from   netip.Addr
}

// tagOf tells the members of one plane apart in the payload of a ping.
func tagOf(tunnel string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(tunnel))
	return h.Sum32()
}

// Steer has the traffic of a group leave by these members' children from the next
// packet on, spread by flow over the weights. Nothing waits, and nothing is lost that
// was on its way; what comes in is accepted on all members at any time. A member without
// a child is left out as long as it has none. If none of them has one, and before the
// first call and after one with an empty list, the first member of the group that has a
// child carries all. The errors: a group that the policy has not, a tunnel that is not
// in it or named twice, a weight below 1.
func (p *Plane) Steer(name string, to []esp.Weight) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groups[name]
	switch {
	case p.closed:
		return errClosed
	case g == nil:
		return fmt.Errorf("steer group %s: the policy has no such group", name)
	}
	for i, w := range to {
		same := func(o esp.Weight) bool { return o.Tunnel == w.Tunnel }
		switch {
		case !slices.Contains(g.members, w.Tunnel):
			return fmt.Errorf("steer group %s: tunnel %s is not in it", name, w.Tunnel)
		case slices.ContainsFunc(to[:i], same):
			return fmt.Errorf("steer group %s: tunnel %s is named twice", name, w.Tunnel)
		case w.Weight < 1:
			return fmt.Errorf("steer group %s: weight %d of tunnel %s is below 1", name, w.Weight, w.Tunnel)
		}
	}
	g.to = slices.Clone(to)
	p.publish()
	p.nudge() // what waits may go
	return nil
}

// wayOf is who carries a group now. The caller holds mu.
func (p *Plane) wayOf(g *group, side func(tunnel string) []*pair) way {
	var y way
	var over []esp.Weight
	for _, w := range g.to {
		lanes := side(w.Tunnel)
		y.pairs = append(y.pairs, lanes...)
		for _, x := range lanes { // together they weigh what their tunnel weighs
			over = append(over, esp.Weight{Tunnel: laneName(x), Weight: w.Weight * everyLane / len(lanes)})
		}
	}
	for _, m := range g.members {
		if lanes := side(m); len(lanes) > 0 && len(y.pairs) == 0 {
			return p.wide(lanes)
		}
	}
	if len(over) < 2 {
		return y
	}
	if !slices.Equal(over, g.over) { // it takes a while, and children come and go
		g.over, g.spread = over, esp.NewSpread(over)
	}
	y.spread = g.spread
	return y
}

// everyLane is divisible by every number of lanes.
const everyLane = 840

// laneName is what a lane is called among those that flows are spread over: the first
// of a tunnel has the name of the tunnel.
func laneName(x *pair) string {
	if x.child.Lane == 0 {
		return x.child.Tunnel
	}
	return fmt.Sprint(x.child.Tunnel, " ", x.child.Lane)
}

// wide is a tunnel's way by children side by side. The caller holds mu.
func (p *Plane) wide(lanes []*pair) way {
	y := way{pairs: lanes}
	if len(lanes) < 2 {
		return y
	}
	if p.sides == nil {
		p.sides = map[uint16]esp.Spread{}
	}
	var set uint16
	var over []esp.Weight
	for _, x := range lanes {
		set |= 1 << x.child.Lane
		over = append(over, esp.Weight{Tunnel: fmt.Sprint(x.child.Lane), Weight: 1})
	}
	spread, known := p.sides[set]
	if !known { // it takes a while, and children come and go
		spread = esp.NewSpread(over)
		p.sides[set] = spread
	}
	y.spread = spread
	return y
}

// regroup takes over the groups of a policy. What was said about one that stays, with
// the members that it is about, still holds. The caller holds mu.
func (p *Plane) regroup(list []*group) {
	before := p.groups
	p.groups = make(map[string]*group, len(list))
	for _, g := range list {
		p.groups[g.name] = g
		old := before[g.name]
		if old == nil {
			continue
		}
		gone := func(w esp.Weight) bool { return !slices.Contains(g.members, w.Tunnel) }
		g.to = slices.DeleteFunc(slices.Clone(old.to), gone)
	}
}

// Mute drops all packets of a tunnel's children, both ways and before they are opened
// or sealed, or ends that: to the far end the path looks dead, and probes find it so.
// IKE is not touched. It holds for children that come later, too, and is in force when
// it returns. The error: the policy has no such tunnel.
func (p *Plane) Mute(tunnel string, on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	if _, known := p.places[tunnel]; !known {
		return fmt.Errorf("mute tunnel %s: the policy has no such tunnel", tunnel)
	}
	if p.muted[tunnel] == on {
		return nil
	}
	delete(p.muted, tunnel)
	if on {
		p.muted[tunnel] = true
	}
	for id, x := range p.pairs {
		if x.child.Tunnel == tunnel {
			next := *x
			next.muted = on
			p.pairs[id] = &next
		}
	}
	p.publish()
	p.settle()
	return nil
}

// enlist takes over tunnels and groups of a policy. The caller holds mu.
func (p *Plane) enlist(pol *policy.Policy) {
	p.tunnels, p.places = nil, make(map[string]int, len(pol.Tunnels))
	for i, t := range pol.Tunnels {
		p.tunnels = append(p.tunnels, tunnelEntry{name: t.Name, lanes: uint8(max(t.Children, 1)), waits: t.Start != policy.StartNone})
		p.places[t.Name] = i
	}
	p.regroup(groupsOf(pol))
	for _, g := range p.groups {
		head := &p.tunnels[p.places[g.members[0]]]
		head.group, head.also = g.name, g.members[1:]
		for _, name := range g.members {
			head.waits = head.waits || p.tunnels[p.places[name]].waits
		}
	}
	for name := range p.muted {
		if _, known := p.places[name]; !known {
			delete(p.muted, name)
		}
	}
}

// groupsOf reads the groups of a policy that Compile has accepted.
func groupsOf(pol *policy.Policy) (list []*group) {
	for _, g := range pol.Groups {
		one := &group{name: g.Name, target: g.Probe.Target}
		for _, m := range g.Members {
			one.members = append(one.members, m.Tunnel)
		}
		head, _ := pol.Tunnel(g.Head())
		one.local = head.Selector.Local
		list = append(list, one)
	}
	return list
}
