package esp

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// segment is a TCP segment with the flags and options, as IPv4 or IPv6, with
// a right checksum.
func segment(v6 bool, flags byte, options []byte) []byte {
	for len(options)%4 != 0 {
		options = append(options, optionEnd)
	}
	tcp := make([]byte, tcpHeaderLen, 64)
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], 443)
	tcp[12], tcp[13] = byte((tcpHeaderLen+len(options))/4)<<4, flags
	tcp = append(append(tcp, options...), "payload"...)
	packet := ipv4(here4, there4, protoTCP, tcp)
	if v6 {
		packet = ipv6(here6, there6, protoTCP, tcp)
	}
	at := len(packet) - len(tcp)
	binary.BigEndian.PutUint16(packet[at+16:], ^tcpSum(packet, at))
	return packet
}

// tcpSum adds up pseudo header and segment word by word, the slow way.
func tcpSum(packet []byte, at int) uint16 {
	addresses := packet[12:20]
	if packet[0]>>4 == 6 {
		addresses = packet[8:40]
	}
	all := append(bytes.Clone(addresses), 0, protoTCP, byte((len(packet)-at)>>8), byte(len(packet)-at))
	all = append(all, packet[at:]...)
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	var s uint32
	for i := 0; i < len(all); i += 2 {
		s += uint32(all[i])<<8 | uint32(all[i+1])
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestSegmentSizesAreLoweredAndNeverRaised(t *testing.T) {
	mss := func(n int) []byte { return []byte{optionMSS, 4, byte(n >> 8), byte(n)} }
	for _, x := range []struct {
		name    string
		flags   byte
		options []byte
		most    int
		want    int // 0: unchanged
	}{
		{"syn", tcpSYN, mss(1460), 1382, 1382},
		{"syn and ack", tcpSYN | 0x10, mss(1460), 1382, 1382},
		{"it is small already", tcpSYN, mss(1300), 1382, 0},
		{"it is that already", tcpSYN, mss(1382), 1382, 0},
		{"no syn", 0x10, mss(1460), 1382, 0},
		{"odd place", tcpSYN, append([]byte{optionNop}, mss(1460)...), 1383, 1383},
		{"behind another option", tcpSYN, append([]byte{3, 3, 7, 4, 2, 8, 2, 0xff}, mss(9000)...), 536, 0}, // cut option
		{"behind good options", tcpSYN, append([]byte{3, 3, 7, optionNop, 4, 2}, mss(9000)...), 536, 536},
		{"behind the end", tcpSYN, append([]byte{optionEnd}, mss(1460)...), 1382, 0},
		{"another length", tcpSYN, []byte{optionMSS, 3, 5, optionNop}, 1382, 0},
		{"length nothing", tcpSYN, []byte{9, 0, 5, 0xb4}, 1382, 0},
		{"no option", tcpSYN, nil, 1382, 0},
	} {
		for _, v6 := range []bool{false, true} {
			b := segment(v6, x.flags, x.options)
			before := bytes.Clone(b)
			p, err := ParsePacket(b)
			if err != nil {
				t.Fatal(err)
			}
			changed := ClampMSS(b, p, x.most)
			if changed != (x.want != 0) || !changed && !bytes.Equal(b, before) {
				t.Errorf("%s, v6 %t: changed %t", x.name, v6, changed)
			}
			if !changed {
				continue
			}
			if at := findMSS(b[p.upper:]); int(binary.BigEndian.Uint16(b[p.upper+at:])) != x.want {
				t.Errorf("%s, v6 %t: not %d: % x", x.name, v6, x.want, b[p.upper:])
			}
			if tcpSum(b, p.upper) != 0xffff {
				t.Errorf("%s, v6 %t: checksum", x.name, v6)
			}
			if bytes.Equal(b, before) || len(b) != len(before) {
				t.Errorf("%s, v6 %t: nothing changed", x.name, v6)
			}
		}
	}
}

func TestOnlyTheStartOfASegmentIsClamped(t *testing.T) {
	b := segment(false, tcpSYN, []byte{optionMSS, 4, 5, 0xb4})
	for name, change := range map[string]func(b []byte){
		"later fragment": func(b []byte) { b[7] = 3 },
		"other protocol": func(b []byte) { b[9] = protoUDP },
		"cut header":     func(b []byte) { binary.BigEndian.PutUint16(b[2:], 38) },
		"long header":    func(b []byte) { b[32] = 0xf0 },
	} {
		c := bytes.Clone(b)
		change(c)
		p, err := ParsePacket(c)
		if err != nil {
			t.Fatal(name, err)
		}
		if ClampMSS(c, p, 1000) {
			t.Errorf("changed: %s", name)
		}
	}
}

func FuzzClampingKeepsTheChecksumRight(f *testing.F) {
	f.Add(false, byte(tcpSYN), []byte{optionMSS, 4, 5, 0xb4}, 1382)
	f.Add(true, byte(tcpSYN), []byte{optionNop, optionMSS, 4, 5, 0xb4}, 1382)
	f.Fuzz(func(t *testing.T, v6 bool, flags byte, options []byte, most int) {
		if len(options) > 40 || most > 65535 {
			return
		}
		b := segment(v6, flags, options)
		p, err := ParsePacket(b)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(b)
		if !ClampMSS(b, p, most) {
			if !bytes.Equal(b, before) {
				t.Fatal("changed without a word")
			}
			return
		}
		if tcpSum(b, p.upper) != 0xffff {
			t.Fatalf("checksum of % x", b)
		}
		if ClampMSS(b, p, most) {
			t.Fatal("clamped twice")
		}
	})
}

func FuzzClampingAnyBytes(f *testing.F) {
	f.Add(segment(false, tcpSYN, []byte{optionMSS, 4, 5, 0xb4}))
	f.Add(segment(true, tcpSYN, []byte{optionMSS, 4, 5, 0xb4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePacket(b); err == nil {
			ClampMSS(b, p, 1000)
		}
	})
}

func TestEveryEventHasAName(t *testing.T) {
	seen := map[string]bool{}
	for k := NoEvent; k <= GuardMended; k++ {
		if seen[k.String()] || k.String()[0] == 'e' {
			t.Errorf("event %d is called %q", uint8(k), k)
		}
		seen[k.String()] = true
	}
	if got := EventKind(200).String(); got != "event(200)" {
		t.Errorf("an unknown event is called %q", got)
	}
}
