package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"yumen/esp"
)

// Leftover is an SA that an earlier process left in the kernel. It carries on: the
// guard's template still names the one that the tunnel sent by. When a new child of
// the tunnel is used and a packet came by it, or Config.Overlap later, it goes.
type Leftover struct {
	Tunnel  string
	SPI     esp.SPI
	Path    esp.Path // as its packets travel: Local is where they come from
	Count   esp.Count
	Sending bool // the tunnel's traffic leaves by it
}

// Leftovers are the SAs of an earlier process that still live, those of tunnels that
// the policy has. SetPolicy finds them, and deletes those of other tunnels.
func (p *Plane) Leftovers() []Leftover {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Leftover
	for _, list := range p.leftover {
		out = append(out, list...)
	}
	slices.SortFunc(out, func(a, b Leftover) int { return int(int64(a.SPI) - int64(b.SPI)) })
	return out
}

// readLeftovers looks at what is in the kernel before the first policy. The caller
// holds mu.
func (p *Plane) readLeftovers() error {
	states, err := p.conn.ours(false)
	if err != nil {
		return fmt.Errorf("list SAs: %w", err)
	}
	have, err := p.conn.policies()
	if err != nil {
		return fmt.Errorf("list policies: %w", err)
	}
	names := map[uint32]string{}
	for n, r := range p.reqids {
		names[r] = n
	}
	templates := map[string]template{}
	for _, h := range have {
		if h.template != nil && h.dir == dirOut && !h.template.isIdle() {
			templates[names[h.template.reqid]] = *h.template
		}
	}
	p.leftover, p.adopted = map[string][]Leftover{}, map[string]template{}
	for _, r := range states {
		s, tunnel := r.state, names[r.state.reqid]
		if tunnel == "" {
			continue // sweep deletes it
		}
		l := Leftover{Tunnel: tunnel, SPI: s.spi, Count: r.counts, Path: esp.Path{Encap: s.sport != 0}}
		l.Path.Local, l.Path.Remote = netip.AddrPortFrom(s.src, s.sport), netip.AddrPortFrom(s.dst, s.dport)
		if t, ok := templates[tunnel]; ok && t.spi == s.spi && t.dst == s.dst {
			l.Sending = true
			p.adopted[tunnel] = t
		}
		p.leftover[tunnel] = append(p.leftover[tunnel], l)
	}
	return nil
}

// sweep deletes SAs of our range that belong to no tunnel of the policy and to no
// child. It runs after the policies stand, so nothing leaves in clear meanwhile.
func (p *Plane) sweep() error {
	known := map[uint32]bool{}
	for _, r := range p.reqids {
		known[r] = true
	}
	for tunnel := range p.leftover {
		if _, ok := p.reqids[tunnel]; !ok {
			delete(p.leftover, tunnel)
			delete(p.adopted, tunnel)
		}
	}
	states, err := p.conn.ours(false)
	if err != nil {
		return fmt.Errorf("list SAs: %w", err)
	}
	for _, r := range states {
		if x, _ := p.find(r.state.dst, r.state.spi); x != nil || known[r.state.reqid] {
			continue
		}
		if err := p.conn.deleteState(r.state.dst, r.state.spi); err != nil {
			return fmt.Errorf("delete SA %08x of an earlier process: %w", uint32(r.state.spi), err)
		}
	}
	return nil
}

// retire ends what an earlier process left of a tunnel, if a child has taken over.
func (p *Plane) retire(tunnel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.latest(tunnel, 0) != nil {
		p.retireNow(tunnel)
	}
}

func (p *Plane) retireNow(tunnel string) {
	var err error
	for _, l := range p.leftover[tunnel] {
		err = errors.Join(err, p.conn.deleteState(l.Path.Remote.Addr(), l.SPI))
	}
	if err != nil {
		p.trouble = err
	}
	delete(p.leftover, tunnel)
	delete(p.adopted, tunnel)
}

// hearOfLeftover follows an SA of an earlier process to its end. No engine knows it,
// so its soft limit asks for a child as a packet would.
func (p *Plane) hearOfLeftover(n notice) {
	for tunnel, list := range p.leftover {
		i := slices.IndexFunc(list, func(l Leftover) bool { return l.SPI == n.spi && l.Path.Remote.Addr() == n.dst })
		if i < 0 {
			continue
		}
		if n.kind != softened && n.kind != hardened {
			return
		}
		if n.kind == hardened {
			p.leftover[tunnel] = slices.Delete(list, i, i+1)
			if t := p.adopted[tunnel]; t.spi == n.spi && t.dst == n.dst {
				delete(p.adopted, tunnel)
				if err := carryOut(p.switchTo(tunnel, t, p.sending(tunnel))); err != nil {
					p.trouble = err // the old template has no SA either: nothing passes
				}
			}
		}
		if p.waits(tunnel) && p.latest(tunnel, 0) == nil {
			p.emit(esp.Event{Kind: esp.Acquire, Tunnel: tunnel})
		}
		return
	}
}
