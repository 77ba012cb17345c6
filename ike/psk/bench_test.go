package psk

import (
	"bytes"
	"testing"
)

// What a forged M3 costs at most: two of these, outside of Step.
func BenchmarkRaise(b *testing.B) {
	exponent := bytes.Repeat([]byte{0x5a}, ExponentLen)
	public, err := Raise(nil, exponent)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Raise(public, exponent); err != nil {
			b.Fatal(err)
		}
	}
}
