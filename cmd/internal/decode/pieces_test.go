package decode

import (
	"encoding/binary"
	"slices"
	"testing"

	"yumen/ike/wire"
)

// cut makes pieces of at most size bytes of a message on port 500.
func cut(p packet, number uint16, size int) (out [][]byte) {
	h := must(wire.ParseHeader(p.data))
	rest := p.data
	for n := byte(1); len(rest) > 0; n++ {
		body := append(binary.BigEndian.AppendUint16(nil, number), n, 0)
		if len(rest) <= size {
			body[3] = 1
		}
		part := rest[:min(size, len(rest))]
		rest = rest[len(part):]
		m := wire.Message{
			Header:   wire.Header{Initiator: h.Initiator, Responder: h.Responder, Version: h.Version, Exchange: h.Exchange},
			Payloads: []wire.Payload{{Type: typePiece, Body: append(body, part...)}},
		}
		out = append(out, packet{p.name, p.src, p.dst, m.Append(nil)}.frame())
	}
	return out
}

func TestMessagesInPiecesAreJoined(t *testing.T) {
	w := newWorld(knobs{})
	var frames, backwards [][]byte
	for i, p := range w.packets {
		pieces := [][]byte{p.frame()}
		if p.name == "M2" || p.name == "M3" || p.name == "M4" {
			pieces = cut(p, uint16(i), 300)
		}
		frames = append(frames, pieces...)
		slices.Reverse(pieces)
		backwards = append(backwards, append(pieces, pieces[0])...) // and one of them twice
	}
	for name, frames := range map[string][][]byte{"in order": frames, "backwards": backwards} {
		t.Run(name, func(t *testing.T) {
			r := decodeBytes(t, record(t, frames...), Options{Keys: labKeys()})
			wantClean(t, r)
			wantText(t, r, "1 of message", "the message is whole: it follows")
			if len(r.Sessions) != 1 || r.Sessions[0].State != decodeBytes(t, record(t, w.frames()...), Options{Keys: labKeys()}).Sessions[0].State {
				t.Errorf("sessions %+v", r.Sessions)
			}
		})
	}
}

func TestPiecesThatMakeNoMessageAreNamed(t *testing.T) {
	w := newWorld(knobs{})
	m3 := *w.find(t, "M3", 0)
	nested := m3
	nested.data = cutMessage(m3.data)
	for name, frames := range map[string][][]byte{
		"one is missing":    append(cut(m3, 7, 300)[:1], cut(m3, 7, 300)[2:]...),
		"pieces in a piece": cut(nested, 7, 300),
	} {
		r := decodeBytes(t, record(t, frames...), Options{Keys: labKeys()})
		if slices.ContainsFunc(r.Messages, func(m *Message) bool { return m.Name == "M3" }) {
			t.Errorf("%s: an M3 came out", name)
		}
		if name == "pieces in a piece" && r.Failed == 0 {
			t.Errorf("%s: not named", name)
		}
	}
}

// cutMessage is a whole message that is itself one piece.
func cutMessage(b []byte) []byte {
	h := must(wire.ParseHeader(b))
	m := wire.Message{
		Header:   wire.Header{Initiator: h.Initiator, Responder: h.Responder, Version: h.Version, Exchange: h.Exchange},
		Payloads: []wire.Payload{{Type: typePiece, Body: append([]byte{0, 1, 1, 1}, b...)}},
	}
	return m.Append(nil)
}
