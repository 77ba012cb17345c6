package ike

import (
	"net/netip"
	"slices"
)

// homes are where peers proved themselves whose address is in no entry. When forged
// addresses use up what unknown sources share, such a peer comes back all the same:
// to its own address, or after it dialled in anew to one of the same provider. Whoever
// forges addresses at random hits either too seldom to matter, and who forges just
// these takes from nobody else. Only proven peers make a home, so nobody can fill the
// list who may not come in; it is bounded all the same.
type homes struct {
	of    map[netip.Prefix]*place
	order []netip.Prefix // the one that was proven longest ago first
	all   [contests]cell
}

const maxHomes = 4096

// homeRates are, for each contest, the limits of an address of a home, of its
// surroundings, and of all homes.
var homeRates = [contests][3]rate{
	firsts:   {{10, 20}, {20, 40}, {200, 400}},
	patients: {{10, 20}, {20, 40}, {200, 400}},
	strays:   {{2, 10}, {5, 20}, {20, 40}},
	thirds:   {{5, 20}, {10, 40}, {100, 200}},
}

// surroundings are what a home is known by: the address, in IPv6 its /64; and the
// /16, in IPv6 the /32, that a provider gives its next address from.
func surroundings(a netip.Addr) [2]netip.Prefix {
	a = a.Unmap().WithZone("")
	near, wide := 32, 16
	if a.Is6() {
		near, wide = 64, 32
	}
	n, _ := a.Prefix(near)
	w, _ := a.Prefix(wide)
	return [2]netip.Prefix{n, w}
}

// welcome takes note that a peer proved itself from there.
func (d *Door) welcome(a netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.places[a] != nil || !a.IsValid() {
		return
	}
	h := &d.homes
	if h.of == nil {
		h.of = map[netip.Prefix]*place{}
	}
	for _, p := range surroundings(a) {
		if h.of[p] == nil {
			h.of[p] = &place{}
		}
		h.last(p)
	}
	for len(h.order) > maxHomes {
		delete(h.of, h.order[0])
		h.order = h.order[1:]
	}
}

// last moves p to the end of the order.
func (h *homes) last(p netip.Prefix) {
	h.order = append(slices.DeleteFunc(h.order, func(o netip.Prefix) bool { return o == p }), p)
}

// welcomes takes one of contest x for a source that is at home, or near one.
func (h *homes) welcomes(now uint32, x contest, from netip.Addr) bool {
	r := homeRates[x]
	for i, p := range surroundings(from) {
		c := h.of[p]
		if c == nil || !c[x].take(now, r[i]) {
			continue
		}
		if h.all[x].take(now, r[2]) {
			return true
		}
		c[x].spent--
	}
	return false
}
