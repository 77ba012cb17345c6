package ike

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"yumen/ike/wire"
)

// aPiece is piece n of message number; flags says whether it is the last.
func aPiece(number uint16, n, flags byte, data []byte) []byte {
	body := append(binary.BigEndian.AppendUint16(nil, number), n, flags)
	return wire.Message{Header: wire.Header{Initiator: wire.Cookie{1}, Version: 0x10, Exchange: wire.MainMode},
		Payloads: []wire.Payload{{Type: typeFragment, Body: append(body, data...)}}}.Append(nil)
}

func TestPiecesMakeAMessage(t *testing.T) {
	start := time.Unix(1e9, 0)
	type step struct {
		after    time.Duration
		number   uint16
		n, flags byte
		data     string
		whole    string
	}
	for name, steps := range map[string][]step{
		"in order":                  {{0, 1, 1, 0, "a", ""}, {0, 1, 2, 1, "b", "ab"}},
		"the last one first":        {{0, 1, 2, 1, "b", ""}, {0, 1, 1, 0, "a", "ab"}},
		"number 0":                  {{0, 0, 1, 0, "a", ""}, {0, 0, 2, 1, "b", "ab"}},
		"a new message":             {{0, 1, 1, 0, "x", ""}, {0, 2, 2, 1, "b", ""}, {0, 2, 1, 0, "a", "ab"}},
		"a piece twice":             {{0, 1, 1, 0, "a", ""}, {0, 1, 1, 0, "x", ""}, {0, 1, 2, 1, "b", "ab"}},
		"the same again":            {{0, 1, 1, 1, "a", "a"}, {0, 1, 1, 1, "a", "a"}},
		"the rest comes late":       {{0, 1, 1, 0, "a", ""}, {29 * time.Second, 1, 2, 1, "b", "ab"}},
		"the rest comes too late":   {{0, 1, 1, 0, "a", ""}, {30 * time.Second, 1, 2, 1, "b", ""}},
		"what is too old is no bar": {{0, 1, 1, 0, "x", ""}, {30 * time.Second, 1, 1, 0, "a", ""}, {0, 1, 2, 1, "b", "ab"}},
	} {
		var p pieces
		now := start
		for i, s := range steps {
			now = now.Add(s.after)
			whole, err := p.add(now, aPiece(s.number, s.n, s.flags, []byte(s.data)))
			if err != nil || string(whole) != s.whole {
				t.Errorf("%s: step %d: %q, %v, want %q", name, i+1, whole, err, s.whole)
			}
		}
		if last := steps[len(steps)-1].whole; p.begun && last != "" {
			t.Errorf("%s: something is kept of a message that is whole", name)
		}
	}
}

// A message is no larger than a datagram can be, however large its pieces are.
func TestPiecesHoldNoMoreThanADatagram(t *testing.T) {
	var p pieces
	large := bytes.Repeat([]byte{7}, 30<<10)
	for n := range byte(maxPieces) {
		_, err := p.add(time.Unix(1e9, 0), aPiece(1, n+1, 0, large))
		if (err != nil) != (n%3 == 2) {
			t.Errorf("piece %d: %v", n+1, err)
		}
		held := 0
		for _, part := range p.parts {
			held += len(part)
		}
		if held > maxWhole {
			t.Fatalf("%d bytes are held", held)
		}
	}
}
