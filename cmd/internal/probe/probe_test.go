package probe

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/test/lab"
)

// stranger is the configuration of a probe that has nothing but an address.
func stranger(l *lab.Lab) Config {
	entry := policy.UsualPeer()
	entry.Name, entry.Remote = "far", policy.Remote{Addr: netip.MustParseAddr("198.51.100.1")}
	c := config(l)
	c.Credentials = false
	c.Engine.Policy, c.Engine.Own, c.Engine.Verifiers = &policy.Policy{Peers: []policy.Peer{entry}}, everybody().Stranger.Pair, nil
	return c
}

// Without credentials only messages 1 go out, few and slowly, to one address, and
// what they bring is true.
func TestStrangerSendsFirstMessagesOnlyAndTellsTheTruth(t *testing.T) {
	for seed := range uint64(draws()) {
		x := newDraw(t, seed+20000, false)
		x.begins(policy.InitiateThem)
		i, r := x.sites()
		l := lab.New(seed, i, r)
		l.Story.Off = true
		sent := 0
		l.Hook = func(p lab.Packet) []lab.Packet {
			if h, err := wire.ParseHeader(p.Data); p.From == "i" {
				sent++
				if err != nil || h.Exchange != wire.MainMode || h.Responder != (wire.Cookie{}) || p.Dest.Addr() != r.Addr {
					t.Errorf("draw %d: sent %v to %v", seed, h.Exchange, p.Dest)
				}
			}
			return []lab.Packet{p}
		}
		m := NewDialer(stranger(l))
		run(t, l, m, 10*time.Minute)
		if wrong := x.wrong(m.Report()); len(wrong) > 0 || sent > 28 || l.Gateway("r").Keys > 0 || l.Gateway("i").Keys > 0 {
			t.Fatalf("draw %d, %v: %q, %d messages", seed, x.dialect, wrong, sent)
		}
		if f := m.Report().Of("accept"); f.Standing != Untold { // a message 1 says nothing of messages 3 to 6
			t.Fatalf("draw %d: %v", seed, f)
		}
		for _, knob := range []string{"nat_t", "send_dpd_vid", "send_own_vid"} {
			if m.Report().Of(knob).Standing != Seen {
				t.Fatalf("draw %d: %v", seed, m.Report().Of(knob))
			}
		}
	}
}

func TestSilentFarEndIsReportedAsSuch(t *testing.T) {
	x := newDraw(t, 1, true)
	i, r := x.sites()
	l := lab.New(1, i, r)
	l.Hook = lab.Lost
	m := NewDialer(config(l))
	run(t, l, m, 10*time.Minute)
	rep := m.Report()
	if rep.Block != "" || rep.Session || !strings.Contains(rep.Of("ike_sm4_id").Because, "no message 1 was answered") {
		t.Errorf("%+v", rep)
	}
}

// Twelve wrong guesses are twelve failed messages 3 in somebody's log: more come
// only when they are asked for.
func TestDialerStopsAfterTwelveHandshakes(t *testing.T) {
	x := newDraw(t, 1, true)
	x.dialect, _ = policy.Dialect{}.With(policy.Knob{Name: "sk_encoding", Value: "c1c2c3"}, policy.Knob{Name: "field_pad", Value: "zeros"},
		policy.Knob{Name: "id_iv", Value: "zero"}, policy.Knob{Name: "sig_cert_body", Value: "without"}, policy.Knob{Name: "accept", Value: "exact"})
	x.dialect.ZeroPad = true
	for _, exhaustive := range []bool{false, true} {
		i, r := x.sites()
		l := lab.New(1, i, r)
		l.Story.Off = true
		cfg := config(l)
		cfg.Exhaustive = exhaustive
		m := NewDialer(cfg)
		run(t, l, m, 3*time.Hour)
		if rep := m.Report(); rep.Session != exhaustive || (rep.Handshakes > fewHandshakes) != exhaustive || len(x.wrong(rep)) > 0 {
			t.Errorf("exhaustive %v: session %v, %d handshakes, %q", exhaustive, rep.Session, rep.Handshakes, x.wrong(rep))
		}
	}
}

// A far end may delete the session at every quick mode, or once it is through: no
// engine calls again on its own, so that the report counts every message 3.
func TestEveryHandshakeWithAFarEndThatDeletesIsCounted(t *testing.T) {
	for label, least := range map[string]int{"quick 1": 2, "quick 3": 1} {
		x := newDraw(t, 1, true)
		x.dialect, x.dpd = policy.Dialect{}, false
		i, r := x.sites()
		l := lab.New(1, i, r)
		l.Story.Off = true
		thirds := map[wire.Cookie]bool{}
		l.Hook = func(p lab.Packet) []lab.Packet {
			switch h, _ := wire.ParseHeader(p.Data); {
			case p.From == "i" && p.Label == "main 3":
				thirds[h.Initiator] = true
			case p.From == "i" && p.Label == label:
				l.After(time.Millisecond, func() { // a changed entry takes the place of the one that the session hangs on
					far := l.Gateway("r")
					far.Peer().IKELifetime -= time.Second
					far.Feed(ike.Reload{Config: far.Config()})
				})
				if label == "quick 1" {
					return nil
				}
			}
			return []lab.Packet{p}
		}
		m := NewDialer(config(l))
		run(t, l, m, time.Hour)
		rep := m.Report()
		if !rep.Session || rep.Child != (label == "quick 3") || rep.Handshakes != len(thirds) || rep.Handshakes < least || rep.Handshakes > fewHandshakes {
			t.Errorf("%s: session %v, child %v, %d handshakes counted, %d messages 3", label, rep.Session, rep.Child, rep.Handshakes, len(thirds))
		}
	}
}

// A user ID that nobody was told of leaves what hangs on the signature open.
func TestUnknownUserIDIsNotGuessedAround(t *testing.T) {
	x := newDraw(t, 3, true)
	x.dialect, _ = policy.Dialect{}.With(policy.Knob{Name: "sm2_id", Value: `"a-secret-name"`}, policy.Knob{Name: "sk_encoding", Value: "c1c3c2"})
	i, r := x.sites()
	r.Tunnel().Start = policy.StartNow
	l := lab.New(1, i, r)
	l.Story.Off = true
	m, err := NewListener(config(l))
	if err != nil {
		t.Fatal(err)
	}
	run(t, l, m, 10*time.Minute)
	rep := m.Report()
	if f := rep.Of("sk_encoding"); f.Standing != Seen || f.Values[0] != "c1c3c2" {
		t.Errorf("%v", f)
	}
	for _, knob := range []string{"sm2_id", "field_pad", "sig_cert_body", "id_type"} {
		if f := rep.Of(knob); f.Standing != Untold || !strings.Contains(f.Because, "--user-id") {
			t.Errorf("%v", f)
		}
	}
	if wrong := x.wrong(rep); len(wrong) > 0 || rep.Session {
		t.Errorf("session %v, %q", rep.Session, wrong)
	}
}

// played is the verdict of a conformance peer of dialect d, at i, on a gateway that
// differs by turn, at r, which calls or is called.
func played(t *testing.T, d policy.Dialect, turn policy.Dialect, calls bool) Verdict {
	t.Helper()
	x := newDraw(t, 1, true)
	x.dialect, x.dpd, x.gcm, x.names = turn, true, false, false
	i, r := x.sites()
	i.Peer().Dialect = d
	if calls {
		r.Tunnel().Start = policy.StartNow
	}
	l := lab.New(1, i, r)
	l.Story.Off = true
	cfg := config(l)
	if calls {
		cfg.Remote = netip.Addr{}
	}
	m, err := NewConform(cfg, func(time.Time, string) {})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l, m, 10*time.Minute)
	if s := left(l); s != "" {
		t.Error(s)
	}
	return m.Verdict()
}

func TestConformJudgesByTheDialectItPlays(t *testing.T) {
	strict := policy.GBT36968.Dialect()
	strict.Exact = true
	for _, calls := range []bool{false, true} {
		if v := played(t, strict, policy.Dialect{}, calls); !v.Good() {
			t.Errorf("calls %v: a peer of the standard form: %v", calls, v)
		}
		for knob, value := range map[string]string{"sk_encoding": "c1c3c2", "field_pad": "pkcs7", "sig_cert_body": "without", "dpd_order": "notify-first"} {
			other, err := policy.Dialect{}.With(policy.Knob{Name: knob, Value: value})
			if err != nil {
				t.Fatal(err)
			}
			v := played(t, strict, other, calls)
			named := slices.ContainsFunc(v.Deviations, func(s string) bool { return strings.HasPrefix(s, knob+": "+value+" (") })
			if v.Good() || !named {
				t.Errorf("calls %v, %s: %s: %+v", calls, knob, value, v)
			}
			same := other
			same.Exact = true
			if v := played(t, same, other, calls); !v.Good() {
				t.Errorf("calls %v, both %s: %s: %+v", calls, knob, value, v)
			}
			loose := strict
			loose.Exact = false
			if v := played(t, loose, other, calls); !v.Session || !v.Child || len(v.Deviations) == 0 {
				t.Errorf("calls %v, accept any, %s: %s: %+v", calls, knob, value, v)
			}
		}
	}
}

// Without a tunnel in the policy nothing is asked of the far end that it could
// protect, and phase 1 tells what it can.
func TestDialerWithoutATunnelLeavesQuickModeOut(t *testing.T) {
	x := newDraw(t, 1, true)
	x.dialect = policy.H3CDraft.Dialect()
	i, r := x.sites()
	i.Policy.Tunnels = nil
	l := lab.New(1, i, r)
	l.Story.Off = true
	l.Hook = func(p lab.Packet) []lab.Packet {
		if h, err := wire.ParseHeader(p.Data); p.From == "i" && (err != nil || h.Exchange == wire.QuickMode) {
			t.Errorf("sent %v", h.Exchange)
		}
		return []lab.Packet{p}
	}
	m := NewDialer(config(l))
	run(t, l, m, 10*time.Minute)
	rep := m.Report()
	if !rep.Session || rep.Child || rep.Of("sk_encoding").Standing != Seen || rep.Of("qm_hash").Standing != Untold || len(x.wrong(rep)) > 0 {
		t.Errorf("session %v, child %v, %v, %q", rep.Session, rep.Child, rep.Of("qm_hash"), x.wrong(rep))
	}
	if s := left(l); s != "" {
		t.Error(s)
	}
}

// A probe does not tell the far end to forget what it has: it may be of the gateway
// whose certificates are borrowed.
func TestProbeDoesNotSayInitialContact(t *testing.T) {
	x := newDraw(t, 1, true)
	x.dialect = policy.Dialect{}
	i, r := x.sites()
	l := lab.New(1, i, r)
	l.Story.Off = true
	heard := false
	l.Gateway("r").Told = func(v ike.Event) {
		heard = heard || v.Kind == ike.NotifyIn && v.Notify == wire.InitialContact
	}
	m := NewDialer(config(l))
	run(t, l, m, 10*time.Minute)
	if heard || !m.Report().Child {
		t.Errorf("INITIAL-CONTACT %v, child %v", heard, m.Report().Child)
	}
}
