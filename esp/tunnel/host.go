package tunnel

import (
	"fmt"
	"net/netip"
	"slices"

	"yumen/esp"
	"yumen/policy"
)

// apply brings the host in line with the policy. The caller holds mu.
func (p *Plane) apply() error {
	p.routed, p.laid = nil, nil // whatever others did to the host, look again
	around, err := p.kernel.look(p.tunIndex)
	if err != nil {
		return fmt.Errorf("apply policy: %w", err)
	}
	p.around = around
	if err := p.kernel.setGuard(planGuard(p.zones, around), p.cfg.Name, p.tunIndex, p.cfg.Mark); err != nil {
		return fmt.Errorf("apply policy: %w", err)
	}
	p.own4, p.own6 = p.insideAddress(false), p.insideAddress(true)
	if err := p.applyMTU(); err != nil {
		return fmt.Errorf("apply policy: %w", err)
	}
	rules, err := planRules(p.zones, p.extra, around, p.cfg)
	if err == nil {
		_, err = p.kernel.setRules(rules, p.cfg.Table, p.cfg.RulePriority)
	}
	if err != nil {
		return fmt.Errorf("apply policy: %w", err)
	}
	p.publish()
	return p.remeasure()
}

// followHost runs when addresses or routes of the host changed.
func (p *Plane) followHost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.policy == nil {
		return
	}
	p.trouble = p.apply()
	p.emit(esp.Event{Kind: esp.HostChanged})
}

// mendGuard runs when policies went that are perhaps ours.
func (p *Plane) mendGuard() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.policy == nil {
		return
	}
	written, err := p.kernel.setPolicies(guardXFRM(planGuard(p.zones, p.around)), p.tunIndex)
	if err != nil {
		p.trouble = fmt.Errorf("apply policy: %w", err)
	}
	if written > 0 {
		p.mended.Note(written, p.cfg.Now())
		p.emit(esp.Event{Kind: esp.GuardMended})
	}
}

// mendRoutes runs when ip rules or routes went that are perhaps ours: systemd-networkd
// takes away what it did not make itself. Without them nothing finds the TUN.
func (p *Plane) mendRoutes() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.policy == nil {
		return
	}
	written, err := p.layAgain()
	if err != nil {
		p.trouble = fmt.Errorf("lay routes again: %w", err)
	}
	if written > 0 {
		p.mended.Note(written, p.cfg.Now())
		p.emit(esp.Event{Kind: esp.GuardMended})
	}
}

// layAgain writes the ip rules and routes that are not there, and tells how many. The
// caller holds mu.
func (p *Plane) layAgain() (written int, err error) {
	if p.laid == nil {
		return 0, p.apply() // it came to nothing before, and so nothing went
	}
	if written, err = p.kernel.setRoutes(p.laid, p.cfg.Table, p.tunIndex); err != nil {
		p.laid = nil
		return written, err
	}
	rules, err := planRules(p.zones, p.extra, p.around, p.cfg)
	if err != nil {
		return written, err
	}
	n, err := p.kernel.setRules(rules, p.cfg.Table, p.cfg.RulePriority)
	return written + n, err
}

// insideAddress is one of our addresses behind us, for ICMP errors.
func (p *Plane) insideAddress(v6 bool) netip.Addr {
	for _, z := range p.zones {
		if z.action == policy.Protect && z.local.Addr().Is6() == v6 {
			if a := p.around.source(z.local); a.IsValid() {
				return a
			}
		}
	}
	return netip.Addr{}
}

// applyMTU sets the MTU of the device to the smallest of all tunnels, or the
// largest if one cuts outer packets, and that of each route to its own, and
// writes the routes that change.
func (p *Plane) applyMTU() error {
	p.routed = nil // until all of it is done
	mtus := p.tunnelMTUs()
	mtu, most := p.cfg.MTU, 0
	for _, m := range mtus {
		mtu, most = min(mtu, m), max(most, m)
	}
	mtu = max(mtu, minimumMTU6) // with less the host would switch IPv6 off
	if most >= jumboMTU {
		mtu = most // for tunnels whose outer packets are cut; routes keep the others small
	}
	if mtu != p.tunMTU {
		if err := p.kernel.setMTU(p.tunIndex, mtu); err != nil {
			return err
		}
		p.tunMTU = mtu
	}
	routes := planRoutes(p.zones, p.around, func(z zone) int { return p.zoneMTU(z, mtus) })
	laid := p.laid
	p.laid = nil
	var err error
	if laid == nil {
		_, err = p.kernel.setRoutes(routes, p.cfg.Table, p.tunIndex)
	} else {
		err = p.kernel.changeRoutes(laid, routes, p.cfg.Table, p.tunIndex)
	}
	if err != nil {
		return err
	}
	p.routed, p.laid = mtus, routes
	return nil
}

// refreshMTU follows a change of children. The caller holds mu. Most changes are
// rekeys, after which every route is as it was, and a first child changes one: with
// many tunnels writing all for each child would take longer than negotiating it.
func (p *Plane) refreshMTU() error {
	if p.policy == nil || p.closed || p.routed != nil && slices.Equal(p.routed, p.tunnelMTUs()) {
		return nil
	}
	before := p.tunMTU
	if err := p.applyMTU(); err != nil {
		return fmt.Errorf("set mtu: %w", err)
	}
	if p.tunMTU != before {
		p.publish()
	}
	return nil
}

// zoneMTU is the MTU of the route for a zone, from those of the tunnels.
func (p *Plane) zoneMTU(z zone, mtus []int) int {
	least := 0
	for _, i := range p.within[z] {
		m := mtus[i]
		if z.remote.Addr().Is6() {
			m = max(m, minimumMTU6)
		}
		if least == 0 || m < least {
			least = m
		}
	}
	return least
}

// tunnelsOf are, for each zone, the tunnels that may carry its packets, by their
// index in the policy.
func tunnelsOf(zones []zone, pol *policy.Policy) map[zone][]int {
	out := make(map[zone][]int, len(zones))
	for _, z := range zones {
		if z.action != policy.Protect || out[z] != nil {
			continue
		}
		remote, local := policy.NetOf(z.remote), policy.NetOf(z.local)
		for i := range pol.Tunnels {
			if s := &pol.Tunnels[i].Selector; s.Remote.Overlaps(remote) && s.Local.Overlaps(local) {
				out[z] = append(out[z], i)
			}
		}
	}
	return out
}

// tunnelMTUs are the largest inner packets of the tunnels, in the order of the
// policy: of their children, or of a tunnel that has none the worst that
// negotiation may bring.
func (p *Plane) tunnelMTUs() []int {
	least := map[string]int{}
	for _, x := range p.pairs {
		if m := least[x.child.Tunnel]; x.mtu > 0 && (m == 0 || x.mtu < m) {
			least[x.child.Tunnel] = x.mtu
		}
	}
	out := make([]int, len(p.policy.Tunnels))
	for i := range p.policy.Tunnels {
		t := &p.policy.Tunnels[i]
		if out[i] = least[t.Name]; out[i] == 0 {
			out[i] = p.worstMTU(t)
		}
	}
	return out
}

// worstMTU is what negotiation leaves at least for the packets of a tunnel.
func (p *Plane) worstMTU(t *policy.Tunnel) int {
	least := 0
	take := func(m int) {
		if m > 0 && (least == 0 || m < least) {
			least = m
		}
	}
	if t.Outer.Fragment == policy.FragmentAfter {
		return max(jumboMTU, p.cfg.MTU)
	}
	encap := true
	for _, peer := range p.policy.Peers {
		if peer.Name == t.Peer && peer.Encap == policy.EncapOff {
			encap = false
		}
	}
	for _, suite := range t.Suites {
		// No remote address counts as IPv6.
		take(esp.MaxInner(esp.Child{Suite: suite, ICVBits: t.ICVBits, Path: esp.Path{Encap: encap}}, p.cfg.MTU))
	}
	if least == 0 {
		return p.cfg.MTU
	}
	return least
}
