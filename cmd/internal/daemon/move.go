package daemon

import (
	"context"
	"errors"
	"fmt"

	"yumen/esp"
	"yumen/ike"
)

// residence tells where children live. Of a gateway with one plane it is that.
type residence interface {
	Name() string
	PlaneOf(id esp.ChildID) string
	Current(name string) string
}

// lodging is a gateway with one plane.
type lodging string

func (l lodging) Name() string               { return string(l) }
func (l lodging) PlaneOf(esp.ChildID) string { return string(l) }
func (l lodging) Current(string) string      { return string(l) }

// residenceOf is where the children of a plane live.
func residenceOf(x plane, name string) residence {
	if r, ok := x.(residence); ok {
		return r
	}
	return lodging(name)
}

// Move answers `yumen dataplane move`: the tunnel's next child goes to the plane, and
// one quick mode makes it.
func (g *gateway) Move(ctx context.Context, name, to string) error {
	p := g.plan.Load()
	if err := hasTunnel(p.Policy, name); err != nil {
		return err
	}
	where := map[string]string{"user": userspace, "kernel": kernel}[to]
	if where == "" {
		return fmt.Errorf("there is no data plane %q: say user or kernel", to)
	}
	b, ok := g.plane.(*both)
	switch {
	case ok:
	case p.Config.Dataplane != auto:
		return fmt.Errorf("dataplane: %s in gateway.yaml is the plane of every tunnel: set dataplane: auto to move one", p.Config.Dataplane)
	default:
		return fmt.Errorf("every tunnel is in userspace: %s", g.because)
	}
	if err := b.Choose(name, where); err != nil {
		return err
	}
	g.log.Info("operator", "order", "move", "tunnel", name, "plane", where)
	return g.server.Do(ctx, ike.Rekey{Tunnel: name})
}

// mostFound is how many tunnels may wait for settle.
const mostFound = 1024

// settle moves a tunnel into the kernel that was in userspace only to find out the
// length of its ICV, by one quick mode as Move does.
func (g *gateway) settle(ctx context.Context, e ike.Event) {
	b, ok := g.plane.(*both)
	if !ok || !b.FoundICV(e.Child, e.ICVBits) {
		return
	}
	g.log.Info("move", "tunnel", e.Tunnel, "plane", kernel, "why", "its ICV length is known now: "+e.Detail)
	if err := g.server.Do(ctx, ike.Rekey{Tunnel: e.Tunnel}); err != nil {
		g.log.Warn("move", "tunnel", e.Tunnel, "error", err)
	}
}

// gather brings the paths of groups to the plane that their group has now, by one quick
// mode each as Move does. One that is dead at present comes when it works again.
func (g *gateway) gather(ctx context.Context) {
	b, ok := g.plane.(*both)
	if !ok {
		return
	}
	for tunnel, where := range b.Strays() {
		g.log.Info("move", "tunnel", tunnel, "plane", where, "why", "its group is there")
		if err := g.server.Do(ctx, ike.Rekey{Tunnel: tunnel}); err != nil {
			g.log.Warn("move", "tunnel", tunnel, "error", err)
		}
	}
}

// Choose is the operator's word for a tunnel: its next child goes there. It holds
// until the next word or the end of the process. The error says why it cannot be.
func (b *both) Choose(name, where string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current(name) == where && b.wish(name) == where {
		b.chosen[name] = where
		return nil
	}
	if err := b.movable(name, where); err != nil {
		return fmt.Errorf("tunnel %s stays where it is: %w", name, err)
	}
	if where == userspace {
		if err := b.needUser(); err != nil {
			return err
		}
	}
	before, had := b.chosen[name]
	b.chosen[name] = where
	if err := b.agree(); err != nil {
		delete(b.chosen, name)
		if had {
			b.chosen[name] = before
		}
		return errors.Join(err, b.agree())
	}
	return nil
}

// movable says why a tunnel cannot go to a plane whatever way it travels.
func (b *both) movable(name, where string) error {
	if err := b.grouped(name); err != nil {
		return err
	}
	for _, t := range b.policy.Tunnels {
		for _, o := range b.policy.Tunnels {
			if t.Name == name && o.Name != name && entangled(t, o) && b.current(o.Name) != where {
				return fmt.Errorf("it shares addresses with tunnel %s, which is in %s, and packets find their plane by address",
					o.Name, b.current(o.Name))
			}
		}
	}
	if where != kernel {
		return nil
	}
	if r, up := b.children[b.sending[name]]; up {
		if err := carries(r.Suite, r.ICVBits, r.Outer); err != nil {
			return fmt.Errorf("the kernel cannot carry it: %w", err)
		}
		if err := b.narrow(r.Child); err != nil {
			return fmt.Errorf("the kernel cannot carry it: %w", err)
		}
	}
	if h := b.homes[name]; h.plane == userspace {
		return fmt.Errorf("the kernel cannot carry it: %s", h.why)
	}
	return nil
}
