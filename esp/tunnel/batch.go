package tunnel

import (
	"net/netip"

	"yumen/esp"
	"yumen/policy"
)

const (
	mostStaged = 128       // packets that leave together
	arenaSize  = 256 << 10 // bytes of all of them, with their outer headers

	outerMost = ip6Header + udpHeader
	// What ESP puts around an inner packet: SPI, number and IV before it, padding,
	// trailer and the longest ICV behind it.
	espBefore = 8 + 16
	espBehind = 15 + 2 + 32
)

// staged is what of a packet on its way out is not in its sealing.
type staged struct {
	x    *pair
	look outerLook
}

// batch is what a worker has read and not yet sent. Packets are written where they
// are sealed and sent from there.
type batch struct {
	arena []byte
	used  int
	list  []staged
	jobs  []esp.Sealing // beside list
	many  esp.Batch
}

func newBatch() batch {
	return batch{arena: make([]byte, arenaSize), list: make([]staged, 0, mostStaged), jobs: make([]esp.Sealing, 0, mostStaged)}
}

// roomy says whether a packet of n bytes still fits.
func (b *batch) roomy(n int) bool {
	return len(b.list) < mostStaged && b.used+outerMost+espBefore+n+espBehind <= len(b.arena)
}

// place takes room for an inner packet of n bytes, which the caller writes before
// it calls see.
func (b *batch) place(x *pair, n int) (inner []byte) {
	at := b.used + outerMost - outerRoom(x.kind)
	from := b.used + outerMost
	to := from + x.out.HeaderRoom()
	b.used = (to + n + espBehind + 15) &^ 15
	inner = b.arena[to : to+n]
	b.list = append(b.list, staged{x: x})
	b.jobs = append(b.jobs, esp.Sealing{SA: x.out, Dst: b.arena[at:from:min(b.used, len(b.arena))], Inner: inner})
	return inner
}

// see notes what of the last inner packet the outer header repeats: once it is
// sealed it cannot be seen any more.
func (b *batch) see() {
	s, inner := &b.list[len(b.list)-1], b.jobs[len(b.jobs)-1].Inner
	outer := s.x.child.Outer
	s.look = outerLook{
		tos: esp.OuterTOS(outer, esp.TOS(inner)),
		df:  outer.Fragment == policy.FragmentBefore && esp.OuterDF(outer, inner),
	}
}

// seal seals all of it, each packet in its place and in order.
func (b *batch) seal() { b.many.Seal(b.jobs) }

// sealed is the i-th packet behind room for its outer headers; nil: it was refused.
func (b *batch) sealed(i int) []byte {
	if b.jobs[i].Err != nil {
		return nil
	}
	return b.jobs[i].Packet
}

func (b *batch) reset() {
	clear(b.list)
	clear(b.jobs)
	b.list, b.jobs, b.used = b.list[:0], b.jobs[:0], 0
}

// received is what of a packet on its way in is not in its opening.
type received struct {
	x      *pair
	remote netip.AddrPort
	tos    byte
}
