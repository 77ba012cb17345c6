package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/ike/server"
)

// Linux answers inner packets that do not fit an SA's path and drops them, whatever
// their size. IPv6 has no size below 1280 bytes that a sender could go down to (RFC 8200
// 5), so over a smaller path nothing large would ever pass by the kernel. The userspace
// plane cuts such packets after encryption.

const (
	leastIPv6   = 1280             // bytes, RFC 8200 5
	adviceHolds = 10 * time.Minute // as server.PathLearner says
	narrowEvery = 30 * time.Second // what the kernel itself learned of paths is asked for
	narrowAgain = 10 * time.Minute // until a tunnel that could not move is tried, or told of, anew
)

// advice is what was said of a path.
type advice struct {
	mtu   int
	until time.Time
}

// wayOf are the two addresses of a path.
func wayOf(local, remote netip.Addr) [2]netip.Addr {
	return [2]netip.Addr{local.Unmap(), remote.Unmap()}
}

// narrow says why the kernel should not carry a child: its path is too small for IPv6. The
// caller holds mu.
func (b *both) narrow(c esp.Child) error {
	if !c.Selector.Local.First.Is6() {
		return nil
	}
	size := b.kernel.MaxInner(c)
	if a, ok := b.advice[wayOf(c.Path.Local.Addr(), c.Path.Remote.Addr())]; ok && time.Now().Before(a.until) {
		size = min(size, esp.MaxInner(c, a.mtu))
	}
	return tooNarrow(size)
}

func tooNarrow(size int) error {
	if size >= leastIPv6 {
		return nil
	}
	return fmt.Errorf("its path takes inner packets of %d bytes, IPv6 has %d at least, and only userspace cuts what is larger", size, leastIPv6)
}

// LearnPath hands advice about a path to all planes, and remembers it for the children
// to come. Whoever set narrowed may ask Narrow then.
func (b *both) LearnPath(local, remote netip.Addr, mtu int) {
	b.mu.Lock()
	now := time.Now()
	for way, a := range b.advice {
		if !now.Before(a.until) {
			delete(b.advice, way)
		}
	}
	b.advice[wayOf(local, remote)] = advice{mtu, now.Add(adviceHolds)}
	b.mu.Unlock()
	for _, x := range b.planes() {
		if p, ok := x.(server.PathLearner); ok {
			p.LearnPath(local, remote, mtu)
		}
	}
	b.narrowed()
}

// narrowness is why a tunnel should leave the kernel, and why it cannot; nil: it can.
type narrowness struct{ why, stays error }

// Narrow are the tunnels that send by a child in the kernel whose path is too small.
func (b *both) Narrow() map[string]narrowness {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]narrowness{}
	for tunnel, id := range b.sending {
		if r := b.children[id]; r.plane == kernel {
			if err := b.narrow(r.Child); err != nil {
				out[tunnel] = narrowness{err, b.movable(tunnel, userspace)}
			}
		}
	}
	return out
}

// Narrow are the tunnels that send by a child whose path is too small for IPv6.
func (k kernelPlane) Narrow() map[string]narrowness {
	out := map[string]narrowness{}
	for _, c := range k.InUse() {
		if c.Selector.Local.First.Is6() {
			if err := tooNarrow(k.MaxInner(c)); err != nil {
				out[c.Tunnel] = narrowness{err, errors.New("there is no userspace plane: set dataplane: auto")}
			}
		}
	}
	return out
}

// leaveNarrow moves tunnels into userspace whose path became too small for the kernel, by
// one quick mode each, as Move does; where that cannot be it says so.
func (g *gateway) leaveNarrow(ctx context.Context, now time.Time) {
	x, ok := g.plane.(interface{ Narrow() map[string]narrowness })
	if !ok {
		return
	}
	list := x.Narrow()
	for tunnel := range g.narrowAt {
		if _, still := list[tunnel]; !still {
			delete(g.narrowAt, tunnel)
		}
	}
	for tunnel, n := range list {
		if at, tried := g.narrowAt[tunnel]; tried && now.Sub(at) < narrowAgain {
			continue
		}
		g.narrowAt[tunnel] = now
		if n.stays != nil {
			g.log.Warn("path", "tunnel", tunnel, "error", n.why, "stays", n.stays)
			continue
		}
		g.log.Info("move", "tunnel", tunnel, "plane", userspace, "why", n.why)
		if err := g.server.Do(ctx, ike.Rekey{Tunnel: tunnel}); err != nil {
			g.log.Warn("move", "tunnel", tunnel, "error", err)
		}
	}
}
