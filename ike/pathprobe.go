package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"yumen/ike/wire"
	"yumen/policy"
)

// Routers should say when they drop what is too large (RFC 1191, RFC 8201); many
// do not. So the path is tried: an R-U-THERE (RFC 3706) is made as large as a
// packet by a Vendor ID that nobody knows, and sent unfragmented. Its answer,
// which is authentic, proves that the path carries that size. Silence proves
// nothing until a small one, padded as well and sent later, was answered.
const (
	assumedMTU = 1500
	floorMTU4  = 576  // RFC 791 3.1
	floorMTU6  = 1280 // RFC 8200 5
	smallProbe = 600

	probeTries = 3
	maxSilent  = 3                // searches
	probeGap   = time.Second      // between two tries
	probeSoon  = 2 * time.Second  // after a session was proven or a peer moved
	probeAgain = 30 * time.Second // after a search that came to nothing, or to something new
	probeLossy = 2 * time.Minute  // after one that loss may have led astray
	probeEvery = 8 * time.Minute  // data planes forget after 10 minutes (RFC 1191 6.3)
)

// pathSizes are the sizes of packets that paths end at, largest first: those of
// links and of tunnels over them.
func pathSizes() [27]int {
	return [...]int{9000, 8166, 4352, 2002, 1500, 1492, 1480, 1472, 1460, 1454, 1440, 1430, 1420, 1400,
		1380, 1360, 1340, 1320, 1300, 1280, 1200, 1100, 1006, 900, 800, 700, 576}
}

// pathProbe searches for the largest packet that gets to the peer of a session.
type pathProbe struct {
	s      *session
	alarm  alarm
	padded bool // the peer has answered something padded
	silent int  // searches in which it has not

	// Of the search under way:
	sizes     []int // largest first; the last is taken for granted
	good, bad int   // places in sizes: the largest that is carried, the smallest that is not; -1: none
	sent      []sentProbe
	proven    int  // the largest size that was answered
	lost      bool // something that is carried was not answered at once

	// Of the question under way:
	size   int // 0: there is none
	from   int // place of its first probe in sent
	answer func(carried bool)
}

// sentProbe is one R-U-THERE of a search.
type sentProbe struct {
	number uint32
	size   int
}

// knownPath is what was last concluded about the way to a peer.
type knownPath struct {
	local, remote netip.Addr
	size, mtu     int // as asked for, and as proven
}

// watchPath begins to look after the path to a peer that answers R-U-THERE.
func (s *session) watchPath() {
	want := s.peer.entry.PathProbe
	if s.knows.dpd && (want == policy.ProbeOn || want == policy.ProbeAuto && s.knows.yumen) {
		s.path = &pathProbe{s: s}
		s.path.padded = s.path.known().mtu > 0 // in a session before
		s.path.restart()
	}
}

// restart gives up what is under way: the path is another.
func (p *pathProbe) restart() {
	if p == nil {
		return
	}
	p.size, p.sent = 0, nil
	p.later(probeSoon)
}

func (p *pathProbe) later(d time.Duration) {
	e := p.s.e
	e.clock.set(&p.alarm, e.now.Add(e.jitter(d)), p.begin)
}

// begin starts a search, if this is the session that speaks with the peer.
func (p *pathProbe) begin() {
	if p.s.peer.session() != p.s {
		p.later(probeAgain) // it may still become that one
		return
	}
	p.sizes = p.candidates()
	p.good, p.bad, p.proven, p.lost, p.sent = len(p.sizes)-1, -1, 0, false, nil
	if p.good == 0 {
		p.later(probeEvery) // less than the assumed size is nothing to ask for
		return
	}
	p.ask(smallProbe, func(heard bool) {
		if heard {
			p.next()
			return
		}
		p.unheard()
	})
}

// unheard ends a search that lost the peer, and all searching of this session
// when it never answers what is padded: its silence would prove nothing.
func (p *pathProbe) unheard() {
	if p.silent++; p.padded || p.silent < maxSilent {
		p.later(probeAgain)
	}
}

// candidates are the sizes to search among, from the assumed one to the floor.
func (p *pathProbe) candidates() []int {
	top, floor := p.s.e.cfg.pathMTU(), floorMTU4
	if p.s.remote.Addr().Is6() {
		floor = floorMTU6
	}
	list := []int{max(top, floor)}
	for _, n := range pathSizes() {
		if n < top && n >= floor {
			list = append(list, n)
		}
	}
	return list
}

func (c Config) pathMTU() int {
	if c.PathMTU <= 0 {
		return assumedMTU
	}
	return c.PathMTU
}

// next asks what halves the rest of the search, or ends it. The assumed size goes
// first, then what was concluded the last time, because paths seldom change.
func (p *pathProbe) next() {
	for p.good-1 > p.bad && p.sizes[p.good-1] <= p.proven {
		p.good--
	}
	if p.good-p.bad == 1 {
		p.conclude()
		return
	}
	known := p.known().size
	at := slices.Index(p.sizes, known)
	switch {
	case p.bad < 0:
		at = 0
	case at == p.good:
		at--
	case at <= p.bad || at > p.good:
		at = (p.bad + p.good) / 2
	}
	p.ask(p.sizes[at], func(carried bool) {
		if carried {
			p.next() // proven says the rest
			return
		}
		p.doubt(at)
	})
}

// doubt believes that a size is not carried when something small, sent later, is.
func (p *pathProbe) doubt(at int) {
	p.ask(smallProbe, func(heard bool) {
		if !heard {
			p.unheard()
			return
		}
		if p.proven < p.sizes[at] { // it may have been late
			p.bad = at
		}
		p.next()
	})
}

// ask sends a probe of that size until it is answered, a few times.
func (p *pathProbe) ask(size int, answer func(bool)) {
	p.size, p.from, p.answer = size, len(p.sent), answer
	p.try()
}

func (p *pathProbe) try() {
	s := p.s
	if len(p.sent)-p.from == probeTries {
		p.settle(false)
		return
	}
	n := s.rUThere()
	p.sent = append(p.sent, sentProbe{s.dpdSeq, p.size})
	// The padding is a Vendor ID, which peers skip: the rest of the body but for
	// its own header, the notification and HASH(1).
	note := n.Append(nil)
	pad := p.bytes(p.size) - p.overhead() - 3*4 - 32 - len(note)
	d := s.datagram(s.informational(wire.Payload{Type: wire.TypeNotify, Body: note},
		wire.Payload{Type: wire.TypeVendorID, Body: make([]byte, pad)}))
	d.Probe = true
	s.e.send(d)
	s.e.clock.set(&p.alarm, s.e.now.Add(probeGap), p.try)
}

// acknowledged takes the number of an R-U-THERE that the peer answered. What
// comes late proves its size nevertheless, but not that nothing was lost since.
func (p *pathProbe) acknowledged(number uint32) {
	if p == nil {
		return
	}
	at := slices.IndexFunc(p.sent, func(x sentProbe) bool { return x.number == number })
	if at < 0 {
		return
	}
	size := p.sent[at].size
	p.padded, p.proven = true, max(p.proven, size)
	if p.size > 0 && (at >= p.from || p.size > smallProbe && size >= p.size) {
		p.settle(true)
	}
}

func (p *pathProbe) settle(carried bool) {
	p.s.e.clock.stop(&p.alarm)
	p.size, p.lost = 0, p.lost || carried && len(p.sent)-p.from > 1
	p.answer(carried)
}

// overhead is what stands before the encrypted body of a message: the headers of
// IP, UDP and ISAKMP and the non-ESP marker.
func (p *pathProbe) overhead() int {
	n := 20 + 8 + wire.HeaderLen
	if p.s.remote.Addr().Is6() {
		n += 20
	}
	if p.s.local.Port() == p.s.e.cfg.Ports.NAT {
		n += 4
	}
	return n
}

// bytes is the largest probe that is no packet of more than size bytes: a body is
// whole blocks.
func (p *pathProbe) bytes(size int) int {
	return p.overhead() + (size-p.overhead())/block*block
}

// known is what was concluded about this path before, or nothing.
func (p *pathProbe) known() knownPath {
	k := p.s.peer.path
	if k.local != p.s.local.Addr() || k.remote != p.s.remote.Addr() {
		return knownPath{local: p.s.local.Addr(), remote: p.s.remote.Addr()}
	}
	return k
}

// conclude hands the result on, each time because data planes forget, and tells
// it when it is new.
func (p *pathProbe) conclude() {
	e, k := p.s.e, p.known()
	before, size := k.mtu, p.sizes[p.good]
	k.size, k.mtu = size, size
	if p.good > 0 && p.good < len(p.sizes)-1 { // the others are assumed, or the least there is
		k.mtu = p.bytes(size)
	}
	p.s.peer.path = k
	p.sent = nil
	e.effect(PathMTU{Local: k.local, Remote: k.remote, MTU: k.mtu})
	if before == k.mtu || before == 0 && p.good == 0 {
		wait := probeEvery
		if p.lost && p.good > 0 {
			wait = probeLossy
		}
		p.later(wait)
		return
	}
	detail := fmt.Sprintf("packets of %d bytes get to the peer", k.mtu)
	if p.good > 0 {
		detail += fmt.Sprintf(", those of %d do not", p.sizes[p.bad])
	}
	e.tell(p.s.event(PathChanged, "", detail))
	p.later(probeAgain)
}
