// Package xfrm is the kernel data plane for Linux: it writes children and
// policies into XFRM and tells what the kernel says of them. It stands beside
// esp/tunnel and carries the same SA objects by the same verbs.
//
// It refuses to know IKE, and it never sees a packet: the kernel does all of that.
//
// # Plan and apply
//
// What the kernel shall hold is computed first, without touching anything
// (plan.go, guard.go), then written (apply.go). A plan that fails half-way is
// undone.
//
// # Guard
//
// Each protected selector is a permanent policy with a template, outwards, inwards
// and for what is forwarded. A template without an SA sends nothing, and inwards
// nothing passes that did not come by an SA of the tunnel. Below stand block
// policies for the same addresses without ports. All of them outlive the process;
// RemoveGuard takes them away. Those that others take away a plane that runs sets again
// at once, and children whose SAs others delete end.
//
// The template of an out policy names one SPI, that of the child in use: the kernel
// never chooses. Templates inwards name the tunnel's reqid alone, so every installed
// child of the tunnel can receive.
//
// # What belongs to us
//
// Policies whose priority begins with the bits 001, and states whose reqid lies in
// our range, which follows from the tunnel's name: so a new process recognises what
// a dead one left. See Leftovers.
//
// # Groups
//
// Tunnels of a group (policy.Group) have one selector, so one policy, and one reqid.
// Steer writes another member's SA into the template. Probes are echo requests to a
// target, each by a policy of its own that only our socket meets, by a mark that
// begins with 0x5a; what comes in by a member bears the same, so that a host that
// reflects marks answers by the path that it was asked by.
//
// # Beside a userspace plane
//
// Policies of this plane guard the tunnels of the other one too (Beside): above the
// template of a tunnel that it sends stands an allow for its TUN. So a packet goes by
// the TUN or by an SA or nowhere, whatever happens to the TUN.
//
// The NAT traversal port is shared (Config.SharePort): this plane is bound first and
// reads IKE, and the kernel hands each ESP packet in UDP to the plane that has its SPI.
//
// # What this plane cannot do
//
// Spread a group over several paths at once; send or answer the probes of gateways to
// each other, which the kernel drops.
//
// SM4-GCM: the kernel's XFRM has no such algorithm. A fixed DSCP other than 0, an
// outer DF bit that is always set. IPv4 packets without DF that are too large are
// cut after encryption, whatever Outer.Fragment says; TCP segment sizes are not
// clamped. The kernel does not tell of unknown SPIs: there is no such event, only a
// counter (Stats). Packets that came by an SA and match none of the tunnel's
// selectors are counted there too (XfrmInTmplMismatch and others), not for each
// child: they are dropped by the policy that does not find its template, which counts
// in one number for the namespace, and an SA's own selector, which would say which SA it
// was, is counted in one number too (XfrmInStateMismatch). IPv6 packets are dropped where
// their path has no room for 1280 bytes of them, the least that a sender can go down to
// (RFC 8200 5): see Plane.MaxInner. Fragments that do not hold their ports match no selector with
// ports: they are dropped.
package xfrm
