package tunnel

import (
	"encoding/binary"
	"net/netip"
)

// tooBig builds the ICMP error that tells the sender of packet the largest size
// that passes: IPv4 "fragmentation needed" (RFC 792, RFC 1191 4) or IPv6 "packet
// too big" (RFC 4443 3.2). It returns nil where no error may be sent: about an
// ICMP error, a fragment other than the first, or to or from a group address
// (RFC 1122 3.2.2, RFC 4443 2.4).
func tooBig(buf, packet []byte, from netip.Addr, mtu int) []byte {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4 && from.Is4():
		return tooBig4(buf, packet, from, mtu)
	case len(packet) >= 40 && packet[0]>>4 == 6 && from.Is6():
		return tooBig6(buf, packet, from, mtu)
	}
	return nil
}

func tooBig4(buf, packet []byte, from netip.Addr, mtu int) []byte {
	header := int(packet[0]&15) * 4
	src, _ := netip.AddrFromSlice(packet[12:16])
	dst, _ := netip.AddrFromSlice(packet[16:20])
	if header < 20 || len(packet) < header+8 || unanswerable(src) || dst.IsMulticast() {
		return nil
	}
	if binary.BigEndian.Uint16(packet[6:])&0x1fff != 0 {
		return nil
	}
	if packet[9] == 1 && packet[header] != 0 && packet[header] != 8 {
		return nil // may be an error itself
	}
	quote := min(len(packet), 548) // RFC 1812 4.3.2.3: at most 576 in all
	b := buf[:28+quote]
	clear(b[:28])
	b[0], b[1] = 0x45, 0xc0 // internetwork control (RFC 1812 4.3.2.5)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[8], b[9] = 64, 1
	copy(b[12:], from.AsSlice())
	copy(b[16:], packet[12:16])
	putHeaderChecksum(b[:20])
	b[20], b[21] = 3, 4
	binary.BigEndian.PutUint16(b[26:], uint16(mtu))
	copy(b[28:], packet[:quote])
	binary.BigEndian.PutUint16(b[22:], ^fold(sum(0, b[20:])))
	return b
}

func tooBig6(buf, packet []byte, from netip.Addr, mtu int) []byte {
	src, _ := netip.AddrFromSlice(packet[8:24])
	if unanswerable(src) {
		return nil // a group destination is answered (RFC 4443 2.4 e.3)
	}
	if packet[6] == 58 && len(packet) > 40 && packet[40] < 128 {
		return nil
	}
	quote := min(len(packet), 1280-48)
	b := buf[:48+quote]
	clear(b[:48])
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(8+quote))
	b[6], b[7] = 58, 64
	copy(b[8:], from.AsSlice())
	copy(b[24:], packet[8:24])
	b[40] = 2
	binary.BigEndian.PutUint32(b[44:], uint32(mtu))
	copy(b[48:], packet[:quote])
	s := sum(0, b[8:40]) + uint32(8+quote) + 58
	binary.BigEndian.PutUint16(b[42:], ^fold(sum(s, b[40:])))
	return b
}

func unanswerable(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
