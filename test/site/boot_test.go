package site_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"yumen/test/site"
)

// TestTheGuardOfABootNeedsNothingButItsFile has a gateway that protects everything,
// whose operator sits outside. What became of the daemon and of the configuration is
// all the same: the operator gets in by port 22, and nothing else passes.
func TestTheGuardOfABootNeedsNothingButItsFile(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	everything := `site: a
peers:
  - {name: b, remote: 198.51.100.2, ca: ca.crt, subject: "CN=b,O=Yumen Lab,C=CN"}
tunnels:
  - {name: all4, peer: b, local: 0.0.0.0/0, remote: 0.0.0.0/0}
  - {name: all6, peer: b, local: "::/0", remote: "::/0"}
management:
  - {from: 198.51.100.2, port: 22}
  - {from: "` + site.GateB6 + `", port: 22}
`
	s.need(s.A.Configure(everything))
	ssh := []site.Flow{
		{From: s.B.Space, To: s.A.Space, FromAddr: site.GateB4, ToAddr: site.GateA4, Marker: site.NewMarker()},
		{From: s.B.Space, To: s.A.Space, FromAddr: site.GateB6, ToAddr: site.GateA6, Marker: site.NewMarker()},
	}
	inner := s.Flows()
	guarded := func(when string) {
		t.Helper()
		for _, f := range ssh {
			if err := f.Talk("tcp", 22, upLimit); err != nil {
				t.Errorf("%s: the operator does not get in at %s: %v", when, f.ToAddr, err)
			}
		}
		stop := s.capture(s.Router, "to-b")
		s.refuse(when, append(ssh, inner...)...)
		s.hidden(stop(), inner[0], inner[2]) // what b's hosts send in clear is b's affair
	}
	file := filepath.Join(s.A.Dir, "state", "guard")
	saved := filepath.Join(s.dir, "guard")

	out, err := s.A.Command("guard", "set")
	s.need(err)
	if !strings.Contains(out, "no policy was ever applied") {
		t.Errorf("the first boot says %q", out)
	}
	s.pass(inner...)

	s.need(s.A.Start())
	s.answers(s.A)
	guarded("while the gateway runs")
	s.need(syscall.Kill(s.A.Daemon().Pid(), syscall.SIGHUP))
	guarded("at a reload")
	s.A.Daemon().Kill()
	guarded("after kill -9")

	// A boot: nothing of ours in the kernel, the file there, the configuration gone.
	b, err := os.ReadFile(file)
	s.need(err, os.WriteFile(saved, b, 0o600))
	_, err = s.A.Command("guard", "remove")
	s.need(err)
	if _, err := os.Stat(file); err == nil {
		t.Error("the guard would be back at the next boot")
	}
	s.pass(inner...)
	s.need(os.WriteFile(filepath.Join(s.A.Dir, "policy.yaml"), []byte("site: ["), 0o644),
		os.Rename(filepath.Join(s.A.Dir, "gateway.yaml"), filepath.Join(s.A.Dir, "gone")))
	if out, err := s.A.Command("guard", "set"); err == nil {
		t.Errorf("without file and configuration: %s", out)
	}
	_, err = s.A.Command("guard", "set", "--file", saved)
	s.need(err)
	guarded("after a boot with a broken configuration")

	s.need(os.WriteFile(saved, b[:len(b)-1], 0o600))
	if out, err := s.A.Command("guard", "set", "--file", saved); err == nil || !strings.Contains(out, "damaged") {
		t.Errorf("a damaged file: %v: %s", err, out)
	}
	guarded("after a try with a damaged file")

	s.need(os.Rename(filepath.Join(s.A.Dir, "gone"), filepath.Join(s.A.Dir, "gateway.yaml")),
		s.A.Configure(everything), s.A.Start())
	s.answers(s.A)
	guarded("when the gateway runs again")
	s.stop(s.A)
	guarded("after a stop")
	_, err = s.A.Command("guard", "remove")
	s.need(err)
	s.pass(inner...)
}
