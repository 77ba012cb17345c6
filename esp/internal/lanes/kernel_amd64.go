package lanes

// cbcEncrypt runs the kernel of 8, 16 or 24 lanes.
func cbcEncrypt(p Path, groups int, s *cbcLanes, blocks int) {
	switch {
	case p == GFNI && groups == 3:
		cbcEncrypt24GFNI(s, blocks)
	case p == GFNI && groups == 2:
		cbcEncrypt16GFNI(s, blocks)
	case p == GFNI:
		cbcEncrypt8GFNI(s, blocks)
	case p == VAES && groups == 3:
		cbcEncrypt24VAES(s, blocks)
	case p == VAES && groups == 2:
		cbcEncrypt16VAES(s, blocks)
	case p == VAES:
		cbcEncrypt8VAES(s, blocks)
	case groups == 3:
		cbcEncrypt24AESNI(s, blocks)
	case groups == 2:
		cbcEncrypt16AESNI(s, blocks)
	default:
		cbcEncrypt8AESNI(s, blocks)
	}
}

// cbcDecrypt runs the kernel of 24 blocks (wide) or 8.
func cbcDecrypt(p Path, wide bool, rk *[32]uint32, dst, src *byte, chunks int) {
	switch {
	case p == GFNI && wide:
		cbcDecrypt24GFNI(rk, dst, src, chunks)
	case p == GFNI:
		cbcDecrypt8GFNI(rk, dst, src, chunks)
	case p == VAES && wide:
		cbcDecrypt24VAES(rk, dst, src, chunks)
	case p == VAES:
		cbcDecrypt8VAES(rk, dst, src, chunks)
	case wide:
		cbcDecrypt24AESNI(rk, dst, src, chunks)
	default:
		cbcDecrypt8AESNI(rk, dst, src, chunks)
	}
}

// counter runs the kernel of 24 blocks (wide) or 8.
func counter(p Path, wide bool, rk *[32]uint32, dst, src *byte, iv *[16]byte, chunks int) {
	switch {
	case p == GFNI && wide:
		counter24GFNI(rk, dst, src, iv, chunks)
	case p == GFNI:
		counter8GFNI(rk, dst, src, iv, chunks)
	case p == VAES && wide:
		counter24VAES(rk, dst, src, iv, chunks)
	case p == VAES:
		counter8VAES(rk, dst, src, iv, chunks)
	case wide:
		counter24AESNI(rk, dst, src, iv, chunks)
	default:
		counter8AESNI(rk, dst, src, iv, chunks)
	}
}

func compress(p Path, s *sm3Lanes, blocks int) {
	if p == GFNI {
		sm3AVX512(s, blocks)
		return
	}
	sm3AVX2(s, blocks)
}

func ghash(p Path, powers *[16][16]byte, acc *[16]byte, data *byte, blocks int) {
	if p == AESNI {
		ghashPCLMUL(powers, acc, data, blocks)
		return
	}
	ghashVPCLMUL(powers, acc, data, blocks)
}
