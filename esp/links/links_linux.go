package links

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Open begins to watch the network namespace of the calling thread. mark is that of
// the packets of a path: routes may differ by it.
func Open(mark uint32) (*Watcher, error) {
	k, err := openKernel(mark)
	if err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	return newWatcher(k), nil
}

// kernel asks by one socket and hears by another. What it hears is only that
// something changed: which of a thousand messages matters is not worth knowing.
type kernel struct {
	ask  *netlink.Handle
	hear *os.File
	mark uint32
	buf  []byte
}

func openKernel(mark uint32) (*kernel, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	k := &kernel{hear: os.NewFile(uintptr(fd), "rtnetlink"), mark: mark, buf: make([]byte, 1<<16)}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		k.hear.Close()
		return nil, err
	}
	for _, rules := range []int{unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, rules) // a kernel without policy routing has none
	}
	if k.ask, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		k.hear.Close()
		return nil, err
	}
	return k, nil
}

// wait returns at the next message. That some were lost is a message too.
func (k *kernel) wait() bool {
	_, err := k.hear.Read(k.buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = k.hear.SetReadDeadline(time.Time{})
	}
	if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
		return false
	}
	k.drain()
	return true
}

// drain takes what else is there, so that a burst is one look.
func (k *kernel) drain() {
	conn, err := k.hear.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for range 1000 {
			if _, _, err := unix.Recvfrom(int(fd), k.buf, unix.MSG_DONTWAIT); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
		}
	})
}

func (k *kernel) poke() { _ = k.hear.SetReadDeadline(time.Unix(1, 0)) }

func (k *kernel) close() {
	k.hear.Close()
	k.ask.Close()
}

func (k *kernel) check(p Path) string {
	if p.Interface != "" {
		l, err := k.ask.LinkByName(p.Interface)
		if err != nil {
			return fmt.Sprintf("there is no interface %s", p.Interface)
		}
		if why := lame(l.Attrs()); why != "" {
			return why
		}
	}
	if p.Local.IsValid() && !p.Local.IsUnspecified() {
		if why := k.checkLocal(p.Local.Unmap()); why != "" {
			return why
		}
	}
	if p.Remote.IsValid() && !p.Remote.IsUnspecified() {
		return k.checkRoute(p)
	}
	return ""
}

// lame says why nothing leaves by a link.
func lame(l *netlink.LinkAttrs) string {
	switch {
	case l.RawFlags&unix.IFF_UP == 0:
		return fmt.Sprintf("interface %s is down", l.Name)
	case l.RawFlags&unix.IFF_RUNNING == 0:
		return fmt.Sprintf("interface %s has no carrier", l.Name)
	}
	return ""
}

func (k *kernel) checkLocal(local netip.Addr) string {
	family := netlink.FAMILY_V4
	if local.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := k.ask.AddrList(nil, family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return "" // not known is not down: probes find out
	}
	for _, a := range list {
		have, ok := netip.AddrFromSlice(a.IP)
		if !ok || have.Unmap() != local {
			continue
		}
		if a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0 {
			return fmt.Sprintf("address %s is not ready", local)
		}
		l, err := k.ask.LinkByIndex(a.LinkIndex)
		if err != nil {
			return fmt.Sprintf("the interface of address %s is gone", local)
		}
		return lame(l.Attrs())
	}
	if err != nil {
		return ""
	}
	return fmt.Sprintf("no interface has address %s", local)
}

// checkRoute asks by which link a packet would leave. It does not name the interface,
// with which the kernel would make a route up where there is none.
func (k *kernel) checkRoute(p Path) string {
	remote := p.Remote.Unmap()
	o := &netlink.RouteGetOptions{Mark: k.mark}
	if local := p.Local.Unmap(); local.IsValid() && !local.IsUnspecified() {
		o.SrcAddr = net.IP(local.AsSlice())
	}
	routes, err := k.ask.RouteGetWithOptions(net.IP(remote.AsSlice()), o)
	if err != nil || len(routes) == 0 {
		return fmt.Sprintf("there is no route to %s", remote)
	}
	l, err := k.ask.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return fmt.Sprintf("the interface of the route to %s is gone", remote)
	}
	return lame(l.Attrs())
}
