package decode

import (
	"bytes"
	"fmt"
	"slices"

	"yumen/ike/wire"
	"yumen/policy"
)

// Attribute classes (section 2 of the attribute tables of the standard and RFC
// 2407 4.5).
const (
	attrIKECipher = 1
	attrIKEHash   = 2
	attrIKEAuth   = 3
	attrKeyLength = 14
	attrAsym      = 20

	attrEncap   = 4
	attrESPAuth = 5
	attrESN     = 11
)

func attribute(t wire.Transform, class uint16) (uint64, bool) {
	for _, a := range t.Attributes {
		if a.Type == class {
			return a.Uint()
		}
	}
	return 0, false
}

// phaseOneDeviations notes what differs from the standard's only suite.
func (s *session) phaseOneDeviations(m *Message, sa wire.SA) {
	if s.isPlain(m, sa) {
		return
	}
	for _, p := range sa.Proposals {
		for _, t := range p.Transforms {
			switch v, _ := attribute(t, attrIKECipher); v {
			case 129:
			case 127: // beside 129 it is only an alternative
				if !offersStandard(p) {
					s.deviates(m, "SM4 number 127 (draft) in phase 1")
				}
			default:
				s.deviates(m, fmt.Sprintf("phase-1 cipher %d (SM4-CBC: 129)", v))
			}
			if v, _ := attribute(t, attrIKEHash); v != 20 {
				s.deviates(m, fmt.Sprintf("phase-1 hash %d (SM3: 20)", v))
			}
			if v, _ := attribute(t, attrIKEAuth); v != 10 {
				s.deviates(m, fmt.Sprintf("authentication method %d (digital envelope: 10)", v))
			}
			if v, ok := attribute(t, attrAsym); !ok {
				s.deviates(m, "attribute 20 (asymmetric algorithm) absent")
			} else if v != 2 {
				s.deviates(m, fmt.Sprintf("asymmetric algorithm %d (SM2: 2)", v))
			}
			if _, ok := attribute(t, attrKeyLength); ok {
				s.deviates(m, "key length attribute in phase 1")
			}
		}
	}
}

func offersStandard(p wire.Proposal) bool {
	return slices.ContainsFunc(p.Transforms, func(t wire.Transform) bool {
		v, _ := attribute(t, attrIKECipher)
		return v == 129
	})
}

// checkAnswer compares an answer with the offer by meaning: proposals may be
// renumbered, attribute 20 added, and 127 stands for 129 (RFC 2408 4.2).
func (s *session) checkAnswer(m *Message, offer, answer wire.SA) {
	for _, p := range answer.Proposals {
		if len(p.Transforms) != 1 {
			m.fail("SA", "the answer holds %d transforms for %s, expected exactly one", len(p.Transforms), p.Protocol)
			return
		}
		if !offered(offer, p) {
			m.fail("SA", "the answer for %s is not among what was offered", p.Protocol)
			return
		}
	}
	if len(answer.Proposals) == 0 {
		m.fail("SA", "the answer holds no proposal")
		return
	}
	m.ok("SA", "the answer was offered")
	if len(offer.Proposals) > 0 && offer.Proposals[0].Number != answer.Proposals[0].Number && len(offer.Proposals) == 1 {
		s.deviates(m, fmt.Sprintf("proposal %d answered as %d", offer.Proposals[0].Number, answer.Proposals[0].Number))
	}
}

func offered(offer wire.SA, answer wire.Proposal) bool {
	for _, p := range offer.Proposals {
		if p.Protocol != answer.Protocol {
			continue
		}
		for _, t := range p.Transforms {
			if sameTransform(p.Protocol, t, answer.Transforms[0]) {
				return true
			}
		}
	}
	return false
}

func sameTransform(proto wire.Protocol, offer, answer wire.Transform) bool {
	a, b := offer.ID, answer.ID
	if proto == wire.ProtoESP && isSM4(uint64(a)) && isSM4(uint64(b)) {
		a, b = 129, 129
	}
	return a == b && covers(proto, offer, answer) && covers(proto, answer, offer)
}

func isSM4(n uint64) bool { return n == 127 || n == 129 }

// covers: each attribute of a is in b.
func covers(proto wire.Protocol, a, b wire.Transform) bool {
	for _, x := range a.Attributes {
		found := proto == wire.ProtoISAKMP && x.Type == attrAsym && bytes.HasSuffix(x.Value, []byte{2}) && lacks(b, attrAsym)
		v, _ := x.Uint()
		for _, y := range b.Attributes {
			w, _ := y.Uint()
			same := x.Type == y.Type && (v == w && len(x.Value) <= 8 || bytes.Equal(x.Value, y.Value))
			cipher := proto == wire.ProtoISAKMP && x.Type == attrIKECipher && y.Type == x.Type && isSM4(v) && isSM4(w)
			found = found || same || cipher
		}
		if !found {
			return false
		}
	}
	return true
}

func lacks(t wire.Transform, class uint16) bool {
	_, has := attribute(t, class)
	return !has
}

// suiteOf reads the suite of an ESP transform.
func suiteOf(t wire.Transform) (suite policy.Suite, name string) {
	auth, has := attribute(t, attrESPAuth)
	switch {
	case isSM4(uint64(t.ID)) && has && auth == 20:
		return policy.SM4CBCHMACSM3, fmt.Sprintf("SM4-CBC (%d) with HMAC-SM3", t.ID)
	case t.ID == 130:
		return policy.SM4GCM128, "SM4-GCM-128 (130)"
	}
	return policy.NoSuite, fmt.Sprintf("ESP transform %d with authentication %d: not known here", t.ID, auth)
}
