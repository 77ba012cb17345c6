package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"yumen/test/numbered"
	"yumen/test/site"
	"yumen/test/soak/forwarder"
)

// sites are two sites with two paths between them, each a wire that drops, delays and
// looks for what is in clear:
//
//	           out1 192.0.2.1   == wire 1 == 192.0.2.2    out1
//	host a -- ga                                           gb -- host b
//	           out2 2001:db8::1 == wire 2 == 2001:db8::2  out2
//
// Inside there are both families, outside one on each path. With two peers, wire 2
// ends at a second gateway of site b, gc.
type sites struct {
	world *site.World
	dir   string
	kind  kind
	host  [2]*site.Space
	gate  []*site.Gateway // a, b and with two peers c
	wires [2]*wire
	load  *numbered.Traffic
}

// wire is one path.
type wire struct {
	space *site.Space
	fwd   *forwarder.Forwarder
}

// kind is what a world is set up for.
type kind struct {
	name     string
	mode     string // of the groups
	twoPeers bool
	probe    string // further keys of the probes, each after a comma
	preempt  string // preempt_delay
	flows    int    // pairs of each family
}

// The two ends; gc is the third gateway.
const (
	endA = iota
	endB
	endC
)

// outer is the outside address of an end (0, 1) on a path (0, 1).
func outer(end, path int) string {
	if path == 1 {
		return fmt.Sprintf("2001:db8::%d", end+1)
	}
	return fmt.Sprintf("192.0.2.%d", end+1)
}

func bits(path int) string { return [...]string{"/24", "/64"}[path] }

// hosts4 and hosts6 are the addresses of the two hosts.
var (
	hosts4 = [2]string{"10.1.0.10", "10.2.0.10"}
	hosts6 = [2]string{"fd01::10", "fd02::10"}
)

// build makes the network and configures the gateways. The caller closes the world.
func build(w *site.World, yumen, dir string, k kind) (*sites, error) {
	s := &sites{world: w, dir: dir, kind: k}
	names := []string{"a", "b"}
	if k.twoPeers {
		names = append(names, "c")
	}
	for end := range 2 {
		var err error
		if s.host[end], err = w.Space("h"+names[end], false); err != nil {
			return nil, err
		}
		if s.wires[end], err = newWire(w, end+1); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		space, err := w.Space("g"+name, true)
		if err != nil {
			return nil, err
		}
		g := &site.Gateway{Space: space, Dir: filepath.Join(dir, name), Yumen: yumen}
		if err := os.MkdirAll(g.Dir, 0o755); err != nil {
			return nil, err
		}
		s.gate = append(s.gate, g)
	}
	if err := s.connect(); err != nil {
		return nil, err
	}
	return s, s.configure()
}

// newWire is a namespace with no addresses.
func newWire(w *site.World, n int) (*wire, error) {
	space, err := w.Space(fmt.Sprintf("w%d", n), false)
	if err != nil {
		return nil, err
	}
	_, err = space.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	return &wire{space: space}, err
}

// gateOf is the gateway at which a path ends.
func (s *sites) gateOf(end, path int) *site.Gateway {
	if end == endB && path == 1 && s.kind.twoPeers {
		return s.gate[endC]
	}
	return s.gate[end]
}

func (s *sites) connect() error {
	for path, w := range s.wires {
		for end := range 2 {
			g := s.gateOf(end, path)
			if err := s.world.Link(g.Space, fmt.Sprintf("out%d", path+1), []string{outer(end, path) + bits(path)},
				w.space, "to-"+string("ab"[end]), nil); err != nil {
				return err
			}
		}
	}
	for end := range 2 {
		if err := s.inside(end); err != nil {
			return err
		}
	}
	// What a gateway does not take into a tunnel goes out, and is seen.
	for end := range 2 {
		far := 2 - end
		for path, inner := range []string{fmt.Sprintf("10.%d.0.0/16", far), fmt.Sprintf("fd0%d::/64", far)} {
			if s.kind.twoPeers && path == 1 && end == endB {
				continue // that wire is not gb's
			}
			if err := s.gate[end].Route(inner + " via " + outer(1-end, path)); err != nil {
				return err
			}
		}
	}
	return nil
}

// inside joins a host to the gateways of its site.
func (s *sites) inside(end int) error {
	n := end + 1
	addrs := func(last string) []string {
		return []string{fmt.Sprintf("10.%d.0.%s/24", n, last), fmt.Sprintf("fd0%d::%s/64", n, last)}
	}
	if end == endA || !s.kind.twoPeers {
		if err := s.world.Link(s.host[end], "eth0", addrs("10"), s.gate[end].Space, "in", addrs("1")); err != nil {
			return err
		}
		return s.host[end].Route(fmt.Sprintf("default via 10.%d.0.1", n), fmt.Sprintf("default via fd0%d::1", n))
	}
	// A host between two gateways: a port to each.
	h := s.host[end]
	if err := s.world.Link(h, "eth0", []string{"10.2.0.10/32", "fd02::10/128", "172.16.1.2/24", "fd0a:1::2/64"},
		s.gate[endB].Space, "in", []string{"172.16.1.1/24", "fd0a:1::1/64"}); err != nil {
		return err
	}
	if err := s.world.Link(h, "eth1", []string{"172.16.2.2/24", "fd0a:2::2/64"},
		s.gate[endC].Space, "in", []string{"172.16.2.1/24", "fd0a:2::1/64"}); err != nil {
		return err
	}
	for i, g := range []int{endB, endC} {
		if err := s.gate[g].Route(fmt.Sprintf("10.2.0.0/16 via 172.16.%d.2", i+1), fmt.Sprintf("fd02::/64 via fd0a:%d::2", i+1)); err != nil {
			return err
		}
	}
	if _, err := h.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0", "net.ipv4.conf.eth1.rp_filter=0"); err != nil {
		return err
	}
	return s.routeB(0)
}

// routeB is what routing inside site b does with two gateways there: host b sends by
// the first or by the second.
func (s *sites) routeB(by int) error {
	for _, r := range []string{fmt.Sprintf("-4 route replace default via 172.16.%d.1 src 10.2.0.10", by+1),
		fmt.Sprintf("-6 route replace default via fd0a:%d::1 src fd02::10", by+1)} {
		if _, err := s.host[endB].Run(append([]string{"ip"}, strings.Fields(r)...)...); err != nil {
			return err
		}
	}
	return nil
}

// tunnelOf is the tunnel of a family over a path.
func tunnelOf(v6 bool, path int) string { return fmt.Sprintf("t%d-%d", family(v6), path+1) }

func groupOf(v6 bool) string { return fmt.Sprintf("dr%d", family(v6)) }

func family(v6 bool) int {
	if v6 {
		return 6
	}
	return 4
}

// policy writes the policy of a gateway. gb and gc of two peers have one path each.
func (s *sites) policy(gate int) string {
	end, paths := gate, []int{0, 1}
	if s.kind.twoPeers && gate != endA {
		end, paths = endB, []int{gate - endB}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "site: %s\npeers:\n", string("abc"[gate]))
	for _, path := range paths {
		fmt.Fprintf(&b, "  - {name: p%d, local: %q, remote: %q, ca: ca.crt, subject: %q, dpd: {interval: 2s, tries: 3}}\n", path+1,
			outer(end, path), outer(1-end, path), site.Subject(filepath.Base(s.gateOf(1-end, path).Dir)))
	}
	b.WriteString("tunnels:\n")
	near, far := end+1, 2-end
	for _, v6 := range []bool{false, true} {
		ends := [2]string{fmt.Sprintf("10.%d.0.0/16", near), fmt.Sprintf("10.%d.0.0/16", far)}
		if v6 {
			ends = [2]string{fmt.Sprintf("fd0%d::/64", near), fmt.Sprintf("fd0%d::/64", far)}
		}
		for _, path := range paths {
			fmt.Fprintf(&b, "  - {name: %s, peer: p%d, local: %q, remote: %q}\n", tunnelOf(v6, path), path+1, ends[0], ends[1])
		}
	}
	if len(paths) == 2 {
		b.WriteString(s.groups())
	}
	return b.String()
}

func (s *sites) groups() string {
	var b strings.Builder
	b.WriteString("groups:\n")
	for _, v6 := range []bool{false, true} {
		probe := s.kind.probe
		if s.kind.twoPeers { // the gateways there know no group: a host answers
			probe += ", target: " + hosts4[endB]
			if v6 {
				probe = strings.Replace(probe, hosts4[endB], `"`+hosts6[endB]+`"`, 1)
			}
		}
		second := "priority: 2"
		if s.kind.mode == "load-share" {
			second = "priority: 1"
		}
		fmt.Fprintf(&b, "  - name: %s\n    mode: %s\n    members: [{tunnel: %s, priority: 1}, {tunnel: %s, %s}]\n    preempt_delay: %s\n"+
			"    probe: {interval: 100ms%s}\n", groupOf(v6), s.kind.mode, tunnelOf(v6, 0), tunnelOf(v6, 1), second, s.kind.preempt, probe)
	}
	return b.String()
}

func (s *sites) configure() error {
	for i, g := range s.gate {
		if err := g.Configure(s.policy(i)); err != nil {
			return err
		}
	}
	return site.Issue(s.gate[0].Yumen, s.dir, s.gate...)
}
