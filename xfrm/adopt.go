package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy"
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
// the policy has. SetPolicy finds them, and deletes those of other tunnels: of another
// name, of selectors that are not in those of now, or with a peer elsewhere.
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
	names := map[uint32]string{} // of a group, its head
	for n, r := range p.reqids {
		names[r] = p.headOf(n)
	}
	templates, strange := p.leftTemplates(names, have)
	p.leftover, p.adopted, p.unfit = map[string][]Leftover{}, map[string]template{}, nil
	for _, r := range states {
		s, tunnel := r.state, names[r.state.reqid]
		if tunnel == "" {
			continue // sweep deletes it
		}
		l := Leftover{Tunnel: tunnel, SPI: s.spi, Count: r.counts, Path: esp.Path{Encap: s.sport != 0}}
		l.Path.Local, l.Path.Remote = netip.AddrPortFrom(s.src, s.sport), netip.AddrPortFrom(s.dst, s.dport)
		if strange[tunnel] || !p.mayBeWith(tunnel, s.src) && !p.mayBeWith(tunnel, s.dst) {
			p.unfit = append(p.unfit, l)
			continue
		}
		if t, ok := templates[tunnel]; ok && t.spi == s.spi && t.dst == s.dst {
			l.Sending = true
			p.adopted[tunnel] = t
		}
		p.leftover[tunnel] = append(p.leftover[tunnel], l)
	}
	return nil
}

// leftTemplates are those that tunnels of that name sent by. A tunnel is strange whose
// policies had other selectors, which the one of now does not include: its SAs were
// made for other traffic.
func (p *Plane) leftTemplates(names map[uint32]string, have []placed) (templates map[string]template, strange map[string]bool) {
	templates, strange = map[string]template{}, map[string]bool{}
	for _, h := range have {
		if h.template == nil || h.dir != dirOut || h.mark != 0 || h.template.isIdle() {
			continue
		}
		tunnel := names[h.template.reqid]
		s := policy.Selector{Local: policy.NetOf(h.src), Remote: policy.NetOf(h.dst), Protocol: h.protocol, LocalPort: h.srcPort, RemotePort: h.dstPort}
		if t, ok := p.policy.Tunnel(tunnel); !ok || !s.Within(t.Selector) {
			strange[tunnel] = true
		} else if p.mayBeWith(tunnel, h.template.dst) {
			templates[tunnel] = *h.template
		}
	}
	return templates, strange
}

// mayBeWith reports whether the peer of a tunnel, or of one in the group that it heads,
// may have that address: no other is written in its entry.
func (p *Plane) mayBeWith(tunnel string, a netip.Addr) bool {
	elsewhere := func(peer string) bool {
		return slices.ContainsFunc(p.policy.Peers, func(q policy.Peer) bool {
			return q.Name == peer && q.Remote.Addr.IsValid() && q.Remote.Addr.Unmap() != a
		})
	}
	return slices.ContainsFunc(p.policy.Tunnels, func(t policy.Tunnel) bool {
		return p.headOf(t.Name) == p.headOf(tunnel) && !elsewhere(t.Peer)
	})
}

// Adopt takes children back whose SAs an earlier process left, by the numbers that
// they had: from then on they are installed and in use like others. It comes after
// SetPolicy. children hold no keys; one of a tunnel at most. Those whose SAs are not
// both there as described stay what they were: leftovers, or nothing.
func (p *Plane) Adopt(children []esp.Child) (taken []esp.ChildID, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	for _, c := range children {
		ok, e := p.adopt(c)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("adopt child %d of tunnel %s: %w", c.ID, c.Tunnel, e))
		} else if ok {
			taken = append(taken, c.ID)
		}
	}
	return taken, err
}

func (p *Plane) adopt(c esp.Child) (bool, error) {
	r, known := p.reqids[c.Tunnel]
	if !known || c.ID == 0 || p.pairs[c.ID] != nil || p.latest(c.Tunnel, 0) != nil || checkPath(c.Path) != nil {
		return false, nil
	}
	in, err := p.own(c.Path.Local.Addr().Unmap(), c.In.SPI, r)
	if err != nil || in.keymat.Len() == 0 {
		return false, err
	}
	out, err := p.own(c.Path.Remote.Addr().Unmap(), c.Out.SPI, r)
	if err != nil || out.keymat.Len() == 0 || in.src != out.dst || out.src != in.dst {
		in.keymat.Wipe()
		out.keymat.Wipe()
		return false, err
	}
	in.outbound, out.outbound = false, true
	before := p.sending(c.Tunnel)
	if before != templateOf(out) {
		if err := carryOut(p.switchTo(c.Tunnel, before, templateOf(out))); err != nil {
			in.keymat.Wipe()
			out.keymat.Wipe()
			return false, err
		}
	}
	p.turn++
	p.pairs[c.ID] = &pair{child: c, in: in, out: out, turn: p.turn, heard: true}
	p.tellPinger()
	head := p.headOf(c.Tunnel)
	if t := p.adopted[head]; t == templateOf(out) || head == c.Tunnel && groupOf(p.groups, head) == nil {
		delete(p.adopted, head)
	}
	p.leftover[head] = slices.DeleteFunc(p.leftover[head], func(l Leftover) bool {
		return l.SPI == in.spi && l.Path.Remote.Addr() == in.dst || l.SPI == out.spi && l.Path.Remote.Addr() == out.dst
	})
	return true, nil
}

// own reads an SA of ours with its keys, which are needed should it move. No keys:
// it is not there, or another's.
func (p *Plane) own(dst netip.Addr, spi esp.SPI, reqid uint32) (state, error) {
	r, err := p.conn.readState(dst, spi, true)
	if errors.Is(err, unix.ESRCH) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read SA %08x: %w", uint32(spi), err)
	}
	if r.state.reqid != reqid || r.larval {
		r.state.keymat.Wipe()
		return state{}, nil
	}
	return r.state, nil
}

// Outlives reports whether a child carries on when this process ends.
func (p *Plane) Outlives(id esp.ChildID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.pairs[id]
	return x != nil && !x.ended && !p.closed
}

// sweep deletes SAs of our range that belong to no tunnel of the policy and to no
// child, or that do not fit the tunnel whose name they bear. It runs after the policies stand, so nothing leaves in clear meanwhile.
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
	unfit := func(s state) bool {
		return slices.ContainsFunc(p.unfit, func(l Leftover) bool { return l.SPI == s.spi && l.Path.Remote.Addr() == s.dst })
	}
	for _, r := range states {
		if x, _ := p.find(r.state.dst, r.state.spi); x != nil || known[r.state.reqid] && !unfit(r.state) {
			continue
		}
		if err := p.conn.deleteState(r.state.dst, r.state.spi); err != nil {
			return fmt.Errorf("delete SA %08x of an earlier process: %w", uint32(r.state.spi), err)
		}
	}
	p.unfit = nil
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
	tunnel = p.headOf(tunnel)
	for _, l := range p.leftover[tunnel] {
		err = errors.Join(err, p.conn.deleteState(l.Path.Remote.Addr(), l.SPI))
	}
	if err != nil {
		p.fault(err)
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
		if n.kind != softened && n.kind != hardened && n.kind != removed {
			return
		}
		if n.kind != softened {
			p.leftover[tunnel] = slices.Delete(list, i, i+1)
			if t := p.adopted[tunnel]; t.spi == n.spi && t.dst == n.dst {
				delete(p.adopted, tunnel)
				if err := carryOut(p.switchTo(tunnel, t, p.sending(tunnel))); err != nil {
					p.fault(err) // the old template has no SA either: nothing passes
				}
			}
		}
		if p.waits(tunnel) && p.latest(tunnel, 0) == nil {
			p.emit(esp.Event{Kind: esp.Acquire, Tunnel: tunnel})
		}
		return
	}
}
