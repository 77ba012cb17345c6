package server

import "runtime"

// depth is more stack than a step of the engine with its effects uses.
const depth = 48 << 10

// scrub overwrites the stack below its caller. Boxed secrets are wiped, but calls
// that have returned leave copies of what they worked on in their dead frames.
// Before a step it also makes the stack large enough, for the collector takes half
// of it when little is in use: one that grows in the middle of a step is copied, and
// the old one freed as it is.
//
//go:noinline
func scrub() {
	var dead [depth]byte
	clear(dead[:])
	runtime.KeepAlive(&dead)
}
