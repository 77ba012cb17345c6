package daemon

import (
	"errors"
	"fmt"
	"slices"

	"yumen/esp"
	"yumen/policy"
	"yumen/xfrm"
)

// home is the plane of a tunnel as far as the policy says.
type home struct {
	plane string
	why   string // it is not the kernel, or may not stay it; empty: nothing speaks against the kernel
}

// homes are the planes of the tunnels of a policy on a machine whose kernel can carry
// what kernels carry. A tunnel goes to userspace if the kernel can carry it in no
// form; if only some of its suites are beyond the kernel, the child decides.
//
// Tunnels that share addresses and differ in protocol or ports have one home: packets
// find their plane by address, and a fragment has no ports. So have the paths of a
// group.
func homes(p *policy.Policy) map[string]home {
	out := make(map[string]home, len(p.Tunnels))
	for _, t := range p.Tunnels {
		out[t.Name] = homeOf(t)
	}
	for again := true; again; {
		again = settleGroups(p, out)
		for _, t := range p.Tunnels {
			for _, o := range p.Tunnels {
				if h := out[t.Name]; t.Name != o.Name && h.why != "" && entangled(t, o) && (h.plane == kernel || out[o.Name].plane == kernel) {
					out[t.Name] = home{userspace, h.why}
					out[o.Name] = home{userspace, fmt.Sprintf("it shares addresses with tunnel %s, of which: %s", t.Name, h.why)}
					again = true
				}
			}
		}
	}
	return out
}

func homeOf(t policy.Tunnel) home {
	h := home{plane: userspace}
	for _, s := range t.Suites {
		if err := xfrm.Carries(s, t.Outer); err != nil {
			h.why = err.Error()
			continue
		}
		h.plane = kernel
		if err := carries(s, t.ICVBits, t.Outer); err != nil {
			h.why = err.Error()
		}
	}
	if t.Children > 1 {
		return home{userspace, fmt.Sprintf("children: %d are used side by side, and the kernel sends by one", t.Children)}
	}
	return h
}

var errICV = errors.New("the ICV length of HMAC-SM3 is not known (icv_bits: auto), and only userspace finds it out")

// carries says why the kernel cannot carry a child as it is. One whose ICV length is
// not known waits in userspace for the first packet to tell it.
func carries(s policy.Suite, icvBits int, o policy.Outer) error {
	if err := xfrm.Carries(s, o); err != nil {
		return err
	}
	if s == policy.SM4CBCHMACSM3 && icvBits == policy.ICVAuto {
		return errICV
	}
	return nil
}

// icvKnown refuses what the kernel alone can never begin with.
func icvKnown(p *policy.Policy) error {
	for _, t := range p.Tunnels {
		if slices.Contains(t.Suites, policy.SM4CBCHMACSM3) && t.ICVBits == policy.ICVAuto {
			return fmt.Errorf("tunnel %q: %w: with dataplane: kernel write icv_bits: 96, 128 or 256 in the tunnel, or set "+
				"dataplane: auto", t.Name, errICV)
		}
	}
	return nil
}

// FoundICV notes what the first packet of a child told, and reports whether the
// tunnel's next child, made with that length, belongs into the kernel.
func (b *both) FoundICV(id esp.ChildID, bits int) (moves bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.children[id]
	if !ok || r.ICVBits != policy.ICVAuto {
		return false
	}
	r.ICVBits = bits
	b.children[id] = r
	where, _ := b.place(r.Child)
	return r.plane == userspace && where == kernel
}

// entangled tunnels share addresses, and only ports tell their packets apart.
func entangled(a, b policy.Tunnel) bool {
	return (a.Selector.Protocol != 0 || b.Selector.Protocol != 0) &&
		a.Selector.Local.Overlaps(b.Selector.Local) && a.Selector.Remote.Overlaps(b.Selector.Remote)
}
