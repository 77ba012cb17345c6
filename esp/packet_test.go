package esp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"yumen/policy"
)

// ext is an IPv6 extension header of 8 bytes.
func ext(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestPacketFacts(t *testing.T) {
	dns := udp(5353, 53, []byte("x"))
	ah := join([]byte{protoUDP, 4, 0, 0}, make([]byte, 20), dns) // (4+2)*4 = 24 bytes
	for name, c := range map[string]struct {
		b    []byte
		want policy.Flow
	}{
		"IPv4 UDP":              {ipv4(here4, there4, 17, dns), policy.Flow{Local: here4, Remote: there4, Protocol: 17, LocalPort: 5353, RemotePort: 53, HasPorts: true}},
		"IPv4 TCP, header cut":  {ipv4(here4, there4, 6, dns[:3]), policy.Flow{Local: here4, Remote: there4, Protocol: 6}},
		"IPv4 SCTP":             {ipv4(here4, there4, 132, dns), policy.Flow{Local: here4, Remote: there4, Protocol: 132, LocalPort: 5353, RemotePort: 53, HasPorts: true}},
		"IPv4 GRE has no ports": {ipv4(here4, there4, 47, dns), policy.Flow{Local: here4, Remote: there4, Protocol: 47}},
		"IPv6 UDP":              {ipv6(here6, there6, 17, dns), policy.Flow{Local: here6, Remote: there6, Protocol: 17, LocalPort: 5353, RemotePort: 53, HasPorts: true}},
		"IPv6 chain": {ipv6(here6, there6, extHopByHop, join(ext(extDestOpts), ext(extRouting), ext(17), dns)),
			policy.Flow{Local: here6, Remote: there6, Protocol: 17, LocalPort: 5353, RemotePort: 53, HasPorts: true}},
		"IPv6 AH": {ipv6(here6, there6, extAuth, ah), policy.Flow{Local: here6, Remote: there6, Protocol: 17, LocalPort: 5353, RemotePort: 53, HasPorts: true}},
		"IPv6 atomic fragment": {ipv6(here6, there6, extFragment, join([]byte{17, 0, 0, 0, 1, 2, 3, 4}, dns)),
			policy.Flow{Local: here6, Remote: there6, Protocol: 17, LocalPort: 5353, RemotePort: 53, HasPorts: true}},
		"neighbour solicitation": {ipv6(here6, there6, 58, []byte{135, 0, 0, 0, 0, 0, 0, 0}),
			policy.Flow{Local: here6, Remote: there6, Protocol: 58, Discovery: true}},
		"echo": {ipv4(here4, there4, 1, []byte{8, 0, 0, 0, 0, 0, 0, 0}), policy.Flow{Local: here4, Remote: there4, Protocol: 1}},
	} {
		for _, tail := range []int{0, 3} {
			p, err := ParsePacket(append(bytes.Clone(c.b), make([]byte, tail)...))
			if err != nil || p.FlowOut() != c.want || p.Length != len(c.b) || p.Fragment || p.IsError {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
			back := p.FlowIn()
			if back.Local != c.want.Remote || back.RemotePort != c.want.LocalPort || back.LocalPort != c.want.RemotePort {
				t.Errorf("%s: inbound %+v", name, back)
			}
		}
	}
}

func TestFragmentFacts(t *testing.T) {
	for name, frags := range map[string][][]byte{
		"IPv4": split4(ipv4(here4, there4, 17, udp(1, 2, numbered(100))), 48),
		"IPv6": split6(ipv6(here6, there6, 17, udp(1, 2, numbered(100))), 48),
	} {
		for i, f := range frags {
			p, err := ParsePacket(f)
			if err != nil || !p.Fragment || p.Offset != 48*i || p.More != (i < 2) || p.HasPorts != (i == 0) || p.Protocol != 17 {
				t.Errorf("%s fragment %d: %+v, %v", name, i, p, err)
			}
		}
	}
}

func TestBrokenPacketsAreRefused(t *testing.T) {
	v4, v6 := ipv4(here4, there4, 17, udp(1, 2, nil)), ipv6(here6, there6, 17, udp(1, 2, nil))
	change := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"empty": nil, "version 5": change(v4, 0, 0x55), "IHL 4": change(v4, 0, 0x44), "IHL 15": change(v4, 0, 0x4f),
		"IPv4 too long": change(v4, 3, 29), "IPv4 shorter than its header": change(v4, 3, 19),
		"IPv6 too long": change(v6, 5, 9), "extension cut": ipv6(here6, there6, 0, []byte{17, 1, 0, 0, 0, 0, 0, 0}),
		"no room for a fragment header": ipv6(here6, there6, extFragment, make([]byte, 7)),
		"two fragment headers": ipv6(here6, there6, extFragment, join([]byte{extFragment, 0, 0, 1, 0, 0, 0, 1},
			[]byte{17, 0, 0, 1, 0, 0, 0, 1}, udp(1, 2, nil))),
	} {
		if p, err := ParsePacket(b); err != ErrMalformed {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for _, whole := range [][]byte{v4, v6, ipv6(here6, there6, 0, join(ext(60), ext(17), udp(1, 2, nil)))} {
		for n := range whole {
			if _, err := ParsePacket(whole[:n]); err != ErrMalformed {
				t.Errorf("prefix of %d of %x accepted", n, whole)
			}
		}
	}
}

// icmpError is an ICMP error of kind about a packet.
func icmpError(src, dst netip.Addr, kind byte, about []byte) []byte {
	body := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, about...)
	if dst.Is6() {
		return ipv6(src, dst, protoICMPv6, body)
	}
	return ipv4(src, dst, protoICMP, body)
}

func TestICMPErrorIsJudgedByThePacketItQuotes(t *testing.T) {
	router4, router6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:ffff::1")
	sent4 := ipv4(here4, there4, 17, udp(4000, 53, numbered(900)))
	sent6 := ipv6(here6, there6, 17, udp(4000, 53, numbered(1100)))
	want4 := policy.Flow{Local: here4, Remote: there4, Protocol: 17, LocalPort: 4000, RemotePort: 53, HasPorts: true}
	want6 := want4
	want6.Local, want6.Remote = here6, there6
	check := func(b []byte, want policy.Flow) {
		t.Helper()
		p, err := ParsePacket(b)
		if err != nil || !p.IsError || p.FlowIn() != want {
			t.Errorf("%+v, %v", p, err)
		}
		// The other site, which sends the error, sees the same from its side.
		out := p.FlowOut()
		if out.Local != want.Remote || out.Remote != want.Local || out.LocalPort != want.RemotePort {
			t.Errorf("outbound %+v", out)
		}
	}
	for _, kind := range []byte{3, 4, 5, 11, 12} {
		check(icmpError(router4, here4, kind, sent4[:28]), want4) // the least: header and 8 bytes
		check(icmpError(router4, here4, kind, sent4), want4)
	}
	for _, kind := range []byte{1, 2, 3, 4} {
		check(icmpError(router6, here6, kind, sent6[:200]), want6)
	}
	noPorts := want4
	noPorts.LocalPort, noPorts.RemotePort, noPorts.HasPorts = 0, 0, false
	check(icmpError(router4, here4, 3, sent4[:20]), noPorts)
}

func TestErrorAboutSomebodyElseStandsForItself(t *testing.T) {
	router := netip.MustParseAddr("192.0.2.1")
	about := ipv4(here4, there4, 17, udp(4000, 53, nil))
	for name, b := range map[string][]byte{
		"quote of another's packet": icmpError(router, there4, 3, about),
		"no quote":                  icmpError(router, here4, 3, nil),
		"quote cut":                 icmpError(router, here4, 3, about[:19]),
		"IPv6 in ICMPv4":            icmpError(router, here4, 3, ipv6(here6, there6, 17, nil)),
		"echo request":              icmpError(router, here4, 8, about),
	} {
		p, err := ParsePacket(b)
		if err != nil || p.IsError || p.FlowIn().Remote != router || p.FlowIn().Protocol != 1 {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestParsingAllocatesNothing(t *testing.T) {
	b := icmpError(here6, there6, 3, ipv6(there6, here6, 17, udp(1, 2, nil)))
	n := testing.AllocsPerRun(100, func() {
		p, err := ParsePacket(b)
		if err != nil || !p.IsError || p.FlowIn().LocalPort != 1 {
			t.Fatal(p, err)
		}
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzParsePacket(f *testing.F) {
	for _, b := range [][]byte{
		ipv4(here4, there4, 17, udp(1, 2, nil)), ipv6(here6, there6, 0, join(ext(60), ext(43), ext(6), udp(1, 2, nil))),
		split4(ipv4(here4, there4, 17, numbered(64)), 32)[1], split6(ipv6(here6, there6, 17, numbered(64)), 32)[0],
		icmpError(here4, there4, 3, ipv4(there4, here4, 6, numbered(8))), icmpError(here6, there6, 2, ipv6(there6, here6, 6, numbered(8))),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePacket(b)
		if err != nil {
			return
		}
		if p.Length < 20 || p.Length > len(b) || p.Fragment && (p.payload < 20 || p.payload > p.Length) {
			t.Fatalf("%+v of %d bytes", p, len(b))
		}
		if p.version == 4 && p.Length != int(binary.BigEndian.Uint16(b[2:])) {
			t.Fatal("length is not that of the header")
		}
		if again, err := ParsePacket(b[:p.Length]); err != nil || again != p {
			t.Fatalf("what follows the packet changed it: %+v, %v", again, err)
		}
		if p.HasPorts && p.Offset != 0 {
			t.Fatal("ports in a later fragment")
		}
		in, out := p.FlowIn(), p.FlowOut()
		if in.Local != out.Remote || in.LocalPort != out.RemotePort || in.HasPorts != out.HasPorts {
			t.Fatalf("%+v is not the reverse of %+v", in, out)
		}
	})
}
