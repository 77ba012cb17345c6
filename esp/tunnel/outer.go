package tunnel

import (
	"encoding/binary"

	"yumen/esp"
)

const (
	ipHeader  = 20
	udpHeader = 8
)

// outerRoom is how much goes before the ESP packet in the buffer of the sender:
// IPv4 headers are ours, IPv6 headers the kernel's.
func outerRoom(k kind) int {
	switch k {
	case raw4:
		return ipHeader
	case udp4:
		return ipHeader + udpHeader
	}
	return 0
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
	b[8], b[9] = esp.OuterTTL, 50
	if local := path.Local.Addr().Unmap(); local.Is4() {
		a := local.As4()
		copy(b[12:], a[:])
	}
	a := path.Remote.Addr().Unmap().As4()
	copy(b[16:], a[:])
	if k != udp4 {
		return
	}
	b[9] = 17
	u := b[ipHeader:]
	binary.BigEndian.PutUint16(u, path.Local.Port())
	binary.BigEndian.PutUint16(u[2:], path.Remote.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
}

// outerLook is what changes from packet to packet.
type outerLook struct {
	tos byte
	df  bool
	id  uint16
}
