package ike

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"yumen/ike/wire"
)

// Door says which datagrams are worth the engine's time. Whoever reads sockets
// asks it before a datagram is copied or queued, so that a flood ends there: it
// looks at header and source, allocates nothing for what it refuses, and its
// memory is bounded. It may be used from several goroutines at once.
//
// What belongs to a session passes. First messages, and messages that belong to
// nothing, share what is left by source: no unknown address, and no prefix, gets
// more than its part of the whole, and a configured address has a part of its own.
// When so many sources come, forged ones at that, that a whole is used up, there
// is another one for those that come again with the same message after a while.
// Peers do that (RFC 2408 5.1); who forges addresses at random would have to
// remember them, and gains no more than a part in proportion to what is as
// patient. And where a peer proved itself before, its address and its surroundings
// have a part of their own too: see homes.
type Door struct {
	mu      sync.Mutex   // guards everything below
	seed    maphash.Seed // nobody can aim at another's cell. It decides nothing else
	start   time.Time    // of the first question
	places  map[netip.Addr]*place
	live    map[pairKey]*talk
	dials   map[wire.Cookie]*cell
	homes   homes
	known   [contests]cell // of all configured addresses
	unknown [contests]shares
	seen    []uint32 // first messages, since one was refused: see patient
	odd     cell     // what is no ISAKMP message of ours
	telling cell     // refused datagrams that are worth an event
}

// Verdict is what a Door says of a datagram.
type Verdict uint8

const (
	Unasked  Verdict = iota // nobody asked: the engine does
	Admitted                // to be given to the engine
	Turned                  // refused, but to be given to the engine, which tells it
	Shut                    // to be forgotten
)

// talk limits what may come under the cookies of one session: whoever learned
// them can send without any key.
type talk struct{ clear, sealed cell }

func newDoor() *Door {
	return &Door{seed: maphash.MakeSeed(), places: map[netip.Addr]*place{}, live: map[pairKey]*talk{},
		dials: map[wire.Cookie]*cell{}}
}

// Ask judges a datagram that came from remote now, without the non-ESP marker.
// Moments of different goroutines may be out of order by the time of a few calls.
func (d *Door) Ask(now time.Time, data []byte, remote netip.AddrPort) Verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.moment(now)
	switch {
	case d.admits(at, data, remote):
		return Admitted
	case d.telling.take(at, rate{10, 20}):
		return Turned
	}
	return Shut
}

// moment is the time since the first question, in milliseconds: 49 days, and then
// from the beginning. The mutex is held.
func (d *Door) moment(now time.Time) uint32 {
	if d.start.IsZero() {
		d.start = now
	}
	return uint32(now.Sub(d.start) / time.Millisecond)
}

func (d *Door) admits(now uint32, data []byte, remote netip.AddrPort) bool {
	if len(data) < wire.HeaderLen || uint64(binary.BigEndian.Uint32(data[24:])) != uint64(len(data)) || data[17]>>4 != 1 {
		return d.odd.take(now, rate{20, 40})
	}
	key := pairKey{wire.Cookie(data[:8]), wire.Cookie(data[8:16])}
	if t := d.live[key]; t != nil {
		if data[19]&byte(wire.FlagEncrypted) != 0 {
			return t.sealed.take(now, rate{1000, 2000})
		}
		return t.clear.take(now, rate{20, 64})
	}
	if key.r == (wire.Cookie{}) && wire.ExchangeType(data[18]) == wire.MainMode {
		return d.first(now, remote, key.i)
	}
	if b := d.dials[key.i]; b != nil {
		return b.take(now, rate{20, 40})
	}
	return d.wins(now, strays, remote.Addr())
}

// first judges an M1.
func (d *Door) first(now uint32, remote netip.AddrPort, i wire.Cookie) bool {
	again := d.seen != nil && d.patient(now, remote, i)
	if again && d.wins(now, patients, remote.Addr()) || d.wins(now, firsts, remote.Addr()) {
		return true
	}
	if d.seen == nil { // in quiet times nobody pays for this
		d.seen = make([]uint32, seenSets*seenWays)
		d.patient(now, remote, i)
	}
	return false
}

// third judges an M3 of a session that is not proven. Only those who got M2 come
// so far.
func (d *Door) third(now time.Time, from netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wins(d.moment(now), thirds, from)
}

const (
	// seenSets times seenWays places of 4 bytes: of 100,000 first messages a second
	// practically all are still there after the two seconds until a peer repeats its
	// own, of 500,000 every other.
	seenSets = 1 << 17
	seenWays = 8
	seenTick = 125    // milliseconds
	seenSoon = 4      // ticks that repeating takes at least
	seenLate = 60 * 8 // ticks after which it counts as new
)

// opening is what tells one peer's attempt from others.
type opening struct {
	address [16]byte
	port    uint16
	i       wire.Cookie
}

// patient notes a first message and reports whether it is one that came before,
// some time ago. A place holds 16 bits of a hash and the moment of the first time; of a set the
// oldest goes.
func (d *Door) patient(now uint32, remote netip.AddrPort, i wire.Cookie) bool {
	h := maphash.Comparable(d.seed, opening{remote.Addr().As16(), remote.Port(), i})
	at := h % seenSets * seenWays
	set := d.seen[at : at+seenWays]
	tag, tick := uint16(h>>48), uint16(now/seenTick)
	oldest, most := 0, uint16(0)
	for n, x := range set {
		age := tick - uint16(x)
		switch {
		case x == 0:
			age = 1<<16 - 1
		case uint16(x>>16) == tag && age <= seenLate:
			return age >= seenSoon
		}
		if age >= most {
			oldest, most = n, age
		}
	}
	set[oldest] = uint32(tag)<<16 | uint32(tick)
	return false
}

// settle takes note of the addresses of configured peers.
func (d *Door) settle(addrs []netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.places
	d.places = make(map[netip.Addr]*place, len(addrs))
	for _, a := range addrs {
		if d.places[a] = old[a]; old[a] == nil {
			d.places[a] = &place{}
		}
	}
}

// keep takes note of whether a session stands under these cookies.
func (d *Door) keep(key pairKey, stands bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !stands:
		delete(d.live, key)
	case d.live[key] == nil:
		d.live[key] = &talk{}
	}
}

// expect takes note of whether an answer under this cookie is awaited.
func (d *Door) expect(i wire.Cookie, awaited bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !awaited {
		delete(d.dials, i)
		return
	}
	d.dials[i] = &cell{}
}

// tellPlaces tells the door where configured peers are.
func (e *Engine) tellPlaces() {
	var addrs []netip.Addr
	for _, p := range e.peers {
		if a := p.entry.Remote.Addr; a.IsValid() {
			addrs = append(addrs, a)
		}
		addrs = append(addrs, p.where.addrs...)
	}
	e.door.settle(addrs)
}

// tellSession tells the door whether a session stands, or waits for its M3.
func (e *Engine) tellSession(key pairKey) {
	e.door.keep(key, e.sessions[key] != nil || e.halfOpen.byPair[key] != nil)
}
