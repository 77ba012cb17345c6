package daemon

import (
	"context"
	"net/netip"

	"yumen/esp/links"
	"yumen/policy"
)

// homeWatch sees whether the addresses that the policy names for us are here, so that
// a gateway that stands by begins the moment that VRRP gives it one. The userspace
// plane tells of every change of the host too, a little later; the kernel plane does
// not.
type homeWatch struct {
	links   linkWatch
	changed func(ctx context.Context) error // asks the engine to look
}

// openHome makes it.
func (g *gateway) openHome(mark uint32, built *closers) error {
	watch, err := links.Open(mark)
	if err != nil {
		return err
	}
	built.add(func() error { watch.Close(); return nil })
	g.home = homeWatch{watch, func(ctx context.Context) error { return g.server.HostChanged(ctx) }}
	return nil
}

// follow takes over the addresses of a policy: each once, however many peers use it.
func (h homeWatch) follow(p *policy.Policy) {
	seen := map[netip.Addr]bool{}
	var list []links.Path
	for _, peer := range p.Peers {
		a := peer.Local.Addr.Unmap()
		if !a.IsValid() || a.IsLoopback() || seen[a] {
			continue
		}
		seen[a] = true
		list = append(list, links.Path{Name: a.String(), Local: a})
	}
	h.links.Follow(list)
}

// serve passes on what changes until ctx ends. How things are at the start, or after a
// reload, the engine asks by itself.
func (h homeWatch) serve(ctx context.Context, p *policy.Policy) error {
	h.follow(p)
	known := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, open := <-h.links.States():
			if !open {
				<-ctx.Done()
				return nil
			}
			if known[s.Name] {
				_ = h.changed(ctx) // an error is the end of the server, which ends this too
			}
			known[s.Name] = true
		}
	}
}
