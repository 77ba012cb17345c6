package daemon

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"yumen/esp"
	"yumen/policy"
)

// pathSide is what a data plane does for groups of tunnels: several paths for the same
// traffic. See tunnel.Plane for what each promises.
type pathSide interface {
	Steer(group string, to []esp.Weight) error
	Echo(tunnel string, seq uint64, stamp int64) error
	EchoGroup(group string, seq uint64, stamp int64) error
	Echoes() <-chan esp.Echo
	Mute(tunnel string, on bool) error
}

// groupHome says why the members of a group live in userspace, all of them: one
// packet of theirs is like the other, so there is one that decides. Empty: nothing
// speaks against the kernel.
func groupHome(g policy.Group, of map[string]home) string {
	for _, m := range g.Members {
		if h, ok := of[m.Tunnel]; ok && h.why != "" {
			return fmt.Sprintf("a path of group %s needs it (%s: %s)", g.Name, m.Tunnel, h.why)
		}
	}
	switch {
	case g.Mode == policy.LoadShare:
		return fmt.Sprintf("group %s shares its load among paths, and the kernel sends by one at a time", g.Name)
	case !g.Probe.Target.IsValid():
		return fmt.Sprintf("group %s has no probe.target, and the kernel drops the probes of gateways to each other", g.Name)
	}
	return ""
}

// settleGroups gives all members of a group one home. True: something changed.
func settleGroups(p *policy.Policy, of map[string]home) (changed bool) {
	for _, g := range p.Groups {
		why := groupHome(g, of)
		if why == "" {
			continue
		}
		for _, m := range g.Members {
			if h, ok := of[m.Tunnel]; ok && (h.plane != userspace || h.why == "") {
				of[m.Tunnel], changed = home{userspace, why}, true
			}
		}
	}
	return changed
}

// enlist takes over the groups of the policy: what was said of those that it still has
// goes on to hold. A tunnel of a group goes where the group does, whatever was said of it
// alone. The caller holds mu.
func (b *both) enlist() {
	b.groups = map[string]*policy.Group{}
	steers := map[string][]esp.Weight{}
	for i := range b.policy.Groups {
		g := &b.policy.Groups[i]
		for _, m := range g.Members {
			b.groups[m.Tunnel] = g
			delete(b.chosen, m.Tunnel)
		}
		for _, w := range b.steers[g.Name] {
			if b.groups[w.Tunnel] == g {
				steers[g.Name] = append(steers[g.Name], w)
			}
		}
	}
	b.steers = steers
	maps.DeleteFunc(b.muted, func(name string, _ bool) bool { _, known := b.homes[name]; return !known })
}

// sides are the planes that run. The caller holds mu.
func (b *both) sides() []plane {
	if b.user == nil {
		return []plane{b.kernel}
	}
	return []plane{b.kernel, b.user}
}

// brief tells a plane that comes later what was said of groups and paths before. The
// caller holds mu.
func (b *both) brief(x plane) (err error) {
	for name, to := range b.steers {
		err = errors.Join(err, x.Steer(name, to))
	}
	for name := range b.muted {
		err = errors.Join(err, x.Mute(name, true))
	}
	return err
}

// sends is the plane by which the packets of a tunnel leave: in a group that of the
// member that carries, as far as it has a child. The caller holds mu.
func (b *both) sends(name string) string {
	g := b.groups[name]
	if g == nil {
		return b.current(name)
	}
	var order []string
	for _, w := range b.steers[g.Name] {
		order = append(order, w.Tunnel)
	}
	for _, m := range g.Members {
		order = append(order, m.Tunnel)
	}
	for _, m := range order {
		if r, ok := b.children[b.sending[m]]; ok {
			return r.plane
		}
	}
	return b.current(g.Head())
}

// Steer says to both planes who carries a group. As a rule all its children are on one,
// and to the other it means nothing; but when a reload gives the group another home they
// go there one after the other, and the traffic goes by the plane of the one that carries.
func (b *both) Steer(group string, to []esp.Weight) error {
	b.mu.Lock()
	g, ok := b.policy.Group(group)
	if !ok {
		b.mu.Unlock()
		return fmt.Errorf("steer group %s: the policy has no such group", group)
	}
	b.steers[group] = slices.Clone(to) // also for a plane that comes meanwhile
	sides := b.sides()
	b.mu.Unlock() // a plane may be busy, and probes must not wait for it
	for _, x := range sides {
		if err := x.Steer(group, to); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.share[g.Head()] == (b.sends(g.Head()) == userspace) {
		return nil
	}
	return b.agree()
}

// Echo asks by the plane where the tunnel has its child.
func (b *both) Echo(tunnel string, seq uint64, stamp int64) error {
	b.mu.Lock()
	x := b.on(b.current(tunnel))
	b.mu.Unlock()
	return x.Echo(tunnel, seq, stamp)
}

// EchoGroup asks by the plane by which the group sends.
func (b *both) EchoGroup(group string, seq uint64, stamp int64) error {
	b.mu.Lock()
	g, ok := b.policy.Group(group)
	if !ok {
		b.mu.Unlock()
		return fmt.Errorf("probe %s: the policy has no such group", group)
	}
	x := b.on(b.sends(g.Head()))
	b.mu.Unlock()
	return x.EchoGroup(group, seq, stamp)
}

// Mute silences a tunnel wherever it has, or will have, a child.
func (b *both) Mute(tunnel string, on bool) (err error) {
	b.mu.Lock()
	delete(b.muted, tunnel)
	if on {
		b.muted[tunnel] = true
	}
	sides := b.sides()
	b.mu.Unlock()
	for _, x := range sides {
		err = errors.Join(err, x.Mute(tunnel, on))
	}
	if err != nil && on { // not by half
		err = errors.Join(err, b.Mute(tunnel, false))
	}
	return err
}

// Strays are the paths of groups that send by a child on another plane than that of
// their group, and where they belong: a policy that is read anew moves no child.
func (b *both) Strays() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]string{}
	for name := range b.groups {
		if r, up := b.children[b.sending[name]]; up && r.plane != b.wish(name) {
			out[name] = b.wish(name)
		}
	}
	return out
}

// Echoes merges the answers of the planes. It is never closed.
func (b *both) Echoes() <-chan esp.Echo { return b.echoes }

// forwardEchoes passes answers of a plane on; who reads them late loses some.
func (b *both) forwardEchoes(x plane) {
	b.running.Go(func() {
		for e := range x.Echoes() {
			select {
			case b.echoes <- e:
			default:
			}
		}
	})
}

// grouped refuses to move one path of a group alone.
func (b *both) grouped(name string) error {
	if g := b.groups[name]; g != nil {
		return fmt.Errorf("it is a path of group %s, and all paths of a group are on one plane", g.Name)
	}
	return nil
}
