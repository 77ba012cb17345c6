package ike

import (
	"encoding/binary"
	"fmt"
	"time"

	"yumen/ike/wire"
)

// Fragmentation of IKEv1 messages as deployed widely (Vendor ID FRAGMENTATION,
// payload 132): not part of the standard, used only where both ends announce it.
// A piece is an ISAKMP header with the cookies of the message and one payload:
//
//	message number (2), piece number from 1 (1), flags (1, bit 0: last), bytes
//
// The bytes of all pieces are the message, its own header included.
const (
	typeFragment = wire.PayloadType(132)
	pieceHeader  = 4 + 4 // generic header, then the fields above
	// pieceBytes keeps a piece below 1280 bytes with the headers of IPv6, UDP, the
	// non-ESP marker, ISAKMP and the piece itself.
	pieceBytes = 1280 - 40 - 8 - 4 - wire.HeaderLen - pieceHeader
	maxPieces  = 24
	maxWhole   = 64 << 10 // of all pieces: no UDP datagram is larger
	lastPiece  = 1
	// piecesLife is how long pieces wait for the rest. Their sender repeats a message
	// that is not answered, and begins anew then.
	piecesLife = 30 * time.Second
)

// vendorFragments is MD5("FRAGMENTATION") and the flag for main mode.
const vendorFragments = "\x40\x48\xb7\xd5\x6e\xbc\xe8\x85\x25\xe7\xde\x7f\x00\xd6\xc2\xd3\x80\x00\x00\x00"

// pieces is a message that is coming in, one at a time for each session.
type pieces struct {
	begun  bool // a piece came; the zero value has none
	number uint16
	since  time.Time // of its first piece
	last   int       // number of the last piece; 0: not known
	size   int       // of all parts
	parts  [maxPieces][]byte
}

// inPieces cuts a datagram that is too large. number tells the message apart
// from the one before.
func inPieces(d Datagram, h wire.Header, number uint16) []Datagram {
	var out []Datagram
	rest := d.Data
	for n := byte(1); len(rest) > 0; n++ {
		size := min(len(rest), pieceBytes)
		body := binary.BigEndian.AppendUint16(nil, number)
		flags := byte(0)
		if size == len(rest) {
			flags = lastPiece
		}
		body = append(append(body, n, flags), rest[:size]...)
		rest = rest[size:]
		m := wire.Message{
			Header: wire.Header{Initiator: h.Initiator, Responder: h.Responder, Version: h.Version,
				Exchange: wire.MainMode},
			Payloads: []wire.Payload{{Type: typeFragment, Body: body}},
		}
		out = append(out, Datagram{Local: d.Local, Remote: d.Remote, Data: m.Append(nil)})
	}
	return out
}

// add takes one piece in and returns the message when it is whole. A new message
// number drops what there was, and so does time: nothing here is authentic, and the
// sender repeats everything.
func (p *pieces) add(now time.Time, data []byte) ([]byte, error) {
	m, err := wire.Parse(data)
	if err != nil {
		return nil, err
	}
	if len(m.Payloads) != 1 || m.Payloads[0].Type != typeFragment || len(m.Payloads[0].Body) <= 4 {
		return nil, fmt.Errorf("not one piece of a message")
	}
	body := m.Payloads[0].Body
	number, n, flags := binary.BigEndian.Uint16(body), int(body[2]), body[3]
	if n < 1 || n > maxPieces {
		return nil, fmt.Errorf("piece %d of at most %d", n, maxPieces)
	}
	if !p.begun || number != p.number || now.Sub(p.since) >= piecesLife {
		*p = pieces{begun: true, number: number, since: now}
	}
	if p.parts[n-1] == nil {
		if p.size += len(body) - 4; p.size > maxWhole {
			*p = pieces{}
			return nil, fmt.Errorf("pieces of more than %d bytes", maxWhole)
		}
		p.parts[n-1] = append([]byte(nil), body[4:]...)
	}
	if flags&lastPiece != 0 {
		p.last = n
	}
	var whole []byte
	for _, part := range p.parts[:p.last] {
		if part == nil {
			return nil, nil
		}
		whole = append(whole, part...)
	}
	if p.last > 0 {
		*p = pieces{}
	}
	return whole, nil
}

// mayCut says whether messages of a session, proven or not, may go in pieces.
func (e *Engine) mayCut(h wire.Header) bool {
	k := pairKey{h.Initiator, h.Responder}
	if s := e.sessions[k]; s != nil {
		return s.piecewise()
	}
	if o := e.halfOpen.byPair[k]; o != nil {
		return o.knows.pieces && o.peer.entry.Fragmentation
	}
	return false
}

func (s *session) piecewise() bool {
	p := s.peer
	if p == nil && s.first != nil {
		p = s.first.peer
	}
	return p != nil && s.knows.pieces && p.entry.Fragmentation
}

// piece takes in one piece of main mode. What comes later is never so large.
func (s *session) piece(d Datagram, h wire.Header) {
	if s.state == established {
		s.drop(UnexpectedState, "a piece of a message: nothing so large is to come")
		return
	}
	s.e.piece(d, h, &s.pieces)
}

// piece takes in one piece of a message of s, or of the answer to dial.
func (e *Engine) piece(d Datagram, h wire.Header, p *pieces) {
	whole, err := p.add(e.now, d.Data)
	if err == nil && whole == nil {
		return
	}
	if err == nil {
		var inner wire.Header
		inner, err = wire.ParseHeader(whole)
		if err == nil && (inner.Next == typeFragment || inner.Initiator != h.Initiator || inner.Responder != h.Responder) {
			err = fmt.Errorf("pieces make a message of other cookies")
		}
	}
	if err != nil {
		e.stray(d, h, Malformed, err.Error())
		return
	}
	d.Data = whole
	e.receive(d)
}
