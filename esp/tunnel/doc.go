// Package tunnel is the userspace data plane for Linux: one TUN device, raw
// protocol-50 sockets and one UDP 4500 socket for each family, the routes and
// rules that lead traffic to them, and the guard that keeps protected traffic
// from leaving in clear when they are gone.
//
// It refuses to know IKE: datagrams with the non-ESP marker (RFC 3948 2.2) are
// handed up unread.
//
// # Packets
//
// One goroutine reads the TUN, one each socket, and each runs every packet to
// completion: no lock, channel or allocation per packet. What they read is a
// frozen snapshot behind an atomic pointer; whoever changes it waits until each
// worker has passed a packet boundary before it touches an SA again.
//
// # Routes
//
// Protected remote prefixes stand in a table of our own, each with a blackhole of
// worse metric beside it, so that when the TUN is gone the blackhole remains.
// Connected subnets win by a throw route, but only where they are as long as a
// protected prefix or longer: a protected /24 inside a connected /16 stays
// protected, since the other choice would leak it. (So an attacker who hands out
// the addresses of an attached network can pull a subnet out of a shorter
// selector; whoever fears that names the selector more exactly.)
//
// # Guard
//
// XFRM policies in a priority band of our own, see guard.go. They and the
// blackholes outlive the process on purpose; RemoveGuard takes them away.
package tunnel
