package esp

import (
	"encoding/binary"

	"yumen/policy"
)

// OuterTTL is the TTL or hop limit of every outer header (RFC 4301 5.1.2).
const OuterTTL = 64

// Code points of explicit congestion notification (RFC 3168 5).
const (
	ecnNot  = 0
	ecnECT1 = 1
	ecnECT0 = 2
	ecnCE   = 3
	ecnMask = 3
)

// TOS returns the type of service or traffic class of an IP packet; 0 when it is
// too short to have one.
func TOS(packet []byte) byte {
	switch {
	case len(packet) < 2:
		return 0
	case packet[0]>>4 == 6:
		return packet[0]<<4 | packet[1]>>4
	}
	return packet[1]
}

// OuterTOS makes the outer type of service: the code point by policy, and the
// congestion mark as it is inside (RFC 6040 4.1, normal mode).
func OuterTOS(o policy.Outer, innerTOS byte) byte {
	if o.DSCP == policy.CopyDSCP {
		return innerTOS
	}
	return byte(o.DSCP)<<2 | innerTOS&ecnMask
}

// OuterDF says whether the outer IPv4 header forbids fragmentation. An IPv6 inner
// packet counts as one that does: nobody on its way may fragment it.
func OuterDF(o policy.Outer, inner []byte) bool {
	switch o.DF {
	case policy.DFSet:
		return true
	case policy.DFClear:
		return false
	}
	return len(inner) < ipv4HeaderLen || inner[0]>>4 != 4 || inner[6]&0x40 != 0
}

// Decapsulate writes the congestion mark that an inner packet leaves the tunnel with
// (RFC 6040 4.2) into its header. inner has been checked by Open. ErrCongestion:
// the packet must be dropped, and is unchanged.
func Decapsulate(inner []byte, outerTOS byte) error {
	tos := TOS(inner)
	ecn, ok := leaveTunnel(tos&ecnMask, outerTOS&ecnMask)
	if !ok {
		return ErrCongestion
	}
	if ecn != tos&ecnMask {
		setTOS(inner, tos&^ecnMask|ecn)
	}
	return nil
}

// leaveTunnel is the table of RFC 6040 4.2, figure 4.
func leaveTunnel(inner, outer byte) (ecn byte, ok bool) {
	switch {
	case outer == ecnCE:
		return ecnCE, inner != ecnNot
	case inner == ecnECT0 && outer == ecnECT1:
		return ecnECT1, true
	}
	return inner, true
}

// setTOS changes the type of service and, for IPv4, the checksum by the
// difference (RFC 1624 equation 3).
func setTOS(packet []byte, tos byte) {
	if packet[0]>>4 == 6 {
		packet[0] = packet[0]&0xf0 | tos>>4
		packet[1] = packet[1]&0x0f | tos<<4
		return
	}
	old := binary.BigEndian.Uint16(packet)
	packet[1] = tos
	sum := uint32(^binary.BigEndian.Uint16(packet[10:])) + uint32(^old) + uint32(binary.BigEndian.Uint16(packet))
	binary.BigEndian.PutUint16(packet[10:], ^fold(sum))
}

// fold brings a sum of 16-bit words to one's complement form.
func fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}

// Overhead returns the most bytes that ESP adds to an inner packet, without outer
// IP and UDP headers; 0 for a suite that does not exist. icvBits is of HMAC-SM3
// only.
func Overhead(s policy.Suite, icvBits int) int {
	sh, err := shapeOf(s, icvBits)
	if err != nil {
		return 0
	}
	return headerLen + sh.iv + sh.align - 1 + trailerLen + sh.icv
}

// MaxInner returns the largest inner packet in bytes that reaches c's peer in an
// outer packet of outerMTU bytes; 0: none does. A path whose remote end is not known
// counts as IPv6, the longer header.
func MaxInner(c Child, outerMTU int) int {
	sh, err := shapeOf(c.Suite, c.ICVBits)
	if err != nil {
		return 0
	}
	outer := ipv6HeaderLen
	if a := c.Path.Remote.Addr(); a.Is4() || a.Is4In6() {
		outer = ipv4HeaderLen
	}
	if c.Path.Encap {
		outer += 8 // UDP
	}
	room := outerMTU - outer - headerLen - sh.iv - sh.icv
	return max(0, room-max(room, 0)%sh.align-trailerLen)
}
