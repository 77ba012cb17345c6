package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// gateways are two whole daemons on the kernel plane, where the world's gateways are.
func (w *world) gateways(t *testing.T, more ...string) (a, b *site.Gateway) {
	t.Helper()
	yumen := os.Getenv("YUMEN_BIN")
	if yumen == "" {
		t.Skip("SKIP whole daemons: YUMEN_BIN names no binary; run make vm")
	}
	folder := t.TempDir()
	a = &site.Gateway{Space: w.ga, Dir: filepath.Join(folder, "a"), Yumen: yumen}
	b = &site.Gateway{Space: w.gb, Dir: filepath.Join(folder, "b"), Yumen: yumen}
	check(t, site.Issue(yumen, folder, a, b))
	t.Cleanup(func() {
		for _, g := range []*site.Gateway{a, b} {
			if g.Daemon() != nil {
				g.Daemon().Kill()
			}
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(g.Dir, "yumen.log"))
				t.Logf("%s:\n%s", g.Dir, log)
			}
		}
	})
	policy := func(us, them, remote, near, far, start string) string {
		return fmt.Sprintf(`site: %s
peers:
  - {name: %s, remote: %s, ca: ca.crt, subject: %q}
tunnels:
  - {name: t4, peer: %[2]s, local: 10.%[5]s.0.0/24, remote: 10.%[6]s.0.0/24, start: %[7]s}
  - {name: t6, peer: %[2]s, local: "fd0%[5]s::/64", remote: "fd0%[6]s::/64", start: %[7]s}
`, us, them, remote, site.Subject(them), near, far, start)
	}
	extra := append([]string{"dataplane: kernel", "manage_sysctl: true"}, more...)
	check(t, errors.Join(
		a.Configure(policy("a", "b", gateB4, "1", "2", "start"), extra...),
		b.Configure(policy("b", "a", gateA4, "2", "1", "respond"), extra...),
		b.Start()))
	eventually(t, "b answers", func() error { _, err := b.Status(); return err })
	check(t, a.Start())
	check(t, errors.Join(a.WaitUp(60*time.Second), b.WaitUp(60*time.Second)))
	return a, b
}

func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	t.Fatalf("%s: never: %v", what, err)
}

// inUse are the SPIs that the tunnels of a gateway send on.
func inUse(g *site.Gateway) (spis []string, err error) {
	s, err := g.Status()
	for _, tunnel := range s.Tunnels {
		for _, c := range tunnel.Children {
			if c.InUse {
				spis = append(spis, c.Out.SPI)
			}
		}
	}
	return spis, err
}

// A daemon hands over, or is killed, and another takes its place: not one packet is
// lost, and the keys are soon new. A stop ends everything, at both ends.
func TestARestartOfTheDaemonLosesNothing(t *testing.T) {
	w := inside(t)
	a, b := w.gateways(t)
	for _, x := range []struct {
		name string
		g    *site.Gateway
		end  func(g *site.Gateway) error
	}{
		{"handover of the initiator", a, handOver},
		{"kill -9 of the initiator", a, func(g *site.Gateway) error { g.Daemon().Kill(); return nil }},
		{"handover of the responder", b, handOver},
	} {
		before, err := inUse(x.g)
		check(t, err)
		time.Sleep(1500 * time.Millisecond) // what is killed remembers a second late
		streams := []*stream{w.stream(t, w.ha, hostB4, 10*time.Millisecond), w.stream(t, w.hb, hostA4, 10*time.Millisecond),
			w.stream(t, w.ha, hostB6, 20*time.Millisecond)}
		check(t, x.end(x.g))
		time.Sleep(500 * time.Millisecond)
		check(t, x.g.Start())
		eventually(t, x.name+": adopted", func() error {
			now, err := inUse(x.g)
			if err == nil && len(now) != len(before) {
				err = fmt.Errorf("in use %v, were %v", now, before)
			}
			return err
		})
		eventually(t, x.name+": renewed", func() error {
			now, err := inUse(x.g)
			for _, spi := range before {
				if strings.Contains(strings.Join(now, " "), spi) || len(now) != len(before) {
					err = errors.Join(err, fmt.Errorf("in use %v, were %v", now, before))
				}
			}
			return err
		})
		eventually(t, x.name+": the old ones go", func() error {
			for _, s := range []*site.Space{w.ga, w.gb} {
				if n := strings.Count(ip(t, s, "xfrm", "state", "list", "nokeys"), "auth-trunc"); n != 4 {
					return fmt.Errorf("%d states, want 4", n)
				}
			}
			return nil
		})
		for _, s := range streams {
			if sent, lost, repeated := w.end(s); sent < 50 || lost != 0 || repeated != 0 {
				t.Errorf("%s: to %s: sent %d, lost %d, repeated %d", x.name, s.to, sent, lost, repeated)
			} else {
				t.Logf("%s: to %s: sent %d, lost 0", x.name, s.to, sent)
			}
		}
	}
	check(t, a.Daemon().Stop(10*time.Second))
	eventually(t, "a stop ends all", func() error {
		for _, s := range []*site.Space{w.ga, w.gb} {
			if strings.Contains(ip(t, s, "xfrm", "state", "list", "nokeys"), "auth-trunc") {
				return errors.New("states are still there")
			}
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(a.Dir, "state", "children")); err == nil {
		t.Error("children that are gone are still remembered")
	}
	w.noWay(t)
}

// handOver is what a restart by systemd begins with.
func handOver(g *site.Gateway) error {
	if _, err := g.Command("handover"); err != nil {
		return err
	}
	return g.Daemon().Stop(10 * time.Second)
}
