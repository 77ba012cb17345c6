package decode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

const (
	protoTCP     = 6
	protoUDP     = 17
	protoESP     = 50
	protoAH      = 51
	maxTags      = 4 // stacked VLAN tags
	maxHeaders   = 8 // IPv6 extension headers
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
	fragmentNext = 44
)

// errNotIP marks frames that are none of our business: ARP, LLDP and the like.
var errNotIP = errors.New("no IP packet")

// ipPacket is one IP packet, or one fragment of one.
type ipPacket struct {
	src, dst netip.Addr
	proto    uint8
	payload  []byte
	id       uint32
	offset   int // of a fragment, bytes
	more     bool
	cut      bool // the packet says it is longer than what is there
}

func (p ipPacket) fragment() bool { return p.more || p.offset > 0 }

// linkLayer strips the link header and returns the IP packet.
func linkLayer(link uint32, b []byte) ([]byte, error) {
	switch link {
	case 1: // Ethernet
		return etherType(b, 12)
	case 113: // Linux cooked
		return etherType(b, 14)
	case 276: // Linux cooked, version 2: the protocol comes first
		if len(b) < 20 {
			return nil, fmt.Errorf("frame of %d bytes is shorter than its link header", len(b))
		}
		return tagged(binary.BigEndian.Uint16(b), b[20:])
	case 12, 14, 101, 228, 229: // raw IP
		return b, nil
	case 0, 108: // BSD loopback
		if len(b) < 4 {
			return nil, fmt.Errorf("frame of %d bytes is shorter than its link header", len(b))
		}
		return b[4:], nil
	}
	return nil, fmt.Errorf("link type %d is not known: capture on Ethernet, Linux cooked or raw IP", link)
}

func etherType(b []byte, at int) ([]byte, error) {
	if len(b) < at+2 {
		return nil, fmt.Errorf("frame of %d bytes is shorter than its link header", len(b))
	}
	return tagged(binary.BigEndian.Uint16(b[at:]), b[at+2:])
}

// tagged skips VLAN tags (802.1Q, 802.1ad and its predecessor).
func tagged(kind uint16, b []byte) ([]byte, error) {
	for range maxTags {
		switch kind {
		case etherIPv4, etherIPv6:
			return b, nil
		case 0x8100, 0x88a8, 0x9100:
			if len(b) < 4 {
				return nil, errors.New("cut inside a VLAN tag")
			}
			kind, b = binary.BigEndian.Uint16(b[2:]), b[4:]
		default:
			return nil, errNotIP
		}
	}
	return nil, errNotIP
}

// parseIP reads the header of either family. Checksums are not looked at: a
// capture on the sending host has none where the card computes them.
func parseIP(b []byte) (ipPacket, error) {
	if len(b) == 0 {
		return ipPacket{}, errors.New("empty IP packet")
	}
	switch b[0] >> 4 {
	case 4:
		return parseIPv4(b)
	case 6:
		return parseIPv6(b)
	}
	return ipPacket{}, fmt.Errorf("IP version %d", b[0]>>4)
}

func parseIPv4(b []byte) (ipPacket, error) {
	if len(b) < 20 {
		return ipPacket{}, fmt.Errorf("IPv4 header cut to %d bytes", len(b))
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 { // segmentation offload: the card fills it in
		total = len(b)
	}
	if head < 20 || head > len(b) || total < head {
		return ipPacket{}, fmt.Errorf("IPv4 header length %d, total length %d of %d bytes", head, total, len(b))
	}
	frag := binary.BigEndian.Uint16(b[6:])
	p := ipPacket{
		src:    netip.AddrFrom4([4]byte(b[12:16])),
		dst:    netip.AddrFrom4([4]byte(b[16:20])),
		proto:  b[9],
		id:     uint32(binary.BigEndian.Uint16(b[4:])),
		offset: int(frag&0x1fff) * 8,
		more:   frag&0x2000 != 0,
		cut:    total > len(b),
	}
	p.payload = b[head:min(total, len(b))] // what follows is link padding
	return p, nil
}

func parseIPv6(b []byte) (ipPacket, error) {
	if len(b) < 40 {
		return ipPacket{}, fmt.Errorf("IPv6 header cut to %d bytes", len(b))
	}
	size := int(binary.BigEndian.Uint16(b[4:]))
	if size == 0 {
		size = len(b) - 40
	}
	p := ipPacket{
		src:   netip.AddrFrom16([16]byte(b[8:24])),
		dst:   netip.AddrFrom16([16]byte(b[24:40])),
		proto: b[6],
		cut:   size > len(b)-40,
	}
	p.payload = b[40:min(40+size, len(b))]
	return p, p.extensions()
}

// extensions walks to the upper protocol. The headers after a first fragment
// header belong to the whole and are read again after reassembly.
func (p *ipPacket) extensions() error {
	for range maxHeaders {
		switch p.proto {
		case 0, 43, 60:
			if len(p.payload) < 8 {
				return errors.New("cut inside an IPv6 extension header")
			}
			n := (int(p.payload[1]) + 1) * 8
			if n > len(p.payload) {
				return errors.New("an IPv6 extension header is longer than the packet")
			}
			p.proto, p.payload = p.payload[0], p.payload[n:]
		case fragmentNext:
			if len(p.payload) < 8 {
				return errors.New("cut inside an IPv6 fragment header")
			}
			where := binary.BigEndian.Uint16(p.payload[2:])
			p.offset, p.more = int(where&^7), where&1 != 0
			p.id = binary.BigEndian.Uint32(p.payload[4:])
			p.proto, p.payload = p.payload[0], p.payload[8:]
			if p.fragment() {
				return nil
			}
		default:
			return nil
		}
	}
	return errors.New("too many IPv6 extension headers")
}

// udp is the part of UDP that matters here.
type udp struct {
	src, dst uint16
	data     []byte
}

// parseUDP takes what there is of a datagram that the capture cut short.
func parseUDP(b []byte, short bool) (udp, error) {
	if len(b) < 8 {
		return udp{}, fmt.Errorf("UDP header cut to %d bytes", len(b))
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if short && n > len(b) {
		n = len(b)
	}
	if n < 8 || n > len(b) {
		return udp{}, fmt.Errorf("UDP length %d of %d bytes", n, len(b))
	}
	return udp{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[8:n]}, nil
}
