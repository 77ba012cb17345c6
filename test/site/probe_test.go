package site_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/policy"
	"yumen/test/site"
)

// odd is a far end that differs in a few things and takes nothing else.
const odd = ", dialect: {ike_sm4_id: 127, sk_encoding: c1c3c2, sig_encoding: raw, qm_hash: std-body, accept: exact}"

// words wants lines in what a command printed.
func (s *stage) words(out string, list ...string) {
	s.Helper()
	for _, want := range list {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			s.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// gone wants no session and no tunnel at a daemon.
func (s *stage) gone(g *site.Gateway) {
	s.Helper()
	s.eventually("nothing is left at the far end", 3*time.Second, func() error {
		st, err := g.Status()
		if err != nil {
			return err
		}
		for _, x := range st.Sessions {
			if x.State == "established" {
				return fmt.Errorf("a session is %s", x.State)
			}
		}
		for _, x := range st.Tunnels {
			if len(x.Children) > 0 {
				return fmt.Errorf("tunnel %s has children", x.Name)
			}
		}
		return nil
	})
}

// block cuts the entry for the policy out of a report.
func (s *stage) block(out string) string {
	s.Helper()
	_, block, ok := strings.Cut(out, "\npeers:\n")
	if !ok {
		s.Fatalf("no entry in\n%s", out)
	}
	return "peers:\n" + block
}

// A daemon that takes one form only is called by the real command: first without
// credentials, then with them; the entry that comes of it runs.
func TestProbeFindsTheFormOfADaemonAndItsEntryConnects(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	a, b := endA(), endB()
	b.peerKeys = odd
	s.need(s.A.Configure(a.policy()), s.B.Configure(b.policy()), s.B.Start())
	s.answers(s.B)

	stranger, err := s.A.Run(s.A.Yumen, "probe", site.GateB4, "--config", filepath.Join(s.dir, "none.yaml"))
	s.need(err)
	s.words(stranger, "ike_sm4_id accepted: 127; refused: 129", "send_certs seen: both", "sk_encoding cannot be told, because")

	out, err := s.A.Command("probe", site.GateB4, "--peer", "b")
	s.need(err)
	s.words(out, "sk_encoding seen: c1c3c2", "sig_encoding seen: raw", "qm_hash accepted: std-body", "stood in this form, and were deleted")
	s.gone(s.B)

	text := strings.Replace(a.policy(), a.policy()[strings.Index(a.policy(), "peers:"):strings.Index(a.policy(), "tunnels:")], s.block(out), 1)
	if _, err := policy.Parse("entry", []byte(text)); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	s.need(s.A.Configure(text), s.A.Start())
	s.waitUp(s.A, s.B)
	s.pass(s.Flows()...)

	if out, err := s.A.Command("probe", site.GateB4); err == nil || !strings.Contains(err.Error(), "a gateway runs here") {
		t.Errorf("beside a running gateway: %v %s", err, out)
	}
	if out, err := s.A.Command("conform", "--listen", "--peer", "b"); err == nil || !strings.Contains(err.Error(), "state_dir") {
		t.Errorf("with the state of a gateway: %v %s", err, out)
	}
}

// started runs a command in the background and returns a way to its output.
func (s *stage) started(g *site.Gateway, name string, args ...string) (*site.Process, func() string) {
	s.Helper()
	log := filepath.Join(s.dir, name+".log")
	p, err := g.Space.Start(log, append(append([]string{g.Yumen}, args...), "--config", filepath.Join(g.Dir, "gateway.yaml"))...)
	s.need(err)
	return p, func() string {
		b, err := os.ReadFile(log)
		s.need(err)
		return string(b)
	}
}

// over waits until a command has ended.
func (s *stage) over(p *site.Process, limit time.Duration) {
	s.Helper()
	s.eventually("the command ends", limit, func() error {
		if !p.Ended() {
			return fmt.Errorf("it runs")
		}
		return nil
	})
}

// A daemon dials a probe that listens.
func TestProbeThatListensIsDialledByADaemon(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	a, b := endA(), endB()
	b.peerKeys, b.tunnelKeys = odd+", dpd: {interval: 2s, tries: 5}", ""
	s.need(s.A.Configure(a.policy()), s.B.Configure(b.policy()))
	p, out := s.started(s.A, "probe", "probe", "--listen", "--peer", "b", "--wait", "6s")
	s.need(s.B.Start())
	s.over(p, 40*time.Second)
	s.words(out(), "ike_sm4_id seen: 127", "sk_encoding seen: c1c3c2", "sig_encoding seen: raw", "qm_hash seen: std-body",
		"esp_sm4_id seen: both", "dpd_spi seen: cookies", "dpd_order seen: hash-first", "initiate seen: either or them")
	if _, err := policy.Parse("entry", []byte("site: x\n"+s.block(out())+"tunnels:\n  - {name: t, peer: b, local: 10.1.0.0/24, remote: 10.2.0.0/24}\n")); err != nil {
		t.Error(err)
	}
}

// Two commands meet: a conformance peer that deviates, and a probe.
func TestConformPlaysAPeerThatProbeRecognises(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	a, b := endA(), endB()
	s.need(s.A.Configure(a.policy()), s.B.Configure(b.policy()))
	p, log := s.started(s.B, "conform", "conform", "--listen", "--peer", "a", "--wait", "3s", "--profile", "h3c-draft",
		"--knob", "sig_cert_body=without", "--knob", "dpd_order=notify-first", "--knob", "accept=any")
	s.eventually("it listens", 5*time.Second, func() error {
		if !strings.Contains(log(), "playing") {
			return fmt.Errorf("%s", log())
		}
		return nil
	})
	out, err := s.A.Command("probe", site.GateB4, "--peer", "b")
	s.need(err)
	s.words(out, "ike_sm4_id accepted: 129, 127", "accept accepted: any", "sig_cert_body seen: without")
	s.over(p, 30*time.Second)
	s.words(log(), "session established with", "deviates: ike_sm4_id: 129 (GB/T 36968-2018 5.1", "verdict: it connects, and deviates")
}
