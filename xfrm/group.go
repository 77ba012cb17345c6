package xfrm

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"yumen/esp"
	"yumen/esp/ours"
	"yumen/policy"
)

// The tunnels of a group have one selector, and the kernel one policy for it: the out
// template names the SA of one member, and to steer is to write another into it, in one
// message (UPDPOLICY). All SAs of a group have one reqid, by which the inward policies
// know them, so what comes in is accepted on every member at any time.

// group is what the plane knows of a group.
type group struct {
	name    string
	members []string // in the order of the policy; the first is the head
	to      []esp.Weight
	local   policy.Net
	target  netip.Addr // of pings; none: there are none
	from    netip.Addr // an address of ours that may ask; none: this host has none
}

// groupsOf reads the groups of a policy, with what was said before about those that stay.
func groupsOf(pol *policy.Policy, before []*group) (list []*group) {
	for _, g := range pol.Groups {
		one := &group{name: g.Name, target: g.Probe.Target}
		for _, m := range g.Members {
			one.members = append(one.members, m.Tunnel)
		}
		head, _ := pol.Tunnel(g.Head())
		one.local = head.Selector.Local
		for _, old := range before {
			if old.name == g.Name {
				one.to = slices.DeleteFunc(slices.Clone(old.to), func(w esp.Weight) bool { return !slices.Contains(one.members, w.Tunnel) })
			}
		}
		list = append(list, one)
	}
	return list
}

// numbersOf gives each tunnel its reqid, and those of a group one.
func numbersOf(pol *policy.Policy, groups []*group, had map[string]uint32) (reqids, numbers map[string]uint32) {
	key := func(tunnel string) string {
		if g := groupOf(groups, tunnel); g != nil {
			return "group\x00" + g.name // no tunnel has such a name
		}
		return tunnel
	}
	var names []string
	for _, t := range pol.Tunnels {
		names = append(names, key(t.Name))
	}
	slices.Sort(names)
	numbers = numberTunnels(slices.Compact(names), had)
	reqids = make(map[string]uint32, len(pol.Tunnels))
	for _, t := range pol.Tunnels {
		reqids[t.Name] = numbers[key(t.Name)]
	}
	return reqids, numbers
}

func groupOf(groups []*group, tunnel string) *group {
	for _, g := range groups {
		if slices.Contains(g.members, tunnel) {
			return g
		}
	}
	return nil
}

// headOf is the tunnel that the policies of another name: that of its group, or itself.
func (p *Plane) headOf(tunnel string) string {
	if g := groupOf(p.groups, tunnel); g != nil {
		return g.members[0]
	}
	return tunnel
}

// order are the members from the first choice to the last. The kernel sends by one.
func (g *group) order() []string {
	to := slices.Clone(g.to)
	slices.SortStableFunc(to, func(a, b esp.Weight) int { return cmp.Compare(b.Weight, a.Weight) })
	var list []string
	for _, w := range to {
		list = append(list, w.Tunnel)
	}
	for _, m := range g.members {
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// carrier is the template of a group when the template of one member is as given: that
// of the first member in order that has a child, else of what a dead daemon left.
func (p *Plane) carrier(g *group, member string, own template) template {
	for _, m := range g.order() {
		if m == member && !own.isIdle() {
			return own
		}
		if x := p.latest(m, 0); m != member && x != nil {
			return templateOf(x.out)
		}
	}
	if t, ok := p.adopted[g.members[0]]; ok {
		return t
	}
	return own
}

// carrying is the template of the policies of a tunnel or of the group that it heads.
func (p *Plane) carrying(tunnel string) template {
	own := p.sending(tunnel)
	if g := groupOf(p.groups, tunnel); g != nil {
		return p.carrier(g, tunnel, own)
	}
	return own
}

// Steer has the traffic of a group leave by the child of the member with the largest
// weight, by one message to the kernel for each policy of the group: no packet is lost
// between, and what is on its way arrives. A member without a child is left out as long
// as it has none; if none of those named has one, and with an empty list, the first
// member of the group that has one carries all. What comes in is accepted on all
// members. The errors: a group that the policy has not, a tunnel that is not in it, and
// what the kernel says; then all is as it was.
func (p *Plane) Steer(name string, to []esp.Weight) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.groups, func(g *group) bool { return g.name == name })
	switch {
	case p.closed:
		return errClosed
	case i < 0:
		return fmt.Errorf("steer group %s: the policy has no such group", name)
	}
	g := p.groups[i]
	for _, w := range to {
		if !slices.Contains(g.members, w.Tunnel) || w.Weight < 1 {
			return fmt.Errorf("steer group %s: tunnel %s with weight %d is not in it", name, w.Tunnel, w.Weight)
		}
	}
	next := *g
	next.to = slices.Clone(to)
	idle := p.sending(g.members[0])
	if from, to := p.carrier(g, g.members[0], idle), p.carrier(&next, g.members[0], idle); from != to {
		if err := carryOut(p.turnGroup(g, from, to)); err != nil {
			return fmt.Errorf("steer group %s: %w", name, err)
		}
	}
	g.to = next.to
	return nil
}

// turnGroup turns the out policies of a group from one template to another.
func (p *Plane) turnGroup(g *group, from, to template) []step {
	return p.turning(func(e entry) bool { return e.mark == 0 && e.tunnel == g.members[0] }, from, to)
}

// markBase is the first of the marks of probes; none is that of other packets of ours
// (Config). They follow from the names of the tunnels, as reqids do, so that SAs that
// stay have theirs.
const markBase = uint32(0x5a) << 24

// marksOf gives each member of a group with a target its mark. Pings leave with it, by
// a policy of the member's own, and what comes in by the member bears it: where the
// host reflects marks (net.ipv4.fwmark_reflect) its answers to the pings of the far end
// go back by the path that they came by, and not by that of traffic, which may be dead.
func marksOf(groups []*group) map[string]uint32 {
	var names []string
	for _, g := range groups {
		if g.target.IsValid() {
			names = append(names, g.members...)
		}
	}
	marks := numberTunnels(names, nil)
	for n, r := range marks {
		marks[n] = markBase | r&ours.ReqidBits
	}
	return marks
}

// planProbes are the policies that send the pings of each member by that member,
// above all others: only a socket with the mark meets them.
func planProbes(groups []*group, ifID uint32) (list []entry) {
	marks := marksOf(groups)
	for _, g := range groups {
		if !g.target.IsValid() || !g.from.IsValid() {
			continue
		}
		for _, name := range g.members {
			list = append(list, g.probes(name, marks[name], ifID))
		}
	}
	return list
}

// probes is the policy for the pings of a member.
func (g *group) probes(name string, mark, ifID uint32) entry {
	e := entry{dir: dirOut, kind: protect, src: netip.PrefixFrom(g.from, g.from.BitLen()), dst: netip.PrefixFrom(g.target, g.target.BitLen()),
		protocol: protoICMP, priority: ours.KernelBand, tunnel: name, ifID: ifID, mark: mark}
	if g.target.Is6() {
		e.protocol = protoICMPv6
	}
	return e
}

const (
	protoICMP   = 1
	protoICMPv6 = 58
)

// locateProbes finds who of us may ask the targets.
func (p *Plane) locateProbes() error {
	for _, g := range p.groups {
		g.from = netip.Addr{}
		if !g.target.IsValid() {
			continue
		}
		list, err := p.host.addresses(g.target.Is6())
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(list, g.local.Contains); i >= 0 {
			g.from = list[i]
		}
	}
	return nil
}

// renumber gives the SAs of a tunnel whose group came, went or changed its new reqid,
// without which the inward policies do not know them, and mark. What arrives between is
// lost.
func (p *Plane) renumber() error {
	for _, x := range p.pairs {
		r, known := p.reqids[x.child.Tunnel]
		mark := p.marks[x.child.Tunnel]
		if !known || x.ended || x.in.reqid == r && x.in.outputMark == mark {
			continue
		}
		in, out := x.in, x.out
		in.reqid, out.reqid, in.outputMark = r, r, mark
		if x.parked {
			x.in, x.out = in, out
			continue
		}
		if err := p.relocate(x, in, out); err != nil {
			return fmt.Errorf("renumber child %d of tunnel %s: %w", x.child.ID, x.child.Tunnel, err)
		}
		x.in, x.out = in, out
	}
	return nil
}

// Mute drops all packets of a tunnel's children, both ways, or ends that: its SAs are
// taken out of the kernel with their numbers and put back. It holds for children that
// come later, too, and is in force when it returns. The error: the policy has no such
// tunnel, and what the kernel says.
func (p *Plane) Mute(tunnel string, on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch _, known := p.reqids[tunnel]; {
	case p.closed:
		return errClosed
	case !known:
		return fmt.Errorf("mute tunnel %s: the policy has no such tunnel", tunnel)
	case p.muted[tunnel] == on:
		return nil
	}
	p.muted[tunnel] = on
	p.tellPinger()
	var err error
	for _, x := range p.pairs {
		if x.child.Tunnel != tunnel || x.ended || x.parked == on {
			continue
		}
		if on {
			err = errors.Join(err, p.park(x))
		} else {
			err = errors.Join(err, p.unpark(x))
		}
	}
	if err != nil {
		return fmt.Errorf("mute tunnel %s: %w", tunnel, err)
	}
	return nil
}

// park takes the SAs of a child out of the kernel and keeps what they need to go on.
func (p *Plane) park(x *pair) error {
	var read time.Time
	for _, s := range []*state{&x.in, &x.out} {
		read = time.Now()
		r, err := p.conn.readState(s.dst, s.spi, false)
		if err != nil {
			return fmt.Errorf("read SA %08x: %w", uint32(s.spi), err)
		}
		s.seq, s.replay, s.count, s.watched = r.state.seq, r.state.replay, r.counts, false
	}
	err := p.conn.deleteState(x.out.dst, x.out.spi)
	x.in.watched, x.out.replay, x.out.seq = !x.heard, nil, x.out.seq+skipped(time.Since(read))
	x.parked = true
	return errors.Join(err, p.conn.deleteState(x.in.dst, x.in.spi))
}

func (p *Plane) unpark(x *pair) error {
	if err := carryOut([]step{adding(p.conn, x.in), adding(p.conn, x.out)}); err != nil {
		return err
	}
	x.parked = false
	return nil
}
