package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"yumen/esp/nft"
	"yumen/esp/ours"
)

// setGuard puts the plan in place, best entries first so that nothing is blocked
// that should pass, then takes away what is left of older plans. It may be
// repeated at any time.
func (k *kernel) setGuard(plan []guardEntry, name string, tun int, mark uint32) error {
	in := nftGuard{tun: name, mark: mark, beside: k.beside}
	if k.xfrm == nil {
		if err := nft.Run(in.script(plan, plan)); err != nil {
			return fmt.Errorf("guard: this kernel has no xfrm, and nftables does not work either: %w", err)
		}
		return nil
	}
	if _, err := k.setPolicies(guardXFRM(plan), tun); err != nil {
		return err
	}
	// What XFRM cannot see. Without nft: see guardable and gapWarning.
	script := in.script(guardGap(plan), plan)
	if k.lazy && script == k.script {
		return nil
	}
	k.script = script
	if err := nft.Run(script); err != nil && !errors.Is(err, nft.ErrAbsent) {
		return fmt.Errorf("guard: %w", err)
	}
	return nil
}

// setPolicies makes the policies of our band what the plan says, and tells how many it
// had to write. Beside a kernel
// plane there are none: of two with one selector the kernel keeps the later, whatever
// their priorities, and that plane's guard says all that XFRM can.
func (k *kernel) setPolicies(plan []guardEntry, tun int) (written int, err error) {
	if k.beside {
		return 0, k.dropGuard(nil)
	}
	have, err := k.guardKeys()
	if err != nil {
		return 0, err
	}
	// Blocks come before the stale ones go; allows before the blocks above which
	// they stand. What is there is left alone.
	wanted := map[string]bool{}
	for _, e := range plan {
		p := xfrmPolicy(e, tun)
		key := policyKey(p, e.src.Addr().Is6())
		wanted[key] = true
		if have[key] {
			continue
		}
		if err := k.xfrm.XfrmPolicyUpdate(p); err != nil {
			return written, fmt.Errorf("guard: set policy %s to %s: %w", e.src, e.dst, err)
		}
		written++
	}
	return written, k.dropGuard(wanted)
}

// guardKeys are the policies of our band that are there.
func (k *kernel) guardKeys() (map[string]bool, error) {
	keys := map[string]bool{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		have, err := again(func() ([]netlink.XfrmPolicy, error) { return k.xfrm.XfrmPolicyList(family) })
		if err != nil {
			return nil, fmt.Errorf("guard: list policies: %w", err)
		}
		for i := range have {
			if ours.InGuardBand(uint32(have[i].Priority)) {
				keys[policyKey(&have[i], family == netlink.FAMILY_V6)] = true
			}
		}
	}
	return keys, nil
}

// dropGuard removes all policies of our band but those wanted.
func (k *kernel) dropGuard(wanted map[string]bool) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		have, err := again(func() ([]netlink.XfrmPolicy, error) { return k.xfrm.XfrmPolicyList(family) })
		if err != nil {
			return fmt.Errorf("guard: list policies: %w", err)
		}
		for i := range have {
			p := &have[i]
			if !ours.InGuardBand(uint32(p.Priority)) || wanted[policyKey(p, family == netlink.FAMILY_V6)] {
				continue
			}
			err := k.xfrm.XfrmPolicyDel(&netlink.XfrmPolicy{Index: p.Index, Dir: p.Dir})
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("guard: remove old policy: %w", err)
			}
		}
	}
	return nil
}

// removeGuard takes away everything that setGuard made.
func (k *kernel) removeGuard(name string) error {
	err := nft.Run(nftGuard{tun: name}.script(nil, nil))
	if errors.Is(err, nft.ErrAbsent) && k.xfrm != nil {
		err = nil
	}
	if k.xfrm != nil {
		err = errors.Join(err, k.dropGuard(nil))
	}
	return err
}

func xfrmPolicy(e guardEntry, tun int) *netlink.XfrmPolicy {
	p := &netlink.XfrmPolicy{
		Src: ipNet(e.src), Dst: ipNet(e.dst), Proto: netlink.Proto(e.protocol),
		SrcPort: int(e.srcPort), DstPort: int(e.dstPort),
		Priority: int(e.priority), Action: netlink.XFRM_POLICY_BLOCK,
	}
	switch e.dir {
	case guardIn:
		p.Dir = netlink.XFRM_DIR_IN
	case guardFwd:
		p.Dir = netlink.XFRM_DIR_FWD
	default:
		p.Dir = netlink.XFRM_DIR_OUT
	}
	if e.kind.allows() {
		p.Action = netlink.XFRM_POLICY_ALLOW
	}
	if e.kind == tunAllow {
		p.Ifindex = tun
	}
	return p
}

// policyKey names a policy field by field: these structures are never formatted.
// The lengths of the prefixes are in the priority.
func policyKey(p *netlink.XfrmPolicy, v6 bool) string {
	return fmt.Sprint(uint8(p.Dir), policyAddr(p.Src, v6), policyAddr(p.Dst, v6), uint8(p.Proto),
		p.SrcPort, p.DstPort, p.Ifindex, p.Priority, uint8(p.Action))
}

// policyAddr undoes what the library does when it lists policies: an IPv6
// address whose last 12 bytes are 0 (as of fd01::/64) comes back as an IPv4
// address of the first 4, its mask lost.
func policyAddr(n *net.IPNet, v6 bool) netip.Addr {
	if n == nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	a = a.Unmap()
	if v6 && a.Is4() {
		var full [16]byte
		copy(full[:], a.AsSlice())
		return netip.AddrFrom16(full)
	}
	return a
}

// gapWarning says what is missing where nft is; empty: nothing.
func (k *kernel) gapWarning() string {
	if nft.Installed() || k.xfrm == nil {
		return ""
	}
	return "nft is not installed: " + nft.Unquoted + "; install nftables"
}

// nftName keeps what may stand in the name of a table.
func nftName(r rune) rune {
	if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return '_'
}
