package daemon

import (
	"errors"
	"fmt"
	"net/netip"

	"yumen/cmd/internal/config"
	"yumen/esp/tunnel"
	"yumen/ike/server"
	"yumen/policy"
	"yumen/xfrm"
)

// plane is a data plane and what the daemon needs around it.
type plane interface {
	server.Dataplane
	pathSide
	ReadIKE() (data []byte, local, remote netip.AddrPort, err error)
	PushIKE(to func(data []byte, local, remote netip.AddrPort))
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
	auto      = "auto" // the kernel, and userspace beside it where needed
)

// choosePlane picks the data planes for a policy: userspace, kernel, or auto, the
// kernel with userspace beside it for what the kernel cannot carry; why says what
// decided.
func choosePlane(c *config.Config, p *policy.Policy) (name, why string, err error) {
	if c.Dataplane == "user" {
		return userspace, "as configured", nil
	}
	unfit := xfrm.Probe(policy.SM4CBCHMACSM3)
	switch {
	case c.Dataplane == auto && unfit != nil:
		return userspace, unfit.Error(), nil
	case c.Dataplane == auto:
		return auto, "this kernel carries SM4-CBC with HMAC-SM3", nil
	}
	if unfit == nil {
		unfit = kernelUnfit(p)
	}
	if unfit != nil {
		return "", "", fmt.Errorf("dataplane: kernel: %w; or choose dataplane: auto", unfit)
	}
	return kernel, "as configured", nil
}

// kernelUnfit is the first of kernelFaults.
func kernelUnfit(p *policy.Policy) error {
	for _, fault := range kernelFaults(p) {
		return fault
	}
	return nil
}

// kernelFaults say which groups and tunnels no kernel can carry in every form, each with
// its place in the policy.
func kernelFaults(p *policy.Policy) (faults []error) {
	where := homes(p)
	told := map[int]bool{} // groups: all paths of one have the same fault
	for i, t := range p.Tunnels {
		h := where[t.Name]
		n, grouped := p.GroupOf(t.Name)
		switch {
		case h.why == "" || grouped && told[n]:
		case grouped:
			told[n] = true
			faults = append(faults, fmt.Errorf("groups[%d]: %s", n, h.why))
		default:
			faults = append(faults, fmt.Errorf("tunnels[%d]: tunnel %s: %s", i, t.Name, h.why))
		}
	}
	return faults
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

// openChosen opens the data planes that choosePlane picks.
func openChosen(c *config.Config, p *policy.Policy) (x plane, name, why string, err error) {
	if name, why, err = choosePlane(c, p); err != nil {
		return nil, "", "", err
	}
	return orUserspace(c.Dataplane, name, why, func(name string) (plane, error) { return openPlane(name, c, p) })
}

// orUserspace opens a plane by name. A kernel that carries the suite may yet refuse what
// else the plane needs, in a container for instance: where the configuration leaves the
// choice to us (auto), userspace takes its place.
func orUserspace(asked, name, why string, open func(name string) (plane, error)) (plane, string, string, error) {
	x, err := open(name)
	switch {
	case err == nil:
		return x, name, why, nil
	case asked != auto || name == userspace:
		return nil, "", "", err
	}
	x, e := open(userspace)
	if e != nil {
		return nil, "", "", errors.Join(err, fmt.Errorf("and in its place: %w", e))
	}
	return x, userspace, fmt.Sprintf("the kernel plane cannot be opened: %v", err), nil
}

// openPlane opens a data plane with the guard of the policy in place, and then
// takes away the guard that the other plane may have left.
func openPlane(name string, c *config.Config, p *policy.Policy) (plane, error) {
	if name == auto {
		return openBoth(c, p)
	}
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

// openBoth opens the kernel plane, and the userspace plane if a tunnel may need it.
func openBoth(c *config.Config, p *policy.Policy) (plane, error) {
	k := kernelConfig(c)
	k.SharePort = true
	x, err := xfrm.New(k)
	if err != nil {
		return nil, err
	}
	b := newBoth(kernelPlane{x}, userConfig(c).Name, func() (userSide, error) { return tunnel.New(userConfig(c)) })
	return guarded(b, p, func() error {
		if len(b.planes()) > 1 {
			return nil // it took over what an earlier one left
		}
		return tunnel.RemoveGuard(planeConfig(c))
	})
}

// userConfig is that of a userspace plane beside the kernel's.
func userConfig(c *config.Config) tunnel.Config {
	t := planeConfig(c)
	t.Beside = true
	return t
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
