package segment

import (
	"encoding/binary"
	"errors"
)

// HeaderLen is the length of the header before each packet, in bytes: the legacy
// one, which TUN devices use unless told otherwise.
const HeaderLen = 10

// Kind is what a packet is to be cut into.
type Kind uint8

// Kinds of packets. Whole ones are not cut.
const (
	Whole Kind = 0
	TCP4  Kind = 1
	TCP6  Kind = 4
	UDP   Kind = 5 // IPv4 or IPv6
)

const (
	needsChecksum = 1    // VIRTIO_NET_HDR_F_NEEDS_CSUM
	congestion    = 0x80 // VIRTIO_NET_HDR_GSO_ECN

	protoTCP = 6
	protoUDP = 17

	ip4Len = 20
	ip6Len = 40
	tcpLen = 20
	udpLen = 8

	tcpFIN = 0x01
	tcpPSH = 0x08
	tcpACK = 0x10
	tcpECE = 0x40
	tcpCWR = 0x80
)

// ErrMalformed is a header that does not fit its packet.
var ErrMalformed = errors.New("offload header does not fit its packet")

// Header is what stands before a packet.
type Header struct {
	Kind     Kind
	Checksum bool // the transport checksum is to be completed
	Size     int  // payload bytes of each packet to cut; of Whole 0
	Start    int  // where the checksum begins: the transport header
	Offset   int  // of the checksum field behind Start
}

// ParseHeader reads a header. The numbers are in the order of the host's bytes.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, ErrMalformed
	}
	h := Header{
		Kind: Kind(b[1] &^ congestion), Checksum: b[0]&needsChecksum != 0,
		Size:  int(binary.NativeEndian.Uint16(b[4:])),
		Start: int(binary.NativeEndian.Uint16(b[6:])), Offset: int(binary.NativeEndian.Uint16(b[8:])),
	}
	switch h.Kind {
	case Whole:
		return h, nil
	case TCP4, TCP6, UDP:
		if h.Size > 0 && h.Checksum {
			return h, nil
		}
	}
	return Header{}, ErrMalformed
}

// put writes a header for a packet whose headers of all layers have head bytes.
func (h Header) put(b []byte, head int) {
	clear(b[:HeaderLen])
	if h.Checksum {
		b[0] = needsChecksum
	}
	b[1] = byte(h.Kind)
	binary.NativeEndian.PutUint16(b[2:], uint16(head))
	binary.NativeEndian.PutUint16(b[4:], uint16(h.Size))
	binary.NativeEndian.PutUint16(b[6:], uint16(h.Start))
	binary.NativeEndian.PutUint16(b[8:], uint16(h.Offset))
}

// Complete finishes the checksum of a whole packet in place, if its header asks
// for that. The sum of the pseudo header stands in the field already.
func Complete(h Header, packet []byte) error {
	if !h.Checksum {
		return nil
	}
	field := h.Start + h.Offset
	if field+2 > len(packet) || h.Start < ip4Len {
		return ErrMalformed
	}
	check := ^fold(sum(0, packet[h.Start:]))
	if check == 0 && h.Offset == 6 {
		check = 0xffff // of UDP zero means none; to TCP, whose field is elsewhere, it is the same
	}
	binary.BigEndian.PutUint16(packet[field:], check)
	return nil
}
