package ike

import (
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/ike/psk"
	"yumen/policy"
	"yumen/policy/secret"
)

// Input is one stimulus of the engine.
type Input interface{ input() }

// Datagram is a UDP datagram as it was received or is to be sent, without the
// non-ESP marker: Ports.NAT at our side implies the marker on the wire. When
// sending, a Local address that is unspecified leaves the choice to the kernel.
type Datagram struct {
	Local, Remote netip.AddrPort
	Data          []byte
	// Probe: to be sent whole, with DF set in IPv4, however small the path is
	// believed to be, or not at all.
	Probe bool
	// Door is what Engine.Door said of a datagram that was received. Unasked: the
	// engine asks when it takes it.
	Door Verdict
}

// Start asks for a tunnel to be up, whatever its start mode (operator's "up").
type Start struct{ Tunnel string }

// Stop takes one tunnel down and keeps it down until Start. With an empty Tunnel
// it ends everything: deletes are sent and the engine starts nothing more.
type Stop struct{ Tunnel string }

// Rekey replaces the session keys of a tunnel now, or with Session the working
// keys of its peer: make before break.
type Rekey struct {
	Tunnel  string
	Session bool
}

// Resolved answers a Resolve effect: the addresses to use for one attempt. Err wraps
// ErrAway where our own is not on this host.
type Resolved struct {
	Peer    string
	Attempt uint64
	Local   netip.Addr   // the address the routing table chooses towards Remote[0]
	Remote  []netip.Addr // in order of preference
	Err     error
}

// PrivateDone answers a PrivateOp effect.
type PrivateDone struct {
	ID     uint64
	Opened secret.Secret     // plaintext of the envelope, or the power
	Form   policy.SKEncoding // in which the envelope was
	Signed []byte            // DER signature
	Err    error
}

// Plane carries an event of the data plane.
type Plane struct{ Event esp.Event }

// Failed says that an effect of the previous step could not be carried out; the
// effects before it were undone and the packets of that step not sent.
type Failed struct {
	Effect Effect
	Err    error
}

// Reload replaces policy, own certificates and verifiers. Tunnels whose entries
// did not change are not touched.
type Reload struct{ Config Config }

// Tick lets time pass; due at Output.Wake.
type Tick struct{}

func (Datagram) input()    {}
func (Start) input()       {}
func (Stop) input()        {}
func (Rekey) input()       {}
func (Resolved) input()    {}
func (PrivateDone) input() {}
func (Plane) input()       {}
func (Failed) input()      {}
func (Reload) input()      {}
func (Tick) input()        {}

// Output is every consequence of one step.
type Output struct {
	Effects []Effect   // carried out first, in order
	Packets []Datagram // then sent
	Events  []Event    // then told
	Heard   []Heard    // what messages showed, for Config.Hear
	Wake    time.Time  // when to call with Tick; zero: nothing pending
}

// Effect is something that the caller does for the engine.
type Effect interface{ effect() }

// Install lets a child receive: both SAs exist, nothing is sent on it yet.
type Install struct {
	Child esp.Child
	From  esp.State
}

// Use makes an installed child the one that its tunnel sends on.
type Use struct{ Child esp.ChildID }

// Rebind moves a child to new endpoints.
type Rebind struct {
	Child esp.ChildID
	Path  esp.Path
}

// Remove ends a child; unknown children are not an error.
type Remove struct{ Child esp.ChildID }

// Resolve asks for the addresses of a peer; answered by Resolved.
type Resolve struct {
	Peer    string
	Attempt uint64
}

// PathMTU says how large packets may be to get from Local to Remote, in bytes with
// all headers, as answers of the peer prove. It is repeated while it holds; what
// is not repeated within 10 minutes is to be forgotten.
type PathMTU struct {
	Local, Remote netip.Addr
	MTU           int
}

// PrivateOp asks for one operation with a private key of ours; answered by
// PrivateDone. Exactly one of Envelope (opened with the encryption key), Digest
// (signed with the signing key: e = SM3(Z|M), never M) and Power (needs no key of
// the gateway) is set.
type PrivateOp struct {
	ID       uint64
	Envelope []byte
	Digest   []byte
	Power    *Power
}

// Power is an exponentiation in group 14, of profile rfc2409-psk only: Base, or
// the generator where it is nil, to the power of Exponent.
type Power struct {
	Base     []byte
	Exponent secret.Secret
}

// Raise computes the power and wipes the exponent, which is the caller's own copy.
func (p *Power) Raise() (secret.Secret, error) {
	defer p.Exponent.Wipe()
	v, err := psk.Raise(p.Base, p.Exponent.Bytes())
	if err != nil {
		return secret.Secret{}, err
	}
	return secret.Take(v), nil
}

func (Install) effect()   {}
func (Use) effect()       {}
func (Rebind) effect()    {}
func (Remove) effect()    {}
func (Resolve) effect()   {}
func (PathMTU) effect()   {}
func (PrivateOp) effect() {}
