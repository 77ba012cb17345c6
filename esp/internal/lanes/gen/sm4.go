package main

import "fmt"

// flavour is how a kernel computes SM4's S-box.
type flavour int

const (
	aesni flavour = iota // AES instruction on 128 bits, two for each register
	vaes                 // AES instruction on 256 bits
	gfni                 // inverse and affine map in one instruction, AVX-512VL encodings
)

// mode is what a kernel does around the 32 rounds.
type mode int

const (
	cbcEncrypt mode = iota // one message in each lane, each with its key
	cbcDecrypt             // consecutive blocks in the lanes, one key
	counter
)

// sm4 writes one kernel over groups of eight lanes. A group is four registers,
// which hold the four words of the state of its lanes; the words stay in memory
// order, so that the byte rotations of L run the other way round and nothing is
// ever swapped. Y12 to Y15 are scratch.
type sm4 struct {
	*emitter
	algebra
	flavour
	mode
	groups int
}

// Offsets in cbcLanes.
const (
	sm4Lanes  = 24
	cbcChain  = 32 * 4 * sm4Lanes
	cbcBuffer = cbcChain + 12*32
)

var scratch = [4]reg{12, 13, 14, 15}

// state is register w of group g.
func state(g, w int) reg { return reg(4*g + w) }

func (s *sm4) words(g int) [4]reg { return [4]reg{state(g, 0), state(g, 1), state(g, 2), state(g, 3)} }

// newSM4 opens the file of a flavour. What the rounds need comes first in the pool,
// within reach of one byte of displacement: with longer instructions the processor
// runs out of decoded ones before it runs out of arithmetic.
func newSM4(e *emitter, f flavour) *sm4 {
	s := &sm4{emitter: e, algebra: newAlgebra(), flavour: f, groups: 1}
	before := e.text.Len()
	if f == gfni {
		s.substituteGFNI(0, 0)
	} else {
		s.rotation(0)
		s.substituteAES(0, 0)
	}
	e.text.Truncate(before)
	return s
}

// both is a constant of 16 bytes for both halves of a register; half is loaded to
// both by its instruction.
func (s *sm4) both(name string, v []byte) string {
	return s.pooled(name, append(append([]byte(nil), v...), v...))
}

func (s *sm4) half(name string, v []byte) string { return s.pooled(name+"Half", v) }

func (s *sm4) function(name string) {
	switch s.mode {
	case cbcEncrypt:
		s.cbcEncrypt(name)
	case cbcDecrypt:
		s.cbcDecrypt(name)
	case counter:
		s.counter(name)
	}
}

func (s *sm4) cbcEncrypt(name string) {
	s.emitter.function(name, "s *cbcLanes, blocks int", 0, 16,
		fmt.Sprintf("encrypts blocks of each of the first %d lanes in place.", 8*s.groups))
	s.op("MOVQ", "s+0(FP)", "DI")
	s.op("LEAQ", s.poolMiddle(), "R11")
	s.op("MOVQ", "blocks+8(FP)", "CX")
	s.op("XORQ", "R8", "R8")
	s.loop("CX", func() {
		for g := range s.groups {
			for i := range 4 {
				s.lanePair(g, i)
				s.op("VMOVDQU", "(AX)(R8*1)", state(g, i).low())
				s.op("VINSERTI128", "$1", "(BX)(R8*1)", state(g, i), state(g, i))
			}
			s.enter(g)
			for w := range 4 {
				s.op("VPXOR", mem(cbcChain+32*(4*g+w), "DI"), state(g, w), state(g, w))
			}
		}
		s.rounds("DI", 4*sm4Lanes)
		for g := range s.groups {
			for w := range 4 {
				s.op("VMOVDQU", state(g, 3-w), mem(cbcChain+32*(4*g+w), "DI"))
			}
			for i, r := range s.leave(g) {
				s.lanePair(g, i)
				s.op("VMOVDQU", r.low(), "(AX)(R8*1)")
				s.op("VEXTRACTI128", "$1", r, "(BX)(R8*1)")
			}
		}
		s.op("ADDQ", "$16", "R8")
	})
	s.ret()
}

// lanePair loads the addresses of the lanes that share row i of group g.
func (s *sm4) lanePair(g, i int) {
	s.op("MOVQ", mem(cbcBuffer+8*(8*g+i), "DI"), "AX")
	s.op("MOVQ", mem(cbcBuffer+8*(8*g+i+4), "DI"), "BX")
}

// cbcDecrypt works from the end of the message to its beginning, so that in place
// the block before is still ciphertext when it is needed.
func (s *sm4) cbcDecrypt(name string) {
	s.emitter.function(name, "rk *[32]uint32, dst, src *byte, chunks int", 0, 32,
		fmt.Sprintf("decrypts chunks of %d blocks; src points behind its IV.", 8*s.groups))
	s.op("MOVQ", "rk+0(FP)", "DI")
	s.op("LEAQ", s.poolMiddle(), "R11")
	s.op("MOVQ", "dst+8(FP)", "BX")
	s.op("MOVQ", "src+16(FP)", "AX")
	s.op("MOVQ", "chunks+24(FP)", "CX")
	s.op("MOVQ", "CX", "R8")
	s.op("IMULQ", imm(128*s.groups), "R8")
	s.loop("CX", func() {
		s.op("SUBQ", imm(128*s.groups), "R8")
		for g := range s.groups {
			for i := range 4 {
				s.op("VMOVDQU", fmt.Sprintf("%d(AX)(R8*1)", 32*(4*g+i)), state(g, i))
			}
			s.enter(g)
		}
		s.rounds("DI", 4)
		for g := s.groups - 1; g >= 0; g-- {
			rows := s.leave(g)
			for i := 3; i >= 0; i-- {
				at := 32 * (4*g + i)
				s.op("VPXOR", fmt.Sprintf("%d(AX)(R8*1)", at-16), rows[i], rows[i])
				s.op("VMOVDQU", rows[i], fmt.Sprintf("%d(BX)(R8*1)", at))
			}
		}
	})
	s.ret()
}

func (s *sm4) counter(name string) {
	s.emitter.function(name, "rk *[32]uint32, dst, src *byte, iv *[16]byte, chunks int", 128, 40,
		fmt.Sprintf("encrypts chunks of %d blocks; the last four bytes of iv count (SP 800-38D inc32), in iv too.", 8*s.groups))
	s.op("MOVQ", "rk+0(FP)", "DI")
	s.op("LEAQ", s.poolMiddle(), "R11")
	s.op("MOVQ", "dst+8(FP)", "BX")
	s.op("MOVQ", "src+16(FP)", "AX")
	s.op("MOVQ", "iv+24(FP)", "SI")
	s.op("MOVQ", "chunks+32(FP)", "CX")
	s.op("MOVL", "12(SI)", "R10")
	s.op("BSWAPL", "R10")
	for w := range 3 {
		s.op("VPBROADCASTD", mem(4*w, "SI"), reg(0))
		s.into(reg(0))
		s.op("VMOVDQU", reg(0), mem(32*w, "SP"))
	}
	swap := s.both("swap", shuffle(func(i int) int { return i ^ 3 }))
	s.op("XORQ", "R8", "R8")
	s.loop("CX", func() {
		for g := range s.groups {
			for w := range 3 {
				s.op("VMOVDQU", mem(32*w, "SP"), state(g, w))
			}
			x := state(g, 3)
			s.op("VMOVD", "R10", x.low())
			s.op("VPBROADCASTD", x.low(), x)
			s.op("VPADDD", s.numbers(g), x, x)
			s.op("VPSHUFB", swap, x, x)
			s.into(x)
		}
		s.op("ADDL", imm(8*s.groups), "R10")
		s.rounds("DI", 4)
		for g := range s.groups {
			for i, r := range s.leave(g) {
				at := 32 * (4*g + i)
				s.op("VPXOR", fmt.Sprintf("%d(AX)(R8*1)", at), r, r)
				s.op("VMOVDQU", r, fmt.Sprintf("%d(BX)(R8*1)", at))
			}
		}
		s.op("ADDQ", imm(128*s.groups), "R8")
	})
	s.op("BSWAPL", "R10")
	s.op("MOVL", "R10", "12(SI)")
	s.ret()
}

// numbers are the places of a group's lanes when the blocks are consecutive: two
// neighbours share a row.
func (s *sm4) numbers(g int) string {
	b := make([]byte, 32)
	for i := range 8 {
		b[4*i] = byte(8*g + 2*(i%4) + i/4)
	}
	return s.pooled(fmt.Sprintf("numbers%d", g), b)
}

// enter turns four rows of a group into words of the state.
func (s *sm4) enter(g int) {
	s.transpose(s.words(g), scratch)
	for _, r := range s.words(g) {
		s.into(r)
	}
}

// leave turns the state into rows; the words of the result are in reverse (GB/T
// 32907 7.1).
func (s *sm4) leave(g int) [4]reg {
	w := s.words(g)
	rows := [4]reg{w[3], w[2], w[1], w[0]}
	for _, r := range rows {
		s.byteMap("out", s.dInverse, r)
	}
	s.transpose(rows, scratch)
	return rows
}

func (s *sm4) into(x reg) { s.byteMap("in", s.d, x) }

// byteMap maps each byte of x.
func (s *sm4) byteMap(name string, m matrix, x reg) {
	if s.flavour == gfni {
		s.op("VGF2P8AFFINEQB", "$0", s.square(name, m), x, x)
		return
	}
	s.split(x, 12, 13, 15)
	s.lookup(name, m.apply, 12, 13, x, 15)
}

func (s *sm4) square(name string, m matrix) string {
	row := m.gfni()
	return s.both(name+"Matrix", append(row, row...))
}

// split leaves the halves of each byte of x in lo and hi, which may be x.
func (s *sm4) split(x, lo, hi, tmp reg) {
	s.op("VBROADCASTI128", s.half("nibble", shuffle(func(int) int { return 15 })), tmp)
	s.op("VPAND", tmp, x, lo)
	s.op("VPSRLD", "$4", x, hi)
	s.op("VPAND", tmp, hi, hi)
}

// lookup is dst = f of the bytes whose halves are lo and hi: two tables of 16 bytes
// in registers, so that no address depends on a secret.
func (s *sm4) lookup(name string, f func(byte) byte, lo, hi, dst, tmp reg) {
	a, b := nibbles(f)
	s.op("VBROADCASTI128", s.half(name+"Lo", a), dst)
	s.op("VPSHUFB", lo, dst, dst)
	s.op("VBROADCASTI128", s.half(name+"Hi", b), tmp) // not before: tmp may be lo
	s.op("VPSHUFB", hi, tmp, tmp)
	s.op("VPXOR", tmp, dst, dst)
}

// rounds are the 32 rounds; the round keys of a round are stride bytes apart.
func (s *sm4) rounds(keys string, stride int) {
	s.op("MOVQ", keys, "R9")
	s.op("MOVQ", "$8", "DX")
	s.loop("DX", func() {
		for i := range 4 {
			for g := range s.groups {
				w := s.words(g)
				s.round([4]reg{w[i], w[(i+1)%4], w[(i+2)%4], w[(i+3)%4]}, g)
			}
			s.op("ADDQ", imm(stride), "R9")
		}
	})
}

// round is x0 ^= L(S(x1 ^ x2 ^ x3 ^ rk)) for one group. The newest word, x3, joins
// last: the round before may still be at work on it.
func (s *sm4) round(x [4]reg, g int) {
	t := scratch[0]
	if s.mode == cbcEncrypt {
		s.op("VPXOR", mem(32*g, "R9"), x[1], t)
	} else {
		s.op("VPBROADCASTD", mem(0, "R9"), t)
		s.op("VPXOR", x[1], t, t)
	}
	if s.flavour == gfni {
		s.op("VPTERNLOGD", "$0x96", x[3], x[2], t)
		s.substituteGFNI(t, x[0])
		return
	}
	s.op("VPXOR", x[2], t, t)
	s.op("VPXOR", x[3], t, t)
	s.substituteAES(t, x[0])
}

// substituteGFNI adds L(S(t)) to x.
func (s *sm4) substituteGFNI(t, x reg) {
	a, b, c := scratch[1], scratch[2], scratch[3]
	s.op("VGF2P8AFFINEINVQB", "$0", s.square("l3", s.l3), t, a)
	s.op("VGF2P8AFFINEINVQB", imm(int(s.carry)), s.square("l0", s.l0), t, t)
	s.op("VPXOR", a, t, b)
	s.op("VPROLD", "$8", a, a) // bytes are in memory order: the last byte comes from 8 bits below
	s.op("VPROLD", "$16", b, c)
	s.op("VPROLD", "$24", b, b)
	s.op("VPTERNLOGD", "$0x96", a, t, x)
	s.op("VPTERNLOGD", "$0x96", b, c, x)
}

// substituteAES adds L(S(t)) to x. The AES instruction is ShiftRows, S-box and a
// key, here zero; the shuffles of L undo ShiftRows on the way, and the nibble
// tables take AES's affine map back and apply SM4's and L's.
func (s *sm4) substituteAES(t, x reg) {
	a, b, c := scratch[1], scratch[2], scratch[3]
	zero := s.both("zero", make([]byte, 16))
	if s.flavour == vaes {
		s.op("VAESENCLAST", zero, t, t)
	} else {
		s.op("VEXTRACTI128", "$1", t, a.low())
		s.op("VAESENCLAST", zero, t.low(), t.low())
		s.op("VAESENCLAST", zero, a.low(), a.low())
		s.op("VINSERTI128", "$1", a.low(), t, t)
	}
	s.split(t, a, t, c)
	undo := aesAffine().inverse()
	inverse := func(y byte) byte { return undo.apply(y ^ 0x63) }
	s.lookup("l0", func(y byte) byte { return s.l0.apply(inverse(y)) ^ s.carry }, a, t, b, c)
	s.op("VPSHUFB", s.rotation(0), b, c)
	s.op("VPXOR", c, x, x)
	// b stays: the map for the middle bytes is the sum of the other two.
	s.lookup("l3", func(y byte) byte { return s.l3.apply(inverse(y)) }, a, t, c, a)
	s.op("VPXOR", c, b, b)
	s.op("VPSHUFB", s.rotation(3), c, c)
	s.op("VPXOR", c, x, x)
	s.op("VPSHUFB", s.rotation(1), b, t)
	s.op("VPSHUFB", s.rotation(2), b, b)
	s.op("VPXOR", t, x, x)
	s.op("VPXOR", b, x, x)
}

// rotation takes byte j of each word from byte j+k of it, as it stood before
// ShiftRows.
func (s *sm4) rotation(k int) string {
	return s.both(fmt.Sprintf("rotation%d", k), shuffle(func(i int) int {
		column, row := i/4, (i%4+k)%4
		return 4*((column-row+4)%4) + row
	}))
}
