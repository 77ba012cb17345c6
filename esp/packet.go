package esp

import (
	"encoding/binary"
	"net/netip"

	"yumen/policy"
)

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40

	protoICMP    = 1
	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoICMPv6  = 58
	protoSCTP    = 132
	protoUDPLite = 136

	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extAuth     = 51
	extDestOpts = 60
)

// Tuple is who talks to whom. Without HasPorts the ports are 0: the protocol has
// none, or they are not in this packet.
type Tuple struct {
	Src, Dst         netip.Addr
	Protocol         uint8 // upper-layer protocol, behind IPv6 extension headers
	SrcPort, DstPort uint16
	HasPorts         bool
}

// Packet is what a gateway must know of an IP packet to decide about it.
type Packet struct {
	Tuple
	Quote   Tuple // of an ICMP error: the packet it is about
	IsError bool  // Quote is set
	// Discovery marks ICMPv6 types 133 to 137 (neighbour discovery, RFC 4861).
	Discovery bool
	Fragment  bool // part of a packet; an IPv6 atomic fragment (RFC 6946) is not
	More      bool // of a fragment: not the last
	Offset    int  // of a fragment: bytes
	ID        uint32
	Length    int // bytes by its own header; what follows is not of the packet

	version   byte
	fragNext  byte // IPv6 fragment: next header of the fragment header
	fragField int  // IPv6 fragment: offset of the byte that names the fragment header
	payload   int  // offset of what a fragment carries
	upper     int  // offset of the upper-layer header; of a later fragment 0
}

// ParsePacket reads the headers of an IPv4 or IPv6 packet, which may be followed
// by bytes that are not its own. It allocates nothing. The error is ErrMalformed:
// a version, header or length that does not hold together. Of a fragment that is
// not the first only the addresses, and for IPv4 the protocol, can be relied on.
func ParsePacket(b []byte) (Packet, error) {
	p, ok := parse(b, false)
	if !ok {
		return Packet{}, ErrMalformed
	}
	return p, nil
}

// FlowOut is the packet as this site sends it: the source is local. An ICMP error
// counts as the answer that it is to the packet it quotes (RFC 4301 6.2).
func (p Packet) FlowOut() policy.Flow {
	if p.IsError {
		return flow(p.Quote, false)
	}
	f := flow(p.Tuple, true)
	f.Discovery = p.Discovery
	return f
}

// FlowIn is the packet as this site receives it: the destination is local.
func (p Packet) FlowIn() policy.Flow {
	if p.IsError {
		return flow(p.Quote, true)
	}
	f := flow(p.Tuple, false)
	f.Discovery = p.Discovery
	return f
}

func flow(t Tuple, localIsSrc bool) policy.Flow {
	f := policy.Flow{
		Local: t.Src, Remote: t.Dst, Protocol: t.Protocol,
		LocalPort: t.SrcPort, RemotePort: t.DstPort, HasPorts: t.HasPorts,
	}
	if !localIsSrc {
		f.Local, f.Remote = f.Remote, f.Local
		f.LocalPort, f.RemotePort = f.RemotePort, f.LocalPort
	}
	return f
}

// nextHeader is how ESP names such a packet in tunnel mode.
func (p *Packet) nextHeader() byte {
	if p.version == 6 {
		return nextIPv6
	}
	return nextIPv4
}

// parse reads a packet, or with quoted the beginning of one as an ICMP error
// carries it: cut anywhere behind the addresses.
func parse(b []byte, quoted bool) (p Packet, ok bool) {
	if len(b) == 0 {
		return p, false
	}
	var upper []byte
	switch p.version = b[0] >> 4; p.version {
	case 4:
		upper, ok = p.parseIPv4(b, quoted)
	case 6:
		upper, ok = p.parseIPv6(b, quoted)
	}
	if ok && p.Offset == 0 {
		p.upper = p.Length - len(upper)
		p.parseUpper(upper, quoted)
	}
	return p, ok
}

func (p *Packet) parseIPv4(b []byte, quoted bool) (upper []byte, ok bool) {
	if len(b) < ipv4HeaderLen {
		return nil, false
	}
	header := int(b[0]&0xf) * 4
	p.Length = int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4HeaderLen || header > len(b) || p.Length < header {
		return nil, false
	}
	if p.Length > len(b) {
		if !quoted {
			return nil, false
		}
		p.Length = len(b)
	}
	frag := binary.BigEndian.Uint16(b[6:])
	p.More, p.Offset = frag&0x2000 != 0, int(frag&0x1fff)*8
	p.Fragment = p.More || p.Offset != 0
	p.ID, p.payload = uint32(binary.BigEndian.Uint16(b[4:])), header
	p.Protocol = b[9]
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return b[header:p.Length], true
}

func (p *Packet) parseIPv6(b []byte, quoted bool) (upper []byte, ok bool) {
	if len(b) < ipv6HeaderLen {
		return nil, false
	}
	p.Length = ipv6HeaderLen + int(binary.BigEndian.Uint16(b[4:]))
	if p.Length > len(b) {
		if !quoted {
			return nil, false
		}
		p.Length = len(b)
	}
	p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	p.Protocol = b[6]
	return p.skipExtensions(b[:p.Length])
}

// skipExtensions walks the chain of RFC 8200 4 until the upper-layer header or a
// fragment that is not the first.
func (p *Packet) skipExtensions(b []byte) (upper []byte, ok bool) {
	at, field := ipv6HeaderLen, 6
	for {
		size := 0
		switch p.Protocol {
		case extHopByHop, extRouting, extDestOpts:
			if len(b) >= at+8 {
				size = (int(b[at+1]) + 1) * 8
			}
		case extAuth:
			if len(b) >= at+8 {
				size = (int(b[at+1]) + 2) * 4
			}
		case extFragment:
			if len(b) >= at+8 && !p.Fragment {
				size = 8
				p.readFragment(b, at, field)
			}
		default:
			return b[at:], true
		}
		if size == 0 || at+size > len(b) {
			return nil, false
		}
		p.Protocol, field = b[at], at
		at += size
		if p.Offset != 0 {
			return nil, true
		}
	}
}

func (p *Packet) readFragment(b []byte, at, field int) {
	v := binary.BigEndian.Uint16(b[at+2:])
	p.More, p.Offset = v&1 != 0, int(v&^7)
	p.Fragment = p.More || p.Offset != 0
	p.ID = binary.BigEndian.Uint32(b[at+4:])
	p.fragNext, p.fragField, p.payload = b[at], field, at+8
}

// parseUpper reads ports, or what an ICMP error quotes. A header cut short is no
// error: the packet then has no ports, and no selector with ports holds.
func (p *Packet) parseUpper(b []byte, quoted bool) {
	switch p.Protocol {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if len(b) >= 4 {
			p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
			p.HasPorts = true
		}
	case protoICMP, protoICMPv6:
		p.Discovery = p.version == 6 && p.Protocol == protoICMPv6 && len(b) > 0 && b[0] >= 133 && b[0] <= 137
		if quoted || len(b) < 8 || !isICMPError(p.version, p.Protocol, b[0]) {
			return
		}
		// An error goes to the source of what it is about. Any other quote is a
		// story about somebody else, and the error stands for itself.
		q, ok := parse(b[8:], true)
		if ok && q.version == p.version && q.Src == p.Dst {
			p.Quote, p.IsError = q.Tuple, true
		}
	}
}

// isICMPError says whether a message quotes a packet: destination unreachable,
// source quench, redirect, time exceeded, parameter problem (RFC 792), and ICMPv6
// 1 to 4 (RFC 4443 2.1).
func isICMPError(version, protocol, kind byte) bool {
	if version == 6 {
		return protocol == protoICMPv6 && kind >= 1 && kind <= 4
	}
	if protocol != protoICMP {
		return false
	}
	switch kind {
	case 3, 4, 5, 11, 12:
		return true
	}
	return false
}
