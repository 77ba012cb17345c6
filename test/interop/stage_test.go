package interop_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/test/interop"
	"yumen/test/site"
)

// yumen is the binary under test, built once for all tests.
var yumen string

const (
	upLimit = 20 * time.Second
	quiet   = 700 * time.Millisecond
	// sharedKey is the pre-shared key of all pairs here.
	sharedKey = "interop-0x27d4eb2f165667b1"
)

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "yumen-interop-")
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

// stage is where one test plays: Yumen is gateway a, strongSwan gateway b.
type stage struct {
	*testing.T
	*site.TwoSites
	swan    *interop.StrongSwan
	capture *site.Capture
	dir     string
}

// newStage builds the sites and captures the wire outside. It cleans up whatever
// happens; of a test that failed the files stay in build/failed.
func newStage(t *testing.T) *stage {
	t.Helper()
	w, dir := site.Begin(t, "nft")
	s := &stage{T: t, dir: dir}
	s.need(os.MkdirAll(filepath.Join(dir, "a"), 0o755), os.MkdirAll(filepath.Join(dir, "b"), 0o755))
	var err error
	s.TwoSites, err = site.NewTwoSites(w, yumen, dir)
	s.need(err)
	s.capture, err = s.Router.Capture("to-b", filepath.Join(dir, "outside.pcap"), "udp or esp or icmp")
	s.need(err, site.Issue(yumen, dir, s.A, s.B))
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

// recorded ends the capture outside and returns its file.
func (s *stage) recorded() string {
	s.Helper()
	s.need(s.capture.Stop())
	return s.capture.File
}

// log is what our daemon has written.
func (s *stage) log() string {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.A.Dir, "yumen.log"))
	s.need(err)
	return string(b)
}

// nft gives the router a ruleset.
func (s *stage) nft(rules string) {
	s.Helper()
	file := filepath.Join(s.dir, "rules.nft")
	s.need(os.WriteFile(file, []byte(rules), 0o600))
	_, err := s.Router.Run("nft", "-f", file)
	s.need(err)
}

// eventually asks until ask returns nil.
func (s *stage) eventually(what string, limit time.Duration, ask func() error) {
	s.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	s.Fatalf("%s: not after %v: %v", what, limit, err)
}

// pair is what both ends of a test agree on.
type pair struct {
	start    string // of our tunnel
	peerKeys string // further keys of the peer entry, as lines
	lifetime string // of our tunnel
	swan     string // further keys of strongSwan's connection
	child    string // and of its child
	remote   string // what we call our peer; empty: its address
	keep     bool   // strongSwan keeps replaced children to their limits
	swanSees string // where strongSwan expects us; empty: our address
}

// policy is ours.
func (p pair) policy() string {
	remote := or(p.remote, site.GateB4)
	return fmt.Sprintf(`site: a
peers:
  - name: swan
    remote: %s
    profile: rfc2409-psk
    allow_non_gm: true
    psk_file: swan.psk
    dpd: {interval: 2s, tries: 2}
%s
tunnels:
  - name: office
    peer: swan
    local: 10.1.0.0/24
    remote: 10.2.0.0/24
    start: %s
    lifetime: %s
`, remote, p.peerKeys, or(p.start, "respond"), or(p.lifetime, "1h"))
}

// connection is strongSwan's.
func (p pair) connection() string {
	return fmt.Sprintf(`connections {
	yumen {
		version = 1
		local_addrs = %s
		remote_addrs = %s
		proposals = aes128-sha256-modp2048
		encap = yes
		dpd_delay = 2s
		%s
		local {
			auth = psk
			id = %s
		}
		remote {
			auth = psk
			id = %s
		}
		children {
			office {
				local_ts = 10.2.0.0/24
				remote_ts = 10.1.0.0/24
				esp_proposals = aes128-sha256
				dpd_action = clear
				%s
			}
		}
	}
}
secrets {
	ike-yumen {
		secret = "%s"
	}
}
`, site.GateB4, or(p.swanSees, site.GateA4), p.swan, site.GateB4, site.GateA4, p.child, sharedKey)
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// begin starts both ends.
func (s *stage) begin(p pair) {
	s.Helper()
	if why := interop.MissingStrongSwan(); why != "" {
		s.Skip("SKIP strongSwan: " + why)
	}
	s.swan = &interop.StrongSwan{Space: s.B.Space, Dir: filepath.Join(s.dir, "swan"), KeepRekeyed: p.keep}
	s.need(s.swan.Start(), s.swan.Load(p.connection()))
	s.need(os.WriteFile(filepath.Join(s.A.Dir, "swan.psk"), []byte(sharedKey+"\n"), 0o600))
	s.need(s.A.Configure(p.policy(), "metrics_listen: 127.0.0.1:9436"), s.A.Start(), s.A.WaitReady(10*time.Second))
}

// traffic wants packets to pass both ways.
func (s *stage) traffic() {
	s.Helper()
	for _, f := range s.flows() {
		f := f
		s.eventually("traffic from "+f.FromAddr, 10*time.Second, func() error { return f.Talk("udp", 4242, quiet) })
		if err := f.Talk("tcp", 4242, 5*time.Second); err != nil {
			s.Errorf("tcp from %s to %s: %v", f.FromAddr, f.ToAddr, err)
		}
	}
}

func (s *stage) flows() []site.Flow { return s.Flows()[:2] }

func (s *stage) status() site.Status {
	s.Helper()
	st, err := s.A.Status()
	s.need(err)
	return st
}

// office is our tunnel.
func (s *stage) office() site.Tunnel {
	s.Helper()
	return s.status().Tunnels[0]
}

// swanSays waits until what swanctl lists matches.
func (s *stage) swanSays(what string, limit time.Duration, match func(string) bool) {
	s.Helper()
	s.eventually("strongSwan: "+what, limit, func() error {
		out, err := s.swan.SAs()
		if err == nil && !match(out) {
			err = fmt.Errorf("it says:\n%s", out)
		}
		return err
	})
}

// settled waits until both ends have one IKE SA and one child, and the same.
func (s *stage) settled(limit time.Duration) {
	s.Helper()
	s.alike("one IKE SA and one child at both ends", 1, limit)
}

// crossed is settled where both ends may have begun a quick mode at once: with
// other implementations both children stay until one expires.
func (s *stage) crossed(limit time.Duration) {
	s.Helper()
	s.alike("one IKE SA and the same one or two children at both ends", 2, limit)
}

func (s *stage) alike(what string, most int, limit time.Duration) {
	s.Helper()
	s.eventually(what, limit, func() error {
		st := s.status()
		children := st.Tunnels[0].Children
		if len(st.Sessions) != 1 || st.Sessions[0].State != "established" || len(children) == 0 || len(children) > most {
			return fmt.Errorf("yumen has %d sessions, %d children", len(st.Sessions), len(children))
		}
		out, err := s.swan.SAs()
		if err != nil {
			return err
		}
		// strongSwan keeps what was replaced until it expires, the other of two that
		// crossed too: ours must all be there.
		there := strings.Count(out, "INSTALLED")
		same := strings.Count(out, "ESTABLISHED") == 1 && strings.Contains(out, st.Sessions[0].CookieI) &&
			there >= 1 && (there == len(children) || most > 1)
		for _, c := range children {
			same = same && strings.Contains(out, c.In.SPI) && strings.Contains(out, c.Out.SPI)
		}
		if !same {
			return fmt.Errorf("strongSwan has %d IKE SAs, %d children; yumen %s, %+v:\n%s", strings.Count(out, "ESTABLISHED"),
				there, st.Sessions[0].CookieI, children, out)
		}
		return nil
	})
}
