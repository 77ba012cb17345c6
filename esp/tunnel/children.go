package tunnel

import (
	"errors"
	"fmt"
	"time"

	"yumen/esp"
)

// Install makes c able to receive, going on after from. It does not send by c
// until Use. The keymat of c is read and not kept: wiping it is the caller's.
func (p *Plane) Install(c esp.Child, from esp.State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	if c.ID == 0 || p.pairs[c.ID] != nil {
		return fmt.Errorf("install child %d of tunnel %s: its number is 0 or taken", c.ID, c.Tunnel)
	}
	if err := p.checkPath(c.Path); err != nil {
		return fmt.Errorf("install child %d of tunnel %s: %w", c.ID, c.Tunnel, err)
	}
	in, err := esp.NewInbound(c, from)
	if err != nil {
		return fmt.Errorf("install child %d of tunnel %s: %w", c.ID, c.Tunnel, err)
	}
	out, err := esp.NewOutbound(c, from, p.cfg.Rand)
	if err != nil {
		in.Close()
		return fmt.Errorf("install child %d of tunnel %s: %w", c.ID, c.Tunnel, err)
	}
	table, err := p.table.WithInbound(in)
	if err != nil {
		in.Close()
		out.Close()
		return fmt.Errorf("install child %d of tunnel %s: %w", c.ID, c.Tunnel, err)
	}
	x := &pair{
		child: in.Child(), in: in, out: out, kind: kindOf(c.Path.Remote.Addr(), c.Path.Encap),
		last: &readings{}, muted: p.muted[c.Tunnel],
	}
	x.size(p.outerMTU(c.Path))
	p.table, p.pairs[c.ID] = table, x
	p.publish()
	if err := errors.Join(p.dividePort(), p.refreshMTU()); err != nil {
		p.discard(x)
		return fmt.Errorf("install child %d of tunnel %s: %w", c.ID, c.Tunnel, err)
	}
	return nil
}

// discard stops the SAs of a pair once no worker holds them. The caller holds mu.
func (p *Plane) discard(x *pair) {
	delete(p.pairs, x.child.ID)
	p.table = p.table.Without(x.child.ID)
	if p.table.Lane(x.child.Tunnel, x.child.Lane) == nil {
		if y := p.latest(x.child.Tunnel, x.child.Lane); y != nil {
			p.table = p.table.WithOutbound(y.out)
		}
	}
	p.publish()
	p.settle()
	x.in.Close()
	x.out.Close()
}

// checkPath refuses what no socket of ours could carry.
func (p *Plane) checkPath(path esp.Path) error {
	local, remote := path.Local.Addr().Unmap(), path.Remote.Addr().Unmap()
	switch {
	case !remote.IsValid() || remote.IsUnspecified():
		return errors.New("the path has no remote address")
	case local.IsValid() && local.Is4() != remote.Is4():
		return fmt.Errorf("the path goes from %s to %s, two families", local, remote)
	case path.Encap && path.Remote.Port() == 0:
		return errors.New("the path is encapsulated in udp and has no remote port")
	case p.sockets[kindOf(remote, path.Encap)] == nil:
		return errors.New("this host has no IPv6")
	}
	return nil
}

// Use sends the traffic of the child's tunnel by the child from now on, in place of
// another of its lane. Where several lanes have one, flows are spread over them.
func (p *Plane) Use(id esp.ChildID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.pairs[id]
	if x == nil {
		return fmt.Errorf("use child %d: %w", id, esp.ErrNoChild)
	}
	p.turn++
	next := *x
	next.turn = p.turn
	p.pairs[id] = &next
	p.table = p.table.WithOutbound(x.out)
	p.publish()
	p.nudge() // what waits may go
	return nil
}

// Rebind moves a child to another path. Packets that arrive while it moves from
// one socket to another are lost, so that its window has one owner at any time.
func (p *Plane) Rebind(id esp.ChildID, path esp.Path) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.pairs[id]
	if x == nil {
		return fmt.Errorf("rebind child %d: %w", id, esp.ErrNoChild)
	}
	if err := p.checkPath(path); err != nil {
		return fmt.Errorf("rebind child %d: %w", id, err)
	}
	next := *x
	next.child.Path = path
	next.kind = kindOf(path.Remote.Addr(), path.Encap)
	next.size(p.outerMTU(path))
	if next.kind != x.kind {
		delete(p.pairs, id)
		p.publish()
		p.settle()
	}
	p.pairs[id] = &next
	p.publish()
	return errors.Join(p.dividePort(), p.refreshMTU())
}

// Remove stops a child and returns what it needs to go on elsewhere. If another
// child of its tunnel was in use before it, that one sends again.
func (p *Plane) Remove(id esp.ChildID) (esp.State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.pairs[id]
	if x == nil {
		return esp.State{}, fmt.Errorf("remove child %d: %w", id, esp.ErrNoChild)
	}
	p.discard(x)
	return esp.Export(x.in, x.out), errors.Join(p.dividePort(), p.refreshMTU())
}

// latest is the child on a lane of a tunnel that was put to use last.
func (p *Plane) latest(tunnel string, lane uint8) (found *pair) {
	for _, x := range p.pairs {
		if x.child.Tunnel == tunnel && x.child.Lane == lane && x.turn > 0 && (found == nil || x.turn > found.turn) {
			found = x
		}
	}
	return found
}

// Usage reads the counters of a child. False: not installed.
func (p *Plane) Usage(id esp.ChildID) (esp.Usage, bool) {
	p.mu.Lock()
	x := p.pairs[id]
	p.mu.Unlock()
	if x == nil {
		return esp.Usage{}, false
	}
	d := x.in.Drops()
	return esp.Usage{
		In: x.in.Count(), Out: x.out.Count(),
		LastIn: moment(x.last.in.Load()), LastOut: moment(x.last.out.Load()),
		Replayed: d.Replayed, BadAuth: d.BadAuth, BadSelector: d.BadSelector,
		EffectiveMTU: x.mtu,
	}, true
}

func moment(nano int64) time.Time {
	if nano == 0 {
		return time.Time{}
	}
	return time.Unix(0, nano)
}
