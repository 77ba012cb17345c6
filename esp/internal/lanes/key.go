package lanes

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// BlockSize is the block of SM4 in bytes.
const BlockSize = 16

// KeySize is the key of SM4 in bytes.
const KeySize = 16

// Key is an SM4 key schedule. Apart from Wipe its methods may run beside each
// other on the fast paths; on Generic they may not.
type Key struct {
	path     Path
	enc, dec [32]uint32 // in the field of AES and in memory order, as the kernels take them
	soft     *softKey   // Generic only
}

// NewKey makes the schedule of a key of 16 bytes for a path, which must be one of
// Paths. It does not keep key.
func NewKey(p Path, key []byte) (*Key, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("SM4 key of %d bytes: it has %d", len(key), KeySize)
	}
	if p > best {
		return nil, fmt.Errorf("this processor cannot run path %v", p)
	}
	k := &Key{path: p}
	if p == Generic {
		var err error
		k.soft, err = newSoftKey(key)
		return k, err
	}
	k.expand(key)
	return k, nil
}

// NewBlockKey is CBC, and nothing else, of another cipher with blocks of 16 bytes:
// one message after another, among the jobs of a Lanes too.
func NewBlockKey(block cipher.Block) (*Key, error) {
	soft, err := newSoftCBC(block)
	return &Key{path: Generic, soft: soft}, err
}

// Path says how the key computes.
func (k *Key) Path() Path { return k.path }

// Wipe overwrites the schedule; the key must not be used again. On Generic the
// schedule inside gmsm is only let go.
func (k *Key) Wipe() {
	clear(k.enc[:])
	clear(k.dec[:])
	*k = Key{}
}

// expand is the key schedule of GB/T 32907 7.3.
func (k *Key) expand(key []byte) {
	fk := [4]uint32{0xa3b1bac6, 0x56aa3350, 0x677d9197, 0xb27022dc}
	var w [4]uint32
	for i := range w {
		w[i] = binary.BigEndian.Uint32(key[4*i:]) ^ fk[i]
	}
	for i := range 32 {
		// CK: byte j of constant i is (4i+j)*7.
		var ck uint32
		for j := range 4 {
			ck = ck<<8 | uint32(byte((4*i+j)*7))
		}
		t := substitute(w[1] ^ w[2] ^ w[3] ^ ck)
		next := w[0] ^ t ^ bits.RotateLeft32(t, 13) ^ bits.RotateLeft32(t, 23)
		w[0], w[1], w[2], w[3] = w[1], w[2], w[3], next
		rk := bits.ReverseBytes32(mapBytes(domain, next) ^ domainConst)
		k.enc[i], k.dec[31-i] = rk, rk
	}
	clear(w[:])
}

// mapBytes applies a linear map to the four bytes of x, without looking anything up.
func mapBytes(m [8]uint32, x uint32) (y uint32) {
	for i, column := range m {
		y ^= (x >> i & 0x01010101) * column
	}
	return y
}

// substitute is the S-box on four bytes, computed: keys choose no address.
func substitute(x uint32) uint32 {
	u := mapBytes(domain, x) ^ domainConst
	r := u // to the power of 254: 1/u, and 0 for 0
	for range 6 {
		r = mulBytes(mulBytes(r, r), u)
	}
	return mapBytes(post, mulBytes(r, r)) ^ postConst
}

// mulBytes multiplies four pairs of bytes in the field of AES.
func mulBytes(a, b uint32) (p uint32) {
	for i := range 8 {
		p ^= a & ((b >> i & 0x01010101) * 0xff)
		a = a&0x7f7f7f7f<<1 ^ (a>>7&0x01010101)*0x1b
	}
	return p
}

// DecryptCBC writes to dst the plaintext of src, an IV and whole blocks behind it.
// dst is 16 bytes shorter than src and either src without its IV or apart from it.
func (k *Key) DecryptCBC(dst, src []byte) {
	n := len(src) - BlockSize
	if n < 0 || n%BlockSize != 0 || len(dst) != n {
		panic("lanes: SM4-CBC takes whole blocks")
	}
	if k.soft != nil {
		k.soft.decrypt(dst, src)
		return
	}
	// From the end, for the sake of src in place: each block needs the one before.
	const chunk = 24 * BlockSize
	at := n % chunk
	if n >= chunk {
		cbcDecrypt(k.path, true, &k.dec, &dst[at], &src[at+BlockSize], n/chunk)
	}
	if at == 0 {
		return
	}
	// The beginning goes through memory of our own: the kernel writes whole groups.
	var in [chunk + BlockSize]byte
	var out [chunk]byte
	copy(in[:], src[:at+BlockSize])
	cbcDecrypt(k.path, at > 8*BlockSize, &k.dec, &out[0], &in[BlockSize], 1)
	copy(dst[:at], out[:])
	clear(out[:at])
}

// Counter writes to dst the stream of SM4 in counter mode over src: the last four
// bytes of iv count blocks (SP 800-38D 6.5) and are left at the next one. dst is as
// long as src and either src or apart from it.
func (k *Key) Counter(dst, src []byte, iv *[BlockSize]byte) {
	if len(dst) != len(src) {
		panic("lanes: counter mode keeps the length")
	}
	if k.soft != nil {
		k.soft.counter(dst, src, iv)
		return
	}
	if chunks := len(src) / (24 * BlockSize); chunks > 0 {
		counter(k.path, true, &k.enc, &dst[0], &src[0], iv, chunks)
		n := chunks * 24 * BlockSize
		dst, src = dst[n:], src[n:]
	}
	if len(src) == 0 {
		return
	}
	// The rest goes through memory of our own: the kernel writes whole groups.
	var buf [24 * BlockSize]byte
	start, used := binary.BigEndian.Uint32(iv[12:]), uint32(len(src)+BlockSize-1)/BlockSize
	copy(buf[:], src)
	counter(k.path, len(src) > 8*BlockSize, &k.enc, &buf[0], &buf[0], iv, 1)
	copy(dst, buf[:])
	binary.BigEndian.PutUint32(iv[12:], start+used)
	clear(buf[:])
}

// words are the words of a block as the kernels keep them.
func words(block []byte) (w [4]uint32) {
	for i := range w {
		w[i] = mapBytes(domain, binary.LittleEndian.Uint32(block[4*i:]))
	}
	return w
}

// cbcMode is a CBC mode of gmsm that takes a new IV for each packet: making a mode
// for each packet would allocate.
type cbcMode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}
