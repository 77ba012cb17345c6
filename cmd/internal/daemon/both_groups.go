package daemon

import (
	"errors"
	"fmt"

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

var errNoPaths = errors.New("this data plane carries no groups")

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

// paths is the plane of a group's members, or of any tunnel.
func (b *both) paths(tunnel string) (pathSide, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := plane(b.kernel)
	if b.wish(tunnel) == userspace && b.user != nil {
		x = b.user
	}
	if s, ok := x.(pathSide); ok {
		return s, nil
	}
	return nil, errNoPaths
}

// head is a tunnel by which a group's plane is found.
func (b *both) head(group string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.policy != nil {
		if g, ok := b.policy.Group(group); ok {
			return g.Head(), nil
		}
	}
	return "", fmt.Errorf("group %s: the policy has no such group", group)
}

// Steer has the plane of the group send by these members.
func (b *both) Steer(group string, to []esp.Weight) error {
	head, err := b.head(group)
	if err != nil {
		return err
	}
	x, err := b.paths(head)
	if err != nil {
		return fmt.Errorf("steer group %s: %w", group, err)
	}
	return x.Steer(group, to)
}

// Echo asks by the plane of the tunnel.
func (b *both) Echo(tunnel string, seq uint64, stamp int64) error {
	x, err := b.paths(tunnel)
	if err != nil {
		return fmt.Errorf("probe %s: %w", tunnel, err)
	}
	return x.Echo(tunnel, seq, stamp)
}

// EchoGroup asks by the plane of the group.
func (b *both) EchoGroup(group string, seq uint64, stamp int64) error {
	head, err := b.head(group)
	if err != nil {
		return err
	}
	x, err := b.paths(head)
	if err != nil {
		return fmt.Errorf("probe %s: %w", group, err)
	}
	return x.EchoGroup(group, seq, stamp)
}

// Mute silences a tunnel on its plane.
func (b *both) Mute(tunnel string, on bool) error {
	x, err := b.paths(tunnel)
	if err != nil {
		return fmt.Errorf("mute %s: %w", tunnel, err)
	}
	return x.Mute(tunnel, on)
}

// Echoes merges the answers of the planes. It is never closed.
func (b *both) Echoes() <-chan esp.Echo { return b.echoes }

// forwardEchoes passes answers of a plane on; who reads them late loses some.
func (b *both) forwardEchoes(x plane) {
	s, ok := x.(pathSide)
	if !ok {
		return
	}
	b.running.Go(func() {
		for e := range s.Echoes() {
			select {
			case b.echoes <- e:
			default:
			}
		}
	})
}

// grouped refuses to move one path of a group alone.
func (b *both) grouped(name string) error {
	if i, ok := b.policy.GroupOf(name); ok {
		return fmt.Errorf("it is a path of group %s, and all paths of a group are on one plane", b.policy.Groups[i].Name)
	}
	return nil
}
