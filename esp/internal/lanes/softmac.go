package lanes

import (
	"encoding"
	"errors"
	"fmt"
	"hash"
)

// softMAC is HMAC (RFC 2104) with the two key blocks hashed once for each SA: only
// the two chaining states are kept, in slices of our own, so that a packet costs
// two compressions less and Close can overwrite what is secret.
type softMAC struct {
	h            hash.Hash
	restore      encoding.BinaryUnmarshaler // h again
	inner, outer []byte
	sum          [32]byte
}

func newStatefulMAC(h hash.Hash, key []byte) (*softMAC, error) {
	restore, ok := h.(encoding.BinaryUnmarshaler)
	save, ok2 := h.(encoding.BinaryMarshaler)
	m := &softMAC{h: h, restore: restore}
	if !ok || !ok2 || h.Size() != len(m.sum) || len(key) > h.BlockSize() {
		return nil, errors.New("the hash cannot keep its state")
	}
	block := make([]byte, h.BlockSize())
	defer clear(block)
	pad := func(with byte) ([]byte, error) {
		clear(block)
		copy(block, key)
		for i := range block {
			block[i] ^= with
		}
		h.Reset()
		h.Write(block)
		defer h.Reset()
		return save.MarshalBinary()
	}
	var err, err2 error
	m.inner, err = pad(0x36)
	m.outer, err2 = pad(0x5c)
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("state of the hash: %w", err)
	}
	return m, nil
}

// of returns the 32 bytes of the MAC of a followed by b. They are valid until the
// next call.
func (m *softMAC) of(a, b []byte) []byte {
	// The states come from MarshalBinary of the same type: UnmarshalBinary cannot
	// refuse them, and if it did, a wrong sum would only be refused by everyone.
	_ = m.restore.UnmarshalBinary(m.inner)
	m.h.Write(a)
	m.h.Write(b)
	sum := m.h.Sum(m.sum[:0])
	_ = m.restore.UnmarshalBinary(m.outer)
	m.h.Write(sum)
	return m.h.Sum(m.sum[:0])
}

func (m *softMAC) wipe() {
	clear(m.inner)
	clear(m.outer)
	clear(m.sum[:])
	m.inner, m.outer = nil, nil
	m.h.Reset()
}
