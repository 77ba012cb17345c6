package ike

import (
	"cmp"

	"yumen/ike/wire"
	"yumen/policy"
)

// Where IKE is by RFC 2408 and RFC 3947.
const (
	portIKE = 500
	portNAT = 4500
)

// Ports are where IKE is spoken, at both ends: NAT behind a NAT, and with ESP in UDP.
type Ports struct{ IKE, NAT uint16 }

// orStandard fills in what is zero.
func (p Ports) orStandard() Ports { return Ports{cmp.Or(p.IKE, portIKE), cmp.Or(p.NAT, portNAT)} }

// natState is what NAT detection (RFC 3947 3.2) found.
type natState struct {
	ours, theirs bool // that end is behind a NAT
	forced       bool // we claimed one ourselves
}

func (n natState) found() bool { return n.ours || n.theirs || n.forced }

func (n natState) String() string {
	switch {
	case n.ours && n.theirs:
		return "both"
	case n.forced:
		return "forced"
	case n.ours:
		return "local"
	case n.theirs:
		return "remote"
	}
	return "none"
}

// encapOf is the peer's encapsulation; without NAT traversal there is none.
func encapOf(p policy.Peer, d policy.Dialect) policy.Encap {
	if d.NoNATT {
		return policy.EncapOff
	}
	return p.Encap
}

// natPayloads are the NAT-D payloads of our M3 or M4: the remote end as we see
// it, then ourselves. They are sent only when both ends announced RFC 3947. To
// force encapsulation the hash of our own end is random.
func (s *session) natPayloads(encap policy.Encap, with policy.NATDHash) []wire.Payload {
	if !s.knows.natt || encap == policy.EncapOff {
		return nil
	}
	remote := s.phase.natd(s.remote, with)
	own := s.phase.natd(s.local, with)
	if encap == policy.EncapForce {
		own = s.e.random(len(own))
	}
	return []wire.Payload{{Type: wire.TypeNATD, Body: remote}, {Type: wire.TypeNATD, Body: own}}
}

// detectNAT reads the peer's NAT-D payloads: the first is our end as it sees us,
// the others are its own.
func (s *session) detectNAT(natd [][]byte, d Datagram, encap policy.Encap) natState {
	var n natState
	if !s.knows.natt || encap == policy.EncapOff || len(natd) < 2 {
		return n
	}
	n.forced = encap == policy.EncapForce
	n.ours = !s.phase.isNATD(natd[0], d.Local)
	n.theirs = true
	for _, own := range natd[1:] {
		if s.phase.isNATD(own, d.Remote) {
			n.theirs = false
		}
	}
	return n
}
