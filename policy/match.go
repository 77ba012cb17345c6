package policy

import (
	"net/netip"
	"slices"
	"sort"
)

// The lookup is a search by size: for each priority, the distinct sizes of Remote
// in ascending order, and in each a map from the first address to the rules
// there, which are searched by Local in the same way. A packet so costs as many
// map lookups as there are sizes, whatever the number of tunnels. Ranges that are
// no prefix stand in a sorted list beside the map.

// none is above every index of an entry.
const none = int32(1<<31 - 1)

// group is all rules of one priority and family.
type group struct {
	priority int
	remote   level[*level[[]int32]]
}

// level finds what belongs to an address.
type level[T any] struct{ sizes []size[T] }

// size is all Nets of one size. The first prefix stands beside the map, because
// most often it is the only one: one Local for each Remote.
type size[T any] struct {
	span  number
	one   *keyed[T]
	exact map[number]T // further prefixes, by first address
	loose []keyed[T]   // other ranges, by first address
}

type keyed[T any] struct {
	first number
	value T
}

// prefix returns the value of the prefix that holds a.
func (s *size[T]) prefix(a number) (T, bool) {
	first := a.and(s.span.not())
	if s.one != nil && s.one.first == first {
		return s.one.value, true
	}
	v, ok := s.exact[first]
	return v, ok
}

// slot returns the value of n, and makes one if there is none.
func (l *level[T]) slot(n Net) *size[T] {
	span := n.span()
	i, ok := slices.BinarySearchFunc(l.sizes, span, func(s size[T], x number) int { return s.span.compare(x) })
	if !ok {
		l.sizes = slices.Insert(l.sizes, i, size[T]{span: span})
	}
	return &l.sizes[i]
}

// get returns the value stored for n, if any.
func (s *size[T]) get(n Net) (T, bool) {
	first := numberOf(n.First)
	if _, prefix := n.Prefix(); prefix {
		return s.prefix(first)
	}
	i, ok := s.search(first)
	if !ok {
		var zero T
		return zero, false
	}
	return s.loose[i].value, true
}

// put stores v for n.
func (s *size[T]) put(n Net, v T) {
	first := numberOf(n.First)
	if _, prefix := n.Prefix(); prefix {
		switch {
		case s.one == nil || s.one.first == first:
			s.one = &keyed[T]{first, v}
		case s.exact == nil:
			s.exact = map[number]T{first: v}
		default:
			s.exact[first] = v
		}
		return
	}
	i, ok := s.search(first)
	if ok {
		s.loose[i].value = v
		return
	}
	s.loose = slices.Insert(s.loose, i, keyed[T]{first, v})
}

func (s *size[T]) search(first number) (int, bool) {
	return slices.BinarySearchFunc(s.loose, first, func(l keyed[T], x number) int { return l.first.compare(x) })
}

// near is the ranges that hold a: those of this size that begin at most that far
// below it.
func (s *size[T]) near(a number) []keyed[T] {
	if len(s.loose) == 0 {
		return nil
	}
	var low number
	if !a.less(s.span) {
		low = a.minus(s.span)
	}
	from := sort.Search(len(s.loose), func(i int) bool { return !s.loose[i].first.less(low) })
	to := sort.Search(len(s.loose), func(i int) bool { return a.less(s.loose[i].first) })
	return s.loose[from:to]
}

// add puts entry i into the lookup. Entries come in order of precedence.
func (g *group) add(i int32, sel Selector) {
	outer := g.remote.slot(sel.Remote)
	locals, ok := outer.get(sel.Remote)
	if !ok {
		locals = new(level[[]int32])
		outer.put(sel.Remote, locals)
	}
	inner := locals.slot(sel.Local)
	list, _ := inner.get(sel.Local)
	inner.put(sel.Local, append(list, i))
}

// query is one lookup.
type query struct {
	*Flow
	local, remote number
	special       special
}

// Match says what happens to f. It allocates nothing. A flow of mixed or missing
// families matches nothing.
func (s *SPD) Match(f Flow) Verdict {
	if s == nil || !f.Local.IsValid() || f.Local.BitLen() != f.Remote.BitLen() {
		return Verdict{Tunnel: -1, Rule: -1}
	}
	q := query{&f, numberOf(f.Local), numberOf(f.Remote), specialOf(&f)}
	groups := s.groups[family(f.Local.Is4())]
	for i := range groups {
		if at := s.remote(&groups[i].remote, &q); at != none {
			return s.verdict(at, &f)
		}
	}
	return Verdict{Tunnel: -1, Rule: -1}
}

func (s *SPD) verdict(at int32, f *Flow) Verdict {
	e := &s.entries[at]
	if e.HasPorts() && !f.HasPorts {
		return Verdict{Tunnel: -1, Rule: int(at), Captured: true, NeedPorts: true}
	}
	return Verdict{Action: e.action, Tunnel: e.tunnel, Rule: int(at), Captured: true}
}

// remote finds the first entry by Remote. Smaller sizes go first, so the first
// size with a match decides; within it several ranges may hold the address.
func (s *SPD) remote(l *level[*level[[]int32]], q *query) int32 {
	for i := range l.sizes {
		size := &l.sizes[i]
		best := none
		if locals, ok := size.prefix(q.remote); ok {
			best = s.local(locals, q)
		}
		for _, r := range size.near(q.remote) {
			best = min(best, s.local(r.value, q))
		}
		if best != none {
			return best
		}
	}
	return none
}

func (s *SPD) local(l *level[[]int32], q *query) int32 {
	for i := range l.sizes {
		size := &l.sizes[i]
		best := none
		if list, ok := size.prefix(q.local); ok {
			best = s.first(list, q)
		}
		for _, r := range size.near(q.local) {
			best = min(best, s.first(r.value, q))
		}
		if best != none {
			return best
		}
	}
	return none
}

// first is the first entry of list that takes the flow; where the flow has no
// ports, an entry with ports counts as taking it.
func (s *SPD) first(list []int32, q *query) int32 {
	for _, at := range list {
		e := &s.entries[at]
		if q.special != 0 && q.special&e.names == 0 {
			continue
		}
		if e.takesProtocol(q.Protocol) && (!q.HasPorts || e.takesPorts(*q.Flow)) {
			return at
		}
	}
	return none
}

// special is traffic that belongs to one link and is never captured unless named.
type special uint8

const (
	specialRemote    special = 1 << iota // multicast, broadcast or link-local destination
	specialLocal                         // link-local source
	specialDHCP                          // DHCP or DHCPv6 client traffic
	specialDiscovery                     // neighbour discovery; no selector can name it alone
)

// DHCP ports: RFC 2131 4.1, RFC 8415 7.2. Traffic between a relay and a server
// (67 to 67) is ordinary.
const (
	dhcpServer, dhcpClient   = 67, 68
	dhcp6Client, dhcp6Server = 546, 547
)

func specialOf(f *Flow) special {
	var out special
	if linkScope(f.Remote) {
		out |= specialRemote
	}
	if linkScope(f.Local) {
		out |= specialLocal
	}
	if f.Protocol == protocolUDP && f.HasPorts && dhcp(f) {
		out |= specialDHCP
	}
	if f.Discovery {
		out |= specialDiscovery
	}
	return out
}

// dhcpPorts is the ports of a client and a server.
func dhcpPorts(v4 bool) (client, server uint16) {
	if v4 {
		return dhcpClient, dhcpServer
	}
	return dhcp6Client, dhcp6Server
}

func dhcp(f *Flow) bool {
	c, s := dhcpPorts(f.Local.Is4())
	return f.LocalPort == c && f.RemotePort == s || f.LocalPort == s && f.RemotePort == c
}

func linkScope(a netip.Addr) bool {
	return a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// named is the special traffic that a selector names: a Net inside one of the
// ranges, or a port of DHCP.
func named(s Selector) special {
	var out special
	if s.Remote.linkScope() {
		out |= specialRemote
	}
	if s.Local.linkScope() {
		out |= specialLocal
	}
	client, server := dhcpPorts(s.Local.Is4())
	for _, p := range []uint16{s.LocalPort, s.RemotePort} {
		if s.Protocol == protocolUDP && (p == client || p == server) {
			out |= specialDHCP
		}
	}
	return out
}

// linkScope reports whether n lies inside one of the special ranges.
func (n Net) linkScope() bool {
	for _, r := range linkRanges(n.Is4()) {
		if r.ContainsNet(n) {
			return true
		}
	}
	return false
}

// linkRanges is what linkScope of an address accepts, as ranges.
func linkRanges(v4 bool) []Net {
	if v4 {
		return []Net{
			{netip.AddrFrom4([4]byte{224}), netip.AddrFrom4([4]byte{239, 255, 255, 255})},
			{netip.AddrFrom4([4]byte{169, 254}), netip.AddrFrom4([4]byte{169, 254, 255, 255})},
			{netip.AddrFrom4([4]byte{255, 255, 255, 255}), netip.AddrFrom4([4]byte{255, 255, 255, 255})},
		}
	}
	return []Net{
		NetOf(netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8)),
		NetOf(netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80}), 10)),
	}
}
