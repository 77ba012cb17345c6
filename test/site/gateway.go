package site

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Gateway is a Yumen in a namespace, with its own folder: gateway.yaml,
// policy.yaml, certificates, keys, yumen.log and its state.
type Gateway struct {
	*Space
	Dir     string
	Yumen   string // path of the binary
	Sockets string // folder of the control socket, where Dir can hold none; empty: Dir
	process *Process
}

// Subject is the name in both certificates of the gateway with that folder name.
func Subject(name string) string { return "CN=" + name + ",O=Yumen Lab,C=CN" }

// Configure writes gateway.yaml and policy.yaml.
func (g *Gateway) Configure(policy string, extra ...string) error {
	socket := "control.sock"
	if g.Sockets != "" {
		socket = filepath.Join(g.Sockets, filepath.Base(g.Dir)+".sock")
	}
	lines := append([]string{
		"# The bootstrap file: where everything else is.",
		"policy: policy.yaml",
		"state_dir: state",
		"control_socket: " + socket,
		"sign_cert: sign.crt",
		"sign_key: sign.key",
		"enc_cert: enc.crt",
		"enc_key: enc.key",
	}, extra...)
	if err := os.MkdirAll(g.Dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(g.Dir, "gateway.yaml"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(g.Dir, "policy.yaml"), []byte(policy), 0o644)
}

// Start runs the daemon.
func (g *Gateway) Start() (err error) {
	g.process, err = g.Space.Start(filepath.Join(g.Dir, "yumen.log"), g.Yumen, "run", "--config", g.config())
	return err
}

// Daemon is the running daemon.
func (g *Gateway) Daemon() *Process { return g.process }

func (g *Gateway) config() string { return filepath.Join(g.Dir, "gateway.yaml") }

// Command runs one of the product's commands against this gateway.
func (g *Gateway) Command(args ...string) (string, error) {
	return g.Run(append(append([]string{g.Yumen}, args...), "--config", g.config())...)
}

// Status is the part of `yumen status --json` that tests read.
type Status struct {
	Warnings []string `json:"warnings"`
	HalfOpen int      `json:"half_open"`
	Sessions []struct {
		Peer    string `json:"peer"`
		State   string `json:"state"`
		CookieI string `json:"cookie_i"`
		Local   string `json:"local"`
		Remote  string `json:"remote"`
		NAT     string `json:"nat"`
	} `json:"sessions"`
	Tunnels  []Tunnel `json:"tunnels"`
	Groups   []Group  `json:"groups"`
	Counters struct {
		Packets map[string]uint64 `json:"packets"`
	} `json:"counters"`
	Refusals []struct {
		Peer   string `json:"peer"`
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	} `json:"refusals"`
}

// Tunnel is a tunnel in a status.
type Tunnel struct {
	Name        string `json:"name"`
	State       string `json:"state"`
	Plane       string `json:"plane"`
	LastFailure string `json:"last_failure"`
	LastDetail  string `json:"last_detail"`
	Children    []struct {
		InUse   bool   `json:"in_use"`
		Plane   string `json:"plane"`
		Suite   string `json:"suite"`
		ESN     bool   `json:"esn"`
		Encap   bool   `json:"encap"`
		MTU     int    `json:"mtu"`
		In      Half   `json:"in"`
		Out     Half   `json:"out"`
		BadAuth uint64 `json:"bad_auth"`
	} `json:"children"`
}

// Group is a group of paths in a status.
type Group struct {
	Name    string            `json:"name"`
	Carries []string          `json:"carries"`
	Works   bool              `json:"works"`
	Flips   map[string]uint64 `json:"flips"`
	Last    *struct {
		Reason string `json:"reason"`
		Cause  string `json:"cause"`
	} `json:"last"`
	Paths []struct {
		Tunnel  string `json:"tunnel"`
		State   string `json:"state"`
		Why     string `json:"why"`
		Carries bool   `json:"carries"`
		Failed  string `json:"failed_until"`
	} `json:"paths"`
}

// Half is one direction of a child in a status.
type Half struct {
	SPI     string `json:"spi"`
	Packets uint64 `json:"packets"`
}

// Status asks the daemon.
func (g *Gateway) Status() (Status, error) {
	var st Status
	out, err := g.Command("status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &st)
	}
	return st, err
}

// WaitReady waits until the daemon answers.
func (g *Gateway) WaitReady(limit time.Duration) error {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		_, err := g.Status()
		if err == nil || g.process.Ended() || time.Now().After(end) {
			return err
		}
	}
}

// WaitUp waits until all tunnels of the policy are up.
func (g *Gateway) WaitUp(limit time.Duration) error {
	last := errors.New("not asked yet")
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if g.process.Ended() {
			return fmt.Errorf("%s: the daemon ended; see %s", g.Name, filepath.Join(g.Dir, "yumen.log"))
		}
		st, err := g.Status()
		if last = err; err != nil {
			continue
		}
		waiting := 0
		for _, t := range st.Tunnels {
			if t.State != "up" {
				waiting++
				last = fmt.Errorf("tunnel %s is %s %s %s", t.Name, t.State, t.LastFailure, t.LastDetail)
			}
		}
		if waiting == 0 && len(st.Tunnels) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%s: not up after %v: %w", g.Name, limit, last)
}

// TwoSites is the topology of the package comment.
type TwoSites struct {
	World        *World
	HostA, HostB *Space
	A, B         *Gateway
	Router       *Space
}

// Addresses of the topology.
const (
	HostA4, HostB4 = "10.1.0.10", "10.2.0.10"
	HostA6, HostB6 = "fd01::10", "fd02::10"
	GateA4, GateB4 = "192.0.2.2", "198.51.100.2"
	GateA6, GateB6 = "2001:db8:a::2", "2001:db8:b::2"
)

// NewTwoSites builds the topology; the gateways keep their files in folder/a and
// folder/b. The caller closes World, also after an error.
func NewTwoSites(w *World, yumen, folder string) (*TwoSites, error) {
	t := &TwoSites{World: w}
	var gateA, gateB *Space
	for _, x := range []struct {
		s       **Space
		name    string
		forward bool
	}{{&t.HostA, "ha", false}, {&gateA, "ga", true}, {&t.Router, "r", true}, {&gateB, "gb", true}, {&t.HostB, "hb", false}} {
		var err error
		if *x.s, err = w.Space(x.name, x.forward); err != nil {
			return nil, err
		}
	}
	t.A = &Gateway{Space: gateA, Dir: filepath.Join(folder, "a"), Yumen: yumen}
	t.B = &Gateway{Space: gateB, Dir: filepath.Join(folder, "b"), Yumen: yumen}
	return t, errors.Join(
		w.Link(t.HostA, "eth0", []string{HostA4 + "/24", HostA6 + "/64"}, gateA, "in", []string{"10.1.0.1/24", "fd01::1/64"}),
		w.Link(gateA, "out", []string{GateA4 + "/24", GateA6 + "/64"}, t.Router, "to-a", []string{"192.0.2.1/24", "2001:db8:a::1/64"}),
		w.Link(t.Router, "to-b", []string{"198.51.100.1/24", "2001:db8:b::1/64"}, gateB, "out", []string{GateB4 + "/24", GateB6 + "/64"}),
		w.Link(gateB, "in", []string{"10.2.0.1/24", "fd02::1/64"}, t.HostB, "eth0", []string{HostB4 + "/24", HostB6 + "/64"}),
		t.HostA.Route("default via 10.1.0.1", "default via fd01::1"),
		t.HostB.Route("default via 10.2.0.1", "default via fd02::1"),
		gateA.Route("default via 192.0.2.1", "default via 2001:db8:a::1"),
		gateB.Route("default via 198.51.100.1", "default via 2001:db8:b::1"),
		t.Router.Route("10.1.0.0/24 via "+GateA4, "fd01::/64 via "+GateA6, "10.2.0.0/24 via "+GateB4, "fd02::/64 via "+GateB6),
	)
}

// Flows are both directions of both families.
func (t *TwoSites) Flows() []Flow {
	return []Flow{
		{t.HostA, t.HostB, HostA4, HostB4, NewMarker()},
		{t.HostB, t.HostA, HostB4, HostA4, NewMarker()},
		{t.HostA, t.HostB, HostA6, HostB6, NewMarker()},
		{t.HostB, t.HostA, HostB6, HostA6, NewMarker()},
	}
}
