package esp

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// cbcMode is a CBC mode that takes a new IV for each packet: making a mode for
// each packet would allocate.
type cbcMode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

// keys is the cipher of one direction of an SA with its scratch memory, so for
// one goroutine at a time. Exactly one of mac (with enc and dec) and aead is set.
type keys struct {
	shape
	esn      bool
	enc, dec cbcMode
	mac      *mac
	aead     cipher.AEAD
	iv       ivSource
	nonce    [12]byte // salt, then the explicit IV
	aad      [12]byte
	high     [4]byte
}

// pad returns how many padding bytes n inner bytes need.
func (s shape) pad(n int) int {
	return (s.align - (n+trailerLen)%s.align) % s.align
}

// seal finishes a packet in place: SPI, sequence number and plaintext with its
// trailer are there, the IV and the ICV are not.
func (k *keys) seal(packet []byte, seq uint64) {
	body, end := headerLen+k.shape.iv, len(packet)-k.icv
	iv := packet[headerLen:body]
	k.iv.next(iv, seq)
	if k.aead != nil {
		copy(k.nonce[saltLen:], iv)
		k.aead.Seal(packet[body:body], k.nonce[:], packet[body:end], k.additional(packet, seq))
		return
	}
	k.enc.SetIV(iv)
	k.enc.CryptBlocks(packet[body:end], packet[body:end])
	copy(packet[end:], k.mac.of(packet[:end], k.sequenceHigh(seq)))
}

// open checks the ICV and only then writes the plaintext with its trailer to dst,
// which is as long as the ciphertext and either is it or does not overlap packet.
// With GCM a wrong ICV leaves dst zero.
func (k *keys) open(dst, packet []byte, seq uint64) error {
	body, end := headerLen+k.shape.iv, len(packet)-k.icv
	iv := packet[headerLen:body]
	if k.aead != nil {
		copy(k.nonce[saltLen:], iv)
		_, err := k.aead.Open(dst[:0], k.nonce[:], packet[body:], k.additional(packet, seq))
		if err != nil {
			return ErrAuth
		}
		return nil
	}
	sum := k.mac.of(packet[:end], k.sequenceHigh(seq))
	if subtle.ConstantTimeCompare(sum[:k.icv], packet[end:]) != 1 {
		return ErrAuth
	}
	k.dec.SetIV(iv)
	k.dec.CryptBlocks(dst, packet[body:end])
	return nil
}

// additional is SPI and sequence number, 32 or 64 bits of it (RFC 4106 5).
func (k *keys) additional(packet []byte, seq uint64) []byte {
	copy(k.aad[:4], packet)
	if k.esn {
		binary.BigEndian.PutUint64(k.aad[4:], seq)
		return k.aad[:12]
	}
	copy(k.aad[4:8], packet[4:])
	return k.aad[:8]
}

// sequenceHigh is what the MAC covers behind the packet though it is not sent
// (RFC 4303 2.2.1).
func (k *keys) sequenceHigh(seq uint64) []byte {
	if !k.esn {
		return nil
	}
	binary.BigEndian.PutUint32(k.high[:], uint32(seq>>32))
	return k.high[:]
}

// wipe overwrites what is ours. The key schedule inside the cipher is not: it is
// let go, and the collector takes it (policy/secret says what Go can promise).
func (k *keys) wipe() {
	if k.mac != nil {
		k.mac.wipe()
	}
	if k.iv != nil {
		k.iv.wipe()
	}
	clear(k.nonce[:])
	clear(k.aad[:])
	*k = keys{}
}
