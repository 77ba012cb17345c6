package decode

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"yumen/ike/gm"
	"yumen/policy"
	"yumen/policy/secret"
)

// sa is one IPsec SA of a child: one direction, one key. The package esp is not
// asked to open packets, because it rightly drops what a laboratory wants to
// see: repeated packets, packets outside the selector, another ICV length.
type sa struct {
	session  *session
	spi      uint32
	suite    policy.Suite
	esn      bool
	keymat   secret.Secret
	icv      int // bits, 0 until a packet told
	top      uint64
	src, dst selector
	opened   bool
}

var (
	errShort = errors.New("shorter than its suite's smallest packet")
	errICV   = errors.New("the ICV fits with none of 96, 128 and 256 bits")
	errTag   = errors.New("the GCM tag does not verify")
)

// opened is what came out of one ESP packet.
type opened struct {
	seq   uint64
	icv   int // bits
	next  uint8
	inner []byte
	pad   int
}

// open verifies and decrypts. Any sequence number is taken; the caller says
// whether it was seen before.
func (s *sa) open(b []byte) (opened, error) {
	low := binary.BigEndian.Uint32(b[4:])
	var last error
	for _, seq := range s.candidates(low) {
		var o opened
		var err error
		if s.suite == policy.SM4GCM128 {
			o, err = s.openGCM(b, seq)
		} else {
			o, err = s.openCBC(b, seq)
		}
		if err == nil {
			s.top, s.icv, s.opened = max(s.top, seq), o.icv, true
			return o, nil
		}
		last = err
	}
	return opened{}, last
}

// candidates are the 64-bit numbers that the 32 bits on the wire may stand for,
// likeliest first (RFC 4303 A2 without its window: a capture may begin anywhere).
func (s *sa) candidates(low uint32) []uint64 {
	if !s.esn {
		return []uint64{uint64(low)}
	}
	high := s.top >> 32
	out := []uint64{high<<32 | uint64(low), (high+1)<<32 | uint64(low)}
	if high > 0 {
		out = append(out, (high-1)<<32|uint64(low))
	}
	return out
}

func (s *sa) openCBC(b []byte, seq uint64) (opened, error) {
	key := s.keymat.Bytes()
	lengths := []int{96, 128, 256}
	if s.icv != 0 { // the one that fitted first
		lengths = append([]int{s.icv}, lengths...)
	}
	last := errShort
	for _, bits := range lengths {
		end := len(b) - bits/8
		if end < 8+16+16 {
			continue
		}
		last = errICV
		parts := [][]byte{b[:end]}
		if s.esn {
			parts = append(parts, binary.BigEndian.AppendUint32(nil, uint32(seq>>32)))
		}
		mac := gm.PRF(key[16:48], parts...)
		if subtle.ConstantTimeCompare(mac[:bits/8], b[end:]) != 1 {
			continue
		}
		plain, err := gm.DecryptCBC(key[:16], b[8:24], b[24:end])
		if err != nil {
			return opened{}, fmt.Errorf("the ICV of %d bits fits, but: %w", bits, err)
		}
		return trailer(plain, opened{seq: seq, icv: bits})
	}
	return opened{}, last
}

func (s *sa) openGCM(b []byte, seq uint64) (opened, error) {
	if len(b) < 8+8+4+16 {
		return opened{}, errShort
	}
	aad := b[:8:8]
	if s.esn {
		aad = binary.BigEndian.AppendUint64(b[:4:4], seq)
	}
	key := s.keymat.Bytes()
	nonce := append(key[16:20:20], b[8:16]...)
	plain, err := openGCM(key[:16], nonce, b[16:], aad)
	if err != nil {
		return opened{}, errTag
	}
	return trailer(plain, opened{seq: seq, icv: 128})
}

// trailer takes off padding, pad length and next header (RFC 4303 2.4).
func trailer(plain []byte, o opened) (opened, error) {
	n := len(plain)
	if n < 2 {
		return o, errors.New("no ESP trailer")
	}
	o.pad, o.next = int(plain[n-2]), plain[n-1]
	if o.pad > n-2 {
		return o, fmt.Errorf("pad length %d in %d bytes", o.pad, n)
	}
	o.inner = plain[:n-2-o.pad]
	for i, c := range plain[len(o.inner) : n-2] {
		if c != byte(i+1) {
			return o, fmt.Errorf("padding byte %d is %d, expected %d (RFC 4303 2.4)", i+1, c, i+1)
		}
	}
	return o, nil
}
