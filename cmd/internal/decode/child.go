package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy"
)

func (s *session) phaseTwoDeviations(m *Message, sa wire.SA) {
	for _, p := range sa.Proposals {
		if p.Protocol != wire.ProtoESP {
			s.deviates(m, fmt.Sprintf("protocol %s offered (ESP alone is usual)", p.Protocol))
			continue
		}
		for _, t := range p.Transforms {
			if t.ID == 127 {
				m.note("ESP SM4-CBC as 127 (2023; 129 in 2014/2018)")
			}
			if _, has := attribute(t, 6); has {
				s.deviates(m, "key length attribute in phase 2")
			}
		}
	}
}

// child derives KEYMAT for both directions once QM2 is known.
func (s *session) child(m *Message, x *exchange, p quickPart) {
	one, two := x.bodies[1], x.bodies[2]
	if one == nil || two == nil || x.made {
		return
	}
	x.made = x.verified[2]
	s.checkAnswer(m, one.sa, two.sa)
	s.checkIDs(m, one, two)
	answer := espProposal(two.sa)
	if answer == nil || len(answer.Transforms) != 1 || len(answer.SPI) != 4 {
		m.unknown("KEYMAT", "the answer holds no single ESP transform with an SPI of 4 bytes")
		return
	}
	var mine *wire.Proposal
	for i := range one.sa.Proposals {
		if o := one.sa.Proposals[i]; o.Protocol == wire.ProtoESP && len(o.SPI) == 4 && offered(wire.SA{Proposals: one.sa.Proposals[i : i+1]}, *answer) {
			mine = &one.sa.Proposals[i]
			break
		}
	}
	if mine == nil {
		m.unknown("KEYMAT", "the answer does not belong to an ESP proposal of QM1")
		return
	}
	s.install(m, x, childParts{p.h.MessageID, *mine, *answer, p.g})
}

type childParts struct {
	msgID         uint32
	offer, answer wire.Proposal
	g             datagram // of QM2
}

func (s *session) install(m *Message, x *exchange, c childParts) {
	one, two := x.bodies[1], x.bodies[2]
	t := c.answer.Transforms[0]
	suite, name := suiteOf(t)
	esn, _ := attribute(t, attrESN)
	ends := [2]netip.Addr{x.starter.Addr(), x.answered.Addr()}
	si, err1 := newSelector(two.idci, ends[0])
	sr, err2 := newSelector(two.idcr, ends[1])
	if err := errors.Join(err1, err2); err != nil {
		m.fail("ID", "%v", err)
	}
	child := &Child{MessageID: fmt.Sprintf("%08x", c.msgID), Suite: name, ESN: esn == 1, Initiator: si.text, Responder: sr.text,
		SPIi: fmt.Sprintf("%x", c.offer.SPI), SPIr: fmt.Sprintf("%x", c.answer.SPI)}
	s.view.Children = append(s.view.Children, child)
	need := map[policy.Suite]int{policy.SM4CBCHMACSM3: 48, policy.SM4GCM128: 20}[suite]
	if need == 0 {
		m.unknown("KEYMAT", "%s: its packets are not opened", name)
		return
	}
	for i, spi := range [][]byte{c.offer.SPI, c.answer.SPI} {
		a := &sa{session: s, spi: binary.BigEndian.Uint32(spi), suite: suite, esn: esn == 1, src: sr, dst: si}
		if i == 1 {
			a.src, a.dst = si, sr
		}
		a.keymat = gm.Keymat(s.keys.D, uint8(wire.ProtoESP), a.spi, one.nonce, two.nonce, need)
		s.d.addSA(a)
	}
	m.add(0, "KEYMAT", "derived (never shown): %s, SPI %x towards the initiator, %x towards the responder", name, c.offer.SPI, c.answer.SPI)
}

// checkIDs: the responder repeats the IDs, or narrows them.
func (s *session) checkIDs(m *Message, one, two *quickBody) {
	if bytes.Equal(one.idci, two.idci) && bytes.Equal(one.idcr, two.idcr) {
		m.ok("IDci, IDcr", "as offered")
		return
	}
	if one.idci == nil || two.idci == nil {
		s.deviates(m, "selectors in one of QM1 and QM2 only")
		return
	}
	for i, pair := range [][2][]byte{{one.idci, two.idci}, {one.idcr, two.idcr}} {
		a, err1 := newSelector(pair[0], netip.Addr{})
		b, err2 := newSelector(pair[1], netip.Addr{})
		if err1 != nil || err2 != nil || a.any || b.any || !a.holds(b.lo) || !a.holds(b.hi) {
			m.fail([2]string{"IDci", "IDcr"}[i], "the answer %s is not within the offer %s", b.text, a.text)
			return
		}
	}
	s.deviates(m, "selectors narrowed by the responder")
}

func espProposal(sa wire.SA) *wire.Proposal {
	for i := range sa.Proposals {
		if sa.Proposals[i].Protocol == wire.ProtoESP {
			return &sa.Proposals[i]
		}
	}
	return nil
}
