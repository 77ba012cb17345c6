package daemon

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"yumen/cmd/internal/control"
	"yumen/cmd/internal/selftest"
	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
	"yumen/policy/trust"
)

const scrapeTime = 3 * time.Second

// source is where a scrape reads; *gateway is one.
type source interface {
	read(ctx context.Context) (reading, error)
}

// reading is everything that a scrape and a status are made of.
type reading struct {
	lives     residence
	policy    *policy.Policy
	own       trust.Pair
	verifiers map[string]*trust.Verifier
	started   time.Time
	clock     string
	selftest  []selftest.Result
	engine    ike.Status
	usage     map[esp.ChildID]esp.Usage
	spent     map[string]esp.Usage // by tunnel: of children that are gone
	server    map[string]uint64    // datagrams, by what became of them
	userspace *control.Userspace   // nil: there is no such plane
	plane     map[string]uint64    // packets, by what became of them
	groups    []control.Group
}

// metrics count events as they come and read everything else at the scrape.
// Labels come from the policy: no peer on the wire can make a new series.
type metrics struct {
	registry     *prometheus.Registry
	negotiations *prometheus.CounterVec
	events       *prometheus.CounterVec
	took         *prometheus.HistogramVec
	keys         *prometheus.HistogramVec
	known        atomic.Pointer[map[string]bool] // names of peers
	rekeys       *prometheus.CounterVec
	collisions   prometheus.Counter
	renewals     *renewals
	source       source
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		negotiations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ipsec_negotiation_total",
			Help: "Negotiations that ended, by outcome."}, []string{"peer", "phase", "role", "result", "reason"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ipsec_events_total",
			Help: "Events other than ends of negotiations."}, []string{"event", "peer", "reason"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ipsec_negotiation_seconds",
			Help:    "Time of negotiations that succeeded, from the first message.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}, []string{"peer", "phase", "role"}),
		keys: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ipsec_crypto_op_seconds",
			Help:    "Time of operations with our private keys.",
			Buckets: prometheus.ExponentialBuckets(0.00002, 4, 10)}, []string{"backend", "op"}),
		rekeys: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ipsec_rekey_total",
			Help: "Renewals of keys while others stood, by the end that began them."}, []string{"kind", "cause", "result"}),
		collisions: prometheus.NewCounter(prometheus.CounterOpts{Name: "ipsec_rekey_collision_total",
			Help: "Quick modes of a peer that gave way to one of ours that they crossed."}),
		renewals: newRenewals(),
	}
	m.registry.MustRegister(m.negotiations, m.events, m.took, m.keys, m.rekeys, m.collisions, m)
	return m
}

// from makes the peers of p the ones that may be labels.
func (m *metrics) from(p *policy.Policy) {
	known := map[string]bool{}
	for _, peer := range p.Peers {
		known[peer.Name] = true
	}
	m.known.Store(&known)
}

// count counts one event, once. A peer that is only claimed is nobody yet.
func (m *metrics) count(e ike.Event) {
	if kind, cause, result := m.renewals.take(e); kind != "" {
		m.rekeys.WithLabelValues(kind, cause, result).Inc()
	}
	if e.Kind == ike.Dropped && e.Reason == ike.Crossed {
		m.collisions.Inc()
	}
	peer := ""
	if known := m.known.Load(); !e.Claimed && known != nil && (*known)[e.Peer] {
		peer = e.Peer
	}
	phase, result := outcome(e.Kind)
	if phase == "" {
		m.events.WithLabelValues(eventName(e.Kind), peer, string(e.Reason)).Inc()
		return
	}
	m.negotiations.WithLabelValues(peer, phase, roleName(e.Role), result, string(e.Reason)).Inc()
	if result != "failed" {
		m.took.WithLabelValues(peer, phase, roleName(e.Role)).Observe(e.Took.Seconds())
	}
}

// outcome: which kinds end a negotiation, of which phase, and how.
func outcome(k ike.EventKind) (phase, result string) {
	switch k {
	case ike.IKEUp:
		return "1", "ok"
	case ike.IKEFailed:
		return "1", "failed"
	case ike.ChildUp:
		return "2", "ok"
	case ike.ChildRekeyed:
		return "2", "rekeyed"
	case ike.ChildFailed:
		return "2", "failed"
	}
	return "", ""
}

// handler serves /metrics.
func (m *metrics) handler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4, Timeout: 2 * scrapeTime,
	}))
	return mux
}

// Describe sends nothing: which series there are follows from the policy.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the gateway and writes its series.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	w := page{ch}
	if m.source == nil {
		w.gauge("ipsec_up", "1 while the gateway answers.", 0)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	r, err := m.source.read(ctx)
	if err != nil {
		w.gauge("ipsec_up", "1 while the gateway answers.", 0)
		return
	}
	now := time.Now()
	w.host(r, now)
	w.crls(r, now)
	w.groups(r.groups)
	w.sessions(r, now)
	w.tunnels(r, now)
	w.traffic(r)
}

// total sums usage over all children of a tunnel, those that are gone too, so that a
// counter does not fall when a child is replaced.
func (r reading) total(t ike.TunnelStatus) esp.Usage {
	sum := r.spent[t.Name]
	for _, c := range t.Children {
		u := r.usage[c.ID]
		sum.In, sum.Out = more(sum.In, u.In), more(sum.Out, u.Out)
		sum.Replayed += u.Replayed
		sum.BadAuth += u.BadAuth
		sum.BadSelector += u.BadSelector
	}
	return sum
}

func more(sum, c esp.Count) esp.Count {
	return esp.Count{Bytes: sum.Bytes + c.Bytes, Packets: sum.Packets + c.Packets}
}

// page writes series to a scrape.
type page struct{ ch chan<- prometheus.Metric }

func (w page) gauge(name, help string, v float64, labels ...string) {
	w.write(prometheus.GaugeValue, name, help, v, labels)
}

func (w page) counter(name, help string, v uint64, labels ...string) {
	w.write(prometheus.CounterValue, name, help, float64(v), labels)
}

// write takes labels as pairs of name and value.
func (w page) write(kind prometheus.ValueType, name, help string, v float64, labels []string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	w.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, v, values...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (w page) host(r reading, now time.Time) {
	w.gauge("ipsec_up", "1 while the gateway answers.", 1)
	w.gauge("ipsec_uptime_seconds", "Time since the gateway started.", now.Sub(r.started).Seconds())
	w.gauge("ipsec_clock_plausible", "1 unless the wall clock lies before a moment that has passed.", truth(r.clock == ""))
	w.gauge("ipsec_half_open_ike_sas", "Responder sessions whose peer is not proven.", float64(r.engine.HalfOpen))
	for role, c := range map[string]trust.Certificate{"sign": r.own.Sign, "enc": r.own.Enc} {
		if c.NotAfter.IsZero() { // no peer needs them
			continue
		}
		w.gauge("ipsec_certificate_expiry_seconds", "Time until one of our certificates expires.",
			c.NotAfter.Sub(now).Seconds(), "role", role, "subject", c.Name)
	}
	for _, t := range r.selftest {
		w.gauge("ipsec_selftest_ok", "1 for a self-test that passed at start.", truth(t.Err == nil), "test", t.Name)
	}
	for _, what := range slices.Sorted(maps.Keys(r.server)) {
		w.counter("ipsec_ike_datagrams_total", "IKE datagrams at our sockets.", r.server[what], "result", what)
	}
	for _, what := range slices.Sorted(maps.Keys(r.plane)) {
		w.counter("ipsec_dataplane_packets_total", "Packets of the data plane.", r.plane[what], "result", what)
		if strings.HasPrefix(what, "Xfrm") {
			w.counter("ipsec_xfrm_stat_total", "Drops of the kernel's IPsec, in Linux' words, of the whole network namespace.", r.plane[what], "name", what)
		}
	}
	blocked := uint64(0)
	for _, what := range keptIn() {
		blocked += r.plane[what]
	}
	w.counter("ipsec_cleartext_blocked_total",
		"Packets that no tunnel took and that were not sent, or let in, in clear. The guard's own drops are in it where the kernel plane counts them.", blocked)
}

// keptIn are the drops of both planes that would have been clear text: what waited
// in vain for an SA, what is in no tunnel, and what a block policy of the guard met.
func keptIn() []string {
	return []string{"no-policy", "no-sa", "wait-full", "wait-timeout", "XfrmOutPolBlock", "XfrmOutNoStates", "XfrmInPolBlock"}
}

// nonGM is the label of a peer that is not GB/T 36968; the others have none.
func nonGM(profile string) []string {
	if profile == "" {
		return nil
	}
	return []string{"non_gm", profile}
}

// profiles is what nonGM asks for, of each peer by its name.
func profiles(r reading) map[string]string {
	out := map[string]string{}
	for _, p := range r.policy.Peers {
		out[p.Name] = p.NonGM()
	}
	return out
}

func (w page) crls(r reading, now time.Time) {
	for _, p := range r.policy.Peers {
		v := r.verifiers[p.Name]
		if v == nil {
			continue
		}
		if issued := v.CRLIssued(); !issued.IsZero() {
			w.gauge("ipsec_crl_age_seconds", "Time since the oldest CRL of a peer was issued.", now.Sub(issued).Seconds(), "peer", p.Name)
		}
	}
}

// worth orders the states of sessions: the best one is the state of the peer.
func worth() []string { return []string{"established", "closing", "connecting", "down"} }

func (w page) sessions(r reading, now time.Time) {
	up := 0
	state := map[string]int{}
	established := map[string]time.Time{}
	quirks := map[string][]string{}
	for _, p := range r.policy.Peers {
		state[p.Name] = len(worth()) - 1
		w.gauge("ipsec_key_lifetime_limit_seconds", "Longest life of a key by policy.", p.IKELifetime.Seconds(),
			append(nonGM(p.NonGM()), "kind", "working", "peer", p.Name, "tunnel", "")...)
	}
	for _, s := range r.engine.Sessions {
		if s.State == "established" {
			up++
			quirks[s.Peer] = append(quirks[s.Peer], knobsOf(s.Deviations)...)
		}
		best, known := state[s.Peer]
		if i := slices.Index(worth(), s.State); known && i >= 0 && i < best {
			state[s.Peer] = i
		}
		if known && s.Established.After(established[s.Peer]) {
			established[s.Peer] = s.Established
		}
	}
	w.gauge("ipsec_ike_sas", "Established ISAKMP SAs.", float64(up))
	for _, p := range r.policy.Peers {
		for i, name := range worth() {
			w.gauge("ipsec_ike_sa_state", "1 for the state of the best ISAKMP SA to a peer.", truth(i == state[p.Name]),
				append(nonGM(p.NonGM()), "peer", p.Name, "state", name)...)
		}
		slices.Sort(quirks[p.Name])
		for _, quirk := range slices.Compact(quirks[p.Name]) {
			w.gauge("ipsec_peer_quirk_info", "1 for each knob in which a proven peer differs from its entry; status has the values.", 1,
				append(nonGM(p.NonGM()), "peer", p.Name, "quirk", quirk)...)
		}
		if t := established[p.Name]; !t.IsZero() {
			w.gauge("ipsec_key_age_seconds", "Age of the newest key.", now.Sub(t).Seconds(),
				append(nonGM(p.NonGM()), "kind", "working", "peer", p.Name, "tunnel", "")...)
		}
	}
}

// knobsOf leaves the names of knobs of what a peer does otherwise: no text that a peer
// can choose becomes a label.
func knobsOf(deviations []string) (names []string) {
	known := policy.KnobNames()
	for _, d := range deviations {
		for _, name := range known {
			if strings.Contains(": "+d, ": "+name+": ") {
				names = append(names, name)
			}
		}
	}
	return names
}

func (w page) tunnels(r reading, now time.Time) {
	profile := profiles(r)
	for _, t := range r.policy.Tunnels {
		w.gauge("ipsec_key_lifetime_limit_seconds", "Longest life of a key by policy.", t.Lifetime.Seconds(),
			append(nonGM(profile[t.Peer]), "kind", "session", "peer", t.Peer, "tunnel", t.Name)...)
	}
	for _, t := range r.engine.Tunnels {
		for _, name := range []string{"down", "connecting", "up", "stopped", "standby"} {
			w.gauge("ipsec_child_sa_state", "1 for the state of a tunnel.", truth(t.State == name),
				append(nonGM(profile[t.Peer]), "peer", t.Peer, "tunnel", t.Name, "state", name)...)
		}
		for i, c := range t.Children {
			if c.ID != t.InUse || i >= len(t.Installed) {
				continue
			}
			w.gauge("ipsec_key_age_seconds", "Age of the newest key.", now.Sub(t.Installed[i]).Seconds(),
				append(nonGM(profile[t.Peer]), "kind", "session", "peer", t.Peer, "tunnel", t.Name)...)
			if u, ok := r.usage[c.ID]; ok {
				w.gauge("ipsec_effective_mtu_bytes", "Largest inner packet.", float64(u.EffectiveMTU),
					append(nonGM(profile[t.Peer]), "peer", t.Peer, "tunnel", t.Name)...)
			}
		}
	}
}

func (w page) traffic(r reading) {
	profile := profiles(r)
	for _, t := range r.engine.Tunnels {
		u := r.total(t)
		for name, v := range map[string]uint64{
			"ipsec_child_sa_bytes_in":  u.In.Bytes,
			"ipsec_child_sa_bytes_out": u.Out.Bytes, "ipsec_child_sa_packets_in": u.In.Packets,
			"ipsec_child_sa_packets_out": u.Out.Packets, "ipsec_child_sa_replay_drops_total": u.Replayed,
			"ipsec_child_sa_auth_failures_total": u.BadAuth, "ipsec_child_sa_policy_mismatch_total": u.BadSelector,
		} {
			w.counter(name, "Inner traffic of a tunnel, over all its children.", v,
				append(nonGM(profile[t.Peer]), "peer", t.Peer, "tunnel", t.Name)...)
		}
	}
}
