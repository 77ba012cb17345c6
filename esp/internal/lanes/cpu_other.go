//go:build !amd64

package lanes

// detect knows no kernel of our own here: gmsm brings what the processor has.
func detect() Path { return Generic }
