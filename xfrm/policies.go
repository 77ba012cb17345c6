package xfrm

import (
	"errors"
	"fmt"
	"slices"

	"yumen/policy"
)

// SetPolicy replaces the whole policy. New policies are written first, best first,
// then old ones go; if one cannot be written, those before it are taken back. Until
// a child is used everything protected is dropped. It may be repeated. Children stay
// installed; the caller removes those that the policy no longer has.
func (p *Plane) SetPolicy(pol *policy.Policy) error {
	spd, err := policy.Compile(pol)
	if err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	if err := p.adoptPolicy(pol, zonesOf(spd.Rules())); err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	return nil
}

func (p *Plane) adoptPolicy(pol *policy.Policy, zones []zone) (err error) {
	policy, groups, reqids, numbers, marks := p.policy, p.groups, p.reqids, p.numbers, p.marks
	p.policy, p.groups = pol, groupsOf(pol, groups)
	p.reqids, p.numbers = numbersOf(pol, p.groups, numbers)
	p.marks = marksOf(p.groups)
	p.quoted = "" // whatever others did
	if !p.read {
		err = p.readLeftovers()
	}
	if err == nil {
		_, err = p.apply(zones)
	}
	if err != nil {
		p.policy, p.groups, p.reqids, p.numbers, p.marks = policy, groups, reqids, numbers, marks
		return err
	}
	p.read, p.trouble, p.behind = true, nil, nil
	if len(p.marks) > 0 {
		p.reflect()
	}
	for name := range p.muted {
		if _, known := p.reqids[name]; !known {
			delete(p.muted, name)
		}
	}
	defer p.tellPinger()
	return errors.Join(p.renumber(), p.sweep())
}

// apply makes the kernel's policies what the zones say, and tells how many that it wrote
// before were gone. The caller holds mu.
func (p *Plane) apply(zones []zone) (gone int, err error) {
	connected, err := p.host.connected()
	if err != nil {
		return 0, err
	}
	around := surroundings{connected: connected, ifID: p.cfg.InterfaceID, device: p.device, lent: p.lent}
	if len(p.lent.sends) > 0 {
		if around.lent.own, err = p.host.own6(); err != nil {
			return 0, err
		}
	}
	if err := p.locateProbes(); err != nil {
		return 0, err
	}
	plan := append(planProbes(p.groups, p.cfg.InterfaceID), planGuard(zones, around)...)
	have, err := p.conn.policies()
	if err != nil {
		return 0, fmt.Errorf("list policies: %w", err)
	}
	there := make(map[selector]placed, len(have))
	for _, h := range have {
		there[h.selector] = h
	}
	wrote := make(map[selector]bool, len(p.entries))
	for _, e := range p.entries {
		wrote[e.selector()] = true
	}
	var steps []step
	for _, e := range plan {
		t := p.template(e)
		h, found := there[e.selector()]
		if !found && wrote[e.selector()] {
			gone++
		}
		// What a dead daemon left idle may have asked already, and the kernel would
		// keep silent about it.
		stale := !p.read && e.dir == dirOut && t != nil && t.isIdle()
		if !found || stale || !h.is(e, t) {
			steps = append(steps, p.placing(e, t, h, found))
		}
		delete(there, e.selector())
	}
	if err := carryOut(steps); err != nil {
		return 0, err
	}
	p.zones, p.entries = zones, plan
	p.setQuoted(plan)
	for _, h := range have {
		if _, stale := there[h.selector]; stale {
			if err := p.conn.deletePolicy(h); err != nil {
				return 0, fmt.Errorf("remove old policy %s to %s: %w", h.src, h.dst, err)
			}
		}
	}
	return gone, nil
}

// placing writes an entry, in the place of h if that was found.
func (p *Plane) placing(e entry, t *template, h placed, found bool) step {
	s := step{
		do:   func() error { return p.conn.setPolicy(e, t) },
		what: fmt.Sprintf("set policy %s to %s", e.src, e.dst),
	}
	if found {
		s.undo = func() error { return p.conn.setPolicy(h.entry(), h.template) }
	} else {
		s.undo = func() error { return p.conn.deleteSelector(e) }
	}
	return s
}

// is reports whether h already is what e and t ask for. One idle template is as
// good as another.
func (h placed) is(e entry, t *template) bool {
	if h.priority != e.priority || h.blocks != e.kind.blocks() || (h.template == nil) != (t == nil) {
		return false
	}
	if t == nil || *h.template == *t {
		return true
	}
	a, b := *h.template, *t
	if e.dir == dirOut {
		return a.isIdle() && b.isIdle() && a.reqid == b.reqid
	}
	return a.reqid == b.reqid && a.spi == b.spi && !b.dst.IsValid() && a.optional == b.optional
}

// entry is how to write h again.
func (h placed) entry() entry {
	s := h.selector
	e := entry{dir: s.dir, kind: protect, src: s.src, dst: s.dst, protocol: s.protocol, srcPort: s.srcPort,
		dstPort: s.dstPort, priority: h.priority, ifID: s.ifID, device: s.device, mark: s.mark}
	if h.blocks {
		e.kind = tunnelBlock
	}
	return e
}

// template is what a policy asks of the packets that it takes; nil: nothing.
func (p *Plane) template(e entry) *template {
	if e.kind != protect {
		return nil
	}
	r := p.reqids[e.tunnel]
	if e.dir != dirOut {
		return &template{reqid: r, optional: e.optional} // whichever child of the tunnel
	}
	t := p.carrying(e.tunnel)
	if e.mark != 0 {
		t = p.sending(e.tunnel) // probes go by the member itself
	}
	return &t
}

// sending is the template of the child that a tunnel sends by, in a group or not.
func (p *Plane) sending(tunnel string) template {
	if x := p.latest(tunnel, 0); x != nil {
		return templateOf(x.out)
	}
	if t, ok := p.adopted[tunnel]; ok && groupOf(p.groups, tunnel) == nil {
		return t
	}
	p.idleTurn++
	return idle(p.reqids[tunnel], p.idleTurn)
}

// switchTo follows a tunnel whose own template turns from one to another: in its out
// policies, or in a group in those of its probes, and in those of the group if that is
// then carried by another.
func (p *Plane) switchTo(tunnel string, from, to template) []step {
	g := groupOf(p.groups, tunnel)
	if g == nil {
		return p.turning(func(e entry) bool { return e.tunnel == tunnel }, from, to)
	}
	steps := p.turning(func(e entry) bool { return e.mark != 0 && e.tunnel == tunnel }, from, to)
	if before, after := p.carrier(g, tunnel, from), p.carrier(g, tunnel, to); before != after {
		steps = append(steps, p.turnGroup(g, before, after)...)
	}
	return steps
}

// turning writes another template into the out policies that match.
func (p *Plane) turning(which func(e entry) bool, from, to template) []step {
	var steps []step
	for _, e := range p.entries {
		if e.kind == protect && e.dir == dirOut && which(e) {
			steps = append(steps, step{
				do:   func() error { return p.conn.setPolicy(e, &to) },
				undo: func() error { return p.conn.setPolicy(e, &from) },
				what: fmt.Sprintf("set policy %s to %s", e.src, e.dst),
			})
		}
	}
	return steps
}

// followHost runs when routes of the host changed.
func (p *Plane) followHost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.policy == nil {
		return
	}
	_, p.behind = p.apply(p.zones)
	p.tellPinger()
}

// waits reports whether packets of a tunnel ask for a child. A tunnel that only
// responds cannot ask.
func (p *Plane) waits(tunnel string) bool {
	return p.policy != nil && slices.ContainsFunc(p.policy.Tunnels, func(t policy.Tunnel) bool {
		return t.Name == tunnel && t.Start != policy.StartNone
	})
}
