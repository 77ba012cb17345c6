package lanes

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

const (
	// TagSize is the tag of SM4-GCM in bytes.
	TagSize = 16
	// NonceSize is its nonce.
	NonceSize = 12
)

var errOpen = errors.New("tag does not match")

// GCM is SM4-GCM (SP 800-38D, RFC 8998) with nonces of 12 bytes and whole tags. It
// is a cipher.AEAD, for one goroutine at a time.
type GCM struct {
	key     *Key
	soft    cipher.AEAD  // Generic only
	powers  [16][16]byte // of the hash key, from the 16th to the first
	counter [BlockSize]byte
	// stream is the encrypted counter 1, which covers the tag, and what the first
	// blocks of the message are added to: one run of a kernel gives both.
	stream [24 * BlockSize]byte
	acc    [16]byte
	last   [16]byte
}

// NewGCM makes an SM4-GCM of a key of 16 bytes for a path, which must be one of
// Paths. It does not keep key.
func NewGCM(p Path, key []byte) (*GCM, error) {
	k, err := NewKey(p, key)
	if err != nil {
		return nil, err
	}
	g := &GCM{key: k}
	if k.soft != nil {
		g.soft, err = k.soft.gcm()
		return g, err
	}
	var hash, iv [BlockSize]byte
	k.Counter(hash[:], hash[:], &iv) // the block of zeros
	g.hashKey(&hash)
	clear(hash[:])
	return g, nil
}

// hashKey fills the table of powers. They are kept with a factor x and their bytes
// reversed, as the kernel multiplies.
func (g *GCM) hashKey(h *[16]byte) {
	hi, lo := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	carry := -(hi >> 63)
	hi, lo = hi<<1|lo>>63, lo<<1
	hi, lo = hi^carry&0xc200000000000000, lo^carry&1
	one := &g.powers[15]
	binary.LittleEndian.PutUint64(one[:], lo)
	binary.LittleEndian.PutUint64(one[8:], hi)
	var zero [16]byte
	for i := 14; i >= 0; i-- { // the kernel takes the last power for a block alone
		g.powers[i] = g.powers[i+1]
		ghash(g.key.path, &g.powers, &g.powers[i], &zero[0], 1)
	}
}

// NonceSize is 12.
func (g *GCM) NonceSize() int { return NonceSize }

// Overhead is the size of the tag, 16.
func (g *GCM) Overhead() int { return TagSize }

// Seal appends ciphertext and tag to dst, as cipher.AEAD says.
func (g *GCM) Seal(dst, nonce, plaintext, additional []byte) []byte {
	if g.soft != nil {
		return g.soft.Seal(dst, nonce, plaintext, additional)
	}
	n := len(plaintext)
	all, out := grow(dst, n+TagSize)
	g.start(nonce, n)
	g.crypt(out[:n], plaintext)
	g.tag(out[n:], out[:n], additional)
	clear(g.stream[:])
	return all
}

// Open checks the tag and then appends the plaintext to dst, as cipher.AEAD says.
func (g *GCM) Open(dst, nonce, ciphertext, additional []byte) ([]byte, error) {
	if g.soft != nil {
		return g.soft.Open(dst, nonce, ciphertext, additional)
	}
	n := len(ciphertext) - TagSize
	if n < 0 {
		return nil, errOpen
	}
	g.start(nonce, n)
	defer clear(g.stream[:])
	var tag [TagSize]byte
	g.tag(tag[:], ciphertext[:n], additional)
	if subtle.ConstantTimeCompare(tag[:], ciphertext[n:]) != 1 {
		return nil, errOpen
	}
	all, out := grow(dst, n)
	g.crypt(out, ciphertext[:n])
	return all, nil
}

// start makes the beginning of the stream for a message of n bytes.
func (g *GCM) start(nonce []byte, n int) {
	if len(nonce) != NonceSize {
		panic("lanes: SM4-GCM takes a nonce of 12 bytes")
	}
	copy(g.counter[:], nonce)
	binary.BigEndian.PutUint32(g.counter[12:], 1)
	counter(g.key.path, n > 7*BlockSize, &g.key.enc, &g.stream[0], &g.stream[0], &g.counter, 1)
}

// crypt adds the stream to src, from counter 2. Where the message goes beyond the
// beginning of the stream the counter stands behind that.
func (g *GCM) crypt(dst, src []byte) {
	n := subtle.XORBytes(dst, src, g.stream[BlockSize:])
	g.key.Counter(dst[n:], src[n:], &g.counter)
}

// tag writes the tag of a ciphertext.
func (g *GCM) tag(tag, ciphertext, additional []byte) {
	clear(g.acc[:])
	g.add(additional)
	g.add(ciphertext)
	binary.BigEndian.PutUint64(g.last[:], uint64(len(additional))*8)
	binary.BigEndian.PutUint64(g.last[8:], uint64(len(ciphertext))*8)
	ghash(g.key.path, &g.powers, &g.acc, &g.last[0], 1)
	for i := range tag[:TagSize] {
		tag[i] = g.acc[15-i] ^ g.stream[i]
	}
}

// add hashes b, filled up with zeros to whole blocks.
func (g *GCM) add(b []byte) {
	if n := len(b) / BlockSize; n > 0 {
		ghash(g.key.path, &g.powers, &g.acc, &b[0], n)
		b = b[n*BlockSize:]
	}
	if len(b) > 0 {
		clear(g.last[:])
		copy(g.last[:], b)
		ghash(g.key.path, &g.powers, &g.acc, &g.last[0], 1)
	}
}

// Wipe overwrites the schedule and the hash key; the key must not be used again.
func (g *GCM) Wipe() {
	if g.key != nil {
		g.key.Wipe()
	}
	clear(g.powers[:])
	clear(g.stream[:])
	clear(g.acc[:])
	*g = GCM{}
}

// grow returns dst with n more bytes, and these.
func grow(dst []byte, n int) (all, more []byte) {
	if cap(dst)-len(dst) < n {
		dst = append(make([]byte, 0, len(dst)+n), dst...)
	}
	all = dst[:len(dst)+n]
	return all, all[len(dst):]
}
