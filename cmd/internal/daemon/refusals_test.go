package daemon

import (
	"net/netip"
	"testing"
	"time"

	"yumen/cmd/internal/control"
	"yumen/ike"
	"yumen/policy"
)

func TestLastRefusalOfEachPeerIsRemembered(t *testing.T) {
	p := &policy.Policy{Peers: []policy.Peer{{Name: "a"}, {Name: "b"}}}
	now := time.Unix(1_800_000_000, 0)
	from := netip.MustParseAddrPort("192.0.2.1:500")
	var r refusals
	for i, e := range []ike.Event{
		{Kind: ike.Refused, Reason: ike.CertRevoked, Peer: "a", Claimed: true},
		{Kind: ike.Refused, Reason: ike.NoSelector, Peer: "a", Detail: "none", Remote: from},
		{Kind: ike.IKEUp, Peer: "a"},
		{Kind: ike.Dropped, Reason: ike.UnknownCookies, Peer: "b"},
		{Kind: ike.Dropped, Reason: ike.CertIdentity, Peer: "mallory-1", Claimed: true},
		{Kind: ike.Refused, Reason: ike.NoProposal, Peer: "mallory-2", Claimed: true},
	} {
		r.note(e, p, now.Add(time.Duration(i)*time.Second))
	}
	got := r.list(p)
	want := []control.Refusal{
		{At: now.Add(5 * time.Second), Claimed: true, Reason: "no-proposal"},
		{At: now.Add(time.Second), Peer: "a", Remote: "192.0.2.1:500", Reason: "no-selector", Detail: "none"},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("have %+v, expected %+v", got, want)
	}
	if left := r.list(&policy.Policy{Peers: p.Peers[1:]}); len(left) != 1 || left[0].Peer != "" {
		t.Errorf("after a left the policy: %+v", left)
	}
}
