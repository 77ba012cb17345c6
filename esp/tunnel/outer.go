package tunnel

import (
	"encoding/binary"

	"yumen/esp"
)

const (
	ipHeader  = 20
	ip6Header = 40
	udpHeader = 8
)

// outerRoom is how much goes before the ESP packet on the wire.
func outerRoom(k kind) int {
	room := ipHeader
	if k.v6() {
		room = ip6Header
	}
	if k.udp() {
		room += udpHeader
	}
	return room
}

// putOuter4 writes the IPv4 header, and for k udp4 the UDP header, at the start
// of b. The UDP checksum is zero (RFC 3948 2.1); the kernel fills that of IP.
func putOuter4(b []byte, k kind, path esp.Path, look outerLook) {
	clear(b[:outerRoom(k)])
	b[0], b[1] = 0x45, look.tos
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[4:], look.id)
	if look.df {
		b[6] = 0x40
	}
	b[8], b[9] = esp.OuterTTL, protoESP
	if local := path.Local.Addr().Unmap(); local.Is4() {
		a := local.As4()
		copy(b[12:], a[:])
	}
	a := path.Remote.Addr().Unmap().As4()
	copy(b[16:], a[:])
	if k != udp4 {
		return
	}
	b[9] = protoUDP
	u := b[ipHeader:]
	binary.BigEndian.PutUint16(u, path.Local.Port())
	binary.BigEndian.PutUint16(u[2:], path.Remote.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
}

// putOuter6 writes the IPv6 header, and for k udp6 the UDP header with its
// checksum, which IPv6 wants, at the start of b.
func putOuter6(b []byte, k kind, path esp.Path, tos byte) {
	clear(b[:outerRoom(k)])
	b[0], b[1] = 6<<4|tos>>4, tos<<4
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ip6Header))
	b[6], b[7] = protoESP, esp.OuterTTL
	local, remote := path.Local.Addr().As16(), path.Remote.Addr().As16()
	copy(b[8:], local[:])
	copy(b[24:], remote[:])
	if k != udp6 {
		return
	}
	b[6] = protoUDP
	u := b[ip6Header:]
	binary.BigEndian.PutUint16(u, path.Local.Port())
	binary.BigEndian.PutUint16(u[2:], path.Remote.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	check := ^fold(sum(sum(0, b[8:ip6Header])+uint32(len(u))+protoUDP, u))
	if check == 0 {
		check = 0xffff // zero means none
	}
	binary.BigEndian.PutUint16(u[6:], check)
}

// outerLook is what changes from packet to packet.
type outerLook struct {
	tos byte
	df  bool
	id  uint16
}
