package esp

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
)

// Weight is how much of a group's traffic a tunnel carries, in parts of the sum of
// all weights.
type Weight struct {
	Tunnel string
	Weight int // above 0
}

// Flows gives each packet a number that is the same for all packets of its flow:
// addresses, protocol and ports. Who spreads traffic over several tunnels or children
// by it keeps the order within a flow. A later fragment has no ports; it gets the
// number of the first one, which it meets as long as few others came between, and
// else that of its addresses alone.
//
// It is for one goroutine and allocates nothing.
type Flows struct {
	seed  uint64
	first [256]firstFragment
}

// firstFragment is what was seen of a packet that comes in pieces.
type firstFragment struct {
	src, dst netip.Addr
	id       uint32
	number   uint32
}

// NewFlows makes one; all that share a seed give the same numbers. A seed that
// nobody else knows keeps others from choosing flows that all take one way.
func NewFlows(seed uint64) *Flows { return &Flows{seed: seed} }

// Number returns the number of the flow of p.
func (f *Flows) Number(p *Packet) uint32 {
	if !p.Fragment {
		return f.whole(p)
	}
	at := f.mix(f.addresses(p), uint64(p.ID))
	seen := &f.first[at%uint64(len(f.first))]
	if p.Offset == 0 {
		*seen = firstFragment{src: p.Src, dst: p.Dst, id: p.ID, number: f.whole(p)}
		return seen.number
	}
	if seen.id == p.ID && seen.src == p.Src && seen.dst == p.Dst {
		return seen.number
	}
	return uint32(f.addresses(p) >> 32)
}

func (f *Flows) whole(p *Packet) uint32 {
	ports := uint64(p.Protocol)<<32 | uint64(p.SrcPort)<<16 | uint64(p.DstPort)
	return uint32(f.mix(f.addresses(p), ports) >> 32)
}

func (f *Flows) addresses(p *Packet) uint64 {
	src, dst := p.Src.As16(), p.Dst.As16()
	h := f.mix(f.seed, binary.LittleEndian.Uint64(src[:]))
	h = f.mix(h, binary.LittleEndian.Uint64(src[8:]))
	h = f.mix(h, binary.LittleEndian.Uint64(dst[:]))
	return f.mix(h, binary.LittleEndian.Uint64(dst[8:]))
}

// mix folds a product of 128 bits, whose every bit depends on many of both. The
// constants are odd and have as many ones as zeros.
func (f *Flows) mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15^f.seed, b^0xd1b54a32d192ed03)
	return hi ^ lo
}

// spreadSlots is how finely weights are told apart: to about one in a hundred.
const spreadSlots = 2048

// Spread says which of several ways a flow takes. It is frozen. The zero value knows
// one way, 0.
type Spread struct{ slots []uint8 }

// NewSpread makes the spread over the ways of these names, at most 255, in parts of
// their weights; a weight below 1 takes nothing. A flow has the same way in two spreads
// as long as it stands in both with the same weight, but for the share that one which
// came takes from all others, and one that went leaves to them (rendezvous hashing).
func NewSpread(ways []Weight) Spread {
	if len(ways) < 2 || len(ways) > math.MaxUint8 {
		return Spread{}
	}
	f := Flows{}
	names := make([]uint64, len(ways))
	for i, w := range ways {
		names[i] = f.text(w.Tunnel)
	}
	s := Spread{slots: make([]uint8, spreadSlots)}
	for i := range s.slots {
		best := math.Inf(-1)
		for n, w := range ways {
			if w.Weight < 1 {
				continue
			}
			// The logarithm of a number evenly drawn, by the weight: who has the
			// largest is drawn in proportion to the weights.
			drawn := (float64(f.mix(names[n], uint64(i))>>11) + 0.5) / (1 << 53)
			if score := math.Log(drawn) / float64(w.Weight); score > best {
				best, s.slots[i] = score, uint8(n)
			}
		}
	}
	return s
}

func (f *Flows) text(name string) uint64 {
	h := f.mix(0, uint64(len(name)))
	for _, c := range []byte(name) {
		h = f.mix(h, uint64(c))
	}
	return h
}

// Way is the way of a flow with that number, by its place in the list that NewSpread
// was given.
func (s Spread) Way(number uint32) int {
	if len(s.slots) == 0 {
		return 0
	}
	return int(s.slots[number%spreadSlots])
}
