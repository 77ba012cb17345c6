package esp

import (
	"fmt"
	"math"
)

// Limits of the anti-replay window in packets (RFC 4303 3.4.3 asks for 32 and
// recommends 64; the upper end bounds the memory of an SA to about 1 KiB).
const (
	MinWindow = 64
	MaxWindow = 4096
)

// Window is the anti-replay window of one SA (RFC 4303 3.4.3): a ring of bits
// that slides with the highest number seen, a word at a time (RFC 6479). Numbers
// are 64 bits wide. The zero value refuses everything.
type Window struct {
	top   uint64
	size  uint64
	words []uint64 // a power of two, at least one word more than the window
}

// NewWindow makes an empty window of size packets.
func NewWindow(size int) (Window, error) {
	if size < MinWindow || size > MaxWindow {
		return Window{}, fmt.Errorf("anti-replay window of %d packets: it is %d to %d", size, MinWindow, MaxWindow)
	}
	n := 2
	for n*64 < size+64 {
		n *= 2
	}
	return Window{size: uint64(size), words: make([]uint64, n)}, nil
}

// Check says whether seq is new: not 0, right of the window, or in it and not
// marked. It changes nothing.
func (w *Window) Check(seq uint64) bool {
	switch {
	case seq == 0 || w.size == 0:
		return false
	case seq > w.top:
		return true
	case w.top-seq >= w.size:
		return false
	}
	return w.words[w.index(seq)]&(1<<(seq&63)) == 0
}

// Update marks an authentic seq that Check allowed, and slides the window.
func (w *Window) Update(seq uint64) {
	if w.size == 0 || seq == 0 || seq <= w.top && w.top-seq >= w.size {
		return
	}
	if seq > w.top {
		// Words between the old and the new top hold numbers a whole ring ago.
		step := min(seq>>6-w.top>>6, uint64(len(w.words)))
		for i := range step {
			w.words[(seq>>6-i)&uint64(len(w.words)-1)] = 0
		}
		w.top = seq
	}
	w.words[w.index(seq)] |= 1 << (seq & 63)
}

func (w *Window) index(seq uint64) uint64 { return seq >> 6 & uint64(len(w.words)-1) }

// Top returns the highest number seen; 0: none.
func (w *Window) Top() uint64 { return w.top }

// Bitmap returns the window in the form of State.Replay: bit i of word i/64 is
// number Top()-i. Bits beyond the window are 0.
func (w *Window) Bitmap() []uint64 {
	if w.top == 0 {
		return nil
	}
	out := make([]uint64, (w.size+63)/64)
	for i := uint64(0); i < w.size && i < w.top; i++ {
		if !w.Check(w.top - i) {
			out[i/64] |= 1 << (i & 63)
		}
	}
	return out
}

// Restore sets the window to a state that Bitmap gave, perhaps of another size.
// What the bitmap does not cover counts as seen: losing a late packet is
// better than taking one twice.
func (w *Window) Restore(top uint64, bitmap []uint64) {
	if w.size == 0 {
		return
	}
	clear(w.words)
	w.top = top
	for i := uint64(0); i < w.size && i < top; i++ {
		if i/64 >= uint64(len(bitmap)) || bitmap[i/64]&(1<<(i&63)) != 0 {
			w.words[w.index(top-i)] |= 1 << ((top - i) & 63)
		}
	}
}

// expand finds the 64-bit number of which a packet carried the low half (RFC 4303
// appendix A2.2): the one that lies nearest, given the top of the window. Not ok:
// it would lie before the first packet of the SA.
func (w *Window) expand(low uint32) (seq uint64, ok bool) {
	topLow, high := uint32(w.top), w.top>>32
	bottom := topLow - uint32(w.size) + 1 // modulo 2^32
	switch {
	case topLow >= uint32(w.size)-1 && low < bottom: // the window lies within one subspace
		high++
	case topLow < uint32(w.size)-1 && low >= bottom: // it spans two, low is in the earlier one
		high--
	}
	// One below subspace 0 and one above the last both end up out of 32 bits.
	return high<<32 | uint64(low), high <= math.MaxUint32
}
