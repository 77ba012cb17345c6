package segment

import "encoding/binary"

// Splitter walks the packets into which a large one is cut.
type Splitter struct {
	h        Header
	packet   []byte
	head     int // bytes of all headers
	at       int // of the payload, what is next
	index    uint16
	protocol byte
	field    int // where the transport checksum stands
}

// Start begins with packet, whose header h is not Whole. ErrMalformed: the two do
// not fit each other.
func (s *Splitter) Start(h Header, packet []byte) error {
	*s = Splitter{h: h, packet: packet}
	least := ip4Len
	if len(packet) > 0 && packet[0]>>4 == 6 {
		least = ip6Len
	}
	version := byte(4)
	switch {
	case h.Kind == TCP6 || h.Kind == UDP && least == ip6Len:
		version = 6
	case h.Kind == Whole:
		return ErrMalformed
	}
	if h.Start < least || h.Start+udpLen > len(packet) || packet[0]>>4 != version {
		return ErrMalformed
	}
	if version == 4 && (packet[0]&15 < 5 || int(packet[0]&15)*4 > h.Start) {
		return ErrMalformed
	}
	if h.Kind == UDP {
		s.head, s.field, s.protocol = h.Start+udpLen, h.Start+6, protoUDP
	} else {
		if h.Start+tcpLen > len(packet) || packet[h.Start+12]>>4 < 5 {
			return ErrMalformed
		}
		s.head, s.field, s.protocol = h.Start+int(packet[h.Start+12]>>4)*4, h.Start+16, protoTCP
	}
	if s.head > len(packet) {
		return ErrMalformed
	}
	s.at = s.head
	return nil
}

// Largest is the length of the longest packet that Next will write.
func (s *Splitter) Largest() int { return min(len(s.packet), s.head+s.h.Size) }

// Left is the length of the packet that Next writes next; 0: there is none.
func (s *Splitter) Left() int {
	if s.at >= len(s.packet) && s.index > 0 {
		return 0
	}
	return s.head + min(s.h.Size, len(s.packet)-s.at)
}

// Next writes the next packet to dst, which has room for Left bytes and does not
// overlap the large one, and returns its length; 0: that was all.
func (s *Splitter) Next(dst []byte) int {
	n := s.Left()
	if n == 0 {
		return 0
	}
	b := dst[:n]
	copy(b, s.packet[:s.head])
	copy(b[s.head:], s.packet[s.at:s.at+n-s.head])
	last := s.at+n-s.head >= len(s.packet)
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(n))
		binary.BigEndian.PutUint16(b[4:], binary.BigEndian.Uint16(b[4:])+s.index)
		putHeader4(b[:int(b[0]&15)*4])
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(n-ip6Len))
	}
	t := b[s.h.Start:]
	if s.protocol == protoTCP {
		binary.BigEndian.PutUint32(t[4:], binary.BigEndian.Uint32(t[4:])+uint32(s.at-s.head))
		if !last {
			t[13] &^= tcpFIN | tcpPSH
		}
		if s.index > 0 {
			t[13] &^= tcpCWR
		}
	} else {
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	}
	b[s.field], b[s.field+1] = 0, 0
	check := ^fold(sum(pseudo(b, s.protocol, len(t)), t))
	if check == 0 && s.protocol == protoUDP {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(b[s.field:], check)
	s.at += n - s.head
	s.index++
	return n
}
