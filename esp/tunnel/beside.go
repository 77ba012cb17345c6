package tunnel

import (
	"fmt"
	"maps"
	"net/netip"

	"yumen/esp"
	"yumen/esp/ours"
	"yumen/policy"
)

// Share are the tunnels that a plane has to do with which is not alone
// (Config.Beside): those that it sends, and those that it only receives. Other tunnels
// it neither routes nor guards. XFRM policies it writes none: those of the kernel plane
// guard every tunnel and let these into the TUN. What the kernel plane sends it takes
// by its policies, also where the route leads into the TUN; and without such a route
// the host would not believe the source of what comes out of it (rp_filter).
type Share map[string]bool

// Carry replaces the share of a plane that is not alone. Guard and routes of what is
// new stand when it returns. On error they may stand in part: what they drop too much
// is right again after the next call that succeeds.
func (p *Plane) Carry(s Share) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	before := p.share
	p.share = maps.Clone(s)
	if p.policy == nil {
		return nil
	}
	zones := p.shared(zonesOf(p.spd.Rules()))
	if err := guardable(zones); err != nil {
		p.share = before
		return fmt.Errorf("userspace plane beside the kernel: %w", err)
	}
	p.zones = zones
	p.within = tunnelsOf(p.zones, p.policy)
	// Children come and go more often than somebody clears all of nftables.
	p.kernel.lazy = true
	err := p.apply()
	p.kernel.lazy = false
	if err != nil {
		return fmt.Errorf("userspace plane beside the kernel: %w", err)
	}
	return nil
}

// shared marks what belongs to the kernel plane. Alone, everything is ours.
func (p *Plane) shared(zones []zone) []zone {
	if !p.cfg.Beside {
		return zones
	}
	for i := range zones {
		z := &zones[i]
		z.foreign = z.action == policy.Protect && !p.share[z.tunnel]
	}
	return zones
}

// foreign is what a snapshot knows of the children of the kernel plane: the sockets
// see copies of their packets, and errors about them.
type foreign struct {
	in  map[esp.SPI]bool
	out map[sentKey]bool
	udp [kinds][]esp.SPI
}

// Foreign says which children the kernel plane has. Their packets, of which every raw
// socket gets a copy, are neither unknown nor ours; in UDP they come to the kernel from
// the moment that it returns. On error the port goes by what it was told last.
func (p *Plane) Foreign(list []esp.Child) error {
	f := foreign{in: make(map[esp.SPI]bool, len(list)), out: make(map[sentKey]bool, len(list)), udp: udpSPIs(list)}
	for _, c := range list {
		f.in[c.In.SPI] = true
		f.out[sentKey{remote: c.Path.Remote.Addr().Unmap(), spi: c.Out.SPI}] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.foreign = f
	if p.closed {
		return nil
	}
	p.publish()
	return p.dividePort()
}

// outside are the prefixes that must not be led into the TUN although a tunnel of
// ours covers them: a narrower one is the kernel's. One with other local addresses
// cannot be told apart by a route; it goes by the TUN's route, and the kernel's policy
// takes it on the way.
func outside(zones []zone, led map[netip.Prefix]route) []netip.Prefix {
	var out []netip.Prefix
	for _, z := range zones {
		if _, same := led[z.remote]; z.action != policy.Protect || !z.foreign || same {
			continue
		}
		for _, w := range zones {
			if w.action == policy.Protect && !w.foreign && ours.Contains(w.remote, z.remote) && ours.Contains(z.local, w.local) {
				out = append(out, z.remote)
				break
			}
		}
	}
	return out
}
