// Package probe finds out how a far end speaks: as one that is called (Listener),
// or one that calls (Dialer). Conform plays a peer of any dialect for others.
//
// All three are pure machines: datagrams and moments come in, datagrams go out.
// Each drives engines of package ike and carries out nothing that they ask of a
// data plane, so nothing is ever protected, or sent, by what is negotiated here.
// They say what was seen, what was accepted, and of the rest why it cannot be told.
package probe

import (
	"net/netip"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// Config is what a probe works from.
type Config struct {
	// Engine is the configuration of the engines: own certificates, verifiers, files
	// and randomness. Its Policy holds the entry of the peer first, and its tunnels.
	// A Dialer without Credentials needs only Rand of it.
	Engine ike.Config
	// Credentials lets a Dialer go beyond message 1: with our certificates, as a
	// peer that the far end knows.
	Credentials bool
	// Remote is the one address that a Dialer sends to, and that a Listener answers;
	// a Listener with an unspecified one answers every caller.
	Remote netip.Addr
	// UserIDs are tried for signatures besides the default one (sm2_id).
	UserIDs []string
	// Exhaustive lets a Dialer try every combination, not only the likeliest 12
	// handshakes.
	Exhaustive bool
	// Wait is how long the far end is listened to once a session stands, for what it
	// says late (dead peer detection); zero: 35 s.
	Wait time.Duration
}

const standardWait = 35 * time.Second

func (c Config) wait() time.Duration {
	if c.Wait > 0 {
		return c.Wait
	}
	return standardWait
}

// peer is the entry of the far end.
func (c Config) peer() policy.Peer { return c.Engine.Policy.Peers[0] }

// Machine is a probe as a server drives it: like an engine, until it is done.
type Machine interface {
	// Step takes one input at a moment, as ike.Engine does. Effects of the output
	// are never those of a data plane.
	Step(now time.Time, in ike.Input) ike.Output
	// Status is that of the engine that runs now.
	Status() ike.Status
	// Done reports whether nothing more will come of it.
	Done() bool
}
