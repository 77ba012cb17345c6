package daemon

import (
	"context"

	"yumen/esp/links"
	"yumen/ike"
	"yumen/policy"
)

// linkWatch follows interfaces, addresses and routes; links.Watcher is one.
type linkWatch interface {
	Follow(list []links.Path)
	States() <-chan links.State
}

// openGroups makes the keeper of groups for the plane that was opened.
func (g *gateway) openGroups(mark uint32, built *closers) error {
	watch, err := links.Open(mark)
	if err != nil {
		return err
	}
	built.add(func() error { watch.Close(); return nil })
	g.groups = newGroups(g.plane, watch, g.log, func(ctx context.Context) (ike.Status, error) { return g.server.Snapshot(ctx) })
	return nil
}

// linkOf is what the path of a tunnel begins with: the ends that its child has, and
// those of the policy before there is one.
func linkOf(p *policy.Policy, t ike.TunnelStatus) links.Path {
	out := links.Path{Name: t.Name}
	if peer, ok := p.Peer(t.Peer); ok {
		out.Local, out.Interface, out.Remote = peer.Local.Addr, peer.Local.Interface, peer.Remote.Addr
	}
	for _, c := range t.Children {
		if c.ID != t.InUse {
			continue
		}
		if a := c.Path.Local.Addr(); a.IsValid() && !a.IsUnspecified() {
			out.Local = a.Unmap()
		}
		if a := c.Path.Remote.Addr(); a.IsValid() {
			out.Remote = a.Unmap()
		}
	}
	return out
}
