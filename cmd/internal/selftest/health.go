package selftest

import "fmt"

// The health tests of SP 800-90B 4.4 at start-up, over bytes that the operating
// system's generator promises to be full-entropy: H = 8 bits for each 8-bit
// sample. The false alarm rate is alpha = 2^-40 for each test, so that the
// 65,536 samples together raise a false alarm less than once in 2^23 starts.
const (
	sampleSize = 64 << 10

	// repetitionCutoff is C = 1 + ceil(-log2(alpha) / H) = 1 + 40/8 (4.4.1): so
	// many equal bytes in a row are a fault.
	repetitionCutoff = 6

	// window is W for samples that are not binary (4.4.2).
	window = 512

	// proportionCutoff is C = 1 + critbinom(W, 2^-H, 1-alpha) = 1 + 18 (4.4.2):
	// so often may the first byte of a window not appear in it.
	proportionCutoff = 19
)

// repetitionCount is the test of 4.4.1.
func repetitionCount(sample []byte) error {
	run := 0
	for i, b := range sample {
		if i > 0 && b == sample[i-1] {
			run++
		} else {
			run = 1
		}
		if run >= repetitionCutoff {
			return fmt.Errorf("%d equal bytes in a row at offset %d", run, i-run+1)
		}
	}
	return nil
}

// adaptiveProportion is the test of 4.4.2 over consecutive windows.
func adaptiveProportion(sample []byte) error {
	for at := 0; at+window <= len(sample); at += window {
		n := 0
		for _, b := range sample[at : at+window] {
			if b == sample[at] {
				n++
			}
		}
		if n >= proportionCutoff {
			return fmt.Errorf("one byte fills %d of %d places at offset %d", n, window, at)
		}
	}
	return nil
}
