package lab

import (
	"encoding/binary"
	"math/rand/v2"
)

// source is a stream of bytes that hangs on its seed and its name alone.
type source struct{ chacha *rand.ChaCha8 }

func newSource(seed uint64, name string) source {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	copy(key[8:], name)
	return source{rand.NewChaCha8(key)}
}

// Read fills b; it never fails.
func (s source) Read(b []byte) (int, error) { return s.chacha.Read(b) }
