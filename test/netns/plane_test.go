package netns

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"yumen/esp"
	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/test/locks"
	"yumen/test/site"
)

// spec is a data plane with keys fixed in advance, as a file for a process.
type spec struct {
	Encap, GCM, ESN bool
	ICV             int
	B               bool // which side
	V6              bool // outside
	Children        []childSpec
	Rules           []ruleSpec
	MTU             int
	Idle            bool // nothing is put to use
	After           bool // large packets are cut after encryption
	MSS             policy.MSSClamp
	Without         tunnel.Offload
	Locks           bool // it tells what locks its workers met
}

// childSpec is a child as A sees it. Outer addresses left out are those of TwoSites.
type childSpec struct {
	Local, Remote string
	From, To      string
	Key           int // keys and SPIs follow from it; 0: from the place in the list
}

type ruleSpec struct {
	Action        policy.Action
	Local, Remote string
	Protocol      uint8
	RemotePort    uint16
}

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "plane" {
		if err := runPlane(os.Args[2]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Sites spend their time waiting for answers, not for a core.
	flag.Parse()
	if err := flag.Set("test.parallel", fmt.Sprint(max(sitesAtOnce, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const sitesAtOnce = 5

// runPlane is the process: it runs a plane until SIGTERM and tells what happens.
func runPlane(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var s spec
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	p, err := tunnel.New(tunnel.Config{MTU: s.MTU, Without: s.Without})
	if err != nil {
		return err
	}
	pol, err := s.policy()
	if err != nil {
		return err
	}
	if err := p.SetPolicy(pol); err != nil {
		return err
	}
	go func() {
		for e := range p.Events() {
			fmt.Println("event", e.Kind, e.Child, e.Tunnel, e.Remote)
		}
	}()
	for i := range s.Children {
		c := s.child(i, pol.Tunnels[i])
		if err := p.Install(c, esp.State{}); err != nil {
			return err
		}
		if s.Idle {
			continue
		}
		if err := p.Use(c.ID); err != nil {
			return err
		}
	}
	if err := p.SetPolicy(pol); err != nil { // again: it must be harmless
		return err
	}
	fmt.Println("offloads", p.Offloads())
	met := func() ([]string, error) { return nil, nil }
	if s.Locks {
		met = locks.Watch()
	}
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	list, err := met()
	if err != nil {
		return err
	}
	for _, stack := range list {
		fmt.Printf("lock %q\n", stack)
	}
	for i := range s.Children {
		u, _ := p.Usage(esp.ChildID(i + 1))
		fmt.Printf("usage %d in %d out %d replayed %d auth %d selector %d mtu %d\n",
			i, u.In.Packets, u.Out.Packets, u.Replayed, u.BadAuth, u.BadSelector, u.EffectiveMTU)
	}
	workers := 0
	for _, n := range p.Received() {
		if n > 50 {
			workers++
		}
	}
	fmt.Println("count workers", workers) // that received more than a stray packet
	for name, n := range p.Counters() {
		if n > 0 {
			fmt.Println("count", name, n)
		}
	}
	fmt.Println("trouble", p.Trouble())
	return p.Close()
}

func (s *spec) policy() (*policy.Policy, error) {
	p := &policy.Policy{Peers: []policy.Peer{{Name: "peer"}}}
	for i, c := range s.Children {
		sel, err := s.selector(c.Local, c.Remote)
		if err != nil {
			return nil, err
		}
		p.Tunnels = append(p.Tunnels, policy.Tunnel{
			Name: fmt.Sprint("t", i), Peer: "peer", Selector: sel, Suites: []policy.Suite{s.suite()},
			ICVBits: s.ICV, Window: 1024, Outer: s.outer(),
		})
	}
	for i, r := range s.Rules {
		sel, err := s.selector(r.Local, r.Remote)
		if err != nil {
			return nil, err
		}
		sel.Protocol, sel.RemotePort = r.Protocol, r.RemotePort
		if s.B {
			sel.LocalPort, sel.RemotePort = sel.RemotePort, sel.LocalPort
		}
		p.Rules = append(p.Rules, policy.Rule{Name: fmt.Sprint("r", i), Action: r.Action, Selector: sel})
	}
	return p, nil
}

func (s *spec) selector(local, remote string) (policy.Selector, error) {
	if s.B {
		local, remote = remote, local
	}
	l, err := policy.ParseNet(local)
	if err != nil {
		return policy.Selector{}, err
	}
	r, err := policy.ParseNet(remote)
	return policy.Selector{Local: l, Remote: r}, err
}

func (s *spec) outer() policy.Outer {
	o := policy.Outer{DSCP: policy.CopyDSCP, MSS: s.MSS}
	if s.After {
		o.Fragment = policy.FragmentAfter
	}
	return o
}

func (s *spec) suite() policy.Suite {
	if s.GCM {
		return policy.SM4GCM128
	}
	return policy.SM4CBCHMACSM3
}

func (s *spec) child(i int, t policy.Tunnel) esp.Child {
	key := cmp.Or(s.Children[i].Key, i+1)
	toB, toA := byte(3*key), byte(3*key+1) // odd and even ones in each direction: see spreadBySPI
	half := func(n byte) esp.Half {
		key := bytes.Repeat([]byte{n}, esp.KeymatLen(s.suite()))
		return esp.Half{SPI: esp.SPI(0x1000 + uint32(n)), Keymat: secret.New(key)}
	}
	a, b := OutsideA4, OutsideB4
	if s.V6 {
		a, b = OutsideA6, OutsideB6
	}
	a, b = cmp.Or(s.Children[i].From, a), cmp.Or(s.Children[i].To, b)
	var port uint16
	if s.Encap {
		port = 4500
	}
	c := esp.Child{
		ID: esp.ChildID(i + 1), Tunnel: t.Name, Peer: "peer", Selector: t.Selector, Suite: t.Suites[0],
		ICVBits: t.ICVBits, ESN: s.ESN, Window: t.Window, Outer: t.Outer, In: half(toA), Out: half(toB),
		Path: esp.Path{
			Local:  netip.AddrPortFrom(netip.MustParseAddr(a), port),
			Remote: netip.AddrPortFrom(netip.MustParseAddr(b), port), Encap: s.Encap,
		},
	}
	if s.B {
		c.In, c.Out = c.Out, c.In
		c.Path.Local, c.Path.Remote = c.Path.Remote, c.Path.Local
	}
	return c
}

// running is a plane process.
type running struct {
	*site.Process
	log string
}

// start runs a plane in a namespace and waits until it is ready.
func start(t *testing.T, at *site.Space, s spec) *running {
	t.Helper()
	if s.ICV == 0 {
		s.ICV = 96
	}
	dir := t.TempDir()
	b, err := json.Marshal(s)
	Check(t, err)
	file := filepath.Join(dir, "spec.json")
	Check(t, os.WriteFile(file, b, 0o600))
	self, err := os.Executable()
	Check(t, err)
	r := &running{log: filepath.Join(dir, "log")}
	r.Process, err = at.Start(r.log, self, "plane", file)
	Check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("plane in %s:\n%s", at.Name, r.said(t))
		}
	})
	r.await(t, "ready")
	return r
}

func (r *running) said(t *testing.T) string {
	b, err := os.ReadFile(r.log)
	Check(t, err)
	return string(b)
}

// await waits for a line that begins so.
func (r *running) await(t *testing.T, begin string) {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	for time.Now().Before(limit) {
		for line := range strings.Lines(r.said(t)) {
			if strings.HasPrefix(line, begin) {
				return
			}
		}
		if r.Ended() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("plane did not say %q:\n%s", begin, r.said(t))
}

// stop ends the plane in order and returns its counters.
func (r *running) stop(t *testing.T) map[string]int {
	t.Helper()
	Check(t, r.Stop(10*time.Second))
	return r.counts(t)
}

func (r *running) counts(t *testing.T) map[string]int {
	out := map[string]int{}
	in := bufio.NewReader(strings.NewReader(r.said(t)))
	for {
		line, err := in.ReadString('\n')
		var name string
		var n int
		if _, bad := fmt.Sscanf(line, "count %s %d", &name, &n); bad == nil {
			out[name] = n
		}
		if err == io.EOF {
			return out
		}
	}
}

// both starts the two ends of a spec.
func (two *TwoSites) both(t *testing.T, s spec) (a, b *running) {
	t.Helper()
	a = start(t, two.GatewayA, s)
	s.B = true
	b = start(t, two.GatewayB, s)
	return a, b
}

// flows are the four directions between the hosts, with fresh markers.
func (two *TwoSites) flows() []site.Flow {
	return []site.Flow{
		{From: two.HostA, To: two.HostB, FromAddr: HostA4, ToAddr: HostB4, Marker: site.NewMarker()},
		{From: two.HostB, To: two.HostA, FromAddr: HostB4, ToAddr: HostA4, Marker: site.NewMarker()},
		{From: two.HostA, To: two.HostB, FromAddr: HostA6, ToAddr: HostB6, Marker: site.NewMarker()},
		{From: two.HostB, To: two.HostA, FromAddr: HostB6, ToAddr: HostA6, Marker: site.NewMarker()},
	}
}

func subnets() []childSpec {
	return []childSpec{{Local: "10.1.0.0/24", Remote: "10.2.0.0/24"}, {Local: "fd01::/64", Remote: "fd02::/64"}}
}
