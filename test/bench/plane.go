package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"yumen/esp"
	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/test/site"
)

// spec is one of our data planes with keys fixed in advance, for a process of its
// own: as a gateway would run it, without the negotiation.
type spec struct {
	B, Encap, GCM bool
	Without       tunnel.Offload
	Profile       string // file for a CPU profile; empty: none
}

func allOffloads() string { return tunnel.Offload(0xff).String() }

// offloads reads a list of offloads.
func offloads(list string) (o tunnel.Offload) {
	for bit := tunnel.Offload(1); bit != 0; bit <<= 1 {
		for _, word := range strings.Fields(list) {
			if word == bit.String() {
				o |= bit
			}
		}
	}
	return o
}

// way is how a contender of this house is measured.
type way struct {
	encap, gcm bool
	half       bool // only the sealing gateway
	rate       func(p *pairing, d time.Duration) (float64, error)
	about      string
}

var (
	inUDP  = way{encap: true, rate: (*pairing).stream, about: "SM4-CBC+HMAC-SM3, ESP in UDP; one TCP stream"}
	inGCM  = way{encap: true, gcm: true, rate: (*pairing).stream, about: "SM4-GCM, ESP in UDP; one TCP stream"}
	rawOut = way{half: true, rate: (*pairing).sealed, about: "SM4-CBC+HMAC-SM3, protocol 50; packets of 1400 bytes sealed and sent to a bare receiver"}
	rawAll = way{rate: (*pairing).through, about: "SM4-CBC+HMAC-SM3, protocol 50; packets of 1400 bytes that came out of the second gateway"}
)

// ours is a contender of this house.
func ours(name string, w way, o options) *contender {
	c := &contender{name: "yumen-" + name, about: w.about, rate: w.rate}
	c.start = func(p *pairing) error {
		for _, end := range []struct {
			at   *site.Space
			name string
			b    bool
		}{{p.a, "a", false}, {p.b, "b", true}} {
			if end.b && w.half {
				continue
			}
			s := spec{B: end.b, Encap: w.encap, GCM: w.gcm, Without: offloads(o.without)}
			if o.profiles != "" {
				s.Profile = filepath.Join(o.profiles, name+"-"+end.name+".pprof")
			}
			text, err := json.Marshal(s)
			if err != nil {
				return err
			}
			file := filepath.Join(p.dir, end.name+".json")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			plane, err := end.at.Start(filepath.Join(p.dir, end.name+".log"), self, "plane", file)
			if err != nil {
				return err
			}
			p.planes = append(p.planes, plane)
		}
		if w.half {
			return p.running()
		}
		return p.reachable()
	}
	return c
}

// sealed counts what the gateway in A puts on the wire.
func (p *pairing) sealed(d time.Duration) (float64, error) {
	drain, err := p.drain()
	if err != nil {
		return 0, err
	}
	defer drain.Close()
	return p.flood(1400, d, func(end time.Time) error { return p.datagrams(1400-28, end) })
}

// through counts what the gateway in B gives its host, in bytes: the host takes runs.
func (p *pairing) through(d time.Duration) (float64, error) {
	count := counterOf{p.b, "yumen0", "rx_bytes"}
	bits, err := count.during(d, func(end time.Time) error { return p.datagrams(1400-28, end) })
	return bits * 8, err
}

// running waits until the plane in A is ready.
func (p *pairing) running() error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if p.said() != "" {
			return nil
		}
	}
	return errors.New("the plane does not start")
}

// runPlane is the process: it runs a plane until SIGTERM.
func runPlane(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var s spec
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	p, err := tunnel.New(tunnel.Config{Without: s.Without})
	if err != nil {
		return err
	}
	t := s.tunnel()
	if err := p.SetPolicy(&policy.Policy{Peers: []policy.Peer{{Name: "peer"}}, Tunnels: []policy.Tunnel{t}}); err != nil {
		return err
	}
	c := s.child(t)
	if err := p.Install(c, esp.State{}); err != nil {
		return err
	}
	if err := p.Use(c.ID); err != nil {
		return err
	}
	fmt.Println("offloads", p.Offloads())
	if s.Profile != "" {
		f, err := os.Create(s.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	pprof.StopCPUProfile()
	for name, n := range p.Counters() {
		if n > 0 {
			fmt.Println("count", name, n)
		}
	}
	return p.Close()
}

func (s spec) tunnel() policy.Tunnel {
	t := policy.Tunnel{
		Name: "t", Peer: "peer", Suites: []policy.Suite{policy.SM4CBCHMACSM3}, ICVBits: 96, Window: 1024,
		Outer: policy.Outer{DSCP: policy.CopyDSCP},
	}
	if s.GCM {
		t.Suites, t.ICVBits = []policy.Suite{policy.SM4GCM128}, 0
	}
	a, _ := policy.ParseNet(insideA + "/32")
	b, _ := policy.ParseNet(insideB + "/32")
	t.Selector = policy.Selector{Local: a, Remote: b}
	if s.B {
		t.Selector = t.Selector.Reverse()
	}
	return t
}

func (s spec) child(t policy.Tunnel) esp.Child {
	half := func(n byte) esp.Half {
		return esp.Half{SPI: 0x1000 + esp.SPI(n), Keymat: secret.New(bytes.Repeat([]byte{n}, esp.KeymatLen(t.Suites[0])))}
	}
	var port uint16
	if s.Encap {
		port = 4500
	}
	c := esp.Child{
		ID: 1, Tunnel: t.Name, Peer: "peer", Selector: t.Selector, Suite: t.Suites[0], ICVBits: t.ICVBits,
		Window: t.Window, Outer: t.Outer, In: half(1), Out: half(2),
		Path: esp.Path{
			Local:  netip.AddrPortFrom(netip.MustParseAddr(outsideA), port),
			Remote: netip.AddrPortFrom(netip.MustParseAddr(outsideB), port), Encap: s.Encap,
		},
	}
	if s.B {
		c.In, c.Out = c.Out, c.In
		c.Path.Local, c.Path.Remote = c.Path.Remote, c.Path.Local
	}
	return c
}
