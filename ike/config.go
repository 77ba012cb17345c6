package ike

import (
	"io"

	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

// PeerFiles are certificates that the entry of a peer names, as DER.
type PeerFiles struct {
	Sign, Enc []byte   // of the peer, for one that does not send them; both or neither
	Chain     [][]byte // intermediates of ours that are sent to it
}

// Config is what an engine works from. It is not changed by the engine and must
// not be changed by the caller; replace it with Reload.
type Config struct {
	Policy *policy.Policy
	// Own are our two certificates; their private keys stay behind PrivateOp.
	Own trust.Pair
	// Verifiers holds one verifier for each peer of the policy that has certificates,
	// by name.
	Verifiers map[string]*trust.Verifier
	// Files holds, by name of the peer, what its entry names besides the anchor.
	Files map[string]PeerFiles
	// PreShared holds the keys of peers that have one instead of certificates
	// (profile rfc2409-psk), by name. They stay the caller's, who wipes them.
	PreShared map[string]secret.Secret
	// Learned is what an earlier engine told in DialectLearned, the newest last. A
	// Reload does not change what is learned.
	Learned []Learned
	// Hear asks for Output.Heard; nil: nobody listens.
	Hear *Hearing
	// Rand is the source of cookies, nonces, Sk, SPIs, message IDs and jitter.
	Rand io.Reader
	// Ports are ours and those of every peer; zero: 500 and 4500.
	Ports Ports
	// PathMTU is the largest packet outside that we would send, in bytes, headers
	// included; 0: 1500. No path is tried with more.
	PathMTU int
}
