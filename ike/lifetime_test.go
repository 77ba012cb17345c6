package ike_test

import (
	"testing"
	"time"

	"yumen/ike/wire"
)

// RESPONDER-LIFETIME (RFC 2407 4.6.3.1) shortens the life of the SA that it names, by
// the attributes' types and not by their order. It lengthens nothing, and what cannot be
// read changes nothing.
func TestResponderLifetimeShortensTheSAThatItNames(t *testing.T) {
	const hour = 3600
	short, long := wire.Short, wire.Long
	for name, c := range map[string]struct {
		protocol       wire.Protocol
		attributes     []wire.Attribute
		child, session time.Duration // that is left of each
		wrongSPI       bool
	}{
		"session keys":             {protocol: wire.ProtoESP, attributes: []wire.Attribute{short(1, 1), long(2, 600)}, child: 600 * time.Second},
		"as one short":             {protocol: wire.ProtoESP, attributes: []wire.Attribute{short(1, 1), short(2, 600)}, child: 600 * time.Second},
		"something before":         {protocol: wire.ProtoESP, attributes: []wire.Attribute{short(4, 1), short(1, 1), long(2, 600)}, child: 600 * time.Second},
		"kilobytes first":          {protocol: wire.ProtoESP, attributes: []wire.Attribute{short(1, 2), long(2, 300), short(1, 1), long(2, 600)}, child: 600 * time.Second},
		"kilobytes alone":          {protocol: wire.ProtoESP, attributes: []wire.Attribute{short(1, 2), long(2, 300)}},
		"longer than ours":         {protocol: wire.ProtoESP, attributes: []wire.Attribute{short(1, 1), long(2, 2*hour)}},
		"nothing":                  {protocol: wire.ProtoESP},
		"a duration of nothing":    {protocol: wire.ProtoESP, attributes: []wire.Attribute{long(2, 600)}},
		"another SPI":              {protocol: wire.ProtoESP, attributes: []wire.Attribute{short(1, 1), long(2, 600)}, wrongSPI: true},
		"working keys":             {protocol: wire.ProtoISAKMP, attributes: []wire.Attribute{short(11, 1), long(12, 2*hour)}, session: 2 * time.Hour},
		"working keys, of the DOI": {protocol: wire.ProtoISAKMP, attributes: []wire.Attribute{short(1, 1), long(2, 2*hour)}, session: 2 * time.Hour},
	} {
		l := pair(1)
		l.Run(10 * time.Second)
		g := l.Gateway("i")
		before := g.Engine.Status()
		own, _ := g.Plane.InUse("office")
		out := uint32(own.Out.SPI)
		if c.wrongSPI {
			out++
		}
		spi := []byte{byte(out >> 24), byte(out >> 16), byte(out >> 8), byte(out)}
		if c.protocol == wire.ProtoISAKMP {
			spi = append(before.Sessions[0].CookieI[:], before.Sessions[0].CookieR[:]...)
		}
		n := wire.Notification{DOI: 1, Protocol: c.protocol, Type: wire.ResponderLifetime, SPI: spi,
			Data: wire.AppendAttributes(nil, c.attributes)}
		d := l.Gateway("r").Engine.Forge(wire.Informational, []wire.Payload{{Type: wire.TypeNotify, Body: n.Append(nil)}})
		l.Inject(d.Local, d.Remote, d.Data)
		after := g.Engine.Status()
		want := func(installed, was time.Time, d time.Duration) time.Time {
			if d == 0 {
				return was
			}
			return installed.Add(d)
		}
		tunnel, session := after.Tunnels[0], after.Sessions[0]
		if w := want(tunnel.Installed[0], before.Tunnels[0].Expires[0], c.child); !tunnel.Expires[0].Equal(w) {
			t.Errorf("%s: the child ends at %v, want %v", name, tunnel.Expires[0], w)
		}
		if w := want(session.Established, before.Sessions[0].Expires, c.session); !session.Expires.Equal(w) || c.session > 0 && !session.Rekey.Before(w) {
			t.Errorf("%s: the session ends at %v, renewed at %v, want %v", name, session.Expires, session.Rekey, w)
		}
		if c.child > 0 { // and it is renewed before
			l.Run(c.child - 10*time.Second)
			if now, up := g.Plane.InUse("office"); !up || now.ID == own.ID {
				t.Errorf("%s: not renewed", name)
			}
		}
	}
}
