package ike

import (
	"cmp"
	"encoding/binary"

	"yumen/esp"
	"yumen/ike/gm"
)

// A tunnel with children: N has N lanes: the tunnel itself, which is lane 0, and N-1
// beside it, each with a child of its own that is renewed and settled like any other.
// Only two Yumens with the same number do that. Nothing on the wire says so but the
// SPIs that each end chooses: of a lane they leave the lane by 8, and the rest of them
// leaves by laneSpread what both ends compute from the selector and the number. Whose
// SPI does not is answered on lane 0 with one that does not, so that both know.
//
// Lane 0 comes up first and shows whether the peer has lanes. Of all lanes of a tunnel
// one quick mode is under way at a time: so both ends saw the same one begin first,
// whichever lane it turns out to be for.

// laneSpread is divisible by every number up to 8, so that SPIs of successive lanes
// leave successive rests by any number of cores: see esp/tunnel.
const laneSpread = 840

// isLane0 tells the tunnel itself from those beside it.
func (t *tunnel) isLane0() bool { return t.lane == 0 }

// mark is what SPIs of the lanes of t leave by laneSpread, without their lane.
func (t *tunnel) mark() uint32 {
	sel := t.entry.Selector
	a, b := clientID(sel.Local, sel.Protocol, sel.LocalPort).Append(nil), clientID(sel.Remote, sel.Protocol, sel.RemotePort).Append(nil)
	if string(a) > string(b) { // it is the other way round at the peer
		a, b = b, a
	}
	sum := gm.SM3(a, b, []byte{byte(t.entry.Children)})
	return binary.BigEndian.Uint32(sum[:]) % laneSpread
}

// laneOf reads the lane from an SPI of the peer; false: it is none.
func (t *tunnel) laneOf(s *session, spi esp.SPI) (lane uint8, ok bool) {
	n := len(t.head.lanes)
	if n < 2 || !s.knows.yumen || uint32(spi>>3)%laneSpread != t.mark() || int(spi&7) >= n {
		return 0, false
	}
	return uint8(spi & 7), true
}

// reserve draws an inbound SPI for a child of t; marked, one that names its lane.
func (t *tunnel) reserve(s *session, id esp.ChildID, marked bool) esp.SPI {
	e := t.e
	for {
		spi := e.drawSPI()
		if marked && len(t.head.lanes) > 1 && s.knows.yumen {
			high := uint32(spi >> 3)
			spi = esp.SPI(high-high%laneSpread+t.mark())<<3 | esp.SPI(t.lane)
		}
		if _, named := t.laneOf(s, spi); named && !marked {
			continue
		}
		if _, taken := e.spis[spi]; spi > 255 && !taken {
			e.spis[spi] = id
			return spi
		}
	}
}

// answering is the lane that a QM1 with this SPI is for, and whether its answer says
// so. An SPI without a lane is of a peer that has one child.
func (t *tunnel) answering(s *session, spi esp.SPI) (lane *tunnel, marked bool) {
	h := t.head
	n, ok := h.laneOf(s, spi)
	if !ok {
		h.alone()
		return h, false
	}
	h.laned = true
	return h.lanes[n], true
}

// agree learns from the SPI of a QM2 whether the peer has lanes. Where it has not, it
// took what we started for a renewal of its only child, and so do we.
func (x *exchange) agree(spi esp.SPI) {
	t := x.tunnel
	h := t.head
	if len(h.lanes) < 2 {
		return
	}
	if n, ok := h.laneOf(x.s, spi); ok && n == t.lane {
		h.laned = true
		return
	}
	x.release()
	x.tunnel, x.child.t = h, h
	h.quick, x.s.quick = cmp.Or(h.quick, x), cmp.Or(x.s.quick, x)
	h.alone()
}

// alone ends the lanes beside lane 0: the peer has no such.
func (h *tunnel) alone() {
	h.laned = false
	for _, t := range h.lanes[1:] {
		t.e.clock.stop(&t.retry)
		if t.quick != nil {
			t.quick.abandon(Replaced, "the peer has one child")
		}
		for _, c := range append([]*child(nil), t.children...) {
			c.end(Replaced, tellPeer)
		}
	}
}

// underWay is the quick mode of ours for any lane of t; nil: none.
func (t *tunnel) underWay() *exchange {
	for _, l := range t.head.lanes {
		if l.quick != nil {
			return l.quick
		}
	}
	return nil
}

// widen brings up the lanes beside lane 0, which is up.
func (t *tunnel) widen() {
	if t.isLane0() {
		for _, l := range t.lanes[1:] {
			l.ensure()
		}
	}
}
