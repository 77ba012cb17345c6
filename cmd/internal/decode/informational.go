package decode

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"yumen/ike/gm"
	"yumen/ike/wire"
)

// clearInformational takes a notification from before there were keys. Anybody
// can have sent it.
func (s *session) clearInformational(m *Message, h wire.Header, g datagram) {
	m.Name = "INFO (clear)"
	msg, err := wire.Parse(g.data)
	if err != nil {
		m.headerFields(h)
		m.fail("format", "%v", err)
		return
	}
	m.fields(msg)
	s.tell(m, msg.Payloads)
	m.note("in the clear: not authenticated by anything")
}

// informational takes HDR*, HASH(1), N or D.
func (s *session) informational(m *Message, h wire.Header, g datagram) {
	m.Name = "INFO"
	cipher := g.data[wire.HeaderLen:]
	m.headerFields(h)
	m.add(0, "encrypted body", "%d bytes", len(cipher))
	if !s.derived {
		m.unknown("HASH(1)", "%s", s.whyNotDerived())
		return
	}
	var firstErr error
	for i, iv := range s.informationalIVs(h.MessageID) {
		ps, body, err := s.decrypt(m, h, cipher, iv)
		if err == nil {
			s.openInformational(m, wire.Message{Header: h, Payloads: ps}, body)
			return
		}
		if i == 0 {
			firstErr = err
		}
	}
	if !s.last[6].ok {
		m.unknown("HASH(1)", "M6 is missing or was not decrypted, so the IV is not known")
		return
	}
	m.fail("HASH(1)", "does not decrypt to a payload list: %v", firstErr)
}

// informationalIVs: the last block of phase 1 so far is that of M6, of M5 when
// M6 was not sent, or what M5 would have started from. A CONNECTED shares the
// message ID, and so the chain, of its quick mode.
func (s *session) informationalIVs(id uint32) [][16]byte {
	var ivs [][16]byte
	for _, n := range []int{6, 5} {
		if s.last[n].ok {
			ivs = append(ivs, gm.PhaseTwoIV(s.last[n].iv, id))
		}
	}
	start := gm.PhaseOneIV(s.side[initiator].sk.Bytes(), s.side[responder].sk.Bytes())
	ivs = append(ivs, gm.PhaseTwoIV(start, id))
	if x := s.exchanges[id]; x != nil {
		for _, l := range x.last[1:] {
			if l.ok {
				ivs = append(ivs, l.iv)
			}
		}
	}
	return ivs
}

func (s *session) openInformational(m *Message, msg wire.Message, body []byte) {
	m.replaceFields(msg)
	ps := msg.Payloads
	if ps[0].Type != wire.TypeHash || len(ps) < 2 {
		m.fail("payload order", "%s, expected HASH and a notification or delete", payloadList(ps))
		return
	}
	want := gm.Protected(s.keys, msg.MessageID, body[4+len(ps[0].Body):])
	good := m.compare("HASH(1)", ps[0].Body, want[:], "PRF(SKEYID_a, MsgID | N or D)")
	s.tell(m, ps)
	if d, err := wire.ParseDelete(find(ps, wire.TypeDelete)); good && err == nil && d.Protocol == wire.ProtoISAKMP {
		s.deleted = true
	}
}

// tell names what an informational says.
func (s *session) tell(m *Message, ps []wire.Payload) {
	for _, p := range ps {
		switch p.Type {
		case wire.TypeNotify:
			n, err := wire.ParseNotification(p.Body)
			if err != nil {
				m.fail("NOTIFY", "%v", err)
				continue
			}
			s.notification(m, n)
		case wire.TypeDelete:
			d, err := wire.ParseDelete(p.Body)
			if err != nil {
				m.fail("DELETE", "%v", err)
				continue
			}
			var spis []string
			for _, spi := range d.SPIs {
				spis = append(spis, hex.EncodeToString(spi))
			}
			m.note("delete of %s SA %s", d.Protocol, strings.Join(spis, ", "))
			if d.Protocol == wire.ProtoISAKMP && !bytes.Equal(d.SPIs[0], append(append([]byte{}, s.cki[:]...), s.ckr[:]...)) {
				m.note("the cookies named are not those of this session")
			}
		}
	}
}

func (s *session) notification(m *Message, n wire.Notification) {
	kind := "status"
	if n.Type < 16384 {
		kind = "refusal"
	}
	text := fmt.Sprintf("%s: %s", kind, n.Type)
	if (n.Type == wire.RUThere || n.Type == wire.RUThereAck) && len(n.Data) == 4 {
		text += fmt.Sprintf(", sequence number %d", uint32(be16(n.Data))<<16|uint32(be16(n.Data[2:])))
	}
	m.note("%s", text)
}
