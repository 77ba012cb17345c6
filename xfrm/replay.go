package xfrm

import "yumen/esp"

// The kernel keeps the window as a ring of 32-bit words: number top-i has bit
// (top-1-i) modulo the window, counted in the low 32 bits of the numbers
// (net/xfrm/xfrm_replay.c). Bitmaps of esp.State count from the top down.

// toRing turns a bitmap of esp.State into the kernel's.
func toRing(top uint64, window int, bitmap []uint64) []uint32 {
	ring := make([]uint32, (window+31)/32)
	if window == 0 || top == 0 {
		return ring
	}
	for i := range min(window, 64*len(bitmap)) {
		if bitmap[i/64]>>(i%64)&1 == 1 {
			bit := ringBit(top, window, i)
			ring[bit/32] |= 1 << (bit % 32)
		}
	}
	return ring
}

// fromRing turns the kernel's ring into a bitmap of esp.State.
func fromRing(top uint64, window int, ring []uint32) []uint64 {
	if window == 0 || top == 0 {
		return nil
	}
	bitmap := make([]uint64, (window+63)/64)
	for i := range window {
		bit := ringBit(top, window, i)
		if bit/32 < len(ring) && ring[bit/32]>>(bit%32)&1 == 1 && uint64(i) < top {
			bitmap[i/64] |= 1 << (i % 64)
		}
	}
	return bitmap
}

func ringBit(top uint64, window, back int) int {
	pos := int((uint32(top) - 1) % uint32(window))
	return (pos - back%window + window) % window
}

// reading is what the kernel says of one SA.
type reading struct {
	state   state
	larval  bool // made by the kernel itself: it waits for an SA
	counts  esp.Count
	replays uint64
	badAuth uint64
	used    uint64 // seconds since 1970; 0: never, or not told
	added   uint64 // seconds since 1970
}
