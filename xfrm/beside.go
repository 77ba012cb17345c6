package xfrm

import (
	"fmt"
	"maps"
	"net/netip"

	"yumen/policy"
)

// Beside is a userspace plane that runs at the same time. Packets of the tunnels
// that it carries go into its TUN and come out of it in clear, which the policies of
// this plane must neither catch nor stop.
type Beside struct {
	Device string // the TUN; empty: there is none, and the rest has no meaning
	// Sends are the tunnels whose packets leave by the TUN: an allow for that device
	// stands above their template, so that taking it away is all it takes to send by
	// the kernel again. Without the device it matches nothing, and the template stays.
	Sends map[string]bool
	// Receives are the tunnels whose packets may come out of the TUN. What comes out
	// over IPv4 is exempt from policies (disable_policy); over IPv6 it is not
	// everywhere, so their inward templates become optional, and nftables, which see
	// the device, drop what comes in clear from elsewhere: the userspace plane must
	// guard these tunnels before.
	Receives map[string]bool
}

// lent is the part of Beside that the plan needs.
type lent struct {
	device          int
	sends, receives map[string]bool
	own             []netip.Addr // of IPv6: see guardPlan.lend
}

// Beside says what a userspace plane carries from now on. On error everything is as
// it was.
func (p *Plane) Beside(b Beside) error {
	l := lent{sends: maps.Clone(b.Sends), receives: maps.Clone(b.Receives)}
	if b.Device != "" {
		var err error
		if l.device, err = p.host.device(b.Device); err != nil {
			return fmt.Errorf("userspace plane beside the kernel: %w", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	before := p.lent
	p.lent = l
	if p.policy == nil {
		return nil
	}
	if _, err := p.apply(p.zones); err != nil {
		p.lent = before
		return fmt.Errorf("userspace plane beside the kernel: %w", err)
	}
	return nil
}

// lend lets packets of a tunnel into the TUN. The kernel looks up the policy of an
// IPv6 packet of its own before it knows the interface, so our own addresses get an
// allow of their own; the routes of the userspace plane keep their packets in.
func (g *guardPlan) lend(z zone) {
	l := g.around.lent
	if l.device == 0 || !l.sends[z.tunnel] {
		return
	}
	e := entry{dir: dirOut, kind: deviceAllow, src: z.local, dst: z.remote, device: l.device,
		priority: priorityOf(z.band, z.remote, z.local, 0, deviceAllow)}
	g.list = append(g.list, e)
	e.kind, e.device, e.priority = ownAllow, 0, priorityOf(z.band, z.remote, z.local, 0, ownAllow)
	for _, a := range l.own {
		if z.remote.Addr().Is6() && z.local.Contains(a) {
			e.src = netip.PrefixFrom(a, 128)
			g.list = append(g.list, e)
		}
	}
}

// optional reports whether packets of a zone may come in without an SA.
func (l lent) optional(z zone) bool {
	return l.device != 0 && l.receives[z.tunnel] && z.remote.Addr().Is6()
}

// Carries says why this plane cannot carry a suite with these outer headers, on
// whatever kernel; nil: it depends on the kernel alone (Probe).
func Carries(s policy.Suite, o policy.Outer) error {
	if err := suiteSupported(s); err != nil {
		return err
	}
	return outerSupported(o)
}
