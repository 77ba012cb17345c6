package tunnel

import (
	"encoding/binary"
	"errors"
	"iter"
)

var errCannotFragment = errors.New("packet cannot be fragmented")

// fragments cuts an IP packet into fragments of at most mtu bytes, each built in
// buf (RFC 791 3.2, RFC 8200 4.5). A packet that fits comes out as it is, a
// fragment is cut further. An IPv6 packet gets id in its fragment header. The
// slices are valid until the next turn.
func fragments(packet, buf []byte, mtu int, id uint32) (iter.Seq[[]byte], error) {
	if len(packet) < 20 {
		return nil, errCannotFragment
	}
	if len(packet) <= mtu {
		return func(yield func([]byte) bool) { yield(packet) }, nil
	}
	if packet[0]>>4 == 4 {
		return fragments4(packet, buf, mtu)
	}
	return fragments6(packet, buf, mtu, id)
}

func fragments4(packet, buf []byte, mtu int) (iter.Seq[[]byte], error) {
	header := int(packet[0]&15) * 4
	step := (mtu - header) &^ 7
	if header < 20 || header > len(packet) || step < 8 || len(buf) < mtu {
		return nil, errCannotFragment
	}
	field := binary.BigEndian.Uint16(packet[6:])
	offset, more := int(field&0x1fff)*8, field&0x2000
	return func(yield func([]byte) bool) {
		for at := header; at < len(packet); at += step {
			end := min(at+step, len(packet))
			head := copy(buf, packet[:header])
			if at > header {
				head = keepCopied(buf[:header])
			}
			n := head + copy(buf[head:], packet[at:end])
			flags := field & 0xc000 // reserved and DF as they were
			if end < len(packet) {
				flags |= 0x2000
			} else {
				flags |= more
			}
			buf[0] = 4<<4 | byte(head/4)
			binary.BigEndian.PutUint16(buf[2:], uint16(n))
			binary.BigEndian.PutUint16(buf[6:], flags|uint16((offset+at-header)/8))
			putHeaderChecksum(buf[:head])
			if !yield(buf[:n]) {
				return
			}
		}
	}, nil
}

// keepCopied removes from an IPv4 header the options that go only into the first
// fragment (RFC 791 3.1, copied flag) and returns the new header length.
func keepCopied(header []byte) int {
	out := 20
	for at := 20; at < len(header); {
		kind := header[at]
		if kind == 0 {
			break
		}
		size := 1
		if kind != 1 {
			if at+1 >= len(header) || header[at+1] < 2 || at+int(header[at+1]) > len(header) {
				break
			}
			size = int(header[at+1])
		}
		if kind&0x80 != 0 {
			out += copy(header[out:], header[at:at+size])
		}
		at += size
	}
	for ; out%4 != 0; out++ {
		header[out] = 0
	}
	return out
}

func putHeaderChecksum(header []byte) {
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^fold(sum(0, header)))
}

func fragments6(packet, buf []byte, mtu int, id uint32) (iter.Seq[[]byte], error) {
	if len(packet) < 40 || len(buf) < mtu {
		return nil, errCannotFragment
	}
	split, link, last := perFragment(packet)
	step := (mtu - split - 8) &^ 7
	if step < 8 || packet[link] == 44 {
		return nil, errCannotFragment
	}
	next := packet[link]
	return func(yield func([]byte) bool) {
		for at := split; at < last; at += step {
			end := min(at+step, last)
			copy(buf, packet[:split])
			buf[link] = 44
			f := buf[split:]
			f[0], f[1] = next, 0
			offset := uint16(at - split)
			if end < last {
				offset |= 1
			}
			binary.BigEndian.PutUint16(f[2:], offset)
			binary.BigEndian.PutUint32(f[4:], id)
			n := split + 8 + copy(f[8:], packet[at:end])
			binary.BigEndian.PutUint16(buf[4:], uint16(n-40))
			if !yield(buf[:n]) {
				return
			}
		}
	}, nil
}

// perFragment finds where the headers end that each fragment repeats: hop by hop
// and routing, and destination options before a routing header (RFC 8200 4.5).
// link is the place of the next-header byte that will name the fragment header.
func perFragment(packet []byte) (split, link, last int) {
	split, link, last = 40, 6, len(packet)
	next, at := packet[6], 40
	for at+8 <= last && (next == 0 || next == 43 || next == 60) {
		end := at + 8 + int(packet[at+1])*8
		if end > last {
			break
		}
		if next != 60 {
			split, link = end, at
		}
		next, at = packet[at], end
	}
	return split, link, last
}
