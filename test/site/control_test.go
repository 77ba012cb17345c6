package site_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"yumen/test/site"
)

// TestOperatorsTakeTunnelsDownAndUp one by one, at either end.
func TestOperatorsTakeTunnelsDownAndUp(t *testing.T) {
	s := newTwoSites(t)
	s.run(endA(), endB())
	s.waitUp(s.A, s.B)
	flows := s.Flows()
	four, six := []site.Flow{flows[0], flows[1]}, []site.Flow{flows[2], flows[3]}
	out, err := s.A.Command("down", "office4")
	if err != nil || !strings.Contains(out, "its traffic is dropped") {
		t.Errorf("down: %v: %s", err, out)
	}
	s.eventually("down at both ends", 5*time.Second, func() error {
		a, b := s.tunnel(s.A, "office4"), s.tunnel(s.B, "office4")
		if a.State != "stopped" || b.State == "up" {
			return fmt.Errorf("%s and %s", a.State, b.State)
		}
		return nil
	})
	s.refuse("after down of office4", four...)
	s.pass(six...)
	_, err = s.A.Command("up", "office4")
	s.need(err)
	s.waitUp(s.A, s.B)
	s.pass(flows...)

	if out, err := s.A.Command("down", "office5"); err == nil || !strings.Contains(out, "office4, office6") {
		t.Errorf("down of a tunnel that does not exist: %v: %s", err, out)
	}
	text, err := s.A.Command("status")
	s.need(err)
	for _, want := range []string{"a: yumen ", "ESTABLISHED", "office4: #", "office6: #", "ESP:SM4_CBC/HMAC_SM3_96",
		"CN=b,O=Yumen Lab,C=CN", "local 10.1.0.0/24  remote 10.2.0.0/24", "local fd01::/64  remote fd02::/64"} {
		if !strings.Contains(text, want) {
			t.Errorf("status lacks %q:\n%s", want, text)
		}
	}
}

func TestControlSocketIsItsOwnersAlone(t *testing.T) {
	s := newTwoSites(t)
	if out, err := s.A.Command("status"); err == nil {
		t.Errorf("status without a daemon: %s", out)
	}
	s.need(s.A.Configure(endA().policy()), s.A.Start())
	s.answers(s.A)
	for path, want := range map[string]os.FileMode{"control.sock": os.ModeSocket | 0o600, "state": os.ModeDir | 0o700} {
		info, err := os.Stat(filepath.Join(s.A.Dir, path))
		s.need(err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, expected %v", path, info.Mode(), want)
		}
	}
	if out, err := s.A.Command("run"); err == nil {
		t.Errorf("a second daemon ran beside the first: %s", out)
	}
	if out, err := s.A.Command("guard", "remove"); err == nil || !strings.Contains(out, "stop it first") {
		t.Errorf("guard remove beside the daemon: %v: %s", err, out)
	}
	s.stop(s.A)
	if _, err := os.Stat(filepath.Join(s.A.Dir, "control.sock")); !os.IsNotExist(err) {
		t.Errorf("the control socket outlives its daemon: %v", err)
	}
}

// TestReloadLeavesUnchangedTunnelsUntouched adds and removes a tunnel by SIGHUP.
func TestReloadLeavesUnchangedTunnelsUntouched(t *testing.T) {
	s := newTwoSites(t)
	a, b := endA(), endB()
	s.run(a, b)
	s.waitUp(s.A, s.B)
	flows := s.Flows()
	s.pass(flows...)
	spis := func() (out string) {
		for _, g := range []*site.Gateway{s.A, s.B} {
			for _, name := range []string{"office4", "office6"} {
				for _, c := range s.tunnel(g, name).Children {
					out += c.In.SPI + " " + c.Out.SPI + " "
				}
			}
			for _, x := range s.status(g).Sessions {
				out += x.CookieI + " "
			}
		}
		return out
	}
	before, packets := spis(), s.tunnel(s.A, "office4").Children[0].Out.Packets

	wrong := strings.Replace(a.policy(), "peer: b", "peer: nobody", 1)
	s.reload(s.A, wrong, "reload refused")
	with := a.policy() + a.tunnel("extra", "10.1.0.0/24", "10.9.0.0/24")
	s.reload(s.B, b.policy()+b.tunnel("extra", "10.9.0.0/24", "10.1.0.0/24"), "reloaded")
	s.reload(s.A, with, "reloaded")
	s.eventually("the new tunnel is up", upLimit, func() error {
		if x := s.tunnel(s.A, "extra"); x.State != "up" {
			return fmt.Errorf("%+v", x)
		}
		return nil
	})
	_, err := s.HostB.Run("ip", "addr", "add", "10.9.0.10/24", "dev", "eth0")
	s.need(err, s.B.Route("10.9.0.0/24 via "+site.HostB4))
	s.pass(append(flows, site.Flow{From: s.HostA, To: s.HostB, FromAddr: site.HostA4, ToAddr: "10.9.0.10", Marker: site.NewMarker()})...)

	s.reload(s.A, a.policy(), "reloaded")
	s.eventually("the tunnel that was removed goes at b too", 5*time.Second, func() error {
		if x := s.tunnel(s.B, "extra"); x.State == "up" {
			return fmt.Errorf("%+v", x)
		}
		return nil
	})
	s.pass(flows...)
	if after := spis(); after != before {
		t.Errorf("SPIs and cookies %s became %s", before, after)
	}
	if now := s.tunnel(s.A, "office4").Children[0].Out.Packets; now <= packets {
		t.Errorf("the counter of packets went from %d to %d", packets, now)
	}
}

// reload writes a policy, sends SIGHUP and waits until the log says what became
// of it.
func (s *stage) reload(g *site.Gateway, policy, says string) {
	s.Helper()
	log := filepath.Join(g.Dir, "yumen.log")
	before, err := os.ReadFile(log)
	s.need(err, os.WriteFile(filepath.Join(g.Dir, "policy.yaml"), []byte(policy), 0o600),
		syscall.Kill(g.Daemon().Pid(), syscall.SIGHUP))
	s.eventually(says, 10*time.Second, func() error {
		now, err := os.ReadFile(log)
		if err == nil && !strings.Contains(string(now[len(before):]), says) {
			err = fmt.Errorf("the log says only: %s", now[len(before):])
		}
		return err
	})
}

func TestMetricsAreScrapedOnLoopback(t *testing.T) {
	s := newTwoSites(t)
	s.run(endA(), endB(), "metrics_listen: 127.0.0.1:9808")
	s.waitUp(s.A, s.B)
	s.pass(s.Flows()...)
	text, err := s.scrape("127.0.0.1:9808")
	s.need(err)
	for _, want := range []string{
		"ipsec_up 1", "ipsec_ike_sas 1", `ipsec_child_sa_state{peer="b",state="up",tunnel="office4"} 1`,
		`ipsec_negotiation_total{peer="b",phase="1",reason="",result="ok",role="initiator"} 1`,
		`ipsec_negotiation_total{peer="b",phase="2",reason="",result="ok",role="initiator"} 2`,
		`ipsec_child_sa_auth_failures_total{peer="b",tunnel="office6"} 0`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, name := range []string{"office4", "office6"} {
		zero := fmt.Sprintf("ipsec_child_sa_packets_in{peer=\"b\",tunnel=%q} 0\n", name)
		if strings.Contains(text, zero) || !strings.Contains(text, strings.TrimSuffix(zero, " 0\n")) {
			t.Errorf("%s: packets are not counted", name)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	if _, err := s.scrape(site.GateA4 + ":9808"); err == nil {
		t.Error("metrics can be reached at the outside address")
	}
}

// scrape reads the metrics of gateway a from inside its namespace.
func (s *stage) scrape(at string) (text string, err error) {
	err = s.A.Do(func() error {
		c, err := net.DialTimeout("tcp", at, 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		r, err := http.NewRequest("GET", "http://"+at+"/metrics", nil)
		if err != nil {
			return err
		}
		r.Close = true
		if err := r.Write(c); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		text = string(b)
		return err
	})
	return text, err
}

// TestCheckTellsEveryFaultWithoutTouchingTheMachine in one run.
func TestCheckTellsEveryFaultWithoutTouchingTheMachine(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	s.need(s.A.Configure(endA().policy()))
	out, err := s.A.Command("check")
	if err != nil || !strings.Contains(out, "fit to run") {
		t.Errorf("check of a good configuration: %v: %s", err, out)
	}
	bad := endA()
	bad.peerKeys, bad.tunnelKeys = ", ike_lifetime: 48h", ", icv_bits: 97, color: red"
	s.need(s.A.Configure(bad.policy()))
	out, err = s.A.Command("check")
	if err == nil {
		t.Errorf("check of a bad configuration: %s", out)
	}
	for _, want := range []string{"policy.yaml:3", "ike_lifetime", "48h", "policy.yaml:5", "policy.yaml:6", "icv_bits", "color"} {
		if !strings.Contains(out, want) {
			t.Errorf("check does not tell %q: %s", want, out)
		}
	}
	if run, err := s.A.Command("run"); err == nil || !strings.Contains(run, "ike_lifetime") {
		t.Errorf("run of a bad configuration: %v: %s", err, run)
	}
	rules, err := s.A.Run("ip", "rule")
	s.need(err)
	links, err := s.A.Run("ip", "link")
	s.need(err)
	if _, err := os.Stat(filepath.Join(s.A.Dir, "state")); strings.Contains(links, "yumen0") || strings.Contains(rules, "4950") || err == nil {
		t.Errorf("the machine was touched: %s %s %v", links, rules, err)
	}
}
