package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/control"
	"yumen/cmd/internal/selftest"
	"yumen/esp"
	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/trust"
)

// lastKind counts the kinds of events in the engine's own source, so that a new
// kind without a name fails here.
func lastKind(t *testing.T) ike.EventKind {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../../ike/event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for i, s := range g.Specs {
			if s.(*ast.ValueSpec).Names[0].Name == "eventKinds" {
				return ike.EventKind(i - 1)
			}
		}
	}
	t.Fatal("the kinds of events are not where they were")
	return 0
}

// counted sums the counters of a registry.
func counted(t *testing.T, m *metrics) float64 {
	t.Helper()
	total := 0.0
	for _, f := range gather(t, m) {
		if f.GetName() == "ipsec_events_total" || f.GetName() == "ipsec_negotiation_total" {
			for _, x := range f.GetMetric() {
				total += x.GetCounter().GetValue()
			}
		}
	}
	return total
}

func gather(t *testing.T, m *metrics) []*dto.MetricFamily {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// series is the value of one series, or -1.
func series(t *testing.T, m *metrics, name string, labels map[string]string) float64 {
	t.Helper()
	for _, f := range gather(t, m) {
		if f.GetName() != name {
			continue
		}
	next:
		for _, x := range f.GetMetric() {
			for _, l := range x.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					continue next
				}
			}
			return x.GetCounter().GetValue() + x.GetGauge().GetValue()
		}
	}
	return -1
}

func TestEachEventIsExactlyOneLineAndOneCount(t *testing.T) {
	names := map[string]bool{}
	for k := ike.EventKind(1); k <= lastKind(t); k++ {
		for _, asJSON := range []bool{false, true} {
			var b bytes.Buffer
			m := newMetrics()
			log := NewLogger(&b, &config.Config{LogJSON: asJSON, LogLevel: slog.LevelDebug})
			narrator{log, m}.tell(ike.Event{Kind: k, Reason: ike.Timeout, Detail: "two\nlines"})
			if n := strings.Count(b.String(), "\n"); n != 1 || !strings.Contains(b.String(), eventName(k)) {
				t.Errorf("kind %d is %d lines: %s", k, n, b.String())
			}
			if got := counted(t, m); got != 1 {
				t.Errorf("kind %d is counted %v times", k, got)
			}
		}
		if name := eventName(k); name == "unknown" || names[name] {
			t.Errorf("kind %d is called %q", k, name)
		}
		names[eventName(k)] = true
	}
}

func TestALineHoldsWhatTheEventHolds(t *testing.T) {
	var b bytes.Buffer
	log := NewLogger(&b, &config.Config{LogJSON: true})
	e := ike.Event{Kind: ike.ChildFailed, Reason: ike.NoSelector, Detail: "why", Peer: "b", Tunnel: "net", Role: ike.Responder,
		CookieI: wire.Cookie{1}, CookieR: wire.Cookie{2}, MessageID: 0xabc, Local: netip.MustParseAddrPort("192.0.2.1:500"),
		Remote: netip.MustParseAddrPort("[2001:db8::1]:4500"), Child: 7, InSPI: 0x100, OutSPI: 0x200, Notify: 18}
	narrator{log, newMetrics()}.tell(e)
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"msg": "child-failed", "level": "WARN", "reason": "no-selector", "detail": "why", "peer": "b",
		"tunnel": "net", "role": "responder", "cookie_i": "0100000000000000", "cookie_r": "0200000000000000", "message_id": "00000abc",
		"local": "192.0.2.1:500", "remote": "[2001:db8::1]:4500", "child": 7.0, "in_spi": "00000100", "out_spi": "00000200", "notify": 18.0} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	b.Reset()
	e.Claimed = true
	narrator{log, newMetrics()}.tell(e)
	if s := b.String(); !strings.Contains(s, `"claimed_peer":"b"`) || strings.Contains(s, `"peer"`) {
		t.Errorf("a claimed peer is told as %s", s)
	}
}

func TestStrayDatagramsAreNotShownByDefaultAndRefusedPeersAre(t *testing.T) {
	for reason, shown := range map[ike.Reason]bool{ike.Malformed: false, ike.UnknownCookies: false, ike.Duplicate: false,
		ike.CertUnknownCA: true, ike.BadSignature: true, ike.BadHash: true, ike.NoProposal: true} {
		var b bytes.Buffer
		narrator{NewLogger(&b, &config.Config{}), newMetrics()}.tell(ike.Event{Kind: ike.Dropped, Reason: reason})
		if (b.Len() > 0) != shown {
			t.Errorf("%s is shown: %v", reason, b.Len() > 0)
		}
	}
}

func TestLabelsComeFromThePolicyAlone(t *testing.T) {
	m := newMetrics()
	m.from(&policy.Policy{Peers: []policy.Peer{{Name: "b"}}})
	for _, e := range []ike.Event{
		{Kind: ike.IKEFailed, Reason: ike.BadHash, Peer: "b", Claimed: true}, // not proven
		{Kind: ike.IKEFailed, Reason: ike.BadHash, Peer: "evil\"name"},
		{Kind: ike.IKEFailed, Reason: ike.BadHash, Peer: "b"},
	} {
		m.count(e)
	}
	for peer, want := range map[string]float64{"": 2, "b": 1, `evil"name`: -1} {
		if got := series(t, m, "ipsec_negotiation_total", map[string]string{"peer": peer}); got != want {
			t.Errorf("peer %q has %v, want %v", peer, got, want)
		}
	}
}

// world is a source with one peer and one tunnel.
type world struct {
	reading
	err error
}

func (w *world) read(context.Context) (reading, error) { return w.reading, w.err }

func newWorld() *world {
	now := time.Now()
	return &world{reading: reading{
		policy: &policy.Policy{Peers: []policy.Peer{{Name: "b", IKELifetime: 24 * time.Hour}, {Name: "c"}},
			Tunnels: []policy.Tunnel{{Name: "net", Peer: "b", Lifetime: time.Hour}}},
		own:      trust.Pair{Sign: trust.Certificate{Name: "CN=a", NotAfter: now.Add(time.Hour)}, Enc: trust.Certificate{Name: "CN=a", NotAfter: now.Add(-time.Hour)}},
		started:  now.Add(-time.Minute),
		clock:    "wrong",
		selftest: []selftest.Result{{Name: "sm3"}, {Name: "sm4", Err: errors.New("wrong")}},
		server:   map[string]uint64{"received": 5}, plane: map[string]uint64{"sealed": 6, "no-sa": 3, "XfrmOutPolBlock": 4, "XfrmInNoStates": 9},
		engine: ike.Status{HalfOpen: 3,
			Sessions: []ike.SessionStatus{{Peer: "b", State: "closing"}, {Peer: "b", State: "established", Established: now.Add(-time.Minute), Deviations: []string{"form of the quick mode HASH: qm_hash: std-body", "x: y"}}, {Peer: "b", State: "established", Deviations: []string{"x"}}, {State: "connecting"}},
			Tunnels:  []ike.TunnelStatus{{Name: "net", Peer: "b", State: "up", InUse: 1, Children: []esp.Child{{ID: 1}}, Installed: []time.Time{now.Add(-30 * time.Second)}, Expires: []time.Time{now}}}},
		usage: map[esp.ChildID]esp.Usage{1: {In: esp.Count{Bytes: 100, Packets: 10}, Out: esp.Count{Bytes: 50, Packets: 5}, Replayed: 1, BadAuth: 2, BadSelector: 3, EffectiveMTU: 1390}},
	}}
}

func TestAScrapeReadsEngineAndDataPlane(t *testing.T) {
	m, w := newMetrics(), newWorld()
	m.source = w
	w.reading.groups = []control.Group{{Name: "dr", Works: true, Flips: map[string]uint64{"probe-lost": 4}, Paths: []control.Path{
		{Tunnel: "net", State: "bad", Why: "loss", Carries: true, Loss: 30, RTT: 2.5, Jitter: 0.5, Probes: 100, Lost: 30}}}}
	type l = map[string]string
	for _, c := range []struct {
		name   string
		labels l
		low    float64
		high   float64
	}{
		{"ipsec_up", nil, 1, 1},
		{"ipsec_ike_sas", nil, 2, 2},
		{"ipsec_peer_quirk_info", l{"peer": "b", "quirk": "qm_hash"}, 1, 1},
		{"ipsec_xfrm_stat_total", l{"name": "XfrmInNoStates"}, 9, 9},
		{"ipsec_xfrm_stat_total", l{"name": "no-sa"}, -1, -1},
		{"ipsec_cleartext_blocked_total", nil, 7, 7},
		{"ipsec_half_open_ike_sas", nil, 3, 3},
		{"ipsec_uptime_seconds", nil, 59, 70},
		{"ipsec_clock_plausible", nil, 0, 0},
		{"ipsec_ike_sa_state", l{"peer": "b", "state": "established"}, 1, 1},
		{"ipsec_ike_sa_state", l{"peer": "b", "state": "closing"}, 0, 0},
		{"ipsec_ike_sa_state", l{"peer": "c", "state": "down"}, 1, 1},
		{"ipsec_child_sa_state", l{"tunnel": "net", "state": "up"}, 1, 1},
		{"ipsec_child_sa_state", l{"tunnel": "net", "state": "down"}, 0, 0},
		{"ipsec_child_sa_bytes_in", l{"peer": "b", "tunnel": "net"}, 100, 100},
		{"ipsec_child_sa_bytes_out", nil, 50, 50},
		{"ipsec_child_sa_packets_in", nil, 10, 10},
		{"ipsec_child_sa_packets_out", nil, 5, 5},
		{"ipsec_child_sa_replay_drops_total", nil, 1, 1},
		{"ipsec_child_sa_auth_failures_total", nil, 2, 2},
		{"ipsec_child_sa_policy_mismatch_total", nil, 3, 3},
		{"ipsec_effective_mtu_bytes", nil, 1390, 1390},
		{"ipsec_certificate_expiry_seconds", l{"role": "sign", "subject": "CN=a"}, 3500, 3600},
		{"ipsec_certificate_expiry_seconds", l{"role": "enc"}, -3700, -3600},
		{"ipsec_key_age_seconds", l{"kind": "working", "peer": "b"}, 59, 70},
		{"ipsec_key_age_seconds", l{"kind": "session", "tunnel": "net"}, 29, 40},
		{"ipsec_key_lifetime_limit_seconds", l{"kind": "session", "tunnel": "net"}, 3600, 3600},
		{"ipsec_selftest_ok", l{"test": "sm3"}, 1, 1},
		{"ipsec_selftest_ok", l{"test": "sm4"}, 0, 0},
		{"ipsec_ike_datagrams_total", l{"result": "received"}, 5, 5},
		{"ipsec_dataplane_packets_total", l{"result": "sealed"}, 6, 6},
		{"yumen_group_works", l{"group": "dr"}, 1, 1},
		{"yumen_group_flips_total", l{"group": "dr", "reason": "probe-lost"}, 4, 4},
		{"yumen_group_flips_total", l{"group": "dr", "reason": "drill"}, 0, 0},
		{"yumen_path_state", l{"tunnel": "net", "state": "bad"}, 1, 1},
		{"yumen_path_state", l{"tunnel": "net", "state": "good"}, 0, 0},
		{"yumen_path_carries", l{"group": "dr", "tunnel": "net"}, 1, 1},
		{"yumen_path_loss_ratio", l{"tunnel": "net"}, 0.3, 0.3},
		{"yumen_path_rtt_seconds", l{"tunnel": "net"}, 0.0025, 0.0025},
		{"yumen_path_jitter_seconds", l{"tunnel": "net"}, 0.0005, 0.0005},
		{"yumen_path_probes_total", l{"tunnel": "net"}, 100, 100},
		{"yumen_path_probes_lost_total", l{"tunnel": "net"}, 30, 30},
	} {
		if got := series(t, m, c.name, c.labels); got < c.low || got > c.high {
			t.Errorf("%s%v is %v, want %v to %v", c.name, c.labels, got, c.low, c.high)
		}
	}
	w.err = errors.New("gone")
	if got := series(t, m, "ipsec_up", nil); got != 0 {
		t.Errorf("ipsec_up is %v of a gateway that does not answer", got)
	}
}

// TestTrafficOfATunnelOnlyRises: while an old and a new child stand beside each
// other, and when the old one goes.
func TestTrafficOfATunnelOnlyRises(t *testing.T) {
	m, w := newMetrics(), newWorld()
	m.source = w
	child := func(id esp.ChildID, bytes uint64) {
		w.engine.Tunnels[0].Children = append(w.engine.Tunnels[0].Children, esp.Child{ID: id})
		w.usage[id] = esp.Usage{In: esp.Count{Bytes: bytes}}
	}
	// clear ends every child, as the server does: what each counted at last is spent.
	clear := func() {
		sum := w.spent["net"]
		for _, u := range w.usage {
			sum.In.Bytes += u.In.Bytes
		}
		w.engine.Tunnels[0].Children, w.usage, w.spent = nil, map[esp.ChildID]esp.Usage{}, map[string]esp.Usage{"net": sum}
	}
	for i, step := range []struct {
		set  func()
		want float64
	}{
		{func() {}, 100},
		{func() { child(2, 7) }, 107},
		{func() { w.usage[2] = esp.Usage{In: esp.Count{Bytes: 9}} }, 109},
		{func() { clear() }, 109},
		{func() { child(3, 1) }, 110},
		{func() { w.usage[3] = esp.Usage{In: esp.Count{Bytes: 6}}; clear() }, 115}, // since the last scrape
	} {
		step.set()
		if got := series(t, m, "ipsec_child_sa_bytes_in", nil); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// What a scrape tells of a peer that is not GB/T 36968, or of its tunnel, says so.
func TestEverySeriesOfAPeerThatIsNotGMSaysSo(t *testing.T) {
	for _, plain := range []bool{true, false} {
		m, w := newMetrics(), newWorld()
		w.reading.policy.Peers[0].PreShared.Used = plain
		m.source = w
		for _, f := range gather(t, m) {
			for _, x := range f.GetMetric() {
				labels := map[string]string{}
				for _, l := range x.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				want := ""
				if plain && labels["peer"] == w.reading.policy.Peers[0].Name && f.GetName() != "ipsec_crl_age_seconds" {
					want = policy.ProfileRFC2409
				}
				if labels["non_gm"] != want {
					t.Errorf("%s %v: non_gm is %q, want %q", f.GetName(), labels, labels["non_gm"], want)
				}
			}
		}
	}
}
