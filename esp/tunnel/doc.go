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
// One goroutine reads each queue of the TUN, one each socket, and each runs what it
// has read to completion, as a batch: no lock, channel or allocation per packet.
// Filters give each socket the SPIs that are its own; but where the host joins datagrams
// of several children it goes by the first. So the children of a batch are claimed for
// it, to seal by, so that numbers leave in order, and to open by, so that a window has
// one owner. A tunnel may have children side by side, lanes: flows are spread over them,
// and since their SPIs leave successive rests, they are opened by different sockets.
// See Offload for what is done for many packets at once, and README.md for
// where the time goes.
//
// What workers read is a frozen snapshot behind an atomic pointer; whoever changes
// it waits until each worker has passed a batch boundary before it touches an SA
// again. The one mutex guards the control side; no worker takes it, so that traffic
// passes however long it is held. Channels are for events, IKE and what was learned
// about paths, and a full one loses the message instead of holding the packet up.
//
// A packet that meets no child asks for one, at most once a second for each
// tunnel and queue, and waits: 16 packets, 64 KiB and 5 s at most, then in order
// through the child. Tunnels that only respond drop it.
//
// # Groups
//
// Tunnels of a group (policy.Group) take the same traffic. Which of them carry it, by
// flow, is part of the snapshot, so that Steer moves all of it between two packets;
// what comes in is taken on every member. Probes (Echo) are dummy packets of RFC 4303
// 2.6 that the far plane's worker answers where it opened them, or pings to a target.
//
// # Sizes
//
// The outer path MTU of a child is the smallest of the configuration, the link
// and route to the peer with what the host has learned about it, and what ICMP
// errors say. Those come by sockets of their own and are believed only if they
// quote SPI and a recent number of a packet of ours; never below 576 (IPv4) or
// 1280 bytes (IPv6); for ten minutes. Nothing is probed: a peer answers no ESP
// packet that a probe could be made of. On a path that drops without a word
// mss_clamp, fragment: after and the configured mtu help.
//
// By default inner packets are cut or answered before encryption; fragment: after
// cuts the outer ones, here and not in the kernel. Segment sizes of TCP openings
// are lowered in both directions to what fits one outer packet.
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
// # Beside the kernel plane
//
// With Config.Beside this plane carries the tunnels that Carry names. The kernel
// plane's policies then take the place of our own: see Share. Raw sockets get copies
// of the kernel's packets, which Foreign tells from unknown ones.
//
// # Guard
//
// XFRM policies in a priority band of our own, see guard.go. They and the
// blackholes outlive the process on purpose; RemoveGuard takes them away. Policies that
// others take away a plane that runs sets again at once.
package tunnel
