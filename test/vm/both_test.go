package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"yumen/test/site"
)

// Two real daemons stand at the gateways here, by the configuration that people write.

const (
	patience       = 60 * time.Second // the machine is emulated
	streamGap      = 40 * time.Millisecond
	hostC4, hostC6 = "10.2.9.2", "fd02:9::2"
)

// line is a tunnel of A's policy to a network of B.
type line struct{ name, local, remote, keys string }

var cbcLines = []line{{"t4", "10.1.0.0/24", "10.2.0.0/24", ""}, {"t6", "fd01::/64", "fd02::/64", ""}}

func gcmLines() []line {
	const gcm = ", suites: [sm4gcm128]"
	return []line{{"g4", "10.1.0.0/24", "10.2.9.0/24", gcm}, {"g6", "fd01::/64", "fd02:9::/64", gcm}}
}

// pair is two daemons, A the one that begins.
type daemons struct {
	*testing.T
	w    *world
	a, b *site.Gateway
}

var issue = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "vm-"); err != nil {
		return "", err
	}
	a, b := &site.Gateway{Dir: filepath.Join(dir, "a")}, &site.Gateway{Dir: filepath.Join(dir, "b")}
	return dir, errors.Join(os.MkdirAll(a.Dir, 0o755), os.MkdirAll(b.Dir, 0o755), site.Issue(os.Getenv("YUMEN_BIN"), dir, a, b))
})

// daemons makes the two sites; run starts them.
func (w *world) daemons(t *testing.T) *daemons {
	t.Helper()
	dir, err := issue()
	check(t, err)
	at := func(s *site.Space, name string) *site.Gateway {
		return &site.Gateway{Space: s, Dir: filepath.Join(dir, name), Yumen: os.Getenv("YUMEN_BIN")}
	}
	d := &daemons{t, w, at(w.ga, "a"), at(w.gb, "b")}
	t.Cleanup(func() {
		for _, g := range []*site.Gateway{d.a, d.b} {
			if g.Daemon() != nil && !g.Daemon().Ended() {
				if err := g.Daemon().Stop(20 * time.Second); err != nil {
					t.Errorf("stop: %v", err)
				}
			}
			log, _ := os.ReadFile(filepath.Join(g.Dir, "yumen.log"))
			if t.Failed() {
				t.Logf("%s:\n%s", g.Dir, log)
			}
			_ = os.Remove(filepath.Join(g.Dir, "yumen.log"))
		}
	})
	return d
}

// configure writes both sides; planes are the words of dataplane.
func (d *daemons) configure(lines []line, planeA, planeB, peerKeys string) {
	d.Helper()
	d.configureEach(lines, lines, planeA, planeB, peerKeys)
}

// configureEach gives each side lines of its own, which differ in their keys.
func (d *daemons) configureEach(linesA, linesB []line, planeA, planeB, peerKeys string) {
	d.Helper()
	text := func(us, them, remote string, lines []line, b bool) string {
		p := fmt.Sprintf("site: %s\npeers:\n  - {name: %s, remote: %q, ca: ca.crt, subject: %q%s}\ntunnels:\n", us, them, remote, site.Subject(them), peerKeys)
		for _, l := range lines {
			local, remote, start := l.local, l.remote, ""
			if b {
				local, remote, start = remote, local, ", start: respond"
			}
			p += fmt.Sprintf("  - {name: %s, peer: %s, local: %q, remote: %q%s%s}\n", l.name, them, local, remote, l.keys, start)
		}
		return p
	}
	check(d, d.a.Configure(text("a", "b", gateB4, linesA, false), "dataplane: "+planeA, "manage_sysctl: true"))
	check(d, d.b.Configure(text("b", "a", gateA4, linesB, true), "dataplane: "+planeB, "manage_sysctl: true"))
}

func (d *daemons) start(list ...*site.Gateway) {
	d.Helper()
	for _, g := range list {
		check(d, g.Start())
		check(d, g.WaitReady(patience))
	}
}

func (d *daemons) up(list ...*site.Gateway) {
	d.Helper()
	for _, g := range list {
		check(d, g.WaitUp(patience))
	}
}

// in asserts on which plane each tunnel of a gateway sends.
func (d *daemons) in(g *site.Gateway, want map[string]string) {
	d.Helper()
	if err := d.lives(g, want); err != nil {
		d.Error(err)
	}
}

func (d *daemons) lives(g *site.Gateway, want map[string]string) error {
	s, err := g.Status()
	for _, t := range s.Tunnels {
		used := ""
		for _, c := range t.Children {
			if c.InUse {
				used = c.Plane
			}
		}
		if w, asked := want[t.Name]; asked && (t.Plane != w || used != w) {
			err = errors.Join(err, fmt.Errorf("%s: tunnel %s is in %q, its child in %q, want %q", g.Dir, t.Name, t.Plane, used, w))
		}
	}
	return err
}

func (d *daemons) move(g *site.Gateway, tunnel, to string) {
	d.Helper()
	if out, err := g.Command("dataplane", "move", tunnel, to); err != nil {
		d.Fatalf("move %s %s: %v: %s", tunnel, to, err, out)
	}
}

// refused asserts that a command fails with all the words.
func (d *daemons) refused(g *site.Gateway, command []string, words ...string) {
	d.Helper()
	out, err := g.Command(command...)
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error()+out, w) {
			d.Errorf("%v: the answer lacks %q: %v %s", command, w, err, out)
		}
	}
}

// answers asserts that n datagrams to each address come back, from a host behind A
// and from A's own inner address.
func (d *daemons) answers(n int, addrs ...string) {
	d.Helper()
	for _, to := range addrs {
		if got := d.w.exchange(d.w.ha, to, n); got != n {
			d.Errorf("from the host to %s: %d of %d came back", to, got, n)
		}
		own := "10.1.0.1"
		if strings.Contains(to, ":") {
			own = "fd01::1"
		}
		if got := d.w.exchangeFrom(d.w.ga, own, to, n); got != n {
			d.Errorf("from the gateway to %s: %d of %d came back", to, got, n)
		}
	}
}

// nothingStrange asserts that neither plane of a gateway counted what the other
// handled.
func (d *daemons) nothingStrange(g *site.Gateway) {
	d.Helper()
	s, err := g.Status()
	check(d, err)
	for _, name := range []string{"unknown-spi", "XfrmInNoStates", "XfrmInTmplMismatch", "XfrmInNoPols", "icmp-foreign"} {
		if n := s.Counters.Packets[name]; n != 0 {
			d.Errorf("%s: %s is %d", g.Dir, name, n)
		}
	}
}

// A GCM tunnel goes to userspace by itself, beside CBC tunnels of the same peer in
// the kernel. Then tunnels move there and back under numbered traffic both ways, and
// at last the daemon is killed.
func TestBothPlanesInOneDaemon(t *testing.T) {
	w := inside(t)
	d := w.daemons(t)
	d.configure(append(gcmLines(), cbcLines...), "auto", "auto", "")
	d.start(d.b, d.a)
	d.up(d.a, d.b)
	planes := map[string]string{"t4": "kernel", "t6": "kernel", "g4": "userspace", "g6": "userspace"}
	d.in(d.a, planes)
	d.in(d.b, planes)
	d.answers(3, hostB4, hostB6, hostC4, hostC6)
	d.nothingStrange(d.a)
	d.nothingStrange(d.b)

	d.underTraffic(func() {
		for _, step := range []struct{ tunnel, to string }{{"t4", "user"}, {"t6", "user"}, {"t4", "kernel"}, {"t6", "kernel"}} {
			d.move(d.a, step.tunnel, step.to)
			time.Sleep(time.Second) // the old ones are about to go
		}
		d.move(d.b, "t6", "user")
	})
	d.in(d.a, planes)
	d.in(d.b, map[string]string{"t6": "userspace", "t4": "kernel"})
	d.answers(2, hostB4, hostB6, hostC4, hostC6)
	d.refused(d.a, []string{"dataplane", "move", "g4", "kernel"}, "g4", "SM4-GCM")
	d.refused(d.a, []string{"dataplane", "move", "t4", "moon"}, "user or kernel")
	d.refused(d.a, []string{"dataplane", "move", "t5", "user"}, "no such tunnel")

	d.move(d.a, "t4", "user")
	stop := d.streams()
	d.a.Daemon().Kill() // what leaves in clear is counted by inside
	time.Sleep(2 * time.Second)
	d.b.Daemon().Kill()
	time.Sleep(time.Second)
	stop()
	d.start(d.b, d.a)
	d.up(d.a, d.b)
	d.in(d.a, planes) // the choice ended with the process
	d.answers(2, hostB4, hostB6, hostC4, hostC6)
}

// streams sends both ways in both families by both planes until stop is called.
func (d *daemons) streams() (stop func()) {
	var list []*stream
	for _, x := range d.ways() {
		list = append(list, d.w.stream(d.T, x.from, x.to, streamGap))
	}
	return func() {
		for _, s := range list {
			d.w.end(s)
		}
	}
}

type way struct {
	from *site.Space
	to   string
}

func (d *daemons) ways() []way {
	return []way{{d.w.ha, hostB4}, {d.w.hb, hostA4}, {d.w.ha, hostB6}, {d.w.ha, hostC6}}
}

// underTraffic asserts that not one numbered packet is lost or repeated meanwhile.
func (d *daemons) underTraffic(do func()) {
	d.Helper()
	var list []*stream
	for _, x := range d.ways() {
		list = append(list, d.w.stream(d.T, x.from, x.to, streamGap))
	}
	do()
	for _, s := range list {
		sent, lost, repeated := d.w.end(s)
		if sent < 100 || lost != 0 || repeated != 0 {
			d.Errorf("to %s: sent %d, lost %d, repeated %d; the first lost at %s", s.to, sent, lost, repeated, d.w.firstLost(s))
		}
	}
}

// Against a peer in userspace alone, a tunnel moves all the same; that peer's cannot.
func TestAKernelDaemonAndAUserspaceDaemon(t *testing.T) {
	w := inside(t)
	d := w.daemons(t)
	d.configure(cbcLines, "kernel", "user", "")
	d.start(d.b, d.a)
	d.up(d.a, d.b)
	d.in(d.a, map[string]string{"t4": "kernel", "t6": "kernel"})
	d.in(d.b, map[string]string{"t4": "userspace", "t6": "userspace"})
	d.answers(3, hostB4, hostB6)
	d.refused(d.a, []string{"dataplane", "move", "t4", "user"}, "dataplane: kernel in gateway.yaml", "dataplane: auto")
	d.refused(d.b, []string{"dataplane", "move", "t4", "kernel"}, "dataplane: user in gateway.yaml")
}

// In UDP the planes share the port: two tunnels of one peer, at one address and port,
// are on different planes, and one moves there and back without a packet lost.
func TestBothPlanesShareThePortOfUDP(t *testing.T) {
	w := inside(t)
	d := w.daemons(t)
	d.configure(append(gcmLines(), cbcLines...), "auto", "auto", ", encap: force")
	d.start(d.b, d.a)
	d.up(d.a, d.b)
	planes := map[string]string{"t4": "kernel", "t6": "kernel", "g4": "userspace", "g6": "userspace"}
	d.in(d.a, planes)
	d.in(d.b, planes)
	d.answers(2, hostB4, hostB6, hostC4, hostC6)
	raw := w.esp.Load()
	d.underTraffic(func() {
		d.move(d.a, "t4", "user")
		time.Sleep(2 * time.Second)
		d.in(d.a, map[string]string{"t4": "userspace", "t6": "kernel"})
		d.move(d.b, "t4", "user")
		d.move(d.a, "t4", "kernel")
		time.Sleep(2 * time.Second)
	})
	d.in(d.a, planes)
	if n := w.esp.Load() - raw; n != 0 {
		t.Errorf("%d packets were not in UDP", n)
	}
	d.answers(2, hostB4, hostB6, hostC4, hostC6)
	d.nothingStrange(d.a)
	d.nothingStrange(d.b)
}

// exchangeFrom is exchange by an address of the gateway itself.
func (w *world) exchangeFrom(s *site.Space, own, to string, n int) (answers int) {
	c, err := dialFrom(s, own, to)
	if err != nil {
		return 0
	}
	return ask(c, n, 2*time.Second)
}
