package tunnel

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"yumen/esp/ours"
	"yumen/policy"
)

// routeKind is what a route of our table does. The value orders them by metric:
// of two for one prefix the smaller one holds.
type routeKind uint8

const (
	throwRoute routeKind = 1 + iota // look further: the main table
	tunRoute
	blackholeRoute
)

// metric leaves room between the kinds.
func (k routeKind) metric() int { return int(k) * 10 }

// route is one route of our table.
type route struct {
	dst  netip.Prefix
	kind routeKind
	src  netip.Addr // of tunRoute: hint for our own packets
	mtu  int        // of tunRoute: 0 is that of the device
}

// routeKey is what the kernel tells routes of our table apart by.
type routeKey struct {
	dst  netip.Prefix
	kind routeKind
}

func (r route) key() routeKey { return routeKey{r.dst, r.kind} }

// routeChanges says how to come from one plan to another: what is to be written,
// and what is to be removed then.
func routeChanges(from, to []route) (set, gone []route) {
	old := make(map[routeKey]route, len(from))
	for _, r := range from {
		old[r.key()] = r
	}
	for _, r := range to {
		if was, known := old[r.key()]; !known || was != r {
			set = append(set, r)
		}
		delete(old, r.key())
	}
	for _, r := range from {
		if _, left := old[r.key()]; left {
			gone = append(gone, r)
		}
	}
	return set, gone
}

// planRoutes leads each protected remote prefix to the TUN, lays a blackhole
// under it, and throws what a wide selector must not take. mtu gives the
// effective MTU for a tunnel zone.
func planRoutes(zones []zone, s surroundings, mtu func(z zone) int) []route {
	byDst := map[netip.Prefix]route{}
	for _, z := range zones {
		if z.action != policy.Protect || z.foreign {
			continue
		}
		r, known := byDst[z.remote]
		if !known {
			r = route{dst: z.remote, kind: tunRoute}
		}
		if !r.src.IsValid() {
			r.src = s.source(z.local)
		}
		if m := mtu(z); m > 0 && (r.mtu == 0 || m < r.mtu) {
			r.mtu = m
		}
		byDst[z.remote] = r
	}
	var out []route
	for _, r := range byDst {
		out = append(out, r, route{dst: r.dst, kind: blackholeRoute})
	}
	thrown := append(s.winners(zones), outside(zones, byDst)...)
	for _, n := range ours.LinkScope() {
		for dst := range byDst {
			if ours.Contains(dst, n) {
				thrown = append(thrown, n)
				break
			}
		}
	}
	for _, p := range sortPrefixes(thrown) {
		out = append(out, route{dst: p, kind: throwRoute})
	}
	slices.SortFunc(out, func(a, b route) int {
		return cmp.Or(a.dst.Compare(b.dst), cmp.Compare(a.kind, b.kind))
	})
	return out
}

// ruleKind is what an ip rule of ours does.
type ruleKind uint8

const (
	endRule    ruleKind = iota // the place behind our rules
	skipRule                   // go there
	lookupRule                 // in our table
	dropRule                   // nowhere
)

// rule is one ip rule.
type rule struct {
	kind                  ruleKind
	priority              int
	v6                    bool
	from, to              netip.Prefix // zero: any
	mark                  uint32       // 0: any
	ownOnly               bool         // packets that this host sends (iif lo)
	protocol              uint8
	localPort, remotePort uint16
}

// ruleSpan is how many rule priorities are ours, from Config.RulePriority on.
const ruleSpan = 2000

// planRules says who looks up our table. In order: packets of our own sockets
// pass; then the exceptions of the policy; then what this host sends from an
// address that is in no selector passes (an administrator on an outside address
// must reach us although 0.0.0.0/0 is protected); what this host sends else, and
// what comes from a local selector, is looked up; and so are ICMP errors about packets
// that came by a tunnel, whoever they are from (see nftGuard).
func planRules(zones []zone, extra []policy.RouteRule, s surroundings, cfg Config) ([]rule, error) {
	var out []rule
	for _, v6 := range []bool{false, true} {
		list := []rule{{kind: skipRule, mark: cfg.Mark}}
		list = append(list, exceptions(extra, v6)...)
		list = append(list, lookups(zones, s, cfg.Mark, v6)...)
		if len(list) == 1 {
			continue
		}
		if len(list) >= ruleSpan {
			return nil, fmt.Errorf("the policy needs %d ip rules, at most %d are allowed: use fewer or wider selectors",
				len(list), ruleSpan-1)
		}
		list = append(list, rule{kind: endRule})
		for i := range list {
			list[i].v6, list[i].priority = v6, cfg.RulePriority+i
		}
		list[len(list)-1].priority = cfg.RulePriority + ruleSpan - 1
		out = append(out, list...)
	}
	return out, nil
}

// exceptions are what the policy says besides the tunnels, in its order.
func exceptions(list []policy.RouteRule, v6 bool) []rule {
	var out []rule
	for _, x := range list {
		if x.Src.Addr().Is6() != v6 {
			continue
		}
		r := rule{
			kind: dropRule, from: x.Src, to: x.Dst, protocol: x.Protocol,
			localPort: x.SrcPort, remotePort: x.DstPort,
		}
		switch x.Action {
		case policy.Bypass:
			r.kind = skipRule
		case policy.Protect:
			r.kind = lookupRule
		}
		out = append(out, r)
	}
	return out
}

func lookups(zones []zone, s surroundings, mark uint32, v6 bool) []rule {
	var locals []netip.Prefix
	for _, z := range zones {
		if z.action == policy.Protect && !z.foreign && z.local.Addr().Is6() == v6 {
			locals = append(locals, z.local)
		}
	}
	if len(locals) == 0 {
		return nil
	}
	locals = widest(locals)
	out := []rule{{kind: lookupRule, mark: carriedMark(mark)}}
	for _, a := range s.own {
		inside := func(p netip.Prefix) bool { return p.Contains(a) }
		if a.Is6() == v6 && !slices.ContainsFunc(locals, inside) {
			out = append(out, rule{kind: skipRule, from: netip.PrefixFrom(a, a.BitLen())})
		}
	}
	out = append(out, rule{kind: lookupRule, ownOnly: true})
	for _, p := range locals {
		out = append(out, rule{kind: lookupRule, from: p})
	}
	return out
}

// widest leaves out prefixes that lie in others.
func widest(list []netip.Prefix) []netip.Prefix {
	list = sortPrefixes(list)
	var out []netip.Prefix
	for _, p := range list {
		covered := func(o netip.Prefix) bool { return o != p && ours.Contains(o, p) }
		if !slices.ContainsFunc(list, covered) {
			out = append(out, p)
		}
	}
	return out
}
