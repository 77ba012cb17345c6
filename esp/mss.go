package esp

import "encoding/binary"

const (
	tcpHeaderLen = 20
	tcpSYN       = 0x02

	optionEnd = 0
	optionNop = 1
	optionMSS = 2
)

// ClampMSS lowers the maximum segment size that a TCP SYN or SYN/ACK announces to
// most bytes and corrects the checksum by the difference (RFC 1624). p is what
// ParsePacket made of b. It reports whether b changed: every other packet, and one
// that announces no size (RFC 9293 3.7.1: then the least one holds) or whose
// options do not hold together, stays as it is.
func ClampMSS(b []byte, p Packet, most int) bool {
	if p.Protocol != protoTCP || p.Offset != 0 || p.upper == 0 || p.Length > len(b) || p.Length-p.upper < tcpHeaderLen {
		return false
	}
	tcp := b[p.upper:p.Length]
	if tcp[13]&tcpSYN == 0 {
		return false
	}
	at := findMSS(tcp)
	if at == 0 {
		return false
	}
	old := binary.BigEndian.Uint16(tcp[at:])
	if int(old) <= most || most < 0 {
		return false
	}
	binary.BigEndian.PutUint16(tcp[at:], uint16(most))
	from, to := old, uint16(most)
	if at&1 == 1 { // it lies across two words of the sum: both bytes count the other way round
		from, to = from<<8|from>>8, to<<8|to>>8
	}
	sum := uint32(^binary.BigEndian.Uint16(tcp[16:])) + uint32(^from) + uint32(to)
	binary.BigEndian.PutUint16(tcp[16:], ^fold(sum))
	return true
}

// findMSS returns where the value of the option stands in a TCP header; 0: nowhere.
func findMSS(tcp []byte) int {
	end := int(tcp[12]>>4) * 4
	if end > len(tcp) {
		return 0
	}
	for at := tcpHeaderLen; at < end; {
		switch tcp[at] {
		case optionEnd:
			return 0
		case optionNop:
			at++
			continue
		}
		if at+1 >= end || tcp[at+1] < 2 || at+int(tcp[at+1]) > end {
			return 0
		}
		if tcp[at] == optionMSS && tcp[at+1] == 4 {
			return at + 2
		}
		at += int(tcp[at+1])
	}
	return 0
}
