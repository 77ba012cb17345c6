package daemon

import (
	"fmt"
	"slices"
	"time"

	"yumen/cmd/internal/control"
	"yumen/esp"
	"yumen/esp/tunnel"
	"yumen/ike"
	"yumen/policy"
	"yumen/policy/trust"
)

// describe turns a reading into what the command line is told.
func describe(r reading, version string, now time.Time) control.Status {
	s := control.Status{
		Version: version, Site: r.policy.Site, Plane: r.lives.Name(), Userspace: r.userspace, Now: now, Started: r.started, Clock: r.clock,
		HalfOpen: r.engine.HalfOpen, Sessions: []control.Session{}, Tunnels: []control.Tunnel{}, Peers: []string{},
		Certificates: ownCertificates(r.own),
		Counters:     control.Counters{Datagrams: r.server, Packets: r.plane}, Groups: r.groups,
	}
	for _, t := range r.selftest {
		if t.Err != nil {
			s.SelfTests.Failed = append(s.SelfTests.Failed, t.Name)
			continue
		}
		s.SelfTests.Passed++
	}
	for _, p := range r.policy.Peers {
		s.Peers = append(s.Peers, p.Name)
	}
	for _, x := range r.engine.Learned {
		s.Learned = append(s.Learned, control.Learned(x))
	}
	for _, x := range r.engine.Sessions {
		s.Sessions = append(s.Sessions, session(x))
	}
	entries := map[string]*policy.Tunnel{}
	for i := range r.policy.Tunnels {
		entries[r.policy.Tunnels[i].Name] = &r.policy.Tunnels[i]
	}
	for _, t := range r.engine.Tunnels {
		entry := entries[t.Name]
		if entry == nil {
			entry = &policy.Tunnel{} // of a policy that is being replaced
		}
		x := tunnelOf(t, entry.Selector, r)
		x.Start = entry.Start.String()
		if g, ok := r.policy.GroupOf(t.Name); ok {
			x.Group = r.policy.Groups[g].Name
		}
		s.Tunnels = append(s.Tunnels, x)
	}
	return s
}

// userspaceOf is what the userspace plane works with; nil: there is none now.
func userspaceOf(p plane) *control.Userspace {
	var on tunnel.Offload
	switch u := p.(type) {
	case *tunnel.Plane:
		on = u.Offloads()
	case *both:
		var there bool
		if on, there = u.offloads(); !there {
			return nil
		}
	default:
		return nil
	}
	out := &control.Userspace{Offloads: on.Names(), Missing: on.Missing().Names()}
	if kernels := esp.Kernels(); len(kernels) > 0 { // the best is the last, and it is taken
		best := kernels[len(kernels)-1]
		out.Crypto, out.ConstantTime = best.Name, best.ConstantTime
	}
	return out
}

// ownCertificates are ours; none where no peer needs them.
func ownCertificates(pair trust.Pair) []control.Certificate {
	if pair.Sign.NotAfter.IsZero() {
		return []control.Certificate{}
	}
	return []control.Certificate{own("sign", pair.Sign), own("enc", pair.Enc)}
}

func own(role string, c trust.Certificate) control.Certificate {
	return control.Certificate{Role: role, Subject: c.Name, Serial: c.Serial, NotAfter: c.NotAfter}
}

// moment is nil for a time that there is none of.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func session(x ike.SessionStatus) control.Session {
	return control.Session{
		Peer: x.Peer, State: x.State, Version: fmt.Sprintf("%d.%d", x.Version>>4, x.Version&15), Initiator: x.Role == ike.Initiator,
		CookieI: fmt.Sprintf("%x", x.CookieI[:]), CookieR: fmt.Sprintf("%x", x.CookieR[:]),
		Local: x.Local.String(), Remote: x.Remote.String(), LocalName: x.LocalName, RemoteName: x.RemoteName,
		Created: x.Created, Established: moment(x.Established), Rekey: moment(x.Rekey), Expires: moment(x.Expires),
		CertExpires: moment(x.CertExpires), NAT: x.NAT, NonGM: x.NonGM, Suite: x.Suite, Deviations: x.Deviations, Explicit: x.Explicit,
	}
}

func tunnelOf(t ike.TunnelStatus, sel policy.Selector, r reading) control.Tunnel {
	out := control.Tunnel{Name: t.Name, Peer: t.Peer, State: t.State, Plane: r.lives.Current(t.Name), Local: side(sel.Local, sel.Protocol, sel.LocalPort),
		Remote: side(sel.Remote, sel.Protocol, sel.RemotePort), LastFailure: string(t.LastFailure),
		LastDetail: t.LastDetail, NextTry: moment(t.NextTry), Explicit: t.Explicit}
	for i, c := range t.Children {
		u := r.usage[c.ID]
		child := control.Child{
			ID: uint64(c.ID), InUse: c.ID == t.InUse || slices.Contains(t.Beside, c.ID), Lane: c.Lane, Plane: r.lives.PlaneOf(c.ID), Suite: c.Suite.Describe(c.ICVBits), ESN: c.ESN, Encap: c.Path.Encap,
			Local:   side(c.Selector.Local, c.Selector.Protocol, c.Selector.LocalPort),
			Remote:  side(c.Selector.Remote, c.Selector.Protocol, c.Selector.RemotePort),
			Outside: fmt.Sprintf("%v > %v", c.Path.Local, c.Path.Remote), MTU: u.EffectiveMTU,
			In: half(c.In.SPI, u.In, u.LastIn), Out: half(c.Out.SPI, u.Out, u.LastOut),
			Replayed: u.Replayed, BadAuth: u.BadAuth, BadPolicy: u.BadSelector,
		}
		if i < len(t.Installed) && i < len(t.Expires) {
			child.Installed, child.Expires = moment(t.Installed[i]), moment(t.Expires[i])
		}
		out.Children = append(out.Children, child)
	}
	return out
}

func half(spi esp.SPI, n esp.Count, last time.Time) control.Half {
	return control.Half{SPI: fmt.Sprintf("%08x", uint32(spi)), Bytes: n.Bytes, Packets: n.Packets, Last: moment(last)}
}

// side writes 10.1.0.0/16, or 10.1.0.0/16[tcp/443] where protocol or port is given.
func side(n policy.Net, protocol uint8, port uint16) string {
	switch {
	case protocol == 0 && port == 0:
		return n.String()
	case port == 0:
		return fmt.Sprintf("%v[%s]", n, policy.ProtocolName(protocol))
	}
	return fmt.Sprintf("%v[%s/%d]", n, policy.ProtocolName(protocol), port)
}
