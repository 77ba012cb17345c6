// Package ours says what in the tables of a host belongs to this product, and what
// both data planes say alike of addresses. It is for the data planes, which must not
// know each other, and for whoever looks at a host from outside. It touches nothing.
package ours

import (
	"net"
	"net/netip"
)

// Bands of XFRM policy priorities; the smaller number stands before the larger. What
// other software uses by default lies between them, or below both.
const (
	// KernelBand is the beginning of the band of the kernel plane: the bits 001.
	KernelBand = uint32(1) << 29
	// GuardBand is that of the guard of the userspace plane: the bits 01.
	GuardBand = uint32(1) << 30
)

// InKernelBand reports whether a policy of that priority is one of the kernel plane.
func InKernelBand(priority uint32) bool { return priority>>29 == KernelBand>>29 }

// InGuardBand reports whether a policy of that priority is one of the guard of the
// userspace plane.
func InGuardBand(priority uint32) bool { return priority>>30 == GuardBand>>30 }

// Reqid is the first of the reqids of our SAs in the kernel; they have 24 bits of
// their own.
const (
	Reqid     = uint32(0x59) << 24
	ReqidBits = uint32(1)<<24 - 1
)

// IsReqid reports whether an SA with that reqid is ours.
func IsReqid(r uint32) bool { return r&^ReqidBits == Reqid }

// RouteProtocol is who made a route or an ip rule: us.
const RouteProtocol = 211

// LinkScope are destinations that no selector captures by being wide.
func LinkScope() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("224.0.0.0/4"),
		netip.MustParsePrefix("255.255.255.255/32"),
		netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("fe80::/10"),
		netip.MustParsePrefix("ff00::/8"),
	}
}

// Contains reports whether all of inner lies in outer.
func Contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// Everything is the prefix of all addresses of a family.
func Everything(v6 bool) netip.Prefix {
	if v6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// PrefixOf reads a prefix as libraries of the kernel's interfaces have it; its family
// is that of the mask. False: it is none.
func PrefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if !ok || size == 0 {
		return netip.Prefix{}, false
	}
	if size == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, bits).Masked(), true
}

// IsLAN reports whether a route of the kernel's own making to p is that of a subnet
// which is attached to a link and worth knowing.
func IsLAN(p netip.Prefix) bool {
	return p.Bits() > 0 && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast()
}
