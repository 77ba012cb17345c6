package lab

import (
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/gm"
	"yumen/ike/wire"
)

// Some peers say INITIAL-CONTACT in message 5, behind the HASH: what stands from
// their life before goes.
func TestInitialContactBesideTheProofIsHeeded(t *testing.T) {
	i, r := members().Pair()
	l := New(1, i, r)
	l.Run(10 * time.Second)
	g := l.Gateway("r")
	before := g.Engine.Status().Sessions[0].CookieI
	heard := 0
	g.Told = func(v ike.Event) {
		if v.Kind == ike.NotifyIn && v.Notify == wire.InitialContact {
			heard++
			if st := g.Engine.Status(); len(st.Sessions) != 1 || st.Sessions[0].CookieI == before || len(st.Tunnels[0].Children) != 0 {
				t.Errorf("after INITIAL-CONTACT r has %+v, %d children", st.Sessions, len(st.Tunnels[0].Children))
			}
		}
	}
	l.Hook = func(p Packet) []Packet {
		if p.Label == "main 5" && p.To == "r" {
			p.Data = withContact(t, l, p.Data)
		}
		return []Packet{p}
	}
	l.Gateway("i").Restart()
	if !l.RunUntil(10*time.Second, func() bool { return heard > 0 }) {
		t.Errorf("INITIAL-CONTACT beside the proof was not heard\n%s", l.Story.String())
	}
}

// withContact is an M5 with INITIAL-CONTACT behind its HASH.
func withContact(t *testing.T, l *Lab, data []byte) []byte {
	t.Helper()
	h, err := wire.ParseHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	w := l.seen.watch(h)
	keys := gm.DeriveKeys(w.nonces[0], w.nonces[1], h.Initiator, h.Responder)
	iv := gm.PhaseOneIV(w.sks[0], w.sks[1])
	plain, err := gm.DecryptCBC(keys.CipherKey(), iv[:], data[wire.HeaderLen:])
	if err != nil {
		t.Fatal(err)
	}
	ps, _, err := wire.ParseBody(h.Next, plain, wire.Padding)
	if err != nil {
		t.Fatal(err)
	}
	note := wire.Notification{DOI: 1, Protocol: wire.ProtoISAKMP, SPI: append(h.Initiator[:], h.Responder[:]...), Type: wire.InitialContact}
	body := wire.AppendPayloads(nil, append(ps, wire.Payload{Type: wire.TypeNotify, Body: note.Append(nil)}))
	body = append(body, make([]byte, -len(body)&15)...)
	return h.Append(nil, wire.TypeHash, gm.EncryptCBC(keys.CipherKey(), iv[:], body))
}
