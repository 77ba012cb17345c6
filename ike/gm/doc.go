// Package gm is the arithmetic of GB/T 36968's key exchange: key derivation, IV
// chains, the digital envelope, field padding, signatures and hashes of both
// phases. Functions from bytes to bytes: it knows no message order, no peer, no
// clock. gmsm enters through sm.go alone.
package gm
