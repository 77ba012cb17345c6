package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"yumen/cmd/internal/control"
)

// family is the addresses of a pair: hosts behind gateways, and the wire between.
type family struct {
	name                         string
	header                       int // of Ethernet with its checksum, IP and UDP, bytes
	bits                         int // of a host's network
	hostA, innerA, innerB, hostB string
	outerA, outerB               string
	netA, netB                   string
}

func families() []family {
	return []family{
		{"IPv4", ethernet + 28, 24, "10.1.0.10", "10.1.0.1", "10.2.0.1", "10.2.0.10", "192.0.2.1", "192.0.2.2", "10.1.0.0/24", "10.2.0.0/24"},
		{"IPv6", ethernet + 48, 64, "fd01::10", "fd01::1", "fd02::1", "fd02::10", "2001:db8::1", "2001:db8::2", "fd01::/64", "fd02::/64"},
	}
}

// ethernet is what a frame has besides its IP packet: a header of 14 bytes and a
// checksum of 4, as who names lengths of frames counts them.
const ethernet = 14 + 4

// load is a pattern of lengths of Ethernet frames, repeated.
type load struct {
	name    string
	lengths []int
}

// loads are what GM/T 0023 names, and the simple mix of the Internet. A frame of 64 bytes
// has no room for IPv6, UDP and a number: the smallest that has takes its place.
func (f family) loads() []load {
	small, large := 64, 1428
	if f.name == "IPv6" {
		small, large = f.header+numberLen, 1408
	}
	one := func(n int) load { return load{fmt.Sprintf("%s %d", f.name, n), []int{n}} }
	return []load{one(small), one(large), {fmt.Sprintf("%s IMIX %dx7 576x4 %dx1", f.name, small, large),
		[]int{small, 576, small, small, 576, small, large, small, 576, small, 576, small}}}
}

// pair is two hosts behind two gateways with a wire between, all in namespaces.
type pair struct {
	family
	hostA, hostB *space
}

func (x pairing) policy(us, them, remote, nets string) string {
	start := ""
	if us == "b" {
		start = "    start: respond\n"
	}
	return fmt.Sprintf("site: %s\npeers:\n  - name: %s\n    remote: %s\n    ca: ca.crt\n    subject: %q\n%stunnels:\n"+
		"  - name: t\n    peer: %s\n%s    suites: [%s]\n%s", us, them, remote, subject(them), x.encap(), them, nets, x.word(), start)
}

// newPair builds all of it and waits until the tunnel is up at both ends.
func (o Options) newPair(ctx context.Context, w *world, x pairing) (*pair, error) {
	f := x.family
	var at [4]*space
	for i := range at {
		var err error
		if at[i], err = w.space(i == 1 || i == 2); err != nil {
			return nil, err
		}
	}
	of := func(addr string) []string { return []string{fmt.Sprintf("%s/%d", addr, f.bits)} }
	all := map[string]string{"IPv4": "0.0.0.0/0", "IPv6": "::/0"}[f.name]
	err := errors.Join(
		link(end{at[0], "eth0", of(f.hostA), 0}, end{at[1], "in", of(f.innerA), 0}),
		link(end{at[1], "out", of(f.outerA), x.MTU}, end{at[2], "out", of(f.outerB), x.MTU}),
		link(end{at[2], "in", of(f.innerB), 0}, end{at[3], "eth0", of(f.hostB), 0}))
	if err != nil {
		return nil, err
	}
	err = errors.Join(at[0].route(all, f.innerA), at[3].route(all, f.innerB), at[1].route(f.netB, f.outerB), at[2].route(f.netA, f.outerA))
	if err != nil {
		return nil, err
	}
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	nets := func(local, remote string) string {
		return fmt.Sprintf("    local: %s\n    remote: %s\n", local, remote)
	}
	b, err := at[2].gateway(ca, o.Program, setup{"b", x.plane, x.policy("b", "a", f.outerA, nets(f.netB, f.netA)), x.MTU})
	if err != nil {
		return nil, err
	}
	if err := b.wait(ctx, "gateway b", func(control.Status) bool { return true }); err != nil {
		return nil, err
	}
	a, err := at[1].gateway(ca, o.Program, setup{"a", x.plane, x.policy("a", "b", f.outerB, nets(f.netA, f.netB)), x.MTU})
	if err != nil {
		return nil, err
	}
	for _, g := range []*gateway{a, b} {
		if err := g.wait(ctx, "the tunnel", func(st control.Status) bool { return up(st) == 1 }); err != nil {
			return nil, err
		}
	}
	return &pair{f, at[0], at[3]}, nil
}

// ends are the addresses of both hosts.
func (p *pair) ends(port uint16) (a, b netip.AddrPort) {
	return netip.AddrPortFrom(netip.MustParseAddr(p.family.hostA), 0), netip.AddrPortFrom(netip.MustParseAddr(p.family.hostB), port)
}
