package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"yumen/esp/ours"
)

// kernel speaks to one network namespace: that of the thread that opened it.
type kernel struct {
	route *netlink.Handle
	xfrm  *netlink.Handle // nil: this kernel has no XFRM
	// A kernel plane runs beside this one.
	beside bool
	// What nft was told last. lazy: it is not told the same twice.
	script string
	lazy   bool
}

func openKernel() (*kernel, error) {
	route, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	k := &kernel{route: route}
	xfrm, err := netlink.NewHandle(unix.NETLINK_XFRM)
	if err == nil {
		if _, err = xfrm.XfrmPolicyList(netlink.FAMILY_V4); err == nil {
			k.xfrm = xfrm
			return k, nil
		}
		xfrm.Close()
	}
	if !errors.Is(err, unix.EPROTONOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		route.Close()
		return nil, fmt.Errorf("list ipsec policies: %w (CAP_NET_ADMIN is needed)", err)
	}
	return k, nil
}

func (k *kernel) close() {
	k.route.Close()
	if k.xfrm != nil {
		k.xfrm.Close()
	}
}

// link brings the TUN up and returns its number.
func (k *kernel) link(name string, mtu int) (index int, err error) {
	l, err := k.route.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find device %s: %w", name, err)
	}
	if err := k.setMTU(l.Attrs().Index, mtu); err != nil {
		return 0, err
	}
	if err := k.route.LinkSetTxQLen(l, 1000); err != nil {
		return 0, fmt.Errorf("set queue length of %s: %w", name, err)
	}
	if err := k.route.LinkSetUp(l); err != nil {
		return 0, fmt.Errorf("bring up %s: %w", name, err)
	}
	return l.Attrs().Index, nil
}

func (k *kernel) setMTU(index, mtu int) error {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	if err := k.route.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set mtu of tun device to %d: %w", mtu, err)
	}
	return nil
}

// look reads what the plans need, leaving out the link number tun.
func (k *kernel) look(tun int) (surroundings, error) {
	var s surroundings
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := again(func() ([]netlink.Route, error) {
			return k.route.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return s, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			p, ok := ours.PrefixOf(r.Dst)
			if ok && r.Protocol == unix.RTPROT_KERNEL && r.Gw == nil && len(r.MultiPath) == 0 &&
				r.LinkIndex != tun && ours.IsLAN(p) {
				s.connected = append(s.connected, p)
			}
		}
		addrs, err := again(func() ([]netlink.Addr, error) { return k.route.AddrList(nil, family) })
		if err != nil {
			return s, fmt.Errorf("list addresses: %w", err)
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			ip = ip.Unmap()
			if ok && a.LinkIndex != tun && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				s.own = append(s.own, ip)
			}
		}
	}
	s.connected = sortPrefixes(s.connected)
	slices.SortFunc(s.own, netip.Addr.Compare)
	s.own = slices.Compact(s.own)
	return s, nil
}

// again repeats a listing that changed under our eyes.
func again[T any](list func() ([]T, error)) (out []T, err error) {
	for range 5 {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	if !p.IsValid() {
		return nil
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// setRules makes the ip rules of our span what the plan says, and tells how many it wrote.
func (k *kernel) setRules(plan []rule, table, first int) (written int, err error) {
	wanted := map[string]bool{}
	slices.Reverse(plan) // the target of a jump before the jump
	have, err := k.ourRules(first)
	if err != nil {
		return 0, err
	}
	for _, r := range plan {
		n := netlinkRule(r, table, first+ruleSpan-1)
		wanted[ruleKey(n)] = true
		if _, there := have[ruleKey(n)]; there {
			continue
		}
		if err := k.route.RuleAdd(&n); err != nil && !errors.Is(err, unix.EEXIST) {
			return written, fmt.Errorf("add ip rule %d: %w", r.priority, err)
		}
		written++
	}
	for key, n := range have {
		if wanted[key] {
			continue
		}
		if err := k.route.RuleDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			return written, fmt.Errorf("remove ip rule %d: %w", n.Priority, err)
		}
	}
	return written, nil
}

func (k *kernel) ourRules(first int) (map[string]netlink.Rule, error) {
	out := map[string]netlink.Rule{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := again(func() ([]netlink.Rule, error) { return k.route.RuleList(family) })
		if err != nil {
			return nil, fmt.Errorf("list ip rules: %w", err)
		}
		for _, n := range list {
			if n.Protocol == ours.RouteProtocol && n.Priority >= first && n.Priority < first+ruleSpan {
				out[ruleKey(n)] = n
			}
		}
	}
	return out, nil
}

func netlinkRule(r rule, table, end int) netlink.Rule {
	n := *netlink.NewRule()
	n.Family = netlink.FAMILY_V4
	if r.v6 {
		n.Family = netlink.FAMILY_V6
	}
	n.Priority, n.Protocol, n.Mark = r.priority, ours.RouteProtocol, r.mark
	n.Src, n.Dst, n.IPProto = ipNet(r.from), ipNet(r.to), int(r.protocol)
	switch r.kind {
	case endRule:
		n.Type = nl.FR_ACT_NOP
	case skipRule:
		n.Goto, n.Type = end, nl.FR_ACT_GOTO
	case lookupRule:
		n.Table = table
	case dropRule:
		n.Type = unix.RTN_BLACKHOLE
	}
	if r.ownOnly {
		n.IifName = "lo"
	}
	if r.localPort != 0 {
		n.Sport = netlink.NewRulePortRange(r.localPort, r.localPort)
	}
	if r.remotePort != 0 {
		n.Dport = netlink.NewRulePortRange(r.remotePort, r.remotePort)
	}
	return n
}

// ruleKey is a rule without what the kernel adds to it.
func ruleKey(n netlink.Rule) string {
	side := func(p *net.IPNet) string {
		if q, ok := ours.PrefixOf(p); ok && q.Bits() > 0 {
			return q.String()
		}
		return "any"
	}
	port := func(p *netlink.RulePortRange) uint16 {
		if p == nil {
			return 0
		}
		return p.Start
	}
	return fmt.Sprint(n.Family, n.Priority, side(n.Src), side(n.Dst), n.Mark, n.IifName, max(n.Goto, 0),
		n.IPProto, port(n.Sport), port(n.Dport), n.Goto < 0 && n.Table > 0)
}
