package tunnel

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// userPolicy is struct xfrm_userpolicy_info of linux/xfrm.h.
type userPolicy struct {
	sel struct {
		daddr, saddr [16]byte
		ports        [4]uint16
		family       uint16
		prefixes     [2]uint8
		proto        uint8
		_            [3]byte
		ifindex      int32
		user         uint32
	}
	limits   [8]uint64 // soft and hard bytes, soft and hard packets, then times
	current  [4]uint64
	priority uint32
	index    uint32
	dir      uint8
	action   uint8
	flags    uint8
	share    uint8
	_        [4]byte
}

const (
	xfrmIn  = 0
	xfrmOut = 1
)

// Bypass takes a socket out of the reach of IPsec policies, so that a selector
// that covers the peer does not catch the tunnel's own packets, and marks what it
// sends with mark, so that it does not look up the tunnel's routes. Every socket
// that talks to a peer in clear needs it, those of IKE as well. It needs
// CAP_NET_ADMIN. A kernel without XFRM has no policies to bypass: no error.
func Bypass(conn syscall.RawConn, mark uint32) error {
	var inner error
	err := conn.Control(func(fd uintptr) { inner = bypass(int(fd), mark) })
	if err != nil {
		return fmt.Errorf("bypass ipsec policies: %w", err)
	}
	return inner
}

func bypass(fd int, mark uint32) error {
	if mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return fmt.Errorf("set socket mark %#x: %w (CAP_NET_ADMIN is needed)", mark, err)
		}
	}
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("family of socket: %w", err)
	}
	level, option := unix.IPPROTO_IP, unix.IP_XFRM_POLICY
	if family == unix.AF_INET6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_XFRM_POLICY
	}
	for _, dir := range []uint8{xfrmIn, xfrmOut} {
		p := userPolicy{dir: dir}
		p.sel.family = uint16(family)
		for i := range 4 {
			p.limits[i] = ^uint64(0) // zero would expire at once
		}
		text := unsafe.Slice((*byte)(unsafe.Pointer(&p)), unsafe.Sizeof(p))
		err := unix.SetsockoptString(fd, level, option, string(text))
		if errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil // no XFRM in this kernel
		}
		if err != nil {
			return fmt.Errorf("set ipsec bypass policy on socket: %w (CAP_NET_ADMIN is needed)", err)
		}
	}
	return nil
}
