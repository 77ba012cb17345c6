package ike

import (
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/ike/wire"
)

// EventKind is what happened. The set is closed.
type EventKind uint8

const (
	NoEvent        EventKind = iota
	IKEStarted               // we sent M1, or answered one with M2
	IKEUp                    // M5/M6 verified: the peer is who it claims to be
	IKEDown                  // an established ISAKMP SA ended
	IKEFailed                // a negotiation of phase 1 gave up
	ChildUp                  // a child carries traffic
	ChildRekeyed             // a child replaced another of the same tunnel
	ChildDown                // a child ended
	ChildFailed              // a quick mode gave up or was refused
	Dropped                  // a message was dropped; nothing changed
	Refused                  // an authentic or pre-authentication request was refused
	NotifyIn                 // a notification was received
	NotifyOut                // a notification was sent
	Repeated                 // a message was repeated, ours or theirs
	Deviation                // the peer deviates from the standard form; Detail names it
	Limited                  // a limit (half-open, rate) held
	PlaneFailed              // an effect could not be carried out
	PeerDead                 // dead peer detection gave up
	NATFound                 // NAT detection found a NAT; Detail says on which side
	Retrying                 // a peer will be tried again; Detail says when
	PeerMoved                // a peer behind a NAT has another address
	KeyOpFailed              // a private-key operation failed or the device is gone
	PathChanged              // the largest packet that gets to a peer became another
	DialectLearned           // how a peer with profile: auto speaks was learned; Learned says what
	ICVFound                 // a child's first packet told the length of its ICV; Detail is the line that says so
	StandingBy               // our address for a peer is not on this machine: another negotiates
	TakingOver               // it came: the peer is called at once
	eventKinds
)

// Reason says why, for machines. The set is closed; see reason.go.
type Reason string

// Role is our part in an exchange.
type Role uint8

const (
	Initiator Role = iota
	Responder
)

// Event is one line of narration. Fields that do not apply are zero. It never
// holds a key.
type Event struct {
	Kind             EventKind
	Reason           Reason
	Detail           string // for people, lower case, no secrets
	Peer             string // name of the configured peer, once known
	NonGM            string // profile of Peer where it is not GB/T 36968
	Claimed          bool   // Peer is claimed, not yet proven (before M5/M6)
	Tunnel           string
	Role             Role
	CookieI, CookieR wire.Cookie
	MessageID        uint32
	Local, Remote    netip.AddrPort
	Child            esp.ChildID
	InSPI, OutSPI    esp.SPI
	Notify           wire.NotifyType
	Took             time.Duration // of a negotiation that succeeded
	Learned          Learned
	ICVBits          int // ICVFound
}
