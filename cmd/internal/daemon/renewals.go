package daemon

import (
	"sync"

	"yumen/esp"
	"yumen/ike"
)

// renewals tells which keys were renewed, or were to be, beside keys that stood: of
// sessions ("working") and of tunnels ("session"). What stands it knows by the events
// alone. A negotiation that the peer began counts once the peer is proven: of others
// nobody knows whom they concern.
type renewals struct {
	mu       sync.Mutex // guards what follows
	sessions map[string]map[[16]byte]bool
	children map[string]map[esp.ChildID]bool
}

func newRenewals() *renewals {
	return &renewals{sessions: map[string]map[[16]byte]bool{}, children: map[string]map[esp.ChildID]bool{}}
}

// take notes an event and says what was renewed by it, at whose wish, and how that
// ended; kind is empty where it is no renewal.
func (r *renewals) take(e ike.Event) (kind, cause, result string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cause = "us"
	if e.Role == ike.Responder {
		cause = "peer"
	}
	key := [16]byte(append(e.CookieI[:], e.CookieR[:]...))
	session, child := len(r.sessions[e.Peer]) > 0, len(r.children[e.Tunnel]) > 0
	switch e.Kind {
	case ike.IKEUp:
		stands(r.sessions, e.Peer, key)
		if session {
			return "working", cause, "ok"
		}
	case ike.IKEDown:
		ends(r.sessions, e.Peer, key)
	case ike.IKEFailed:
		if session && e.Role == ike.Initiator {
			return "working", cause, "failed"
		}
	case ike.ChildUp:
		stands(r.children, e.Tunnel, e.Child)
	case ike.ChildRekeyed:
		stands(r.children, e.Tunnel, e.Child)
		return "session", cause, "ok"
	case ike.ChildDown:
		ends(r.children, e.Tunnel, e.Child)
	case ike.ChildFailed:
		if child && !onPurpose(e.Reason) {
			return "session", cause, "failed"
		}
	}
	return "", "", ""
}

// onPurpose: what was given up because somebody here said so.
func onPurpose(r ike.Reason) bool { return r == ike.Operator || r == ike.ShutDown || r == ike.Reloaded }

func stands[K comparable](of map[string]map[K]bool, name string, key K) {
	if of[name] == nil {
		of[name] = map[K]bool{}
	}
	of[name][key] = true
}

func ends[K comparable](of map[string]map[K]bool, name string, key K) {
	delete(of[name], key)
	if len(of[name]) == 0 {
		delete(of, name)
	}
}
