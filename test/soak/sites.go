package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"yumen/test/numbered"
	"yumen/test/site"
	"yumen/test/soak/forwarder"
)

// sites are two gateways on one wire, which is the forwarder:
//
//	host a --- gateway a === forwarder === gateway b --- host b
//	10.1.0.0/16      192.0.2.0/24, 2001:db8::/64      10.2.0.0/16
//	fd01::/64                                         fd02::/64
//
// Every address of the inner prefixes belongs to its host.
type sites struct {
	world *site.World
	host  [2]*site.Space
	gate  [2]*site.Gateway
	wire  *site.Space
	fwd   *forwarder.Forwarder
}

// The two ends.
const (
	endA = iota
	endB
)

// side is the name of an end.
func side(end int) string { return [...]string{"a", "b"}[end] }

const (
	mostPairs = 8 // addresses of each gateway and family
	transit   = 254
)

// outer is the outside address of an end for the nth pair of addresses.
func outer(end, n int, v6 bool) string {
	if v6 {
		return fmt.Sprintf("2001:db8::%d%x", end+1, n)
	}
	return fmt.Sprintf("192.0.2.%d", (end+1)*10+n)
}

// inner is the address of tunnel n at an end; odd ones are IPv6.
func inner(end, n int) string {
	if n%2 == 1 {
		return fmt.Sprintf("fd0%d::1:%x", end+1, n)
	}
	return fmt.Sprintf("10.%d.%d.%d", end+1, n/200, n%200+1)
}

// newSites builds the network; the gateways keep their files in dir/a and dir/b.
// The caller closes the world, also after an error.
func newSites(w *site.World, yumen, dir string) (*sites, error) {
	s := &sites{world: w}
	for end := range 2 {
		host, err := w.Space("h"+side(end), false)
		if err != nil {
			return nil, err
		}
		gate, err := w.Space("g"+side(end), true)
		if err != nil {
			return nil, err
		}
		s.host[end] = host
		s.gate[end] = &site.Gateway{Space: gate, Dir: filepath.Join(dir, side(end)), Yumen: yumen}
		if err := inside(w, host, gate, end); err != nil {
			return nil, err
		}
	}
	var err error
	if s.wire, err = w.Space("w", false); err != nil {
		return nil, err
	}
	if _, err := s.wire.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"); err != nil {
		return nil, err
	}
	for end := range 2 {
		var addrs []string
		for n := range mostPairs {
			addrs = append(addrs, outer(end, n, false)+"/24", outer(end, n, true)+"/64")
		}
		if err := w.Link(s.gate[end].Space, "out", addrs, s.wire, "to-"+side(end), nil); err != nil {
			return nil, err
		}
		far := outer(1-end, 0, false)
		far6 := outer(1-end, 0, true)
		// What the gateway does not take into a tunnel goes out, and is seen.
		other := 2 - end
		if err := s.gate[end].Route(fmt.Sprintf("10.%d.0.0/16 via %s", other, far), fmt.Sprintf("fd0%d::/64 via %s", other, far6)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// numbered is traffic through n tunnels.
func (s *sites) numbered(n int) (*numbered.Traffic, error) {
	pairs := make([]numbered.Pair, n)
	for i := range pairs {
		pairs[i] = numbered.Pair{inner(endA, i), inner(endB, i)}
	}
	return numbered.New(s.world, s.host, pairs)
}

// insideOf are the addresses of a gateway that its host routes by.
func insideOf(end int) []string {
	return []string{fmt.Sprintf("172.16.%d.1", end+1), fmt.Sprintf("fd0a:%d::1", end+1)}
}

// inside joins a host to its gateway and gives it all addresses of its prefixes.
func inside(w *site.World, host, gate *site.Space, end int) error {
	n := end + 1
	err := w.Link(host, "eth0", []string{fmt.Sprintf("172.16.%d.2/24", n), fmt.Sprintf("fd0a:%d::2/64", n)},
		gate, "in", []string{fmt.Sprintf("172.16.%d.1/24", n), fmt.Sprintf("fd0a:%d::1/64", n)})
	if err != nil {
		return err
	}
	for _, args := range []string{
		fmt.Sprintf("ip route add local 10.%d.0.0/16 dev lo table local", n),
		fmt.Sprintf("ip -6 route add local fd0%d::/64 dev lo table local", n),
		"sysctl -qw net.ipv6.ip_nonlocal_bind=1 net.ipv4.ip_nonlocal_bind=1",
	} {
		if _, err := host.Run(strings.Fields(args)...); err != nil {
			return err
		}
	}
	return errors.Join(
		host.Route(fmt.Sprintf("default via 172.16.%d.1", n), fmt.Sprintf("default via fd0a:%d::1", n)),
		gate.Route(fmt.Sprintf("10.%d.0.0/16 via 172.16.%d.2", n, n), fmt.Sprintf("fd0%d::/64 via fd0a:%d::2", n, n)),
	)
}

// forward starts the wire. It is closed with the world.
func (s *sites) forward(seed uint64, log io.Writer, needles ...[]byte) error {
	return s.wire.Do(func() (err error) {
		s.fwd, err = forwarder.New(forwarder.Config{A: "to-a", B: "to-b", Seed: seed, Log: log, Needles: needles})
		return err
	})
}

// plan is the policy of both ends: tunnels spread over pairs of addresses.
type plan struct {
	pairs    int      // ISAKMP SAs: even ones outside over IPv4, odd ones over IPv6
	tunnels  []string // further keys of each tunnel in YAML's flow style, each after a comma
	peerKeys string   // the same of each peer
	keysOfB  string   // the same of each tunnel at end b
}

// policy writes the policy of one end.
func (p plan) policy(end int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "site: %s\npeers:\n", side(end))
	for n := range p.pairs {
		fmt.Fprintf(&b, "  - {name: p%d, local: %q, remote: %q, ca: ca.crt, subject: %q%s}\n", n,
			outer(end, n, n%2 == 1), outer(1-end, n, n%2 == 1), site.Subject(side(1-end)), p.peerKeys)
	}
	b.WriteString("tunnels:\n")
	for n, keys := range p.tunnels {
		if end == endB {
			keys += p.keysOfB
		}
		fmt.Fprintf(&b, "  - {name: t%d, peer: p%d, local: %q, remote: %q%s}\n", n, n/2%p.pairs, inner(end, n), inner(1-end, n), keys)
	}
	return b.String()
}

// configure writes certificates and policies of both ends.
func (s *sites) configure(dir string, p plan) error {
	if p.pairs > mostPairs {
		return fmt.Errorf("%d pairs of addresses: at most %d", p.pairs, mostPairs)
	}
	for end := range 2 {
		if err := s.gate[end].Configure(p.policy(end)); err != nil {
			return err
		}
	}
	return site.Issue(s.gate[endA].Yumen, dir, s.gate[endA], s.gate[endB])
}
