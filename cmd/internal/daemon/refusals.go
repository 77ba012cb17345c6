package daemon

import (
	"maps"
	"slices"
	"sync"
	"time"

	"yumen/cmd/internal/control"
	"yumen/ike"
	"yumen/policy"
)

// refusals remembers, for the status, the last thing that came to nothing with
// each peer. The responder knows most reasons and tells the peer few of them: none
// of its tunnels was being set up, so without this only its log would say why.
type refusals struct {
	mu   sync.Mutex // guards last
	last map[string]control.Refusal
}

// note takes what an event tells of a refusal. Only peers of the policy have an
// entry, and one more is for everybody else: nobody outside can make it grow.
func (r *refusals) note(e ike.Event, p *policy.Policy, now time.Time) {
	switch e.Kind {
	case ike.Refused, ike.IKEFailed, ike.ChildFailed:
	case ike.Dropped:
		if stray(e.Reason) {
			return
		}
	default:
		return
	}
	x := control.Refusal{At: now, Claimed: e.Claimed, Tunnel: e.Tunnel, Reason: string(e.Reason), Detail: e.Detail}
	if e.Remote.IsValid() {
		x.Remote = e.Remote.String()
	}
	if slices.ContainsFunc(p.Peers, func(peer policy.Peer) bool { return peer.Name == e.Peer }) {
		x.Peer = e.Peer
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]control.Refusal{}
	}
	r.last[x.Peer] = x
}

// list returns what is remembered of peers of p, and of unknown ones first.
func (r *refusals) list(p *policy.Policy) []control.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.last, func(name string, _ control.Refusal) bool {
		return name != "" && !slices.ContainsFunc(p.Peers, func(peer policy.Peer) bool { return peer.Name == name })
	})
	var out []control.Refusal
	for _, name := range slices.Sorted(maps.Keys(r.last)) {
		out = append(out, r.last[name])
	}
	return out
}
