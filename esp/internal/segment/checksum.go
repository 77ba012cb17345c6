package segment

import (
	"encoding/binary"
	"math/bits"
)

// sum adds b to a ones' complement sum (RFC 1071) in words of 64 bits, whose sum
// folds to the same 16 bits. s is any earlier sum over an even number of bytes.
func sum(s uint64, b []byte) uint64 {
	var c uint64
	for len(b) >= 32 {
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b[8:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b[16:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b[24:]), c)
		s, c = bits.Add64(s, 0, c)
		s += c
		b = b[32:]
	}
	for len(b) >= 4 {
		s, c = bits.Add64(s, uint64(binary.BigEndian.Uint32(b)), 0)
		s += c
		b = b[4:]
	}
	var last uint64
	switch len(b) {
	case 3:
		last = uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8
	case 2:
		last = uint64(b[0])<<8 | uint64(b[1])
	case 1:
		last = uint64(b[0]) << 8
	}
	s, c = bits.Add64(s, last, 0)
	return s + c
}

// fold brings a sum to 16 bits.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}

// pseudo is the sum of the pseudo header (RFC 9293 3.1, RFC 8200 8.1) of a packet
// whose transport part has size bytes.
func pseudo(packet []byte, protocol byte, size int) uint64 {
	s := uint64(protocol) + uint64(size)
	if packet[0]>>4 == 4 {
		return sum(s, packet[12:20])
	}
	return sum(s, packet[8:40])
}

// putHeader4 writes the checksum of an IPv4 header.
func putHeader4(header []byte) {
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^fold(sum(0, header)))
}
