package decode

import (
	"fmt"

	"yumen/ike/wire"
	"yumen/policy"
)

// Sessions of profile rfc2409-psk are told apart, not opened: a capture and a key
// do not give what the Diffie-Hellman exchange hid.

// methodPreShared is the authentication method of RFC 2409 5.4.
const methodPreShared = 1

const notGM = "NOT GB/T 36968: plain IKE with a pre-shared key (RFC 2409 5.4)"

// sealedByDH says why no option opens such a session.
const sealedByDH = "its keys come from a Diffie-Hellman secret that no capture holds: neither --key nor the pre-shared key opens it"

// isPlain reports whether an SA of phase 1 offers a pre-shared key, and marks the
// session.
func (s *session) isPlain(m *Message, sa wire.SA) bool {
	for _, p := range sa.Proposals {
		for _, t := range p.Transforms {
			if v, _ := attribute(t, attrIKEAuth); v == methodPreShared {
				s.view.NonGM = policy.ProfileRFC2409
				m.note("%s", notGM)
				return true
			}
		}
	}
	return false
}

// keyShare takes M3 or M4 of such a session: HDR, KE, NONCE.
func (s *session) keyShare(m *Message, msg wire.Message, g datagram) {
	side, known := s.from(g)
	if !known {
		side = initiator
		if s.frames[3] != 0 {
			side = responder
		}
		s.setSides(side, g)
	}
	m.Name = fmt.Sprintf("M%d", 3+side)
	m.fields(msg)
	m.order(msg.Payloads, "KE NONCE")
	m.note("%s", notGM)
	s.view.NonGM = policy.ProfileRFC2409
	s.take(m, 3+side, false)
}
