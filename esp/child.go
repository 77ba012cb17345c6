package esp

import (
	"fmt"
	"net/netip"
	"time"

	"yumen/policy"
	"yumen/policy/secret"
)

// SPI is a security parameter index. Values below 256 are reserved (RFC 4303 2.1).
type SPI uint32

// ChildID names a pair of SAs for the life of the process. Never 0.
type ChildID uint64

// Half is one direction of a child.
type Half struct {
	SPI SPI
	// Keymat is cut from the left: cipher key, then integrity key or salt
	// (RFC 2409 5.5, RFC 4301 4.5.2; for GCM RFC 4106 8.1).
	Keymat secret.Secret
}

// Path is where ESP packets travel. With Encap they are UDP datagrams between
// the two ports, without it protocol 50 and the ports are 0.
type Path struct {
	Local, Remote netip.AddrPort
	Encap         bool
}

// Child is one negotiated pair of SAs, everything that a data plane needs.
type Child struct {
	ID       ChildID
	Tunnel   string
	Peer     string
	Selector policy.Selector // local is our side
	Suite    policy.Suite
	ICVBits  int // HMAC-SM3 only: 96, 128, 256, or policy.ICVAuto: not known yet
	ESN      bool
	Lane     uint8 // of the children that a tunnel uses side by side; 0: the first, or only one
	Window   int   // anti-replay window in packets
	Outer    policy.Outer
	Path     Path
	In, Out  Half // In.SPI is ours, Out.SPI the peer's
	Limits   Limits
}

// Limits are what a data plane watches. Zero means no limit.
type Limits struct {
	SoftBytes, HardBytes     uint64
	SoftPackets, HardPackets uint64
	SoftTime, HardTime       time.Duration // since Install; the engine keeps these itself
}

// State is what must survive when an SA pair is adopted, rebound or moved to
// another plane. The zero value is a fresh pair.
type State struct {
	OutSeq  uint64   // last sequence number sent
	InSeq   uint64   // highest sequence number received
	Replay  []uint64 // bitmap: bit i of word i/64 is sequence number InSeq-i
	In, Out Count
}

// Count counts inner bytes and packets.
type Count struct{ Bytes, Packets uint64 }

// Usage is a reading of one child's counters.
type Usage struct {
	In, Out                        Count
	LastIn, LastOut                time.Time // zero: never
	Replayed, BadAuth, BadSelector uint64    // inbound drops by reason
	EffectiveMTU                   int       // largest inner packet, bytes
}

// EventKind is what a data plane tells.
type EventKind uint8

const (
	NoEvent     EventKind = iota
	FirstPacket           // the first authentic packet arrived on In.SPI
	SoftLimit             // a soft limit of bytes or packets passed
	HardLimit             // a hard limit passed; the plane stopped the child
	Acquire               // outbound traffic for Tunnel met no child
	Moved                 // an authentic packet came from Remote, another place than the child's
	UnknownSPI            // a packet with an SPI that no child owns came from Remote
	HostChanged           // addresses or routes of this host changed
	GuardMended           // others had removed parts of the guard; they are back
)

var eventNames = [...]string{"none", "first-packet", "soft-limit", "hard-limit", "acquire", "moved", "unknown-spi", "host-changed", "guard-mended"}

// String is the word of an event in logs and counters.
func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is one message from a data plane. Unknown fields are zero.
type Event struct {
	Kind   EventKind
	Child  ChildID
	Tunnel string
	SPI    SPI
	Remote netip.AddrPort
	// Newest says of a packet that it had the highest number so far: Moved only. One
	// that is merely authentic may be older, and sent on by whoever saw it.
	Newest bool
	// ICVBits is the length that the first packet told, of a child whose length was
	// not known: FirstPacket only.
	ICVBits int
}
