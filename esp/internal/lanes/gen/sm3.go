package main

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// sm3 writes the compression of eight messages at once. Each register holds one
// word of the state of all eight lanes.
//
// wide uses the rotations and three-input logic of AVX-512VL on 256-bit
// registers; without it a rotation is two shifts and an or, and a rotation by 8
// one byte shuffle, which P0 and P1 are arranged around.
type sm3 struct {
	*emitter
	wide  bool
	rotl8 string
	swap  string
}

const (
	sm3Messages = 256 // offset of the lanes' pointers behind 8 words of state
	sm3Words    = 68
)

// The registers: A to D and E to H change their roles from round to round.
const (
	t0 reg = 8 + iota
	t1
	t2
	t3
	t4
	t5
)

func (s *sm3) function(name string) {
	s.rotl8 = s.twice("rotl8", shuffle(func(i int) int { return i&^3 | (i+3)&3 }))
	s.swap = s.twice("swap", shuffle(func(i int) int { return i ^ 3 }))
	s.emitter.function(name, "s *sm3Lanes, blocks int", sm3Words*32+32, 16,
		"compresses blocks of 64 bytes of each of the eight messages.")
	s.op("MOVQ", "s+0(FP)", "DI")
	s.op("MOVQ", "blocks+8(FP)", "CX")
	s.op("LEAQ", "31(SP)", "SI")
	s.op("ANDQ", "$~31", "SI")
	s.op("XORQ", "R8", "R8")
	s.loop("CX", func() {
		for piece := range 4 {
			s.message(piece)
		}
		for i := range 8 {
			s.op("VMOVDQU", mem(32*i, "DI"), reg(i))
		}
		s.op("LEAQ", s.constants(), "R9")
		s.op("MOVQ", "SI", "R10")
		s.op("MOVQ", "$3", "DX")
		s.loop("DX", func() { s.four(false, false) })
		s.four(true, false)
		s.op("MOVQ", "$12", "DX")
		s.loop("DX", func() { s.four(true, true) })
		for i := range 8 {
			s.op("VPXOR", mem(32*i, "DI"), reg(i), reg(i))
			s.op("VMOVDQU", reg(i), mem(32*i, "DI"))
		}
		s.op("ADDQ", "$64", "R8")
	})
	s.ret()
}

// shuffle is a byte shuffle: byte i comes from from(i).
func shuffle(from func(int) int) []byte {
	b := make([]byte, 16)
	for i := range b {
		b[i] = byte(from(i))
	}
	return b
}

// constants are T_j <<< j of GB/T 32905.
func (s *sm3) constants() string {
	var b []byte
	for j := range 64 {
		t := uint32(0x79cc4519)
		if j >= 16 {
			t = 0x7a879d8a
		}
		b = binary.LittleEndian.AppendUint32(b, bits.RotateLeft32(t, j))
	}
	return s.constant("sm3T", b)
}

// message gathers words 4*piece to 4*piece+3 of the eight lanes.
func (s *sm3) message(piece int) {
	for i := range 4 {
		s.op("MOVQ", mem(sm3Messages+8*i, "DI"), "AX")
		s.op("MOVQ", mem(sm3Messages+8*(i+4), "DI"), "BX")
		s.op("VMOVDQU", fmt.Sprintf("%d(AX)(R8*1)", 16*piece), reg(i).low())
		s.op("VINSERTI128", "$1", fmt.Sprintf("%d(BX)(R8*1)", 16*piece), reg(i), reg(i))
		s.op("VPSHUFB", s.swap, reg(i), reg(i))
	}
	s.transpose([4]reg{0, 1, 2, 3}, [4]reg{t0, t1, t2, t3})
	for i := range 4 {
		s.op("VMOVDQA", reg(i), mem(32*(4*piece+i), "SI"))
	}
}

// transpose turns four rows of four words, in each half, into columns.
func (e *emitter) transpose(x, t [4]reg) {
	e.op("VPUNPCKLDQ", x[1], x[0], t[0])
	e.op("VPUNPCKHDQ", x[1], x[0], t[1])
	e.op("VPUNPCKLDQ", x[3], x[2], t[2])
	e.op("VPUNPCKHDQ", x[3], x[2], t[3])
	e.op("VPUNPCKLQDQ", t[2], t[0], x[0])
	e.op("VPUNPCKHQDQ", t[2], t[0], x[1])
	e.op("VPUNPCKLQDQ", t[3], t[1], x[2])
	e.op("VPUNPCKHQDQ", t[3], t[1], x[3])
}

func (s *sm3) four(expand, late bool) {
	for i := range 4 {
		s.round(i, expand, late)
	}
	s.op("ADDQ", "$128", "R10")
	s.op("ADDQ", "$16", "R9")
}

// rotl is dst = src <<< n, with tmp overwritten; dst may be src.
func (s *sm3) rotl(n int, src, dst, tmp reg) {
	switch {
	case s.wide:
		s.op("VPROLD", imm(n), src, dst)
	case n == 8:
		s.op("VPSHUFB", s.rotl8, src, dst)
	default:
		s.op("VPSRLD", imm(32-n), src, tmp)
		s.op("VPSLLD", imm(n), src, dst)
		s.op("VPOR", tmp, dst, dst)
	}
}

// permute is x ^ (x <<< n) ^ (x <<< n+8): P0 with n = 9, P1 with n = 15.
func (s *sm3) permute(n int, x, a, b reg) {
	if s.wide {
		s.op("VPROLD", imm(n), x, a)
		s.op("VPROLD", imm(n+8), x, b)
		s.op("VPTERNLOGD", "$0x96", b, a, x)
		return
	}
	s.rotl(8, x, a, b)
	s.op("VPXOR", x, a, a)
	s.rotl(n, a, a, b)
	s.op("VPXOR", a, x, x)
}

// round is round i of four, of which the words are at R10 and the constants at R9.
func (s *sm3) round(i int, expand, late bool) {
	role := func(base, k int) reg { return reg(base + (k-i+4)%4) }
	a, b, c, d := role(0, 0), role(0, 1), role(0, 2), role(0, 3)
	e, f, g, h := role(4, 0), role(4, 1), role(4, 2), role(4, 3)
	w := func(k int) string { return mem(32*(i+k), "R10") }
	if expand {
		s.expand(w)
	} else {
		s.op("VMOVDQA", w(4), t5)
	}
	s.op("VMOVDQA", w(0), t4)
	s.op("VPXOR", t4, t5, t5) // W'
	s.op("VPADDD", t4, h, h)
	s.op("VPADDD", t5, d, d)
	s.op("VPBROADCASTD", mem(4*i, "R9"), t1)
	s.rotl(12, a, t0, t2)
	s.op("VPADDD", t0, t1, t1)
	s.op("VPADDD", e, t1, t1) // last: it is the word that was ready last
	s.rotl(7, t1, t1, t2)
	s.op("VPXOR", t1, t0, t0) // t1 is SS1, t0 SS2
	s.booleans(late, [6]reg{a, b, c, e, f, g})
	s.op("VPADDD", t2, d, d)
	s.op("VPADDD", t3, h, h)
	s.op("VPADDD", t0, d, d)
	s.op("VPADDD", t1, h, h)
	s.permute(9, h, t0, t1)
	s.rotl(9, b, b, t2)
	s.rotl(19, f, f, t3)
}

// booleans leaves FF in t2 and GG in t3.
func (s *sm3) booleans(late bool, x [6]reg) {
	a, b, c, e, f, g := x[0], x[1], x[2], x[3], x[4], x[5]
	switch {
	case s.wide:
		ff, gg := "$0x96", "$0x96"
		if late {
			ff, gg = "$0xe8", "$0xca"
		}
		s.op("VMOVDQA", a, t2)
		s.op("VPTERNLOGD", ff, c, b, t2)
		s.op("VMOVDQA", e, t3)
		s.op("VPTERNLOGD", gg, g, f, t3)
	case !late:
		s.op("VPXOR", a, b, t2)
		s.op("VPXOR", c, t2, t2)
		s.op("VPXOR", e, f, t3)
		s.op("VPXOR", g, t3, t3)
	default:
		s.op("VPXOR", b, c, t2) // where a and b differ from c, it is outvoted
		s.op("VPXOR", a, c, t3)
		s.op("VPAND", t3, t2, t2)
		s.op("VPXOR", c, t2, t2)
		s.op("VPXOR", f, g, t3)
		s.op("VPAND", e, t3, t3)
		s.op("VPXOR", g, t3, t3)
	}
}

// expand leaves the word four rounds ahead in t5 and in memory.
func (s *sm3) expand(w func(int) string) {
	s.op("VMOVDQA", w(1), t5)
	s.rotl(15, t5, t5, t4)
	s.op("VPXOR", w(-12), t5, t5)
	s.op("VPXOR", w(-5), t5, t5)
	s.permute(15, t5, t3, t4)
	s.op("VMOVDQA", w(-9), t4)
	s.rotl(7, t4, t4, t3)
	s.op("VPXOR", t4, t5, t5)
	s.op("VPXOR", w(-2), t5, t5)
	s.op("VMOVDQA", t5, w(4))
}
