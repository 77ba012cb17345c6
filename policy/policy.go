// Package policy says what a gateway may do: who its peers are, which traffic is
// protected, by which suite, for how long, and how each peer deviates on the
// wire. It is pure: no socket, no clock, no randomness, and only file.go reads a
// file. It knows nothing of ISAKMP or ESP bytes.
package policy

import (
	"net/netip"
	"time"
)

// Policy is a whole, validated policy. It is immutable once read.
type Policy struct {
	Site    string   // a name for people
	Peers   []Peer   // unique by Name
	Tunnels []Tunnel // unique by Name; one tunnel is one quick mode selector pair
	Rules   []Rule   // explicit rules; each tunnel or group adds an implied Protect rule
	Groups  []Group  // unique by Name; their tunnels are paths of the same traffic
	// Management is traffic of the operators, which stays in clear whatever rules
	// and tunnels say (management).
	Management []Selector

	source source // where it was read; zero for a policy built in code
}

// source remembers the lines of a policy file, for errors found later than the
// reading. It stays out of Tunnel and Rule so that a moved line is no change.
type source struct {
	file                       string
	tunnels, rules, management []int // line of each entry
	groups                     []groupLines
	peers                      []map[string]int // line of each key; "": of the entry
}

// Peer is one remote gateway.
type Peer struct {
	Name        string
	Remote      Remote
	Local       Local
	CA          string // path of the one trust anchor (PEM), relative to the policy file
	CRL         string // path of a CRL file (PEM or DER); empty: no revocation check
	Identity    Identity
	ClockSkew   time.Duration // tolerance for certificate validity
	IKELifetime time.Duration // working key, at most 24 h (13.1)
	Encap       Encap
	DPD         DPD
	PathProbe   PathProbe
	// DropChildren ends the tunnels when the peer deletes the last ISAKMP SA
	// (children_on_ike_delete: drop); otherwise they live on until their limit.
	DropChildren bool
	// Fragmentation lets large IKE messages travel in pieces of IKE itself
	// (payload 132) where the peer announces it too (ike_fragmentation).
	Fragmentation bool
	Certs         PeerCerts // of a peer that does not send its certificates
	Chain         string    // path of intermediates that are sent with ours (PEM); empty: none
	Profile       Profile
	Dialect       Dialect   // the knobs of Profile, and what differs from it
	PreShared     PreShared // of a peer that is not GB/T 36968; zero otherwise
}

// PeerCerts are the paths of a peer's certificates (PEM or DER), relative to the
// policy file. Both are empty, or neither.
type PeerCerts struct{ Sign, Enc string }

// Remote is where a peer is. Exactly one of Addr, FQDN and Any is set.
type Remote struct {
	Addr netip.Addr
	FQDN string
	Any  bool // only responds: the peer's address is not known
}

// Local is the address that we use towards a peer. The zero value means any:
// what the routing table chooses.
type Local struct {
	Addr      netip.Addr
	Interface string
}

// Identity pins the peer's certificate pair (protocol.md 1.7). Exactly one form
// is set: Subject; SignSubject and EncSubject; or both fingerprints.
type Identity struct {
	Subject         string // RFC 4514 text, both certificates carry it
	SignSubject     string
	EncSubject      string
	SignFingerprint string // SM3 of the DER, 64 hex digits
	EncFingerprint  string
}

// DPD is dead peer detection, RFC 3706.
type DPD struct {
	Interval time.Duration // zero: off
	Tries    int
}

// Encap says when ESP travels in UDP (RFC 3948).
type Encap uint8

const (
	EncapAuto  Encap = iota // when NAT detection finds a NAT
	EncapForce              // always: our NAT-D claims a NAT
	EncapOff                // never: no NAT-T Vendor ID is sent
)

// PathProbe says whether it is tried how large packets get to a peer, for paths that
// drop what is too large without a word (path_probe). The question is an R-U-THERE with
// a payload beside it that no standard knows, so a peer of another make hears it only
// where that is asked for. It needs a peer that answers DPD.
type PathProbe uint8

const (
	ProbeOff  PathProbe = iota
	ProbeAuto           // of another Yumen
	ProbeOn             // of any peer
)

// Suite is an ESP suite.
type Suite uint8

const (
	NoSuite       Suite = iota // never negotiated
	SM4CBCHMACSM3              // SM4-CBC with HMAC-SM3 (protocol.md 8.1)
	SM4GCM128                  // SM4-GCM, 16-byte ICV (2023 edition, protocol.md 8.3)
	// AESCBCHMACSHA256 is AES-128-CBC with HMAC-SHA-256-128 (RFC 3602, RFC 4868): of
	// ProfileRFC2409 only.
	AESCBCHMACSHA256
)

// StartMode says who starts a tunnel and when.
type StartMode uint8

const (
	StartNow  StartMode = iota // negotiate at start and for ever after
	StartTrap                  // negotiate at the first packet
	StartNone                  // only respond
)

// Tunnel is one pair of selectors between this site and a peer: one child SA.
type Tunnel struct {
	Name     string
	Peer     string
	Selector Selector
	Suites   []Suite // in order of preference, not empty
	ICVBits  int     // 96, 128 or 256, of HMAC-SM3, or ICVAuto
	ESN      bool    // offer and accept 64-bit sequence numbers
	Start    StartMode
	Lifetime time.Duration // session key, at most 1 h unless overridden (13.1)
	Bytes    uint64        // hard limit of bytes; 0: none
	Packets  uint64        // hard limit of packets; 0: none
	Window   int           // anti-replay window in packets, 64 to 4096
	Children int           // used side by side, flows spread over them; 1 to MaxSideBySide; 0 is 1
	Outer    Outer
}

// Outer says how an inner packet is fitted into its outer one.
type Outer struct {
	DSCP     DSCP
	DF       DF
	Fragment Fragment
	MSS      MSSClamp
}

// DSCP: CopyDSCP, or a fixed code point 0 to 63.
type DSCP int8

// CopyDSCP copies the inner code point; every other value is used as it is.
const CopyDSCP DSCP = -1

// DF says what becomes of the outer Don't Fragment bit (IPv4).
type DF uint8

const (
	DFCopy DF = iota
	DFSet
	DFClear
)

// Fragment says where a packet is cut that is too large for the path (RFC 4301 8.2).
type Fragment uint8

const (
	FragmentBefore Fragment = iota // before encryption: the peer need not reassemble
	FragmentAfter                  // the outer packet, whose DF is then clear
)

// MSSClamp says how large the segments are that TCP connections through a tunnel
// may agree on (RFC 9293 3.7.1): MSSAuto, MSSOff, or that many bytes at most.
type MSSClamp int16

const (
	MSSAuto MSSClamp = 0 // what fits into one outer packet
	MSSOff  MSSClamp = -1
)

// Bounds of a fixed MSSClamp in bytes: the least that IPv4 promises (RFC 9293
// 3.7.1), and jumbo frames.
const (
	MinMSS = 536
	MaxMSS = 9000
)

// Action is what happens to a packet. The zero value drops.
type Action uint8

const (
	Drop Action = iota
	Bypass
	Protect
)

// Rule is one line of the access-control list of the VPN.
type Rule struct {
	Name     string
	Action   Action
	Tunnel   string // for Protect
	Selector Selector
	Priority int // higher wins before specificity; 0: not given
}

// Selector is traffic as seen from this site: local is behind us.
// Protocol 0 and port 0 mean any (RFC 2407 4.6.2.1).
type Selector struct {
	Local, Remote         Net
	Protocol              uint8
	LocalPort, RemotePort uint16
}

// Net is an inclusive range of addresses of one family: a single address, a
// prefix or any other range. The zero value holds nothing.
type Net struct{ First, Last netip.Addr }
