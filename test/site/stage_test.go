package site_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yumen/test/site"
)

// yumen is the binary under test, built once for all tests.
var yumen string

const (
	upLimit = 20 * time.Second // for a tunnel to come up
	quiet   = 700 * time.Millisecond
)

// Tests that wait more than they work, and hold nobody to a second, are parallel; those
// of seconds come before them, one by one.
func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	if site.Missing("tshark", "nft") != "" {
		return m.Run() // each test says why it is skipped
	}
	dir, err := os.MkdirTemp("", "yumen-site-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	yumen = filepath.Join(dir, "yumen")
	if out, err := exec.Command("go", "build", "-o", yumen, "yumen/cmd/yumen").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// stage is where one test plays: a world, a folder for the files of the gateways
// and captures, and the two sites if it has them.
type stage struct {
	*testing.T
	*site.TwoSites
	world *site.World
	dir   string
}

// newStage cleans up whatever happens. Of a test that failed, logs and captures
// are kept in build/failed and the ends of the logs are printed.
func newStage(t *testing.T) *stage {
	t.Helper()
	w, dir := site.Begin(t, "tshark", "nft")
	return &stage{T: t, world: w, dir: dir}
}

// newTwoSites is a stage with two sites and a certificate pair for each.
func newTwoSites(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	s.need(os.MkdirAll(filepath.Join(s.dir, "a"), 0o755), os.MkdirAll(filepath.Join(s.dir, "b"), 0o755))
	two, err := site.NewTwoSites(s.world, yumen, s.dir)
	s.need(err, site.Issue(yumen, s.dir, two.A, two.B))
	s.TwoSites = two
	return s
}

// need ends the test at the first error.
func (s *stage) need(errs ...error) {
	s.Helper()
	for _, err := range errs {
		if err != nil {
			s.Fatal(err)
		}
	}
}

// end is the policy of one of the two sites. The keys are further keys of the
// peer entry and of each tunnel, in YAML's flow style, each after a comma.
type end struct {
	us, them, remote string
	local, far       string // the digit of the inner networks
	peerKeys         string
	tunnelKeys       string
	rules            string // the list, in block style
	edit             *strings.Replacer
}

func endA() end { return end{us: "a", them: "b", remote: site.GateB4, local: "1", far: "2"} }

// endB only responds, so that exactly one negotiation takes place.
func endB() end {
	return end{us: "b", them: "a", remote: site.GateA4, local: "2", far: "1", tunnelKeys: ", start: respond"}
}

func (e end) policy() string {
	text := fmt.Sprintf("site: %s\npeers:\n  - {name: %s, remote: %q, ca: ca.crt, subject: %q%s}\ntunnels:\n",
		e.us, e.them, e.remote, site.Subject(e.them), e.peerKeys)
	text += e.tunnel("office4", "10."+e.local+".0.0/24", "10."+e.far+".0.0/24")
	text += e.tunnel("office6", "fd0"+e.local+"::/64", "fd0"+e.far+"::/64")
	if e.rules != "" {
		text += "rules:\n" + e.rules
	}
	if e.edit != nil {
		text = e.edit.Replace(text)
	}
	return text
}

func (e end) tunnel(name, local, remote string) string {
	return fmt.Sprintf("  - {name: %s, peer: %s, local: %q, remote: %q%s}\n", name, e.them, local, remote, e.tunnelKeys)
}

// run configures and starts both daemons, the responder first.
func (s *stage) run(a, b end, extra ...string) {
	s.Helper()
	s.need(s.A.Configure(a.policy(), extra...), s.B.Configure(b.policy(), extra...), s.B.Start())
	s.answers(s.B)
	s.need(s.A.Start())
	s.answers(s.A)
}

// answers waits until a daemon can be asked.
func (s *stage) answers(g *site.Gateway) {
	s.Helper()
	s.eventually("the daemon answers", 10*time.Second, func() error {
		if g.Daemon().Ended() {
			s.Fatalf("%s: the daemon ended", g.Dir)
		}
		_, err := g.Status()
		return err
	})
}

func (s *stage) waitUp(list ...*site.Gateway) {
	s.Helper()
	for _, g := range list {
		s.need(g.WaitUp(upLimit))
	}
}

func (s *stage) stop(list ...*site.Gateway) {
	s.Helper()
	for _, g := range list {
		s.need(g.Daemon().Stop(10 * time.Second))
	}
}

func (s *stage) status(g *site.Gateway) site.Status {
	s.Helper()
	st, err := g.Status()
	s.need(err)
	return st
}

func (s *stage) tunnel(g *site.Gateway, name string) site.Tunnel {
	s.Helper()
	st := s.status(g)
	i := slices.IndexFunc(st.Tunnels, func(t site.Tunnel) bool { return t.Name == name })
	if i < 0 {
		s.Fatalf("%s: status has no tunnel %s", g.Dir, name)
	}
	return st.Tunnels[i]
}

// eventually asks until ask returns nil.
func (s *stage) eventually(what string, limit time.Duration, ask func() error) {
	s.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	s.Fatalf("%s: not after %v: %v", what, limit, err)
}

// pass sends each flow over UDP and TCP and wants it to arrive.
func (s *stage) pass(flows ...site.Flow) {
	s.Helper()
	for _, f := range flows {
		for _, network := range []string{"udp", "tcp"} {
			if err := f.Talk(network, 4242, 5*time.Second); err != nil {
				s.Errorf("%s from %s to %s does not pass: %v", network, f.FromAddr, f.ToAddr, err)
			}
		}
	}
}

// refuse sends each flow at the same time and wants none to arrive.
func (s *stage) refuse(when string, flows ...site.Flow) {
	s.Helper()
	var wg sync.WaitGroup
	for _, f := range flows {
		for i, network := range []string{"udp", "tcp"} {
			wg.Go(func() {
				if f.Talk(network, 4300+i, quiet) == nil {
					s.Errorf("%s: %s from %s to %s passed", when, network, f.FromAddr, f.ToAddr)
				}
			})
		}
	}
	wg.Wait()
}

// capture records the outside wire at the router until the function is called.
func (s *stage) capture(space *site.Space, iface string) (stop func() string) {
	s.Helper()
	c, err := space.Capture(iface, filepath.Join(s.dir, fmt.Sprintf("%s-%d.pcap", iface, time.Now().UnixNano())), "")
	s.need(err)
	return func() string {
		s.Helper()
		s.need(c.Stop())
		return c.File
	}
}

// hidden wants nothing of the flows in a capture.
func (s *stage) hidden(file string, flows ...site.Flow) {
	s.Helper()
	if found := s.found(file, flows...); len(found) > 0 {
		s.Errorf("in clear on the outside wire: %v", found)
	}
}

// shown wants everything of the flows in a capture.
func (s *stage) shown(file string, flows ...site.Flow) {
	s.Helper()
	if found, want := s.found(file, flows...), site.Needles(flows...); len(found) != len(want) {
		s.Errorf("found only %v of %d needles in clear", found, len(want))
	}
}

func (s *stage) found(file string, flows ...site.Flow) []string {
	s.Helper()
	found, err := site.Found(file, site.Needles(flows...))
	s.need(err)
	return found
}
