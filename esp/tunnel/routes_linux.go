package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"yumen/esp/ours"
)

// setRoutes makes our table what the plan says, whatever is in it: first what is
// new or another, then away with what is old. It tells how many it wrote.
func (k *kernel) setRoutes(plan []route, table, tun int) (written int, err error) {
	wanted := map[routeKey]bool{}
	for _, r := range plan {
		wanted[r.key()] = true
	}
	have, err := k.listRoutes(table)
	if err != nil {
		return 0, err
	}
	stands := map[routeKey]netlink.Route{}
	for _, n := range have {
		stands[keyOf(n)] = n
	}
	for _, r := range plan {
		if n, ok := stands[r.key()]; ok && isRoute(n, r, tun) {
			continue
		}
		if err := k.replaceRoute(r, table, tun); err != nil {
			return written, err
		}
		written++
	}
	// Blackholes go first: they must not show when what stood before them is gone.
	slices.SortFunc(have, func(a, b netlink.Route) int { return b.Priority - a.Priority })
	for _, n := range have {
		if wanted[keyOf(n)] {
			continue
		}
		if err := k.route.RouteDel(&n); err != nil && !errors.Is(err, unix.ESRCH) {
			return written, fmt.Errorf("remove route to %v from table %d: %w", n.Dst, table, err)
		}
	}
	return written, nil
}

// changeRoutes writes what one plan has more than another, which is what the
// table holds, and takes away what it has less.
func (k *kernel) changeRoutes(from, to []route, table, tun int) error {
	set, gone := routeChanges(from, to)
	for _, r := range set {
		if err := k.replaceRoute(r, table, tun); err != nil {
			return err
		}
	}
	slices.SortFunc(gone, func(a, b route) int { return int(b.kind) - int(a.kind) })
	for _, r := range gone {
		if err := k.route.RouteDel(netlinkRoute(r, table, tun)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route to %s from table %d: %w", r.dst, table, err)
		}
	}
	return nil
}

func (k *kernel) replaceRoute(r route, table, tun int) error {
	if err := k.route.RouteReplace(netlinkRoute(r, table, tun)); err != nil {
		return fmt.Errorf("set route to %s in table %d: %w", r.dst, table, err)
	}
	return nil
}

func (k *kernel) listRoutes(table int) (all []netlink.Route, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := again(func() ([]netlink.Route, error) {
			return k.route.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes of table %d: %w", table, err)
		}
		all = append(all, list...)
	}
	return all, nil
}

func keyOf(n netlink.Route) routeKey {
	p, _ := ours.PrefixOf(n.Dst)
	return routeKey{dst: p, kind: routeKind(n.Priority / 10)}
}

// isRoute reports whether a route of the kernel does what r says.
func isRoute(n netlink.Route, r route, tun int) bool {
	want := netlinkRoute(r, n.Table, tun)
	if n.Type != want.Type || n.Protocol != want.Protocol || n.Priority != want.Priority {
		return false
	}
	if r.kind != tunRoute {
		return true
	}
	src, _ := netip.AddrFromSlice(n.Src)
	return n.LinkIndex == tun && n.MTU == r.mtu && src.Unmap() == r.src && n.Gw == nil && len(n.MultiPath) == 0
}

func netlinkRoute(r route, table, tun int) *netlink.Route {
	n := &netlink.Route{
		Dst: ipNet(r.dst), Table: table, Priority: r.kind.metric(), Protocol: ours.RouteProtocol,
		Type: unix.RTN_BLACKHOLE, Scope: unix.RT_SCOPE_UNIVERSE,
	}
	switch r.kind {
	case throwRoute:
		n.Type = unix.RTN_THROW
	case tunRoute:
		n.Type, n.LinkIndex, n.MTU = unix.RTN_UNICAST, tun, r.mtu
		n.Scope = unix.RT_SCOPE_LINK
		if r.dst.Addr().Is6() {
			n.Scope = unix.RT_SCOPE_UNIVERSE
		}
		if r.src.IsValid() {
			n.Src = r.src.AsSlice()
		}
	}
	return n
}
