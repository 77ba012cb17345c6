package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"yumen/cmd/internal/config"
	"yumen/esp/tunnel"
	"yumen/ike/server"
	"yumen/policy"
	"yumen/xfrm"
)

// plane is a data plane and what the daemon needs around it.
type plane interface {
	server.Dataplane
	ReadIKE() (data []byte, local, remote netip.AddrPort, err error)
	WriteIKE(data []byte, local, remote netip.AddrPort) error
	WriteKeepalive(local, remote netip.AddrPort) error
	Counters() map[string]uint64
	Warnings() []string
	Trouble() error
	Close() error
}

// kernelPlane counts by the kernel's own words.
type kernelPlane struct{ *xfrm.Plane }

func (k kernelPlane) Counters() map[string]uint64 {
	stats, err := k.Stats()
	if err != nil {
		return nil
	}
	return stats
}

// Names of the two planes, as status and log have them.
const (
	userspace = "userspace"
	kernel    = "kernel"
)

// choosePlane picks the data plane for a policy. Left to itself it takes the
// kernel where the kernel can carry every tunnel; why says what decided.
func choosePlane(c *config.Config, p *policy.Policy) (name, why string, err error) {
	if c.Dataplane == "user" {
		return userspace, "as configured", nil
	}
	unfit := kernelUnfit(p)
	if unfit == nil {
		unfit = xfrm.Probe(policy.SM4CBCHMACSM3)
	}
	switch {
	case unfit == nil:
		return kernel, "this kernel carries every suite of the policy", nil
	case c.Dataplane == "kernel":
		return "", "", fmt.Errorf("dataplane: kernel: %w; or choose dataplane: auto", unfit)
	}
	return userspace, unfit.Error(), nil
}

// kernelUnfit says which tunnel no kernel can carry.
func kernelUnfit(p *policy.Policy) error {
	for _, t := range p.Tunnels {
		switch {
		case slices.Contains(t.Suites, policy.SM4GCM128):
			return fmt.Errorf("tunnel %s: %w", t.Name, xfrm.ErrNoGCM)
		case slices.Contains(t.Suites, policy.AESCBCHMACSHA256):
			return fmt.Errorf("tunnel %s: %w", t.Name, xfrm.ErrNotGM)
		case t.Outer.DSCP > 0 || t.Outer.DF == policy.DFSet:
			return fmt.Errorf("tunnel %s: the kernel cannot set a fixed DSCP or DF", t.Name)
		}
	}
	return nil
}

func kernelConfig(c *config.Config) xfrm.Config {
	return xfrm.Config{MTU: c.MTU, Mark: c.Mark, OutputMark: c.Mark, NATPort: c.NATPort, ManageSysctl: c.ManageSysctl,
		Interface: c.XFRMInterface, InterfaceID: interfaceID(c)}
}

// interfaceID: without an interface, policies and SAs belong to all traffic.
func interfaceID(c *config.Config) uint32 {
	if c.XFRMInterface == "" {
		return 0
	}
	return c.XFRMID
}

// openPlane opens a data plane with the guard of the policy in place, and then
// takes away the guard that the other plane may have left.
func openPlane(name string, c *config.Config, p *policy.Policy) (plane, error) {
	if name == kernel {
		k, err := xfrm.New(kernelConfig(c))
		if err != nil {
			return nil, err
		}
		return guarded(kernelPlane{k}, p, func() error { return tunnel.RemoveGuard(planeConfig(c)) })
	}
	u, err := tunnel.New(planeConfig(c))
	if err != nil {
		return nil, err
	}
	return guarded(u, p, xfrm.RemoveGuard)
}

func guarded(x plane, p *policy.Policy, removeOther func() error) (plane, error) {
	if err := x.SetPolicy(p); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	if err := removeOther(); err != nil {
		return nil, errors.Join(fmt.Errorf("guard of the other data plane: %w", err), x.Close())
	}
	return x, nil
}
