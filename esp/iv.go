package esp

import (
	"encoding/binary"

	"yumen/esp/internal/lanes"
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
	ivBatch = 24 // IVs made at once: as many blocks as the widest kernel takes
)

// ivStream makes CBC IVs, which must be unpredictable (RFC 3602 3): a counter
// encrypted under a key of its own, which is the generator of SP 800-38A
// appendix C with the key of the data kept out of it. The key is drawn for each
// SA and each process, so nothing of it is state: an adopted SA has a new one.
// It needs no new seed: a permutation never repeats an output, and telling
// 2^32 distinct outputs from random ones has an advantage below 2^-64, far
// beyond what an SA lives.
type ivStream struct {
	key     *lanes.Key
	refills uint64
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

// refill encrypts the counters of 64 bits of refills, 32 zero bits and 32 bits that
// count within one.
func (s *ivStream) refill() {
	var counter [ivSize]byte
	binary.BigEndian.PutUint64(counter[:], s.refills)
	s.refills++
	clear(s.buf[:])
	s.key.Counter(s.buf[:], s.buf[:], &counter)
	s.left = len(s.buf)
}

func (s *ivStream) wipe() {
	s.key.Wipe()
	clear(s.buf[:])
	*s = ivStream{}
}
