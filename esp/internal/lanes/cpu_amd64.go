package lanes

func cpuid(leaf, sub uint32) (a, b, c, d uint32)
func xgetbv() (low uint32)

// detect asks the processor what it has, and the operating system which registers
// it saves (XCR0).
func detect() Path {
	top, _, _, _ := cpuid(0, 0)
	_, _, c1, _ := cpuid(1, 0)
	const pclmul, ssse3, aes, osxsave, avx = 1 << 1, 1 << 9, 1 << 25, 1 << 27, 1 << 28
	if top < 7 || !all(c1, pclmul|ssse3|aes|osxsave|avx) {
		return Generic
	}
	saved := xgetbv()
	const xmm, ymm, opmask, zmm = 1 << 1, 1 << 2, 1 << 5, 1<<6 | 1<<7
	_, b7, c7, _ := cpuid(7, 0)
	const avx2 = 1 << 5
	const avx512f, avx512bw, avx512vl = 1 << 16, 1 << 30, 1 << 31
	const gfni, vaes, vpclmul = 1 << 8, 1 << 9, 1 << 10
	switch {
	case !all(saved, xmm|ymm) || !all(b7, avx2):
		return Generic
	case !all(c7, vaes|vpclmul):
		return AESNI
	case !all(saved, opmask|zmm) || !all(b7, avx512f|avx512bw|avx512vl) || !all(c7, gfni):
		return VAES
	}
	return GFNI
}

func all(have, want uint32) bool { return have&want == want }
