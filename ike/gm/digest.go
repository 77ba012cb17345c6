package gm

import "hash"

// A hash function keeps the last block that it was given until that memory is used
// for something else, and what is hashed here are keys: KEYMAT grows from KEYMAT,
// SKEYID_e from SKEYID_a. So no state is let go before it was overwritten, and the
// pads of HMAC neither.

const (
	sumLen    = 32
	hashBlock = 64
)

// SM3 is the hash of the concatenated parts (GB/T 32905).
func SM3(parts ...[]byte) [32]byte { return Digest(newSM3(), parts...) }

// PRF is HMAC-SM3 over the concatenated parts.
func PRF(key []byte, parts ...[]byte) [32]byte { return HMAC(newSM3(), key, parts...) }

// Digest is what the fresh h, a hash of 32 bytes with blocks of 64, makes of the
// concatenated parts. It leaves nothing of them in h.
func Digest(h hash.Hash, parts ...[]byte) (sum [32]byte) {
	buf := make([]byte, hashBlock) // what an interface is given lies on the heap
	for _, p := range parts {
		h.Write(p)
	}
	copy(sum[:], h.Sum(buf[:0]))
	forget(h, buf)
	return sum
}

// HMAC is RFC 2104 with the fresh h, a hash of 32 bytes with blocks of 64. It leaves
// nothing of key or parts in h or elsewhere. It is written out because a negotiation
// takes dozens of them: that of the library makes five objects for each, and lets go
// of them as they are.
func HMAC(h hash.Hash, key []byte, parts ...[]byte) (sum [32]byte) {
	pad := make([]byte, hashBlock, hashBlock+sumLen) // the block, and behind it a sum
	if len(key) > hashBlock {
		h.Write(key)
		h.Sum(pad[:0])
		h.Reset()
	} else {
		copy(pad, key)
	}
	const inner, outer = 0x36, 0x5c
	xor(pad, inner)
	h.Write(pad)
	for _, p := range parts {
		h.Write(p)
	}
	within := h.Sum(pad)[hashBlock:]
	xor(pad, inner^outer)
	h.Reset()
	h.Write(pad)
	h.Write(within)
	copy(sum[:], h.Sum(within[:0]))
	forget(h, pad[:cap(pad)])
	return sum
}

func xor(b []byte, with byte) {
	for i := range b {
		b[i] ^= with
	}
}

// forget overwrites buf, at least a block, and the state of h, the block that it
// collects included: Reset leaves that as it was, and whole blocks pass it by.
func forget(h hash.Hash, buf []byte) {
	clear(buf)
	h.Reset()
	h.Write(buf[:hashBlock-1])
	h.Write(buf[:1])
	h.Reset()
}
