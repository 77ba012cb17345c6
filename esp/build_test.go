package esp

import (
	"encoding/binary"
	"net/netip"
)

// Builders of inner packets for tests.

var (
	here4, there4 = netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.9")
	here6, there6 = netip.MustParseAddr("2001:db8:1::5"), netip.MustParseAddr("2001:db8:2::9")
)

func ipv4(src, dst netip.Addr, proto byte, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	binary.BigEndian.PutUint16(b[4:], 0x1234)
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, payload...)
}

func ipv6(src, dst netip.Addr, proto byte, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[6], b[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	return append(b, payload...)
}

func udp(src, dst uint16, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(data)))
	return append(append(b, 0, 0), data...)
}

// numbered is n bytes that differ from place to place.
func numbered(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// split4 cuts an IPv4 packet of header 20 into fragments of size payload bytes
// (a multiple of 8).
func split4(packet []byte, size int) (out [][]byte) {
	payload := packet[20:]
	for at := 0; at < len(payload); at += size {
		end := min(at+size, len(payload))
		f := append(append([]byte(nil), packet[:20]...), payload[at:end]...)
		field := binary.BigEndian.Uint16(f[6:])&0x4000 | uint16(at/8)
		if end < len(payload) {
			field |= 0x2000
		}
		binary.BigEndian.PutUint16(f[6:], field)
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		f[10], f[11] = 0, 0
		binary.BigEndian.PutUint16(f[10:], checksum(f[:20]))
		out = append(out, f)
	}
	return out
}

// split6 cuts an IPv6 packet without extension headers.
func split6(packet []byte, size int) (out [][]byte) {
	payload := packet[40:]
	for at := 0; at < len(payload); at += size {
		end := min(at+size, len(payload))
		f := append([]byte(nil), packet[:40]...)
		field := uint16(at)
		if end < len(payload) {
			field |= 1
		}
		f = append(f, packet[6], 0)
		f = binary.BigEndian.AppendUint16(f, field)
		f = binary.BigEndian.AppendUint32(f, 0xabcd1234)
		f = append(f, payload[at:end]...)
		f[6] = extFragment
		binary.BigEndian.PutUint16(f[4:], uint16(len(f)-40))
		out = append(out, f)
	}
	return out
}
