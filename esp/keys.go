package esp

import (
	"encoding/binary"

	"yumen/esp/internal/lanes"
)

// keys is the cipher of one direction of an SA with its scratch memory, so for
// one goroutine at a time. Either cipher and mac are set, or aead is.
type keys struct {
	shape
	esn    bool
	cipher *lanes.Key
	mac    *lanes.MAC
	aead   *lanes.GCM
	iv     ivSource
	nonce  [12]byte // salt, then the explicit IV
	aad    [12]byte
	high   [4]byte
	sum    [lanes.SumSize]byte
}

// pad returns how many padding bytes n inner bytes need.
func (s shape) pad(n int) int {
	return (s.align - (n+trailerLen)%s.align) % s.align
}

// seal finishes a packet in place: SPI, sequence number and plaintext with its
// trailer are there, the IV and the ICV are not.
func (k *keys) seal(packet []byte, seq uint64) {
	body, end := k.parts(packet)
	iv := packet[headerLen:body]
	k.iv.next(iv, seq)
	if k.aead != nil {
		copy(k.nonce[saltLen:], iv)
		k.aead.Seal(packet[body:body], k.nonce[:], packet[body:end], k.additional(packet, seq))
		return
	}
	k.cipher.EncryptCBC(iv, packet[body:end])
	k.mac.Sum(&k.sum, packet[:end], k.sequenceHigh(&k.high, seq))
	copy(packet[end:], k.sum[:])
}

// parts returns where the ciphertext of a packet begins and ends.
func (k *keys) parts(packet []byte) (body, end int) {
	return headerLen + k.shape.iv, len(packet) - k.icv
}

// open checks the ICV and only then writes the plaintext with its trailer to dst,
// which is as long as the ciphertext and either is it or does not overlap packet.
// sum is the MAC of the packet where it is known already, or nil. With GCM a wrong
// ICV leaves dst as it was.
func (k *keys) open(dst, packet []byte, seq uint64, sum *[lanes.SumSize]byte) error {
	body, end := k.parts(packet)
	if k.aead != nil {
		copy(k.nonce[saltLen:], packet[headerLen:body])
		_, err := k.aead.Open(dst[:0], k.nonce[:], packet[body:], k.additional(packet, seq))
		if err != nil {
			return ErrAuth
		}
		return nil
	}
	if sum == nil {
		k.mac.Sum(&k.sum, packet[:end], k.sequenceHigh(&k.high, seq))
		sum = &k.sum
	}
	if !lanes.Equal(sum, packet[end:]) {
		return ErrAuth
	}
	k.cipher.DecryptCBC(dst, packet[headerLen:end])
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
// (RFC 4303 2.2.1), in buf.
func (k *keys) sequenceHigh(buf *[4]byte, seq uint64) []byte {
	if !k.esn {
		return nil
	}
	binary.BigEndian.PutUint32(buf[:], uint32(seq>>32))
	return buf[:]
}

// wipe overwrites the key schedules and states. What an implementation of Go's or
// gmsm's holds is let go, and the collector takes it (policy/secret says what Go can
// promise).
func (k *keys) wipe() {
	if k.cipher != nil {
		k.cipher.Wipe()
	}
	if k.mac != nil {
		k.mac.Wipe()
	}
	if k.aead != nil {
		k.aead.Wipe()
	}
	if k.iv != nil {
		k.iv.wipe()
	}
	clear(k.nonce[:])
	clear(k.aad[:])
	*k = keys{}
}
