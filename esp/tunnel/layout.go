package tunnel

import (
	"net/netip"
	"slices"

	"yumen/esp/ours"
	"yumen/policy"
)

// zone is one rule of the policy cut into prefixes, with its place in the order
// of precedence.
type zone struct {
	action                policy.Action
	tunnel                string
	local, remote         netip.Prefix
	protocol              uint8
	localPort, remotePort uint16
	band                  int  // of its explicit priority: 0 is the highest
	foreign               bool // of the kernel plane alone: see Share
}

// zonesOf cuts the rules, which are in order of precedence.
func zonesOf(rules []policy.Rule) []zone {
	var priorities []int
	for _, r := range rules {
		priorities = append(priorities, r.Priority)
	}
	slices.Sort(priorities)
	priorities = slices.Compact(priorities)
	slices.Reverse(priorities)
	var zones []zone
	for _, r := range rules {
		band := slices.Index(priorities, r.Priority)
		for _, remote := range r.Selector.Remote.Prefixes() {
			for _, local := range r.Selector.Local.Prefixes() {
				zones = append(zones, zone{
					action: r.Action, tunnel: r.Tunnel, local: local, remote: remote, protocol: r.Selector.Protocol,
					localPort: r.Selector.LocalPort, remotePort: r.Selector.RemotePort,
					band: band,
				})
			}
		}
	}
	return zones
}

// surroundings are what the plans need to know of the host.
type surroundings struct {
	connected []netip.Prefix // subnets of our links, except those of the TUN
	own       []netip.Addr   // our addresses, without loopback and link-local ones
}

// winners are the connected subnets that stay out of the tunnels although a
// selector covers them: those inside a protected prefix. One that is wider than
// the protected prefix does not win, since that would leak the prefix.
func (s surroundings) winners(zones []zone) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range s.connected {
		for _, z := range zones {
			if z.action == policy.Protect && !z.foreign && ours.Contains(z.remote, c) {
				out = append(out, c)
				break
			}
		}
	}
	return sortPrefixes(out)
}

// source is an address of ours inside local, or none. A selector for everything
// says nothing about where we belong.
func (s surroundings) source(local netip.Prefix) netip.Addr {
	if local.Bits() == 0 {
		return netip.Addr{}
	}
	for _, a := range s.own {
		if local.Contains(a) {
			return a
		}
	}
	return netip.Addr{}
}

// inside is an address of ours in a network, or none.
func (s surroundings) inside(n policy.Net) netip.Addr {
	if i := slices.IndexFunc(s.own, n.Contains); i >= 0 {
		return s.own[i]
	}
	return netip.Addr{}
}

// sortPrefixes orders and removes what is there twice.
func sortPrefixes(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}
