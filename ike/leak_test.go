package ike_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/test/lab"
)

// calm is the most that an engine at rest with one tunnel keeps.
var calm = ike.Held{Sessions: 1, Children: 1, SPIs: 1, Alarms: 7} // one looks after the path

// After a storm nothing is left behind in any table.
func TestNothingIsLeftBehindAfterAStorm(t *testing.T) {
	for seed := range uint64(400) {
		s := lab.NewStorm(members(), 100000+seed)
		s.Lab.Story.Off = true
		if wrong := s.Rage(); len(wrong) > 0 {
			t.Fatalf("%v: %q", s, wrong)
		}
		for _, g := range s.Gateways() {
			h := g.Engine.Held()
			if s.Short && h.Exchanges <= 2 { // a quick mode is remembered for a minute
				h.Alarms -= h.Exchanges
				h.Exchanges = 0
			}
			if h.Dials > calm.Dials || h.Sessions > calm.Sessions || h.Ops > 0 || h.Children > calm.Children ||
				h.SPIs > calm.SPIs || h.Exchanges > 0 || h.Alarms > calm.Alarms || h.HalfOpen > 0 || h.Queued > 0 {
				t.Fatalf("%v: %s keeps %+v", s, g.Name, h)
			}
		}
	}
}

// When everything is stopped, nothing is kept and nothing is due.
func TestStoppedEngineKeepsNothing(t *testing.T) {
	l := pair(1)
	l.Run(time.Minute)
	g := l.Gateway("i")
	g.Stop("")
	if h := g.Engine.Held(); h != (ike.Held{}) || !g.Wake.IsZero() {
		t.Errorf("keeps %+v, wakes at %v", h, g.Wake)
	}
	if n := g.Plane.Unwiped(); n != 0 || len(g.Plane.Installed()) != 0 {
		t.Errorf("%d keys unwiped", n)
	}
}

// A quick mode that nobody answers gives its SPI back.
func TestAbandonedQuickModeGivesItsSPIBack(t *testing.T) {
	l := pair(1)
	l.Hook = func(p lab.Packet) []lab.Packet {
		if p.Label == "quick 1" {
			return nil
		}
		return []lab.Packet{p}
	}
	l.Run(10 * time.Minute)
	if h := l.Gateway("i").Engine.Held(); h.SPIs > 1 || h.Children > 0 {
		t.Errorf("keeps %+v", h)
	}
}

// A proven peer may send anything under a HASH that verifies. It is refused or
// obeyed, never more; whatever it makes us keep is bounded.
func TestHostileProvenPeerBreaksNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for round := range 40 {
		l := pair(uint64(round))
		l.Run(5 * time.Second)
		i, g := l.Gateway("i"), l.Gateway("r")
		for range 200 {
			if !i.Engine.Proven() || !g.Engine.Proven() {
				break
			}
			d := i.Engine.Forge(hostile(r))
			l.Inject(d.Local, d.Remote, d.Data)
			l.Run(time.Millisecond)
		}
		for _, f := range l.Faults {
			t.Error(f)
		}
		if h := g.Engine.Held(); h.Children > 40 || h.Sessions > 20 || h.Alarms > 200 {
			t.Errorf("round %d: keeps %+v", round, h)
		}
		l.Run(3 * time.Minute)
		if h := g.Engine.Held(); h.Children > 2 || h.Exchanges > 2 {
			t.Errorf("round %d: three minutes later keeps %+v", round, h)
		}
	}
}

// hostile draws an exchange and payloads: sound ones, damaged ones, noise.
func hostile(r *rand.Rand) (wire.ExchangeType, []wire.Payload) {
	noise := func(n int) []byte {
		b := make([]byte, r.IntN(n))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	var ps []wire.Payload
	for _, p := range sound(r) {
		switch r.IntN(12) {
		case 0:
			continue
		case 1:
			p.Body = noise(80)
		case 2:
			if len(p.Body) > 0 {
				p.Body[r.IntN(len(p.Body))] ^= 1 << r.IntN(8)
			}
		case 3:
			p.Type = wire.PayloadType(r.Uint32())
		case 4:
			ps = append(ps, p)
		}
		ps = append(ps, p)
	}
	if len(ps) == 0 {
		ps = []wire.Payload{{Type: wire.TypeNotify, Body: noise(40)}}
	}
	return []wire.ExchangeType{wire.QuickMode, wire.QuickMode, wire.Informational}[r.IntN(3)], ps
}

// sound is a QM1 for the tunnel of the lab, or a notification or delete.
func sound(r *rand.Rand) []wire.Payload {
	switch r.IntN(4) {
	case 0:
		types := []wire.NotifyType{wire.RUThere, wire.RUThereAck, wire.Connected, wire.InitialContact,
			wire.ResponderLifetime, wire.NoProposalChosen, wire.NotifyType(r.Uint32())}
		n := wire.Notification{DOI: 1, Protocol: wire.Protocol(1 + 2*r.IntN(2)), SPI: make([]byte, 4*r.IntN(5)),
			Type: types[r.IntN(len(types))], Data: []byte{0x80, 1, 0, 1, 0x80, 2, 0, byte(r.Uint32())}}
		return []wire.Payload{{Type: wire.TypeNotify, Body: n.Append(nil)}}
	case 1:
		size := []int{4, 16}[r.IntN(2)]
		d := wire.Delete{DOI: 1, Protocol: wire.Protocol(1 + r.IntN(3)), SPISize: uint8(size), SPIs: [][]byte{make([]byte, size)}}
		return []wire.Payload{{Type: wire.TypeDelete, Body: d.Append(nil)}}
	}
	t := wire.Transform{Number: 1, ID: []uint8{129, 127, 130, 3}[r.IntN(4)], Attributes: []wire.Attribute{
		wire.Short(5, 20), wire.Short(4, uint16(1+r.IntN(4))), wire.Short(1, 1), wire.Short(2, uint16(r.Uint32()))}}
	sa := wire.SA{DOI: 1, Situation: 1, Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtoESP,
		SPI: []byte{1, 2, 3, byte(r.Uint32())}, Transforms: []wire.Transform{t}}}}
	id := func(third byte) []byte {
		return wire.ID{Type: wire.IDIPv4Subnet, Data: []byte{10, third, 0, 0, 255, 255, 0, 0}}.Append(nil)
	}
	return []wire.Payload{{Type: wire.TypeSA, Body: sa.Append(nil)}, {Type: wire.TypeNonce, Body: make([]byte, 16)},
		{Type: wire.TypeID, Body: id(1)}, {Type: wire.TypeID, Body: id(2)}}
}

// A proven peer that starts quick modes without end is served up to a limit.
func TestFloodOfQuickModesIsBounded(t *testing.T) {
	l := pair(3)
	l.Run(5 * time.Second)
	i, g := l.Gateway("i"), l.Gateway("r")
	limited := 0
	g.Told = func(v ike.Event) {
		if v.Kind == ike.Dropped && v.Reason == ike.RateLimited {
			limited++
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		ps := sound(r)
		for len(ps) != 4 {
			ps = sound(r)
		}
		sa, err := wire.ParseSA(ps[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		sa.Proposals[0].Transforms[0].ID = 129
		sa.Proposals[0].Transforms[0].Attributes[1] = wire.Short(4, 1)
		ps[0].Body = sa.Append(nil)
		d := i.Engine.Forge(wire.QuickMode, ps)
		l.Inject(d.Local, d.Remote, d.Data)
	}
	if h := g.Engine.Held(); h.Children > 16 || h.Exchanges > 32 || limited < 900 {
		t.Errorf("keeps %+v, %d limited", h, limited)
	}
	l.Run(3 * time.Minute)
	if h := g.Engine.Held(); h.Children != 1 || h.SPIs != 1 || h.Exchanges != 0 {
		t.Errorf("three minutes later keeps %+v", h)
	}
}
