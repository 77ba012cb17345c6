package main

import "math/bits"

// matrix is a linear map of bytes: column i is the image of bit i.
type matrix [8]byte

func (m matrix) apply(x byte) (y byte) {
	for i, c := range m {
		if x>>i&1 != 0 {
			y ^= c
		}
	}
	return y
}

// after returns the map that does n first, then m.
func (m matrix) after(n matrix) (out matrix) {
	for i, c := range n {
		out[i] = m.apply(c)
	}
	return out
}

func (m matrix) inverse() (out matrix) {
	for x := range 256 {
		if y := m.apply(byte(x)); y != 0 && y&(y-1) == 0 {
			out[bits.TrailingZeros8(y)] = byte(x)
		}
	}
	return out
}

func (m matrix) plus(n matrix) (out matrix) {
	for i := range m {
		out[i] = m[i] ^ n[i]
	}
	return out
}

// linear reads a map off a function that is linear.
func linear(f func(byte) byte) (m matrix) {
	for i := range m {
		m[i] = f(1 << i)
	}
	return m
}

const (
	aesField = 0x11b
	sm4Field = 0x1f5 // GB/T 32907: x^8+x^7+x^6+x^5+x^4+x^2+1
	sm4Const = 0xd3
)

func mul(a, b byte, field int) byte {
	var p int
	for i := range 8 {
		if b>>i&1 != 0 {
			p ^= int(a) << i
		}
	}
	for i := 15; i >= 8; i-- {
		if p>>i&1 != 0 {
			p ^= field << (i - 8)
		}
	}
	return byte(p)
}

func invert(a byte, field int) byte {
	r := byte(1)
	for range 254 {
		r = mul(r, a, field)
	}
	return r
}

// sm4Affine is the linear part of the two equal affine maps of SM4's S-box, a
// circulant.
func sm4Affine() matrix {
	return linear(func(x byte) (y byte) {
		for i := range 8 {
			y |= byte(bits.OnesCount8(x&bits.RotateLeft8(0xa7, i))&1) << i
		}
		return y
	})
}

// aesAffine is the linear part of AES's S-box (FIPS 197 5.1.1).
func aesAffine() matrix {
	return linear(func(x byte) byte {
		return x ^ bits.RotateLeft8(x, 1) ^ bits.RotateLeft8(x, 2) ^ bits.RotateLeft8(x, 3) ^ bits.RotateLeft8(x, 4)
	})
}

// isomorphism maps SM4's field to that of AES: it sends x to a root of SM4's
// polynomial there. Any of the eight will do; the smallest is taken.
func isomorphism() (m matrix) {
	for root := 2; root < 256; root++ {
		sum, power := byte(0), byte(1)
		for i := range 9 {
			if sm4Field>>i&1 != 0 {
				sum ^= power
			}
			if i < 8 {
				m[i] = power
			}
			power = mul(power, byte(root), aesField)
		}
		if sum == 0 {
			return m
		}
	}
	panic("fields of equal size are isomorphic")
}

// algebra is SM4's round in the field of AES. The state words are kept as D·x, so
// that the S-box is
//
//	S(x) = post·(1/(D·x + in)) + out
//
// with the inverse in AES's field, and the bytes of the round's linear map L
// (rotations by 0, 2, 10, 18, 24) are, for the byte itself, the next two and the
// last: b0, b1, b1, b3, with b1 = b0 + b3: two maps and their sum do it all.
type algebra struct {
	d, dInverse, post matrix
	in, out           byte
	l0, l3            matrix // D·b0·post and D·b3·post
	carry             byte   // D·b1·out: what L makes of out
}

func newAlgebra() algebra {
	phi, a := isomorphism(), sm4Affine()
	g := algebra{d: phi.after(a), in: phi.apply(sm4Const), out: sm4Const, post: a.after(phi.inverse())}
	g.dInverse = g.d.inverse()
	b0 := linear(func(x byte) byte { return x ^ x<<2 })
	b3 := linear(func(x byte) byte { return x ^ x>>6 })
	g.l0, g.l3 = g.d.after(b0).after(g.post), g.d.after(b3).after(g.post)
	g.carry = g.d.apply(b0.plus(b3).apply(g.out))
	return g
}

// sbox is SM4's S-box by this algebra, to be checked against the standard's table.
func (g algebra) sbox(x byte) byte {
	return g.post.apply(invert(g.d.apply(x)^g.in, aesField)) ^ g.out
}

// nibbles are the two halves of a byte map as 16-byte tables.
func nibbles(f func(byte) byte) (lo, hi []byte) {
	for i := range 16 {
		lo = append(lo, f(byte(i)))
		hi = append(hi, f(byte(i<<4))^f(0))
	}
	return lo, hi
}

// gfni is a matrix as GF2P8AFFINEQB takes it: byte 7-i is the row of output bit i.
func (m matrix) gfni() []byte {
	row := make([]byte, 8)
	for i := range 8 {
		for j, c := range m {
			row[7-i] |= c >> i & 1 << j
		}
	}
	return row
}
