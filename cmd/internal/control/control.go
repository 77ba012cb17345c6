// Package control is the local conversation between the command line and a
// running gateway: JSON over HTTP on a Unix socket that only the gateway's own
// user and root may use. It refuses to know how a gateway works, and has no word
// for a key: no request takes one and no answer holds one.
package control

import (
	"context"
	"errors"
	"time"
)

// Gateway is what answers. Up and Down return ErrUnknownTunnel, wrapped, for a
// tunnel that the policy does not have.
type Gateway interface {
	Status(ctx context.Context) (Status, error)
	Up(ctx context.Context, tunnel string) error
	Down(ctx context.Context, tunnel string) error
	// Rekey renews the session keys of a tunnel, RekeyIKE the working keys of
	// its peer.
	Rekey(ctx context.Context, tunnel string) error
	RekeyIKE(ctx context.Context, tunnel string) error
	// Remark is what whoever gives an order about a tunnel is to know of it besides;
	// mostly nothing.
	Remark(tunnel string) string
	// Handover ends the gateway and leaves in the kernel what the next one shall go
	// on with. It returns when it has let go.
	Handover(ctx context.Context) error
	// Move takes a tunnel to another data plane, user or kernel, by new session keys.
	Move(ctx context.Context, tunnel, plane string) error
	Groups
}

// ErrUnknownTunnel says that the policy has no such tunnel.
var ErrUnknownTunnel = errors.New("the policy has no such tunnel")

// Status is everything that a gateway tells about itself. Times are absent where
// they do not apply.
type Status struct {
	Version      string        `json:"version"`
	Site         string        `json:"site,omitempty"`
	Plane        string        `json:"plane"` // userspace, kernel, kernel+userspace
	Userspace    *Userspace    `json:"userspace,omitempty"`
	Now          time.Time     `json:"now"`
	Started      time.Time     `json:"started"`
	Clock        string        `json:"clock,omitempty"` // why the wall clock is implausible
	SelfTests    SelfTests     `json:"self_tests"`
	Trouble      string        `json:"trouble,omitempty"` // why the host is not as the policy wants it
	Warnings     []string      `json:"warnings,omitempty"`
	HalfOpen     int           `json:"half_open"`
	Certificates []Certificate `json:"certificates"`
	Peers        []string      `json:"peers"` // of the policy, in its order
	Sessions     []Session     `json:"sessions"`
	Tunnels      []Tunnel      `json:"tunnels"`            // of the policy, in its order
	Groups       []Group       `json:"groups,omitempty"`   // of the policy, in its order
	Refusals     []Refusal     `json:"refusals,omitempty"` // the last one of each peer
	Learned      []Learned     `json:"learned,omitempty"`  // of peers with profile: auto
	Counters     Counters      `json:"counters"`
}

// Userspace is what the userspace plane works with.
type Userspace struct {
	Crypto       string   `json:"crypto"` // gfni, vaes, aesni, generic
	ConstantTime bool     `json:"constant_time"`
	Offloads     []string `json:"offloads"`          // in use
	Missing      []string `json:"missing,omitempty"` // of those that Linux may have
}

// SelfTests are those of the start, with known answers, by name.
type SelfTests struct {
	Passed int      `json:"passed"`
	Failed []string `json:"failed,omitempty"`
}

// Learned is how a peer with profile: auto speaks, as proven sessions showed.
type Learned struct {
	Peer        string `json:"peer"`
	Fingerprint string `json:"fingerprint"` // SM3 of its signing certificate
	Dialect     string `json:"dialect"`
}

// Certificate is one of our own two.
type Certificate struct {
	Role     string    `json:"role"` // sign, enc
	Subject  string    `json:"subject"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
}

// Session is one ISAKMP SA.
type Session struct {
	Peer        string     `json:"peer,omitempty"` // absent: nobody's yet
	State       string     `json:"state"`          // connecting, established, closing
	Version     string     `json:"version"`        // of the ISAKMP header
	Initiator   bool       `json:"initiator"`
	CookieI     string     `json:"cookie_i"`
	CookieR     string     `json:"cookie_r"`
	Local       string     `json:"local"`
	Remote      string     `json:"remote"`
	LocalName   string     `json:"local_name,omitempty"`
	RemoteName  string     `json:"remote_name,omitempty"` // only once proven
	Created     time.Time  `json:"created"`
	Established *time.Time `json:"established,omitempty"`
	Rekey       *time.Time `json:"rekey,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	CertExpires *time.Time `json:"cert_expires,omitempty"`
	NAT         string     `json:"nat,omitempty"`
	NonGM       string     `json:"non_gm,omitempty"` // profile of a peer that is not GB/T 36968
	Suite       string     `json:"suite,omitempty"`  // of phase 1, where it is not that of the standard
	Deviations  []string   `json:"deviations,omitempty"`
	Explicit    string     `json:"explicit,omitempty"` // lines of the peer entry that say how the peer speaks
}

// Tunnel is one tunnel of the policy.
type Tunnel struct {
	Name        string     `json:"name"`
	Peer        string     `json:"peer"`
	State       string     `json:"state"` // down, connecting, up, stopped, standby
	Local       string     `json:"local"`
	Remote      string     `json:"remote"`
	Start       string     `json:"start"`           // start, trap, respond
	Group       string     `json:"group,omitempty"` // whose path it is
	Plane       string     `json:"plane"`           // that it sends by, or would: userspace, kernel
	LastFailure string     `json:"last_failure,omitempty"`
	LastDetail  string     `json:"last_detail,omitempty"`
	NextTry     *time.Time `json:"next_try,omitempty"`
	Explicit    string     `json:"explicit,omitempty"` // line of the tunnel entry that says what was found out
	Children    []Child    `json:"children,omitempty"`
}

// Refusal is something that came to nothing with a peer, by our own judgement or
// the peer's.
type Refusal struct {
	At      time.Time `json:"at"`
	Peer    string    `json:"peer,omitempty"`    // absent: none of the policy
	Claimed bool      `json:"claimed,omitempty"` // Peer is what the other side said, not proven
	Tunnel  string    `json:"tunnel,omitempty"`
	Remote  string    `json:"remote,omitempty"`
	Reason  string    `json:"reason"`
	Detail  string    `json:"detail,omitempty"`
}

// Child is one pair of ESP SAs.
type Child struct {
	ID        uint64     `json:"id"`
	InUse     bool       `json:"in_use"`         // carries what we send, or with others its share of it
	Lane      uint8      `json:"lane,omitempty"` // its place among those that are used side by side
	Plane     string     `json:"plane"`
	Suite     string     `json:"suite"` // as in ESP:SM4_CBC/HMAC_SM3_96
	ESN       bool       `json:"esn"`
	Encap     bool       `json:"encap"` // in UDP
	Local     string     `json:"local"`
	Remote    string     `json:"remote"`
	Outside   string     `json:"outside"` // local address > remote address of the outer header
	MTU       int        `json:"mtu,omitempty"`
	Installed *time.Time `json:"installed,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`
	In        Half       `json:"in"`
	Out       Half       `json:"out"`
	Replayed  uint64     `json:"replayed"`
	BadAuth   uint64     `json:"bad_auth"`
	BadPolicy uint64     `json:"bad_policy"`
}

// Half is one direction of a child.
type Half struct {
	SPI     string     `json:"spi"`
	Bytes   uint64     `json:"bytes"`
	Packets uint64     `json:"packets"`
	Last    *time.Time `json:"last,omitempty"`
}

// Counters are those that belong to no peer, by what became of a datagram of IKE
// or of a packet of the data plane.
type Counters struct {
	Datagrams map[string]uint64 `json:"datagrams"`
	Packets   map[string]uint64 `json:"packets"`
}

// request names a tunnel, and where it shall go.
type request struct {
	Tunnel string `json:"tunnel"`
	Plane  string `json:"plane,omitempty"`
}

// done is the answer to an order about a tunnel that was taken.
type done struct {
	Remark string `json:"remark,omitempty"`
}

// problem is the body of every answer that is not a success.
type problem struct {
	Error string `json:"error"`
}

const (
	maxBody     = 64 << 10
	maxAnswer   = 64 << 20 // a status of thousands of tunnels
	maxWaiting  = 32       // conversations at a time
	patience    = 10 * time.Second
	lastWords   = time.Second // for answers under way when the gateway ends
	statusPath  = "/v1/status"
	upPath      = "/v1/up"
	downPath    = "/v1/down"
	rekeyPath   = "/v1/rekey"
	rekeyIKE    = "/v1/rekey-ike"
	handover    = "/v1/handover"
	movePath    = "/v1/dataplane/move"
	contentType = "application/json"
)
