package policy

import (
	"errors"
	"fmt"
	"net/netip"
)

// Protocol numbers that the policy knows by name (IANA).
const (
	protocolICMP    = 1
	protocolTCP     = 6
	protocolUDP     = 17
	protocolDCCP    = 33
	protocolICMPv6  = 58
	protocolSCTP    = 132
	protocolUDPLite = 136
)

// Flow is what a lookup knows of a packet, as seen from this site: an outbound
// packet's source is Local, an inbound packet's destination is Local.
type Flow struct {
	Local, Remote         netip.Addr
	Protocol              uint8
	LocalPort, RemotePort uint16
	// HasPorts is false where the ports are not in the packet: a fragment that is
	// not the first, or a protocol without ports.
	HasPorts bool
	// Discovery marks ICMPv6 types 133 to 137: neighbour discovery (RFC 4861).
	Discovery bool
}

// hasPorts reports whether a protocol's header begins with two ports.
func hasPorts(protocol uint8) bool {
	switch protocol {
	case protocolTCP, protocolUDP, protocolDCCP, protocolSCTP, protocolUDPLite:
		return true
	}
	return false
}

// check says why s cannot be used.
func (s Selector) check() error {
	if err := s.Local.check(); err != nil {
		return fmt.Errorf("local: %w", err)
	}
	if err := s.Remote.check(); err != nil {
		return fmt.Errorf("remote: %w", err)
	}
	v4 := s.Local.Is4()
	switch {
	case v4 != s.Remote.Is4():
		return errors.New("local and remote are of different families; use one family, and a second entry for the other")
	case s.HasPorts() && !hasPorts(s.Protocol):
		return errors.New("a port needs a protocol that has ports; add protocol: tcp, udp, 33, 132 or 136")
	case v4 && s.Protocol == protocolICMPv6:
		return errors.New("icmpv6 does not run over IPv4; write icmp")
	case !v4 && s.Protocol == protocolICMP:
		return errors.New("icmp does not run over IPv6; write icmpv6")
	}
	return nil
}

// HasPorts reports whether s names a port.
func (s Selector) HasPorts() bool { return s.LocalPort != 0 || s.RemotePort != 0 }

// Contains reports whether s takes f. A selector with ports takes no flow
// without ports: such a packet must be reassembled first.
func (s Selector) Contains(f Flow) bool {
	return s.Local.Contains(f.Local) && s.Remote.Contains(f.Remote) &&
		s.takesProtocol(f.Protocol) && (!s.HasPorts() || f.HasPorts && s.takesPorts(f))
}

func (s Selector) takesProtocol(p uint8) bool { return s.Protocol == 0 || s.Protocol == p }

func (s Selector) takesPorts(f Flow) bool {
	return within(f.LocalPort, s.LocalPort) && within(f.RemotePort, s.RemotePort)
}

// within reports whether inner, where 0 is any, lies inside outer.
func within[T uint8 | uint16](inner, outer T) bool { return outer == 0 || inner == outer }

// Within reports whether all traffic of s is also traffic of o.
func (s Selector) Within(o Selector) bool {
	return o.Local.ContainsNet(s.Local) && o.Remote.ContainsNet(s.Remote) &&
		within(s.Protocol, o.Protocol) &&
		within(s.LocalPort, o.LocalPort) && within(s.RemotePort, o.RemotePort)
}

// Overlaps reports whether some packet belongs to both.
func (s Selector) Overlaps(o Selector) bool {
	return s.Local.Overlaps(o.Local) && s.Remote.Overlaps(o.Remote) &&
		meets(s.Protocol, o.Protocol) &&
		meets(s.LocalPort, o.LocalPort) && meets(s.RemotePort, o.RemotePort)
}

func meets[T uint8 | uint16](a, b T) bool { return a == 0 || b == 0 || a == b }

// Reverse is s as seen from the other site.
func (s Selector) Reverse() Selector {
	return Selector{
		Local: s.Remote, Remote: s.Local, Protocol: s.Protocol,
		LocalPort: s.RemotePort, RemotePort: s.LocalPort,
	}
}

// String writes "10.1.0.0/16 - 10.2.0.0/16 tcp 22:any"; ports are local:remote.
func (s Selector) String() string {
	out := s.Local.String() + " - " + s.Remote.String()
	if s.Protocol != 0 || s.HasPorts() {
		out += " " + ProtocolName(s.Protocol)
	}
	if s.HasPorts() {
		out += " " + portName(s.LocalPort) + ":" + portName(s.RemotePort)
	}
	return out
}

func portName(p uint16) string {
	if p == 0 {
		return "any"
	}
	return fmt.Sprint(p)
}
