package ike

import (
	"hash/maphash"
	"net/netip"
)

// contest is one of the things that those who are not proven compete for.
type contest int

const (
	firsts   contest = iota // answers to first messages
	patients                // answers to repeated first messages
	strays                  // a look at what belongs to no session
	thirds                  // certificates to check and operations with our private key
	contests
)

// rate is so many a second, and at once.
type rate struct{ each, burst float64 }

// sourceRates are, for each contest, the limits of an unknown address, of its
// prefix, and of all unknown sources.
var sourceRates = [contests][3]rate{
	firsts:   {{2, 8}, {10, 30}, {100, 200}},
	patients: {{2, 8}, {10, 30}, {100, 200}},
	strays:   {{1, 5}, {5, 10}, {20, 40}},
	thirds:   {{2, 8}, {10, 30}, {50, 100}},
}

// placeRates are, for each contest, the limits of a configured address and of all
// configured addresses.
var placeRates = [contests][2]rate{
	firsts:   {{100, 200}, {500, 1000}},
	patients: {{100, 200}, {500, 1000}},
	strays:   {{5, 20}, {50, 100}},
	thirds:   {{50, 100}, {500, 1000}},
}

// place is a configured address: whatever others send, it has its own part.
type place [contests]cell

const (
	cells = 2048
	// cellEpoch is how long two sources that fall into one cell stay together.
	cellEpoch = 60_000 // milliseconds
)

// shares divide what unknown sources may have of one contest. Sources that fall
// into one cell share its part; they fall apart again in the next epoch.
type shares struct {
	address, prefix []cell // made when first used
	whole           cell
}

// cell is a token bucket of eight bytes; the zero value is full.
type cell struct {
	spent float32
	at    uint32 // milliseconds
}

// take reports whether one more is within r, and takes it.
func (c *cell) take(now uint32, r rate) bool {
	// Readers of several sockets come with moments that are not quite in order.
	passed := max(0, int32(now-c.at))
	c.spent = max(0, c.spent-float32(r.each)*float32(passed)/1000)
	c.at = now
	if c.spent+1 > float32(r.burst) {
		return false
	}
	c.spent++
	return true
}

// wins takes one of contest x for a source, when it, its prefix and the whole have
// one left. Who is refused costs nobody anything.
func (d *Door) wins(now uint32, x contest, from netip.Addr) bool {
	if p := d.places[from]; p != nil {
		r := placeRates[x]
		if !p[x].take(now, r[0]) {
			return false
		}
		if !d.known[x].take(now, r[1]) {
			p[x].spent--
			return false
		}
		return true
	}
	if len(d.homes.of) > 0 && d.homes.welcomes(now, x, from) {
		return true
	}
	s, r := &d.unknown[x], sourceRates[x]
	if s.address == nil {
		s.address, s.prefix = make([]cell, cells), make([]cell, cells)
	}
	epoch := now / cellEpoch
	near, wide := prefixes(from)
	address := &s.address[maphash.Comparable(d.seed, source{near, epoch})%cells]
	prefix := &s.prefix[maphash.Comparable(d.seed, source{wide, epoch})%cells]
	if !address.take(now, r[0]) {
		return false
	}
	if !prefix.take(now, r[1]) {
		address.spent--
		return false
	}
	if !s.whole.take(now, r[2]) {
		address.spent--
		prefix.spent--
		return false
	}
	return true
}

// source is what a cell is found by.
type source struct {
	address [16]byte
	epoch   uint32
}

// prefixes are what counts as one address, and as one prefix: IPv4 and its /24,
// and a /64 and a /48, because whoever has one address of a /64 has them all.
func prefixes(a netip.Addr) (near, wide [16]byte) {
	near = a.As16()
	wide = near
	if a.Unmap().Is4() {
		wide[15] = 0
		return near, wide
	}
	clear(near[8:])
	clear(wide[6:])
	return near, wide
}
