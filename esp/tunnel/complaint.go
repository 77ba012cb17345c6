package tunnel

import (
	"encoding/binary"
	"net/netip"

	"yumen/esp"
)

// complaint is an ICMP error about the size of a packet of ours, as its sender
// tells it.
type complaint struct {
	remote netip.Addr // where the packet was to go
	encap  bool
	spi    esp.SPI
	seq    uint32
	size   int // of the packet, bytes
	mtu    int // what would have passed
}

const (
	protoICMP   = 1
	protoUDP    = 17
	protoESP    = 50
	protoFrag6  = 44
	protoICMPv6 = 58
)

// readComplaint4 reads "fragmentation needed" (RFC 1191 4) with its IP header.
func readComplaint4(b []byte, port uint16) (c complaint, ok bool) {
	icmp, ok := body4(b)
	if !ok || b[9] != protoICMP || len(icmp) < 8 || icmp[0] != 3 || icmp[1] != 4 || fold(sum(0, icmp)) != 0xffff {
		return c, false
	}
	c.mtu = int(binary.BigEndian.Uint16(icmp[6:]))
	ip := icmp[8:]
	quote, ok := body4(ip)
	// Only a packet that may not be fragmented meets the error, and it is whole.
	if !ok || ip[6]&0x40 == 0 || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
		return c, false
	}
	c.size = int(binary.BigEndian.Uint16(ip[2:]))
	c.remote = netip.AddrFrom4([4]byte(ip[16:20]))
	if c.mtu == 0 {
		c.mtu = plateau(c.size)
	}
	return c, c.readESP(ip[9], quote, port)
}

func body4(b []byte) ([]byte, bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[0]&15 < 5 || len(b) < int(b[0]&15)*4 {
		return nil, false
	}
	return b[int(b[0]&15)*4:], true
}

// readComplaint6 reads "packet too big" (RFC 4443 3.2), whose checksum the host
// has verified.
func readComplaint6(icmp []byte, port uint16) (c complaint, ok bool) {
	if len(icmp) < 48 || icmp[0] != 2 || icmp[8]>>4 != 6 {
		return c, false
	}
	c.mtu = int(min(binary.BigEndian.Uint32(icmp[4:]), maxPacket))
	ip := icmp[8:]
	c.size = 40 + int(binary.BigEndian.Uint16(ip[4:]))
	c.remote = netip.AddrFrom16([16]byte(ip[24:40]))
	next, quote := ip[6], ip[40:]
	if next == protoFrag6 {
		if len(quote) < 8 || binary.BigEndian.Uint16(quote[2:])&^7 != 0 {
			return c, false // not the first: nothing in it is known
		}
		next, quote = quote[0], quote[8:]
	}
	return c, c.readESP(next, quote, port)
}

// readESP reads what the quoted packet carries: ESP, or ESP in UDP from port.
func (c *complaint) readESP(proto byte, b []byte, port uint16) bool {
	if c.encap = proto == protoUDP; c.encap {
		if len(b) < udpHeader || binary.BigEndian.Uint16(b) != port {
			return false
		}
		b = b[udpHeader:]
	} else if proto != protoESP {
		return false
	}
	if len(b) < 8 {
		return false
	}
	c.spi, c.seq = esp.SPI(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
	return c.spi != 0 && c.mtu > 0 && c.mtu < c.size
}

// plateau is the next usual size below n, for routers that do not tell theirs
// (RFC 1191 7.1).
func plateau(n int) int {
	for _, p := range []int{32000, 17914, 8166, 4352, 2002, 1492, 1280, 1006} {
		if p < n {
			return p
		}
	}
	return minimumMTU4
}

// recentNumbers is how far back a quoted packet may lie: less than a second of
// the fastest link.
const recentNumbers = 1 << 20

// believe finds the child whose packet a complaint quotes; nil: none has sent
// such a packet. An attacker who cannot see our packets would have to guess SPI
// and number (RFC 4301 8.2.1, RFC 5927 7).
func (s *snapshot) believe(c complaint) *pair {
	x := s.sent[sentKey{remote: c.remote, spi: c.spi}]
	if x == nil || x.child.Path.Encap != c.encap || uint32(x.out.Seq())-c.seq > recentNumbers {
		return nil
	}
	return x
}
