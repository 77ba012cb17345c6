package ike

import (
	"slices"

	"yumen/ike/wire"
)

// Verified is how many signatures over nonce and ID the engine has checked.
func (e *Engine) Verified() uint64 { return e.verified }

// Held is how much the engine keeps, table by table.
type Held struct{ Dials, Sessions, Ops, Children, SPIs, Exchanges, Alarms, HalfOpen, Queued int }

func (e *Engine) Held() Held {
	h := Held{Dials: len(e.dials), Sessions: len(e.sessions), Ops: len(e.ops), Children: len(e.children),
		SPIs: len(e.spis), Alarms: e.clock.Len(), HalfOpen: len(e.halfOpen.byFirst)}
	for _, s := range e.sessions {
		h.Exchanges += len(s.exchanges)
		h.Queued += len(s.queue)
	}
	return h
}

// Proven says whether there is a session that is proven.
func (e *Engine) Proven() bool { return len(e.sessions) > 0 && e.sessionList()[0].state == established }

// Forge writes a message as the proven peer of this engine could: with a HASH
// that verifies over payloads of any kind. For QuickMode it is a QM1.
func (e *Engine) Forge(x wire.ExchangeType, ps []wire.Payload) Datagram {
	s := e.sessionList()[0]
	id := s.newMessageID()
	hash := s.keys.Protected(id, wire.AppendPayloads(nil, ps))
	b, _ := s.closeBody(s.header(x, id, wire.FlagEncrypted), s.keys.PhaseTwoIV(s.lastBlock, id), hash, ps)
	return Datagram{Local: s.local, Remote: s.remote, Data: slices.Clone(b)}
}
