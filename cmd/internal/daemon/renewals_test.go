package daemon

import (
	"testing"

	"yumen/ike"
	"yumen/ike/wire"
)

// Renewals are counted beside what stands, not first negotiations, and nobody who is
// not proven can count any.
func TestRenewalsAreCountedBesideWhatStands(t *testing.T) {
	m := newMetrics()
	for _, e := range []ike.Event{
		{Kind: ike.IKEFailed, Reason: ike.Timeout, Peer: "b", Claimed: true}, // nothing stood yet
		{Kind: ike.IKEUp, Peer: "b", CookieI: wire.Cookie{1}},
		{Kind: ike.ChildFailed, Peer: "b", Tunnel: "net", Reason: ike.Timeout}, // nor here
		{Kind: ike.ChildUp, Peer: "b", Tunnel: "net", Child: 1},
		{Kind: ike.ChildRekeyed, Peer: "b", Tunnel: "net", Child: 2},
		{Kind: ike.ChildRekeyed, Peer: "b", Tunnel: "net", Child: 3, Role: ike.Responder},
		{Kind: ike.ChildFailed, Peer: "b", Tunnel: "net", Reason: ike.Timeout},
		{Kind: ike.ChildFailed, Peer: "b", Tunnel: "net", Reason: ike.ShutDown}, // nobody's failure
		{Kind: ike.Dropped, Peer: "b", Reason: ike.Crossed},
		{Kind: ike.Dropped, Peer: "b", Reason: ike.Duplicate},
		{Kind: ike.IKEFailed, Reason: ike.Timeout, Peer: "b", Claimed: true, Role: ike.Responder}, // anybody's
		{Kind: ike.IKEFailed, Reason: ike.Timeout, Peer: "b", Claimed: true},
		{Kind: ike.IKEUp, Peer: "b", CookieI: wire.Cookie{2}, Role: ike.Responder},
		{Kind: ike.IKEDown, Peer: "b", CookieI: wire.Cookie{1}},
		{Kind: ike.IKEDown, Peer: "b", CookieI: wire.Cookie{2}},
		{Kind: ike.IKEUp, Peer: "b", CookieI: wire.Cookie{3}}, // anew
		{Kind: ike.ChildDown, Tunnel: "net", Child: 1},
		{Kind: ike.ChildDown, Tunnel: "net", Child: 2},
		{Kind: ike.ChildDown, Tunnel: "net", Child: 3},
		{Kind: ike.ChildUp, Tunnel: "net", Child: 4},
	} {
		m.count(e)
	}
	for _, c := range []struct {
		kind, cause, result string
		want                float64
	}{
		{"session", "us", "ok", 1}, {"session", "peer", "ok", 1}, {"session", "us", "failed", 1}, {"session", "peer", "failed", -1},
		{"working", "us", "ok", -1}, {"working", "peer", "ok", 1}, {"working", "us", "failed", 1}, {"working", "peer", "failed", -1},
	} {
		labels := map[string]string{"kind": c.kind, "cause": c.cause, "result": c.result}
		if got := series(t, m, "ipsec_rekey_total", labels); got != c.want {
			t.Errorf("%v is %v, want %v", labels, got, c.want)
		}
	}
	if got := series(t, m, "ipsec_rekey_collision_total", nil); got != 1 {
		t.Errorf("%v collisions, want 1", got)
	}
	if len(m.renewals.children["net"]) != 1 || len(m.renewals.sessions["b"]) != 1 {
		t.Errorf("what is gone is remembered: %v, %v", m.renewals.children, m.renewals.sessions)
	}
}
