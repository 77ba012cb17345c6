package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// Resolver finds addresses. SystemResolver is the real one.
type Resolver interface {
	// Lookup returns the addresses of a name.
	Lookup(ctx context.Context, name string) ([]netip.Addr, error)
	// Source returns the address from which the host would send to remote.
	Source(ctx context.Context, remote netip.Addr) (netip.Addr, error)
	// Interface returns the usable addresses of an interface.
	Interface(name string) ([]netip.Addr, error)
	// Own says whether an address is on some interface of the host.
	Own(a netip.Addr) (bool, error)
}

// Bypass marks a socket so that our own rules and policies do not catch its
// packets; nil leaves it as it is.
type Bypass func(syscall.RawConn) error

// resolve answers one Resolve effect.
func (s *Server) resolve(ctx context.Context, f ike.Resolve, p *policy.Policy) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.NameTimeout)
	defer cancel()
	answer := ike.Resolved{Peer: f.Peer, Attempt: f.Attempt}
	answer.Local, answer.Remote, answer.Err = locate(ctx, s.cfg.Resolver, find(p, f.Peer))
	s.answer(answer)
}

func find(p *policy.Policy, peer string) *policy.Peer {
	for i := range p.Peers {
		if p.Peers[i].Name == peer {
			return &p.Peers[i]
		}
	}
	return nil
}

// locate finds where a peer is and from which of our addresses it is reached.
// Addresses that nothing of ours reaches are left out: a host without IPv6 does
// not spend its tries on the IPv6 addresses of a name.
func locate(ctx context.Context, r Resolver, peer *policy.Peer) (netip.Addr, []netip.Addr, error) {
	if err := home(ctx, r, peer); err != nil {
		return netip.Addr{}, nil, err
	}
	remotes, err := remotes(ctx, r, peer)
	if err != nil {
		return netip.Addr{}, nil, err
	}
	var faults []error
	for i, remote := range remotes {
		local, err := source(ctx, r, peer.Local, remote)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		reachable := []netip.Addr{remote}
		for _, other := range remotes[i+1:] {
			if other.Is4() == remote.Is4() {
				reachable = append(reachable, other)
			}
		}
		return local, reachable, nil
	}
	return netip.Addr{}, nil, fmt.Errorf("peer %q: %w", peer.Name, errors.Join(faults...))
}

// HostChanged has the engine look whether our addresses are where the policy says, as
// after the event of that name of a data plane.
func (s *Server) HostChanged(ctx context.Context) error {
	return s.call(ctx, func() { s.step(ike.Plane{Event: esp.Event{Kind: esp.HostChanged}}) })
}

// home is an error that wraps ike.ErrAway when the peer entry names an address of
// ours that this host does not have. Towards an address of its own a host sends from
// that address, towards no other; but towards a second one of a subnet from the first.
func home(ctx context.Context, r Resolver, peer *policy.Peer) error {
	if peer == nil || !peer.Local.Addr.IsValid() || peer.Local.Addr.IsLoopback() {
		return nil
	}
	own := peer.Local.Addr.Unmap()
	if from, err := r.Source(ctx, own); err == nil && from == own {
		return nil
	}
	if here, err := r.Own(own); err != nil || !here {
		return fmt.Errorf("%w: %v", ike.ErrAway, own)
	}
	return nil
}

func remotes(ctx context.Context, r Resolver, peer *policy.Peer) ([]netip.Addr, error) {
	switch {
	case peer == nil:
		return nil, errors.New("the policy has no such peer")
	case peer.Remote.Addr.IsValid():
		return []netip.Addr{peer.Remote.Addr.Unmap()}, nil
	case peer.Remote.FQDN == "":
		return nil, fmt.Errorf("peer %q: its address is not known (remote: any): it must call us", peer.Name)
	}
	found, err := r.Lookup(ctx, peer.Remote.FQDN)
	if err != nil {
		return nil, fmt.Errorf("peer %q: %w", peer.Name, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("peer %q: %q has no address", peer.Name, peer.Remote.FQDN)
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found, nil
}

func source(ctx context.Context, r Resolver, l policy.Local, remote netip.Addr) (netip.Addr, error) {
	switch {
	case l.Addr.IsValid():
		if l.Addr.Unmap().Is4() != remote.Is4() {
			return netip.Addr{}, fmt.Errorf("our address %v is of another family than %v", l.Addr, remote)
		}
		return l.Addr.Unmap(), nil
	case l.Interface != "":
		have, err := r.Interface(l.Interface)
		if err != nil {
			return netip.Addr{}, err
		}
		for _, a := range have {
			if a = a.Unmap(); a.Is4() == remote.Is4() && (!a.IsLinkLocalUnicast() || remote.IsLinkLocalUnicast()) {
				return a.WithZone(""), nil
			}
		}
		return netip.Addr{}, fmt.Errorf("interface %q has no address that could reach %v", l.Interface, remote)
	}
	return r.Source(ctx, remote)
}

// SystemResolver asks the host. Its look-ups leave by sockets that bypass was
// applied to: the name of a gateway must be found before there is a tunnel to
// ask through, even when the selectors cover the name server.
func SystemResolver(bypass Bypass) Resolver {
	d := &net.Dialer{}
	if bypass != nil {
		d.Control = func(_, _ string, c syscall.RawConn) error { return bypass(c) }
	}
	return host{dialer: d, names: &net.Resolver{PreferGo: true, Dial: d.DialContext}}
}

type host struct {
	dialer *net.Dialer
	names  *net.Resolver
}

func (h host) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	return h.names.LookupNetIP(ctx, "ip", name)
}

// Source connects a UDP socket, which sends nothing, and asks for its name: the
// kernel's own answer, rules and marks included.
func (h host) Source(ctx context.Context, remote netip.Addr) (netip.Addr, error) {
	c, err := h.dialer.DialContext(ctx, "udp", netip.AddrPortFrom(remote, 500).String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no route to %v: %w", remote, err)
	}
	defer c.Close()
	local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
	return local, nil
}

func (h host) Interface(name string) ([]netip.Addr, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %q: %w", name, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("interface %q: %w", name, err)
	}
	var out []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out, nil
}

func (h host) Own(own netip.Addr) (bool, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("addresses of this host: %w", err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == own {
			return true, nil
		}
	}
	return false, nil
}
