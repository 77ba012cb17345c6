package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"yumen/esp/ours"
)

// host reads addresses and routes of the namespace that it was opened in.
type host struct {
	route   *netlink.Handle
	reflect []*os.File // whether the host's answers bear the mark of what they answer
}

func (h *host) close() {
	h.route.Close()
	for _, f := range h.reflect {
		f.Close()
	}
}

// reflect has the host answer pings by the path that they came by.
func (p *Plane) reflect() {
	const warning = "sysctl net.ipv4.fwmark_reflect or net.ipv6.fwmark_reflect is 0: pings of a far gateway are answered by " +
		"the path of the group's traffic and not by that which they try; set both to 1"
	for _, f := range p.host.reflect {
		b := make([]byte, 8)
		if n, _ := f.ReadAt(b, 0); n == 0 || b[0] == '1' {
			continue
		}
		if p.cfg.ManageSysctl {
			if _, err := f.WriteAt([]byte("1"), 0); err == nil {
				continue
			}
		}
		if !slices.Contains(p.warnings, warning) {
			p.warnings = append(p.warnings, warning)
		}
	}
}

func openHost() (*host, error) {
	route, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	h := &host{route: route}
	// Opened now: they are those of the calling thread's namespace.
	for _, name := range []string{"ipv4", "ipv6"} {
		file := "/proc/sys/net/" + name + "/fwmark_reflect"
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			f, err = os.Open(file) // may be read at least
		}
		if err == nil {
			h.reflect = append(h.reflect, f)
		}
	}
	return h, nil
}

// connected are the subnets of our links.
func (h *host) connected() (list []netip.Prefix, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		var routes []netlink.Route
		for range 5 {
			routes, err = h.route.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
			if !errors.Is(err, netlink.ErrDumpInterrupted) {
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			p, ok := ours.PrefixOf(r.Dst)
			if ok && r.Protocol == unix.RTPROT_KERNEL && r.Gw == nil && len(r.MultiPath) == 0 &&
				ours.IsLAN(p) {
				list = append(list, p)
			}
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list), nil
}

// device is the index of an interface.
func (h *host) device(name string) (int, error) {
	l, err := h.route.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find interface %s: %w", name, err)
	}
	return l.Attrs().Index, nil
}

// own6 are our IPv6 addresses, without link-local ones and loopback.
func (h *host) own6() (list []netip.Addr, err error) { return h.addresses(true) }

// addresses are ours of a family, without link-local ones and loopback.
func (h *host) addresses(v6 bool) (list []netip.Addr, err error) {
	family := netlink.FAMILY_V4
	if v6 {
		family = netlink.FAMILY_V6
	}
	var addrs []netlink.Addr
	for range 5 {
		if addrs, err = h.route.AddrList(nil, family); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ok && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			list = append(list, ip)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list), nil
}

// source is the address that the host would use towards remote.
func (h *host) source(remote netip.Addr) (netip.Addr, error) {
	routes, err := h.route.RouteGet(remote.AsSlice())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no route to %s: %w", remote, err)
	}
	for _, r := range routes {
		if a, ok := netip.AddrFromSlice(r.Src); ok {
			return a.Unmap(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no route to %s says which address is ours", remote)
}

// larvalDrop is where the kernel is told whether the first packets of a tunnel wait. It is
// hidden in containers with a user namespace of their own, and often read-only.
const larvalDrop = "/proc/sys/net/core/xfrm_larval_drop"

// prepareHost lets the first packets of a tunnel wait for its SA: the kernel keeps up
// to 100 of them for each policy. Where that is not to be had it says what is missing.
func prepareHost(file string, allowed bool) (warnings []string) {
	const lost = "the first packets of a tunnel are lost while it is negotiated"
	b, err := os.ReadFile(file)
	switch {
	case err != nil:
		return []string{fmt.Sprintf("sysctl net.core.xfrm_larval_drop cannot be seen here (%v): unless it is 0, %s", err, lost)}
	case strings.TrimSpace(string(b)) == "0":
		return nil
	case !allowed:
		return []string{"sysctl net.core.xfrm_larval_drop is 1: " + lost + "; set it to 0"}
	}
	if err := os.WriteFile(file, []byte("0"), 0o644); err != nil {
		return []string{fmt.Sprintf("sysctl net.core.xfrm_larval_drop is 1 and cannot be set (%v): %s; set it to 0 outside", err, lost)}
	}
	return nil
}

// Stats are the kernel's own counters of what it dropped and why (Linux' names,
// such as XfrmInStateProtoError for a wrong ICV, XfrmInStateSeqError for a replay).
// They are those of the whole network namespace.
type Stats map[string]uint64

func parseStats(b []byte) Stats {
	s := Stats{}
	for line := range strings.Lines(string(b)) {
		var name string
		var n uint64
		if _, err := fmt.Sscan(line, &name, &n); err == nil {
			s[name] = n
		}
	}
	return s
}

// openStats opens the counters of the calling thread's namespace; reading them later
// works from any thread. A kernel without them (CONFIG_XFRM_STATISTICS): nil.
func openStats() (*os.File, error) {
	f, err := os.Open("/proc/thread-self/net/xfrm_stat")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}
