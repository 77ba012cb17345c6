package policy

import (
	"net/netip"
	"slices"
)

// RouteRule is one routing rule (`ip rule`) that stands above the rule that
// selects our routing table. The rules of a policy are taken in their order:
// the first that matches a packet decides where it is routed.
//
//   - Bypass: look up the main table, as if there were no tunnels;
//   - Drop: a blackhole rule, so that the packet goes nowhere, daemon or not;
//   - Protect: look up our table, although a later RouteRule also matches.
//
// A zero Protocol or port is any; a prefix of length 0 still fixes the family.
type RouteRule struct {
	Action           Action
	Src, Dst         netip.Prefix
	Protocol         uint8
	SrcPort, DstPort uint16
	Name             string // the rule or tunnel that it comes from; "link" for what is never captured
}

const (
	// maxBlocks bounds the routing rules that one rule's ranges may split into.
	maxBlocks = 64
	// maxRouteRules bounds the list, which the kernel walks for every packet.
	maxRouteRules = 1024
	linkName      = "link"
)

// BypassRules translates the policy into routing rules. Precedence among rules is
// expressed by order alone, so what must be said besides the bypass rules is:
//
//   - a drop rule, where a later bypass overlaps it or where no tunnel would
//     bring its packets to the data plane, which else drops them itself;
//   - a protect rule or tunnel, where a later bypass or listed drop overlaps it;
//   - traffic of one link only (multicast, link-local, broadcast, DHCP of the
//     gateway itself), where a tunnel or listed drop covers it without naming it.
//
// Packets leave with Local as source. A bypass gets a second rule for the way
// back where a tunnel's Remote overlaps its Local, unless the same addresses in
// that direction are themselves protected or dropped: then nothing is opened.
// The kernel does not see the ports of fragments other than the first, unless
// connection tracking reassembles them first: such fragments pass by every rule
// with ports. Of a bypass they reach the data plane, which drops them.
//
// It is an error, which Parse reports, if a protect or drop rule with ports
// stands above a bypass without ports that overlaps it (its fragments would leave
// in clear); if a rule's ranges split into more than 64 routing rules; or if more
// than 1024 are needed in all.
func (p *Policy) BypassRules() ([]RouteRule, error) {
	entries, errs := p.entries()
	if errs = append(errs, p.conflicts(entries)...); len(errs) > 0 {
		return nil, errs
	}
	rules, errs := p.routes(entries)
	if len(errs) > 0 {
		return nil, errs
	}
	return rules, nil
}

// routes lists routing rules for entries, which are in order and free of conflict.
func (p *Policy) routes(entries []entry) ([]RouteRule, Errors) {
	w := &routeWriter{policy: p, errs: p.leaks(entries)}
	need := needed(entries)
	w.link(entries, need)
	for i, e := range entries {
		if !need[i] {
			continue
		}
		w.write(e, e.Selector, e.name)
		if e.action == Bypass && returns(entries, e) {
			w.write(e, e.Reverse(), e.name)
		}
	}
	return w.rules, w.errs
}

// link writes what concerns link traffic, before all else. What names it wins over
// what is implied for it, and that over everything that does not name it. Cut to
// the link traffic, the former can stand first without taking anything else.
func (w *routeWriter) link(entries []entry, need []bool) {
	traffic := append(linkTraffic(true), linkTraffic(false)...)
	var open, wide []Selector // implied bypasses; explicit ones
	for _, l := range traffic {
		if captured(entries, need, l) {
			open = append(open, l)
		}
	}
	for _, e := range entries {
		if e.action == Bypass {
			wide = append(wide, e.Selector)
		}
	}
	var catch []entry
	for _, e := range entries {
		if e.names == 0 || e.action != Bypass && !overlapsAny(e.Selector, open) && !overlapsAny(e.Selector, wide) {
			continue
		}
		w.cut(e, traffic)
		if e.action != Bypass && e.HasPorts() {
			// Its fragments must not leave by what follows: the data plane decides.
			// (Other ports between the same addresses then end there too.)
			e.action, e.LocalPort, e.RemotePort = Protect, 0, 0
			catch = append(catch, e)
		}
	}
	for _, e := range catch {
		w.cut(e, slices.DeleteFunc(slices.Clone(traffic), Selector.HasPorts))
	}
	for _, l := range open {
		w.write(entry{action: Bypass, path: "rules"}, l, linkName)
	}
}

// cut writes the part of e that is link traffic which e names.
func (w *routeWriter) cut(e entry, traffic []Selector) {
	for _, l := range traffic {
		if both, ok := e.naming(l); ok {
			w.write(e, both, e.name)
		}
	}
}

// naming is the part of link traffic l that e takes because it names it.
func (e entry) naming(l Selector) (Selector, bool) {
	both, ok := l.meet(e.Selector)
	if l.HasPorts() {
		return both, ok && e.names&specialDHCP != 0
	}
	return both, ok && e.names&named(both)&(specialRemote|specialLocal) != 0
}

// leaks finds each bypass that would take the fragments of a rule above it.
func (p *Policy) leaks(entries []entry) Errors {
	var errs Errors
	var above []entry // protect and drop rules with ports
	for _, e := range entries {
		if e.action != Bypass && e.HasPorts() {
			above = append(above, e)
		}
		if e.action != Bypass || e.HasPorts() {
			continue
		}
		for _, o := range above {
			if o.Overlaps(e.Selector) {
				errs = append(errs, p.fault(e, "cannot be expressed by routing rules: fragments of %s (%s), which has ports and comes first, would leave in clear; give the bypass a port or another protocol, or the other no port", o.path, o.name))
				break
			}
		}
	}
	return errs
}

// needed says which entries must become routing rules, from the last up, because
// an entry is needed for the sake of a later one.
func needed(entries []entry) []bool {
	need := make([]bool, len(entries))
	var below []Selector // bypasses, and listed drops
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		switch e.action {
		case Bypass:
			need[i] = true
		case Drop:
			need[i] = !carried(entries, e) || overlapsAny(e.Selector, below)
		case Protect:
			need[i] = overlapsAny(e.Selector, below)
		}
		if need[i] && e.action != Protect && len(below) <= maxRouteRules { // more is an error anyway
			below = append(below, e.Selector)
		}
	}
	return need
}

func overlapsAny(s Selector, others []Selector) bool {
	for _, o := range others {
		if s.Overlaps(o) {
			return true
		}
	}
	return false
}

// carried reports whether one tunnel brings all packets of e to the data plane.
func carried(entries []entry, e entry) bool {
	for _, t := range entries {
		if t.implied && t.Remote.ContainsNet(e.Remote) && t.Local.ContainsNet(e.Local) {
			return true
		}
	}
	return false
}

// captured reports whether link traffic l would be caught by an entry that does
// not name it. A gateway is a DHCP client with its outside address, so DHCP
// concerns only entries whose Local is everything: a narrower one would have
// inner addresses renew their leases in clear.
func captured(entries []entry, need []bool, l Selector) bool {
	for i, e := range entries {
		catches := e.action == Protect || e.action == Drop && need[i]
		if _, ok := e.naming(l); ok || !catches || !e.Overlaps(l) {
			continue
		}
		if !l.HasPorts() || e.Local == everything(e.Local.Is4()) {
			return true
		}
	}
	return false
}

// returns reports whether a bypass needs, and may have, a rule for the way back.
func returns(entries []entry, e entry) bool {
	back, hidden := e.Reverse(), false
	for _, o := range entries {
		if o.action == Bypass {
			continue
		}
		if o.Overlaps(back) {
			return false
		}
		if o.action == Protect && o.Remote.Overlaps(e.Local) {
			hidden = true
		}
	}
	return hidden
}

// linkTraffic is the traffic that no rule captures without naming it, as far as
// a routing rule can tell it. (Neighbour discovery needs no rule: the kernel
// sends it without routing.)
func linkTraffic(v4 bool) []Selector {
	all := everything(v4)
	var out []Selector
	for _, n := range linkRanges(v4) {
		out = append(out, Selector{Local: all, Remote: n}, Selector{Local: n, Remote: all})
	}
	client, server := dhcpPorts(v4)
	return append(out,
		Selector{all, all, protocolUDP, client, server},
		Selector{all, all, protocolUDP, server, client})
}

func everything(v4 bool) Net {
	if v4 {
		return NetOf(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	return NetOf(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}

// meet is the traffic that belongs to both, if any does.
func (s Selector) meet(o Selector) (Selector, bool) {
	if !s.Overlaps(o) {
		return Selector{}, false
	}
	return Selector{
		Local: s.Local.meet(o.Local), Remote: s.Remote.meet(o.Remote),
		Protocol:   max(s.Protocol, o.Protocol), // they agree, or one is 0
		LocalPort:  max(s.LocalPort, o.LocalPort),
		RemotePort: max(s.RemotePort, o.RemotePort),
	}, true
}

func (n Net) meet(m Net) Net {
	if n.First.Less(m.First) {
		n.First = m.First
	}
	if m.Last.Less(n.Last) {
		n.Last = m.Last
	}
	return n
}

// routeWriter gathers routing rules and what could not be said.
type routeWriter struct {
	policy *Policy
	rules  []RouteRule
	errs   Errors
}

// write appends s, split into prefixes.
func (w *routeWriter) write(e entry, s Selector, name string) {
	src, dst := s.Local.Prefixes(), s.Remote.Prefixes()
	if n := len(src) * len(dst); n > maxBlocks {
		w.errs = append(w.errs, w.policy.fault(e, "its ranges split into %d routing rules, above %d; write prefixes", n, maxBlocks))
		return
	}
	if len(w.rules) <= maxRouteRules && len(w.rules)+len(src)*len(dst) > maxRouteRules {
		w.errs = append(w.errs, w.policy.fault(e, "more than %d routing rules are needed for bypass and drop rules and what comes before them; merge or narrow them", maxRouteRules))
	}
	if len(w.rules) > maxRouteRules {
		return
	}
	for _, a := range src {
		for _, b := range dst {
			w.rules = append(w.rules, RouteRule{e.action, a, b, s.Protocol, s.LocalPort, s.RemotePort, name})
		}
	}
}
