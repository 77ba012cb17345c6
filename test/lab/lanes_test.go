package lab

import (
	"fmt"
	"testing"
	"time"

	"yumen/esp"
	"yumen/ike"
)

// sideBySide sets how many children each end wants to use side by side.
func sideBySide(i, r int) func(*Site, *Site) {
	return func(a, b *Site) { a.Tunnel().Children, b.Tunnel().Children = i, r }
}

// A storm ends with exactly one child on each lane where both ends want as many, and
// with one in all where they do not; none is left over.
func TestEveryStormEndsWithOneChildOnEachLane(t *testing.T) {
	for _, n := range [][2]int{{3, 3}, {8, 8}, {3, 1}, {2, 5}} {
		t.Run(fmt.Sprintf("%d and %d", n[0], n[1]), func(t *testing.T) {
			t.Parallel()
			rage(t, max(*storms/10, 10), sideBySide(n[0], n[1]))
		})
	}
}

// world of two ends with lanes.
func lanesLab(n int) *Lab {
	i, r := members().Pair()
	sideBySide(n, n)(&i, &r)
	i.Verifiers, r.Verifiers = members().verifiers(&i), members().verifiers(&r)
	l := New(1, i, r)
	l.Story.Off = true
	return l
}

func TestLanesComeUpLiveAndGoAlone(t *testing.T) {
	l := lanesLab(4)
	l.Run(2 * time.Second)
	a, b := l.Gateway("i"), l.Gateway("r")
	spis := func(g *Gateway) (list [4]uint32) {
		for lane := range list {
			if c, ok := g.Plane.InUseOn("office", uint8(lane)); ok {
				list[lane] = uint32(c.In.SPI)
			}
		}
		return list
	}
	first := spis(a)
	for lane, spi := range first {
		if spi == 0 || int(spi%8) != lane || int(spis(b)[lane]%8) != lane {
			t.Errorf("lane %d has the SPIs %x and %x", lane, spi, spis(b)[lane])
		}
		// Whatever the number of cores, neighbours are on different ones.
		for _, cores := range []uint32{2, 3, 4, 5, 6, 7, 8} {
			if lane > 0 && first[lane]%cores != (first[lane-1]%cores+1)%cores {
				t.Errorf("lanes %d and %d leave %d and %d by %d", lane-1, lane, first[lane-1]%cores, first[lane]%cores, cores)
			}
		}
	}
	// One of them goes at the peer: it comes again, the others stay.
	c, _ := b.Plane.InUseOn("office", 2)
	b.Feed(ike.Plane{Event: esp.Event{Kind: esp.HardLimit, Child: c.ID, Tunnel: "office"}})
	l.Run(time.Minute)
	second := spis(a)
	for lane := range first {
		if (first[lane] != second[lane]) != (lane == 2) || second[lane] == 0 {
			t.Errorf("lane %d had %x and has %x", lane, first[lane], second[lane])
		}
	}
	a.Feed(ike.Rekey{Tunnel: "office"})
	l.Run(time.Minute)
	third := spis(a)
	for lane := range first {
		if second[lane] == third[lane] {
			t.Errorf("lane %d was not renewed", lane)
		}
	}
	if n := len(a.Plane.Installed()); n != 4 {
		t.Errorf("%d children after a renewal of all", n)
	}
	a.Feed(ike.Stop{Tunnel: "office"})
	l.Run(time.Minute)
	if x, y := len(a.Plane.Installed()), len(b.Plane.Installed()); x != 0 {
		t.Errorf("%d and %d children of a tunnel that was taken down", x, y)
	}
	if len(l.Faults) > 0 {
		t.Error(l.Faults)
	}
}

// A peer of another make has one child, whatever its SPIs say.
func TestLanesAreForYumensOnly(t *testing.T) {
	i, r := members().Pair()
	sideBySide(4, 4)(&i, &r)
	r.Peer().Dialect.NoOwnVID, i.Peer().Dialect.NoOwnVID = true, true
	i.Verifiers, r.Verifiers = members().verifiers(&i), members().verifiers(&r)
	l := New(1, i, r)
	l.Story.Off = true
	l.Run(time.Minute)
	for _, g := range l.gateways {
		if n := len(g.Plane.Installed()); n != 1 {
			t.Errorf("%s has %d children", g.Name, n)
		}
	}
}
