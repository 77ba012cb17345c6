package lab

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
)

// A first message of an exchange that does not exist here, or of another DOI, is
// refused by name where a configured peer sends it, and leaves nothing behind.
func TestFirstMessageOfAnotherExchangeIsRefusedByName(t *testing.T) {
	exchange := func(x byte) func([]byte) {
		return func(b []byte) { b[18] = x }
	}
	for name, c := range map[string]struct {
		change func([]byte)
		reason ike.Reason
		notify wire.NotifyType
	}{
		"base":                {exchange(1), ike.BadExchange, wire.UnsupportedExchangeType},
		"authentication only": {exchange(3), ike.BadExchange, wire.UnsupportedExchangeType},
		"aggressive":          {exchange(4), ike.BadExchange, wire.UnsupportedExchangeType},
		"nonsense":            {exchange(77), ike.BadExchange, wire.InvalidExchangeType},
		"quick mode":          {exchange(32), ike.BadExchange, wire.InvalidExchangeType},
		"another DOI":         {func(b []byte) { b[wire.HeaderLen+7] = 2 }, ike.NoProposal, wire.DOINotSupported},
	} {
		l := plain(51)
		s := hold(t, l, "main 1")
		data := bytes.Clone(s.genuine.Data)
		c.change(data)
		var reason ike.Reason
		var notify []wire.NotifyType
		hook := l.Hook
		l.Hook = func(p Packet) []Packet {
			if m, err := wire.Parse(p.Data); err == nil && p.From == "r" {
				for _, x := range m.Payloads {
					if n, err := wire.ParseNotification(x.Body); err == nil && x.Type == wire.TypeNotify {
						notify = append(notify, n.Type)
					}
				}
			}
			return hook(p)
		}
		s.victim.Told = func(v ike.Event) {
			if v.Kind == ike.Refused {
				reason = v.Reason
			}
		}
		l.Inject(netip.MustParseAddrPort("203.0.113.66:500"), s.genuine.Dest, data)
		if len(notify) > 0 || reason != "" {
			t.Errorf("%s: a stranger is told %v, %q", name, notify, reason)
		}
		l.Inject(s.genuine.Source, s.genuine.Dest, data)
		l.Run(time.Millisecond)
		if reason != c.reason || len(notify) != 1 || notify[0] != c.notify {
			t.Errorf("%s: refused for %q with %v, want %q with %v", name, reason, notify, c.reason, c.notify)
		}
		for range 200 {
			l.Inject(s.genuine.Source, s.genuine.Dest, data)
		}
		if len(notify) > 25 {
			t.Errorf("%s: %d notifications to 201 messages", name, len(notify))
		}
		if n := s.victim.Engine.Status().HalfOpen; n != 0 {
			t.Errorf("%s: %d half-open entries", name, n)
		}
		l.Run(2 * time.Second) // what is limited
		s.complete(t, name)
	}
}
