package ike

import (
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/ike/wire"
)

// Status is a reading of the engine, without keys. Engine.Status makes it.
type Status struct {
	HalfOpen int // responder sessions not yet proven
	Sessions []SessionStatus
	Tunnels  []TunnelStatus // every tunnel of the policy, in its order
	Learned  []Learned      // the newest last
}

// SessionStatus is one ISAKMP SA, negotiating or established.
type SessionStatus struct {
	Peer             string
	Role             Role
	State            string // connecting, established, closing
	CookieI, CookieR wire.Cookie
	Version          uint8 // of the ISAKMP header: 0x11 is 1.1
	Local, Remote    netip.AddrPort
	LocalName        string // subject of our signing certificate, or our ID
	RemoteName       string // subject of the peer's; empty until proven
	Created          time.Time
	Established      time.Time // zero: not yet
	Rekey, Expires   time.Time
	CertExpires      time.Time // the earlier of the peer's two
	NAT              string    // none, local, remote, both, forced
	Suite            string    // of phase 1 where NonGM is set
	NonGM            string    // profile of a peer that is not GB/T 36968; empty: it is
	Deviations       []string
	Explicit         string // the lines of a peer entry that say so; empty: they are there
}

// TunnelStatus is one tunnel of the policy.
type TunnelStatus struct {
	Name, Peer  string
	State       string // down, connecting, up, stopped, standby (our address is not here)
	LastFailure Reason
	LastDetail  string
	NextTry     time.Time
	Children    []esp.Child // newest first, Keymat empty; the first that is InUse carries traffic
	Installed   []time.Time // beside Children
	Expires     []time.Time
	Origins     []Origin
	InUse       esp.ChildID
	Beside      []esp.ChildID // in use on further lanes, where the tunnel has children: N
	Explicit    string        // the line of the entry that says what was found out; empty: nothing was
}
