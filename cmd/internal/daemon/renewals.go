package daemon

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"yumen/esp"
	"yumen/ike"
)

// renewals counts keys that were renewed, or were to be, beside keys that stood: of
// sessions ("working") and of tunnels ("session"). What stands it knows by the events
// alone. A negotiation that the peer began counts once the peer is proven: of others
// nobody knows whom they concern.
type renewals struct {
	total    *prometheus.CounterVec
	crossed  prometheus.Counter
	mu       sync.Mutex // guards what follows
	sessions map[string]map[[16]byte]bool
	children map[string]map[esp.ChildID]bool
}

func newRenewals() *renewals {
	return &renewals{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ipsec_rekey_total",
			Help: "Renewals of keys while others stood, by the end that began them."}, []string{"kind", "cause", "result"}),
		crossed: prometheus.NewCounter(prometheus.CounterOpts{Name: "ipsec_rekey_collision_total",
			Help: "Quick modes of a peer that gave way to one of ours that they crossed."}),
		sessions: map[string]map[[16]byte]bool{}, children: map[string]map[esp.ChildID]bool{},
	}
}

func (r *renewals) count(e ike.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cause := "us"
	if e.Role == ike.Responder {
		cause = "peer"
	}
	key := [16]byte(append(e.CookieI[:], e.CookieR[:]...))
	switch e.Kind {
	case ike.IKEUp:
		if len(r.sessions[e.Peer]) > 0 {
			r.total.WithLabelValues("working", cause, "ok").Inc()
		}
		stands(r.sessions, e.Peer, key)
	case ike.IKEDown:
		ends(r.sessions, e.Peer, key)
	case ike.IKEFailed:
		if e.Role == ike.Initiator && len(r.sessions[e.Peer]) > 0 {
			r.total.WithLabelValues("working", cause, "failed").Inc()
		}
	case ike.ChildUp, ike.ChildRekeyed:
		if e.Kind == ike.ChildRekeyed {
			r.total.WithLabelValues("session", cause, "ok").Inc()
		}
		stands(r.children, e.Tunnel, e.Child)
	case ike.ChildDown:
		ends(r.children, e.Tunnel, e.Child)
	case ike.ChildFailed:
		if len(r.children[e.Tunnel]) > 0 && !onPurpose(e.Reason) {
			r.total.WithLabelValues("session", cause, "failed").Inc()
		}
	case ike.Dropped:
		if e.Reason == ike.Crossed {
			r.crossed.Inc()
		}
	}
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
