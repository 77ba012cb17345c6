package esp

import (
	"crypto/cipher"
	"encoding/binary"
)

// ivSource fills the IV field of the packet that carries sequence number seq.
type ivSource interface {
	next(dst []byte, seq uint64)
	wipe()
}

// sequenceIV is the explicit IV of GCM. It must never repeat under a key and may
// be predictable, so the sequence number, which never repeats either, is the
// safest choice (RFC 4106 3.1): there is no second counter to go wrong.
type sequenceIV struct{}

func (sequenceIV) next(dst []byte, seq uint64) { binary.BigEndian.PutUint64(dst, seq) }
func (sequenceIV) wipe()                       {}

const (
	ivSize  = 16
	ivBatch = 16 // IVs made at once, so that the cipher works on all its lanes
)

// ivStream makes CBC IVs, which must be unpredictable (RFC 3602 3): a counter
// encrypted under a key of its own, which is the generator of SP 800-38A
// appendix C with the key of the data kept out of it. The key is drawn for each
// SA and each process, so nothing of it is state: an adopted SA has a new one.
// It needs no new seed: a permutation never repeats an output, and telling
// 2^32 distinct outputs from random ones has an advantage below 2^-64, far
// beyond what an SA lives.
type ivStream struct {
	ecb     cipher.BlockMode
	counter uint64
	left    int // bytes of buf not handed out yet, at its end
	buf     [ivSize * ivBatch]byte
}

func (s *ivStream) next(dst []byte, _ uint64) {
	if s.left == 0 {
		s.refill()
	}
	at := len(s.buf) - s.left
	copy(dst[:ivSize], s.buf[at:at+ivSize])
	s.left -= ivSize
}

func (s *ivStream) refill() {
	for i := range ivBatch {
		block := s.buf[i*ivSize : (i+1)*ivSize]
		clear(block[:8])
		binary.BigEndian.PutUint64(block[8:], s.counter)
		s.counter++
	}
	s.ecb.CryptBlocks(s.buf[:], s.buf[:])
	s.left = len(s.buf)
}

func (s *ivStream) wipe() {
	clear(s.buf[:])
	*s = ivStream{}
}
