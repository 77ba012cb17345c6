package tunnel

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"yumen/esp/nft"
	"yumen/esp/ours"
	"yumen/policy"
)

// The guard keeps what is protected from being in clear, whether the plane runs
// or not. For each protected pair of prefixes, ports aside (what shares addresses
// with a tunnel and is neither in it nor bypassed is dropped, not sent):
//
//	out  local -> remote  block      seen by what is sent and what is forwarded
//	in   remote -> local  block      clear text from outside, for this host
//	fwd  remote -> local  block      the same, for those behind it
//
// and above each, for the TUN alone, an allow. There is no fwd block from local to
// remote: it would stop packets on their way into the TUN.
//
// For IPv6 the kernel's policies cannot say this alone. It looks up the out policy
// of a packet of its own before it knows the interface (of IPv4 and of all
// forwarded packets: after), so the allow for the TUN does not hold there; our own
// addresses get an allow of their own, and what keeps their packets in are the
// blackhole routes. And inwards it compares the interface of the route, not the
// one that the packet came by, while disable_policy is honoured for forwarded
// packets by recent kernels only and for addresses of the TUN alone: an in or fwd
// block would stop what came out of the tunnel. So these stand in nftables, which
// see both interfaces, with the out blocks once more (guardGap).
//
// A policy that names an interface outlives it. Interface numbers only grow, so
// an old allow matches nothing; each start replaces it.

type guardDir uint8

const (
	guardOut guardDir = iota
	guardIn
	guardFwd
)

// guardKind orders what is equally specific: the smaller one wins.
type guardKind uint8

const (
	controlAllow guardKind = iota
	bypassAllow
	ruleBlock
	connectedAllow
	tunAllow
	ownAllow
	tunnelBlock
)

func (k guardKind) allows() bool { return k != ruleBlock && k != tunnelBlock }

// guardEntry is one XFRM policy, or one nft rule.
type guardEntry struct {
	dir              guardDir
	kind             guardKind
	src, dst         netip.Prefix
	protocol         uint8
	srcPort, dstPort uint16 // ICMP: source is the type
	priority         uint32
}

// Our band of XFRM priorities: all worse than what other software uses by
// default. An entry's number depends on nothing but itself, so that an update
// never puts an allow over a block that it should not overrule. Bits from the top:
// 01, explicit priority (8), remote prefix (8), local prefix (8), ports (2), kind (4).
const mostBands = 255

func guardPriority(band int, remote, local netip.Prefix, ports int, kind guardKind) uint32 {
	p := ours.GuardBand | uint32(min(band, mostBands))<<22
	return p | uint32(128-remote.Bits())<<14 | uint32(128-local.Bits())<<6 | uint32(3-ports)<<4 | uint32(kind)
}

// planGuard is the whole guard, best first, each selector once.
func planGuard(zones []zone, s surroundings) []guardEntry {
	g := guardPlan{plain: plainBand(zones)}
	for _, z := range zones {
		switch {
		case z.foreign:
		case z.action == policy.Protect:
			g.protect(z, s)
		case z.action == policy.Bypass:
			g.both(z, bypassAllow)
		case z.action == policy.Drop:
			g.both(z, ruleBlock)
		}
	}
	g.control(zones)
	return g.finish()
}

// plainBand is the band of rules without explicit priority, to which what the
// policy does not name belongs.
func plainBand(zones []zone) int {
	band := 0
	for _, z := range zones {
		band = max(band, z.band)
	}
	return band
}

type guardPlan struct {
	plain int
	list  []guardEntry
}

func (g *guardPlan) protect(z zone, s surroundings) {
	z.protocol, z.localPort, z.remotePort = 0, 0, 0
	g.both(z, tunnelBlock)
	g.both(z, tunAllow)
	if z.remote.Addr().Is6() {
		for _, a := range s.own {
			if a.Is6() && z.local.Contains(a) {
				g.list = append(g.list, guardEntry{
					dir: guardOut, kind: ownAllow, src: netip.PrefixFrom(a, 128), dst: z.remote,
					priority: guardPriority(z.band, z.remote, z.local, 0, ownAllow),
				})
			}
		}
	}
	for _, c := range s.connected {
		if ours.Contains(z.remote, c) {
			n := z
			n.remote = c
			g.both(n, connectedAllow)
		}
	}
}

// both adds a zone outwards and inwards.
func (g *guardPlan) both(z zone, kind guardKind) {
	ports := 0
	for _, given := range []bool{z.protocol != 0, z.localPort != 0, z.remotePort != 0} {
		if given {
			ports++
		}
	}
	e := guardEntry{
		dir: guardOut, kind: kind, src: z.local, dst: z.remote, protocol: z.protocol,
		srcPort: z.localPort, dstPort: z.remotePort,
		priority: guardPriority(z.band, z.remote, z.local, ports, kind),
	}
	g.list = append(g.list, e)
	e.src, e.dst, e.srcPort, e.dstPort = e.dst, e.src, e.dstPort, e.srcPort
	for _, dir := range []guardDir{guardIn, guardFwd} {
		e.dir = dir
		g.list = append(g.list, e)
	}
}

// control lets through what no selector captures by being wide (RFC 4861, DHCP):
// without it a guard for ::/0 would cut the host off its own links.
func (g *guardPlan) control(zones []zone) {
	var any4, any6 bool
	wide := func(p netip.Prefix) bool {
		return slices.ContainsFunc(zones, func(z zone) bool {
			return z.action == policy.Protect && (ours.Contains(z.remote, p) || ours.Contains(z.local, p))
		})
	}
	for _, n := range ours.LinkScope() {
		if !wide(n) {
			continue
		}
		everything := ours.Everything(n.Addr().Is6())
		any4, any6 = any4 || n.Addr().Is4(), any6 || n.Addr().Is6()
		for _, dir := range []guardDir{guardOut, guardIn, guardFwd} {
			g.add(guardEntry{dir: dir, src: everything, dst: n}, n.Bits())
			if !n.Addr().IsMulticast() {
				g.add(guardEntry{dir: dir, src: n, dst: everything}, n.Bits())
			}
		}
	}
	for _, v6 := range []bool{false, true} {
		if v6 && any6 || !v6 && any4 {
			g.discovery(v6)
		}
	}
}

// discovery allows neighbour discovery and DHCP.
func (g *guardPlan) discovery(v6 bool) {
	everything := ours.Everything(v6)
	var list []guardEntry
	if v6 {
		for kind := uint16(133); kind <= 137; kind++ {
			list = append(list, guardEntry{protocol: 58, srcPort: kind})
		}
		list = append(list, guardEntry{protocol: 17, dstPort: 546}, guardEntry{protocol: 17, dstPort: 547})
	} else {
		list = append(list, guardEntry{protocol: 17, dstPort: 67}, guardEntry{protocol: 17, dstPort: 68})
	}
	for _, e := range list {
		e.src, e.dst = everything, everything
		for _, dir := range []guardDir{guardOut, guardIn} { // not fwd: it stays on its link
			e.dir = dir
			g.add(e, 128)
		}
	}
}

// add appends a control entry that ranks like a remote prefix of so many bits.
func (g *guardPlan) add(e guardEntry, bits int) {
	e.kind = controlAllow
	e.priority = ours.GuardBand | uint32(g.plain)<<22 | uint32(128-bits)<<14 | 128<<6 | 3<<4
	g.list = append(g.list, e)
}

// selectorOf is what the kernel tells policies apart by.
func selectorOf(e guardEntry) guardEntry {
	tun := e.kind == tunAllow
	e.priority, e.kind = 0, 0
	if tun {
		e.kind = tunAllow // it has an interface
	}
	return e
}

// finish orders the plan and keeps the best entry of each selector.
func (g *guardPlan) finish() []guardEntry {
	slices.SortStableFunc(g.list, func(a, b guardEntry) int { return cmp.Compare(a.priority, b.priority) })
	seen := map[guardEntry]bool{}
	return slices.DeleteFunc(g.list, func(e guardEntry) bool {
		s := selectorOf(e)
		twice := seen[s]
		seen[s] = true
		return twice
	})
}

// Guardable says why this host cannot guard what rules protect in userspace; nil: it can.
// The gap of XFRM is for nftables alone to fill.
func Guardable(rules []policy.Rule) error { return guardable(zonesOf(rules)) }

func guardable(zones []zone) error {
	for _, z := range zones {
		if z.action == policy.Protect && !z.foreign && z.remote.Addr().Is6() && !nft.Installed() {
			return fmt.Errorf("tunnel %s is IPv6, which the userspace plane cannot guard without nft: install nftables", z.tunnel)
		}
	}
	return nil
}

// guardXFRM is the part that XFRM can hold.
func guardXFRM(list []guardEntry) []guardEntry {
	var out []guardEntry
	for _, e := range list {
		if e.dir == guardOut || e.dst.Addr().Is4() {
			out = append(out, e)
		}
	}
	return out
}

// guardGap is the part that XFRM cannot hold: IPv6, without the allowance for our
// own addresses.
func guardGap(list []guardEntry) []guardEntry {
	var out []guardEntry
	for _, e := range list {
		if e.dst.Addr().Is6() && e.kind != ownAllow {
			out = append(out, e)
		}
	}
	return out
}
