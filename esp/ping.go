package esp

import (
	"encoding/binary"
	"net/netip"
)

const icmpHeaderLen = 8

// AppendPing writes an ICMP echo request (RFC 792) or, between IPv6 addresses, an
// ICMPv6 one (RFC 4443 4.1) behind b: a whole packet with DF. Both addresses are of one
// family.
func AppendPing(b []byte, from, to netip.Addr, number uint16, data []byte) []byte {
	at, size := len(b), icmpHeaderLen+len(data)
	kind, header := byte(8), ipv4HeaderLen
	if to.Is6() {
		kind, header = 128, ipv6HeaderLen
		b = append(b, 0x60, 0, 0, 0, byte(size>>8), byte(size), protoICMPv6, OuterTTL)
		src, dst := from.As16(), to.As16()
		b = append(append(b, src[:]...), dst[:]...)
	} else {
		total := ipv4HeaderLen + size
		b = append(b, 0x45, 0, byte(total>>8), byte(total), 0, 0, 0x40, 0, OuterTTL, protoICMP, 0, 0)
		src, dst := from.As4(), to.As4()
		b = append(append(b, src[:]...), dst[:]...)
		binary.BigEndian.PutUint16(b[at+10:], ^fold(words(0, b[at:at+ipv4HeaderLen])))
	}
	b = append(b, kind, 0, 0, 0, 'Y', 'm', byte(number>>8), byte(number))
	b = append(b, data...)
	message := b[at+header:]
	sum := uint32(0)
	if to.Is6() { // RFC 8200 8.1
		sum = words(uint32(size)+protoICMPv6, b[at+8:at+ipv6HeaderLen])
	}
	binary.BigEndian.PutUint16(message[2:], ^fold(words(sum, message)))
	return b
}

// Pong is what an ICMP or ICMPv6 echo reply brings back of the request; nil: the
// packet is none that holds together. p is b parsed.
func Pong(b []byte, p *Packet) (data []byte) { return carried(b, p, 0, 129) }

// carried is what an ICMP or ICMPv6 message of a kind carries; nil: it is another, or
// does not hold together.
func carried(b []byte, p *Packet, kind4, kind6 byte) (data []byte) {
	if p.Fragment || p.upper == 0 || p.Length > len(b) || p.Length-p.upper < icmpHeaderLen {
		return nil
	}
	message, sum := b[p.upper:p.Length], uint32(0)
	switch {
	case p.version == 4 && p.Protocol == protoICMP && message[0] == kind4:
	case p.version == 6 && p.Protocol == protoICMPv6 && message[0] == kind6:
		sum = words(uint32(len(message))+protoICMPv6, b[8:ipv6HeaderLen])
	default:
		return nil
	}
	if message[1] != 0 || fold(words(sum, message)) != 0xffff {
		return nil
	}
	return message[icmpHeaderLen:]
}

// PingOf reads an echo request that another data plane of this product sent; p is b
// parsed. False: it is somebody else's.
func PingOf(b []byte, p *Packet) (Echo, bool) {
	data := carried(b, p, 8, 128)
	if len(data) != PingLen {
		return Echo{}, false
	}
	e, err := ParseEcho(data[len(PingToken{})+4:])
	return e, err == nil && !e.Answer
}

// TurnPing makes an echo request its own answer, in place.
func TurnPing(b []byte, p *Packet) {
	at, size, kind, sum := 12, 4, byte(0), uint32(0)
	message := b[p.upper:p.Length]
	if p.version == 6 {
		at, size, kind = 8, 16, 129
		sum = words(uint32(len(message))+protoICMPv6, b[8:ipv6HeaderLen])
	}
	var src [16]byte
	copy(src[:], b[at:at+size])
	copy(b[at:], b[at+size:at+2*size]) // the checksum of the header stays
	copy(b[at+size:], src[:size])
	message[0], message[2], message[3] = kind, 0, 0
	binary.BigEndian.PutUint16(message[2:], ^fold(words(sum, message)))
}

// words adds the 16-bit words of b, the last perhaps half of one, to sum. What it
// adds up to fits as long as b is a packet.
func words(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// PingToken is a number that a data plane draws for itself: by it it knows its own
// pings among those of others.
type PingToken [8]byte

// PingLen is the length in bytes of what a ping of a data plane carries.
const PingLen = len(PingToken{}) + 4 + EchoLen

// AppendPingData writes what a ping for e carries behind b: the token, the tag of the
// tunnel that it leaves by, and e itself.
func AppendPingData(b []byte, token PingToken, tag uint32, e Echo) []byte {
	b = binary.BigEndian.AppendUint32(append(b, token[:]...), tag)
	return AppendEcho(b, e)
}

// ParsePingData reads what came back, as an answer. False: it is none of ours.
func ParsePingData(data []byte, token PingToken) (tag uint32, e Echo, ok bool) {
	if len(data) != PingLen || PingToken(data[:len(token)]) != token {
		return 0, e, false
	}
	e, err := ParseEcho(data[len(token)+4:])
	e.Answer = true
	return binary.BigEndian.Uint32(data[len(token):]), e, err == nil
}
