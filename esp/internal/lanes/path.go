package lanes

// Path is one way to compute SM4, SM3 and GHASH. Each one needs all that the one
// before it needs.
type Path uint8

const (
	// Generic is gmsm, packet by packet: on any processor, with the instructions
	// that gmsm itself finds there. Its SM4-CBC encryption looks up tables by secret
	// bytes where it has no instruction for SM4.
	Generic Path = iota
	// AESNI is AVX2 with the 128-bit AES and carry-less multiply instructions.
	AESNI
	// VAES has these two instructions on 256 bits.
	VAES
	// GFNI has the Galois field instructions and AVX-512VL. It uses no 512-bit
	// register, for the sake of the processors that slow down for them.
	GFNI
)

// String is the word of a path in tables and logs.
func (p Path) String() string {
	switch p {
	case AESNI:
		return "aesni"
	case VAES:
		return "vaes"
	case GFNI:
		return "gfni"
	}
	return "generic"
}

// ConstantTime says whether neither the time nor the memory addresses of a path
// depend on keys or data. Of Generic it cannot be said.
func (p Path) ConstantTime() bool { return p != Generic }

var best = detect()

// Best is the fastest path of this machine.
func Best() Path { return best }

// Paths are all paths that run on this machine, the slowest first.
func Paths() (list []Path) {
	for p := Generic; p <= best; p++ {
		list = append(list, p)
	}
	return list
}
