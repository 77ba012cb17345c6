package decode

import (
	"bytes"
	"net/netip"
	"slices"

	"yumen/ike/wire"
)

// Fragmentation of IKEv1 messages as many implementations know it (payload 132,
// announced by the Vendor ID FRAGMENTATION): no part of the standard, and seen
// only where both ends agreed. A piece has, behind the cookies of its message, one
// payload: message number (2 bytes), piece number from 1, flags (bit 0: last),
// bytes. All pieces make the message with its own header.
const (
	typePiece   = wire.PayloadType(132)
	maxPieces   = 64 // of one message
	maxGathered = 16 // messages of one session that are not whole yet
)

type pieceKey struct {
	from   netip.AddrPort
	number uint16
}

// gathered is a message that comes in pieces.
type gathered struct {
	parts [maxPieces][]byte
	last  int // number of the last piece; 0: not seen
}

// piece takes one piece and returns the message once it is whole, else nil.
func (s *session) piece(m *Message, h wire.Header, g datagram) []byte {
	m.Name = "piece"
	m.headerFields(h)
	msg, err := wire.Parse(g.data)
	if err != nil || len(msg.Payloads) != 1 || len(msg.Payloads[0].Body) < 5 {
		m.fail("format", "not one piece of a message: %v", err)
		return nil
	}
	body := msg.Payloads[0].Body
	number, n, last := be16(body), int(body[2]), body[3]&1 != 0
	m.add(0, "piece", "%d of message %d, %d bytes, last: %t", n, number, len(body)-4, last)
	if n < 1 || n > maxPieces {
		m.fail("format", "piece %d, expected 1 to %d", n, maxPieces)
		return nil
	}
	key := pieceKey{g.src, number}
	c := s.pieces[key]
	if c == nil {
		if len(s.pieces) >= maxGathered {
			m.unknown("message", "more than %d messages in pieces wait for the rest: not followed", maxGathered)
			return nil
		}
		if s.pieces == nil {
			s.pieces = make(map[pieceKey]*gathered)
		}
		c = &gathered{}
		s.pieces[key] = c
	}
	if c.parts[n-1] == nil {
		c.parts[n-1] = bytes.Clone(body[4:])
	}
	if last {
		c.last = n
	}
	if c.last == 0 || slices.ContainsFunc(c.parts[:c.last], func(part []byte) bool { return part == nil }) {
		return nil
	}
	delete(s.pieces, key)
	whole := bytes.Join(c.parts[:c.last], nil)
	if inner, err := wire.ParseHeader(whole); err != nil || inner.Next == typePiece || inner.Initiator != h.Initiator || inner.Responder != h.Responder {
		m.fail("message", "the pieces make no message of this session: %v", err)
		return nil
	}
	m.note("the message is whole: it follows")
	return whole
}
