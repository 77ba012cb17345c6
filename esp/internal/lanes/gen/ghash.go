package main

import "fmt"

// ghash writes the universal hash of GCM by carry-less multiplication (SP 800-38D
// 6.4). Blocks are read with their bytes reversed, so that bits stand in the order
// of the multiplier, and the powers of H carry a factor x that makes up for the
// one place a product of reflected polynomials is short of.
type ghash struct {
	*emitter
	wide bool // two blocks in each register
}

// ghashPowers is how many blocks share one reduction; the table holds that many
// powers of H, the highest first.
const ghashPowers = 16

const (
	sumLow reg = iota
	sumHigh
	sumMiddle
	block
	product
	power
	reverse
	poly
	total
)

func (h *ghash) function(name string) {
	h.emitter.function(name, "powers *[16][16]byte, acc *[16]byte, data *byte, blocks int", 0, 32,
		"adds blocks of 16 bytes to acc, which is kept with its bytes reversed.")
	h.op("MOVQ", "powers+0(FP)", "DI")
	h.op("MOVQ", "acc+8(FP)", "SI")
	h.op("MOVQ", "data+16(FP)", "AX")
	h.op("MOVQ", "blocks+24(FP)", "CX")
	h.op("VMOVDQU", h.twice("reverse", shuffle(func(i int) int { return 15 - i })), reverse)
	h.op("VMOVDQU", h.twice("poly", []byte{0: 1, 15: 0xc2}), poly)
	h.op("VMOVDQU", "(SI)", total.low())
	h.op("MOVQ", "CX", "R8")
	h.op("SHRQ", "$4", "R8")
	h.op("JZ", "tail")
	h.loop("R8", func() {
		h.clear()
		h.many()
		h.reduce()
		h.op("ADDQ", imm(16*ghashPowers), "AX")
	})
	fmt.Fprintln(&h.text, "tail:")
	h.op("ANDQ", "$15", "CX")
	h.op("JZ", "done")
	h.op("MOVQ", "CX", "R9") // the last block meets the first power: start at 16-n
	h.op("SHLQ", "$4", "R9")
	h.op("ADDQ", imm(16*ghashPowers), "DI")
	h.op("SUBQ", "R9", "DI")
	h.clear()
	h.loop("CX", func() {
		h.op("VMOVDQU", "(AX)", block.low())
		h.op("VPSHUFB", reverse.low(), block.low(), block.low())
		h.op("VPXOR", total.low(), block.low(), block.low())
		h.op("VPXOR", total.low(), total.low(), total.low()) // only the first block takes it
		h.op("VMOVDQU", "(DI)", power.low())
		h.product(false)
		h.op("ADDQ", "$16", "AX")
		h.op("ADDQ", "$16", "DI")
	})
	h.reduce()
	fmt.Fprintln(&h.text, "done:")
	h.op("VMOVDQU", total.low(), "(SI)")
	h.ret()
}

func (h *ghash) clear() {
	for _, r := range []reg{sumLow, sumHigh, sumMiddle} {
		h.op("VPXOR", r, r, r)
	}
}

// many adds the products of 16 blocks.
func (h *ghash) many() {
	step, name := 16, reg.low
	if h.wide {
		step, name = 32, reg.String
	}
	for at := 0; at < 16*ghashPowers; at += step {
		h.op("VMOVDQU", mem(at, "AX"), name(block))
		h.op("VPSHUFB", name(reverse), name(block), name(block))
		if at == 0 {
			h.op("VPXOR", name(total), name(block), name(block)) // the upper half of total is 0
		}
		h.op("VMOVDQU", mem(at, "DI"), name(power))
		h.product(h.wide)
	}
	if h.wide {
		for _, r := range []reg{sumLow, sumHigh, sumMiddle} {
			h.op("VEXTRACTI128", "$1", r, product.low())
			h.op("VPXOR", product.low(), r.low(), r.low())
		}
	}
}

// product adds block times power to the sums.
func (h *ghash) product(wide bool) {
	for _, part := range []struct {
		halves int
		sum    reg
	}{{0x00, sumLow}, {0x11, sumHigh}, {0x01, sumMiddle}, {0x10, sumMiddle}} {
		if wide {
			h.multiplyWide(part.halves, power, block, product)
			h.op("VPXOR", product, part.sum, part.sum)
			continue
		}
		h.op("VPCLMULQDQ", fmt.Sprintf("$0x%02x", part.halves), power.low(), block.low(), product.low())
		h.op("VPXOR", product.low(), part.sum.low(), part.sum.low())
	}
}

// multiplyWide is VPCLMULQDQ on 256 bits in its VEX encoding, which does not need
// AVX-512; Go's assembler only has the other. Registers below 8 only.
func (h *ghash) multiplyWide(halves int, src, with, dst reg) {
	code := []int{0xc4, 0xe3, 0x05 | (^int(with)&15)<<3, 0x44, 0xc0 | int(dst)<<3 | int(src), halves}
	h.text.WriteString("\t")
	for i, b := range code {
		if i > 0 {
			h.text.WriteString("; ")
		}
		fmt.Fprintf(&h.text, "BYTE $0x%02x", b)
	}
	fmt.Fprintf(&h.text, " // VPCLMULQDQ $0x%02x, %v, %v, %v\n", halves, src, with, dst)
}

// reduce brings the three sums to 128 bits, in total.
func (h *ghash) reduce() {
	x := reg.low
	h.op("VPSLLDQ", "$8", x(sumMiddle), x(product))
	h.op("VPXOR", x(product), x(sumLow), x(sumLow))
	h.op("VPSRLDQ", "$8", x(sumMiddle), x(sumMiddle))
	h.op("VPXOR", x(sumMiddle), x(sumHigh), x(sumHigh))
	for range 2 {
		h.op("VPCLMULQDQ", "$0x10", x(poly), x(sumLow), x(product))
		h.op("VPSHUFD", "$78", x(sumLow), x(sumLow))
		h.op("VPXOR", x(product), x(sumLow), x(sumLow))
	}
	h.op("VPXOR", x(sumLow), x(sumHigh), x(total))
}
