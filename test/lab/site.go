package lab

import (
	"net/netip"
	"slices"
	"time"

	"yumen/ike"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

// Site describes one gateway of a lab.
type Site struct {
	Name      string // short: it stands before each line of a transcript
	Addr      netip.Addr
	More      []netip.Addr // further addresses, of other uplinks
	Public    netip.Addr   // valid: the site is behind a NAT that shows this address
	Own       *Identity
	Anchor    []byte // PEM, for every peer
	CRL       []byte // nil: no revocation check
	Policy    policy.Policy
	Key       []byte                     // pre-shared, of every peer without certificates
	Verifiers map[string]*trust.Verifier // nil: made from Anchor and CRL
	Files     map[string]ike.PeerFiles
	Learned   []ike.Learned // what the state folder holds at the start
	Ports     ike.Ports     // zero: 500 and 4500
}

// verifiers makes what the engine judges peers with.
func (s *Site) verifiers() map[string]*trust.Verifier {
	if s.Verifiers != nil {
		return s.Verifiers
	}
	vs := map[string]*trust.Verifier{}
	for _, p := range s.Policy.Peers {
		if p.PreShared.Used {
			continue
		}
		vs[p.Name] = must(trust.NewVerifier(p, s.Anchor, s.CRL))
	}
	return vs
}

// keys are the pre-shared ones.
func (s *Site) keys() map[string]secret.Secret {
	ks := map[string]secret.Secret{}
	for _, p := range s.Policy.Peers {
		if p.PreShared.Used {
			ks[p.Name] = secret.New(s.Key)
		}
	}
	return ks
}

// Plain makes the two ends of a pair peers of profile rfc2409-psk with that key.
func Plain(suite policy.IKESuite, key string, sites ...*Site) {
	for _, s := range sites {
		s.Key = []byte(key)
		p, t := s.Peer(), s.Tunnel()
		p.PreShared = policy.PreShared{Used: true, File: "peer.psk", Suite: suite}
		p.CA, p.Identity = "", policy.Identity{}
		t.Suites = []policy.Suite{policy.AESCBCHMACSHA256}
		if suite == policy.SM4SM3 {
			t.Suites = []policy.Suite{policy.SM4CBCHMACSM3}
		}
	}
}

// Clone returns a copy that can be changed without changing s. Verifiers are
// dropped: they hang on what is about to change.
func (s Site) Clone() Site {
	s.Verifiers = nil
	s.Policy.Peers = slices.Clone(s.Policy.Peers)
	s.Policy.Tunnels = slices.Clone(s.Policy.Tunnels)
	for i := range s.Policy.Tunnels {
		s.Policy.Tunnels[i].Suites = slices.Clone(s.Policy.Tunnels[i].Suites)
	}
	return s
}

// Peer is the only peer of a site with one; Tunnel is its first tunnel.
func (s *Site) Peer() *policy.Peer     { return &s.Policy.Peers[0] }
func (s *Site) Tunnel() *policy.Tunnel { return &s.Policy.Tunnels[0] }

// Names of the two sites of a Pair.
const (
	SubjectI = "CN=gw-i,O=Example,C=CN"
	SubjectR = "CN=gw-r,O=Example,C=CN"
)

// Members are the identities that Pair uses, made once by NewMembers.
type Members struct {
	Root     *Authority
	I, R     *Identity
	Third    *Identity // a legitimate member who is nobody's peer here
	Stranger *Identity // gw-i by another authority
	Foreign  *Authority

	byI, byR *trust.Verifier // what i judges r with, and r i
}

// NewMembers issues the identities of a small world.
func NewMembers() *Members {
	m := &Members{Root: NewAuthority("root"), Foreign: NewAuthority("foreign")}
	m.I = m.Root.Issue(SubjectI, Validity{})
	m.R = m.Root.Issue(SubjectR, Validity{})
	m.Third = m.Root.Issue("CN=gw-t,O=Example,C=CN", Validity{})
	m.Stranger = m.Foreign.Issue(SubjectI, Validity{})
	i, r := m.Pair()
	m.byI, m.byR = i.verifiers()["r"], r.verifiers()["i"]
	return m
}

// verifiers are those of s, made once for many labs.
func (m *Members) verifiers(s *Site) map[string]*trust.Verifier {
	if s.Name == "i" {
		return map[string]*trust.Verifier{"r": m.byI}
	}
	return map[string]*trust.Verifier{"i": m.byR}
}

// Pair describes two gateways, i and r, with the tunnel office between them. i
// starts it at once, r only answers.
func (m *Members) Pair() (i, r Site) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	left, right := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")
	site := func(name string, own *Identity, at, peer netip.Addr, subject string) Site {
		other := "r"
		if name == "r" {
			other = "i"
		}
		sel := policy.Selector{Local: policy.NetOf(left), Remote: policy.NetOf(right)}
		start := policy.StartNow
		if name == "r" {
			sel, start = sel.Reverse(), policy.StartNone
		}
		return Site{Name: name, Addr: at, Own: own, Anchor: m.Root.PEM(), Policy: policy.Policy{
			Site: name,
			Peers: []policy.Peer{{Name: other, Remote: policy.Remote{Addr: peer}, CA: "ca.crt",
				Identity: policy.Identity{Subject: subject}, ClockSkew: 5 * time.Minute, IKELifetime: 24 * time.Hour}},
			Tunnels: []policy.Tunnel{{Name: "office", Peer: other, Selector: sel,
				Suites: []policy.Suite{policy.SM4CBCHMACSM3}, ICVBits: 96, Start: start,
				Lifetime: time.Hour, Window: 1024, Outer: policy.Outer{DSCP: policy.CopyDSCP}}},
		}}
	}
	return site("i", m.I, a, b, SubjectR), site("r", m.R, b, a, SubjectI)
}
