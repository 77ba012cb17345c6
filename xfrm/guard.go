package xfrm

import (
	"cmp"
	"net/netip"
	"slices"

	"yumen/esp/ours"
	"yumen/policy"
)

type direction uint8 // as the kernel numbers them

const (
	dirIn direction = iota
	dirOut
	dirFwd
)

// kind orders what is equally specific: the smaller one wins.
type kind uint8

const (
	controlAllow kind = iota
	bypassAllow
	ruleBlock
	connectedAllow
	deviceAllow // towards the XFRM interface, whose own policies decide, or the TUN
	ownAllow    // of our own addresses, towards the TUN
	protect
	tunnelBlock
)

func (k kind) blocks() bool { return k == ruleBlock || k == tunnelBlock }

// entry is one policy of the kernel. Its template is not part of the plan: see
// Plane.template.
type entry struct {
	dir              direction
	kind             kind
	src, dst         netip.Prefix
	protocol         uint8
	srcPort, dstPort uint16 // ICMP: source is the type
	priority         uint32
	tunnel           string // of protect
	ifID             uint32
	device           int    // index of an interface; 0: any
	optional         bool   // of protect: in clear is good too; see Beside
	mark             uint32 // of the packets; 0: any
}

// Our band of priorities: the bits 001, all better than the band of the userspace
// plane's guard. Below them: explicit priority (8), remote prefix (8), local prefix
// (8), ports (2), kind (3). A number depends on the entry alone, so that an update
// never puts an allow over a block that it should not overrule.
const mostBands = 255

func priorityOf(band int, remote, local netip.Prefix, ports int, k kind) uint32 {
	return ours.KernelBand | uint32(min(band, mostBands))<<21 | uint32(128-remote.Bits())<<13 |
		uint32(128-local.Bits())<<5 | uint32(3-ports)<<3 | uint32(k)
}

// zone is one rule cut into prefixes, with its place in the order of precedence.
type zone struct {
	action                policy.Action
	tunnel                string
	local, remote         netip.Prefix
	protocol              uint8
	localPort, remotePort uint16
	band                  int // of its explicit priority: 0 is the highest
}

func zonesOf(rules []policy.Rule) []zone {
	var steps []int
	for _, r := range rules {
		steps = append(steps, r.Priority)
	}
	slices.Sort(steps)
	steps = slices.Compact(steps)
	slices.Reverse(steps)
	var zones []zone
	for _, r := range rules {
		s := r.Selector
		z := zone{action: r.Action, tunnel: r.Tunnel, protocol: s.Protocol, localPort: s.LocalPort,
			remotePort: s.RemotePort, band: slices.Index(steps, r.Priority)}
		for _, z.remote = range s.Remote.Prefixes() {
			for _, z.local = range s.Local.Prefixes() {
				zones = append(zones, z)
			}
		}
	}
	return zones
}

// surroundings are what the plan needs to know of the host.
type surroundings struct {
	connected []netip.Prefix // subnets of our links
	ifID      uint32         // policies of tunnels belong to this XFRM interface; 0: to all traffic
	device    int            // its index
	bare      bool           // no gateway runs: blocks take the place of templates
	lent      lent           // to a userspace plane
}

// planGuard is every policy, best first, each selector once.
func planGuard(zones []zone, s surroundings) []entry {
	g := guardPlan{around: s}
	for _, z := range zones {
		g.plain = max(g.plain, z.band)
	}
	for _, z := range zones {
		switch z.action {
		case policy.Protect:
			g.protect(z)
		case policy.Bypass:
			g.both(z, bypassAllow)
		case policy.Drop:
			g.both(z, ruleBlock)
		}
	}
	g.control(zones)
	return g.finish()
}

type guardPlan struct {
	around surroundings
	plain  int // band of what the policy does not name
	list   []entry
}

func (g *guardPlan) protect(z zone) {
	if !g.around.bare {
		g.both(z, protect)
	}
	wide := z
	wide.protocol, wide.localPort, wide.remotePort = 0, 0, 0
	g.both(wide, tunnelBlock)
	if g.around.device != 0 {
		g.both(wide, deviceAllow)
	}
	g.lend(wide)
	for _, c := range g.around.connected {
		if ours.Contains(z.remote, c) {
			n := wide
			n.remote = c
			g.both(n, connectedAllow)
		}
	}
}

// both adds a zone outwards and inwards. There is nothing for what is forwarded
// outwards: it meets the out policy in its turn.
func (g *guardPlan) both(z zone, k kind) {
	ports := 0
	for _, given := range []bool{z.protocol != 0, z.localPort != 0, z.remotePort != 0} {
		if given {
			ports++
		}
	}
	e := entry{
		dir: dirOut, kind: k, src: z.local, dst: z.remote, protocol: z.protocol,
		srcPort: z.localPort, dstPort: z.remotePort, priority: priorityOf(z.band, z.remote, z.local, ports, k),
	}
	switch k {
	case protect:
		e.tunnel, e.ifID = z.tunnel, g.around.ifID
	case deviceAllow:
		e.device = g.around.device
	}
	g.list = append(g.list, e)
	e.src, e.dst, e.srcPort, e.dstPort = e.dst, e.src, e.dstPort, e.srcPort
	e.optional = k == protect && g.around.lent.optional(z)
	for _, e.dir = range []direction{dirIn, dirFwd} {
		g.list = append(g.list, e)
	}
}

// control lets through what no selector captures by being wide (RFC 4861, DHCP):
// without it a selector of ::/0 would cut the host off its own links.
func (g *guardPlan) control(zones []zone) {
	var families [2]bool // IPv4, IPv6
	for _, n := range ours.LinkScope() {
		wide := slices.ContainsFunc(zones, func(z zone) bool {
			return z.action == policy.Protect && (ours.Contains(z.remote, n) || ours.Contains(z.local, n))
		})
		if !wide {
			continue
		}
		v6 := n.Addr().Is6()
		families[index(v6)] = true
		for _, dir := range []direction{dirOut, dirIn, dirFwd} {
			g.add(entry{dir: dir, src: ours.Everything(v6), dst: n}, n.Bits())
			if !n.Addr().IsMulticast() {
				g.add(entry{dir: dir, src: n, dst: ours.Everything(v6)}, n.Bits())
			}
		}
	}
	for _, v6 := range []bool{false, true} {
		if families[index(v6)] {
			g.discovery(v6)
		}
	}
}

// discovery allows neighbour discovery and DHCP, on this host's own links.
func (g *guardPlan) discovery(v6 bool) {
	const udp, icmp6 = 17, 58
	var list []entry
	if v6 {
		for kind := uint16(133); kind <= 137; kind++ {
			list = append(list, entry{protocol: icmp6, srcPort: kind})
		}
		list = append(list, entry{protocol: udp, dstPort: 546}, entry{protocol: udp, dstPort: 547})
	} else {
		list = append(list, entry{protocol: udp, dstPort: 67}, entry{protocol: udp, dstPort: 68})
	}
	for _, e := range list {
		e.src, e.dst = ours.Everything(v6), ours.Everything(v6)
		for _, e.dir = range []direction{dirOut, dirIn} {
			g.add(e, 128)
		}
	}
}

// add appends a control entry that ranks like a remote prefix of so many bits.
func (g *guardPlan) add(e entry, bits int) {
	e.kind = controlAllow
	e.priority = ours.KernelBand | uint32(g.plain)<<21 | uint32(128-bits)<<13 | 128<<5 | 3<<3
	g.list = append(g.list, e)
}

// selector is what the kernel tells policies apart by.
type selector struct {
	dir              direction
	src, dst         netip.Prefix
	protocol         uint8
	srcPort, dstPort uint16
	ifID             uint32
	device           int
	mark             uint32
}

func (e entry) selector() selector {
	return selector{e.dir, e.src, e.dst, e.protocol, e.srcPort, e.dstPort, e.ifID, e.device, e.mark}
}

// finish orders the plan and keeps the best entry of each selector.
func (g *guardPlan) finish() []entry {
	slices.SortStableFunc(g.list, func(a, b entry) int { return cmp.Compare(a.priority, b.priority) })
	seen := map[selector]bool{}
	return slices.DeleteFunc(g.list, func(e entry) bool {
		twice := seen[e.selector()]
		seen[e.selector()] = true
		return twice
	})
}

func index(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}
