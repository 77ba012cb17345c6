package netns

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/test/site"
	"yumen/xfrm"
)

// complaint is an ICMP error of a router behind gateway A, whose address is in no
// selector, about a packet to a host beside it.
type complaint struct {
	about  site.Flow // from whom, and to whom; and what it carried
	router string
}

// Addresses of an inside router that no tunnel names.
const (
	transit4, transit6 = "172.31.7.7", "fd99::7"
)

// complaints are about what came by the tunnel, and about what nobody protects.
func (two *TwoSites) complaints() (protected, plain []complaint) {
	about := func(from, to string) site.Flow {
		return site.Flow{From: two.HostA, FromAddr: from, ToAddr: to, Marker: site.NewMarker()}
	}
	return []complaint{{about(HostB4, HostA4), transit4}, {about(HostB6, HostA6), transit6}},
		[]complaint{{about("198.51.100.254", HostA4), transit4}, {about("2001:db8:b::fe", HostA6), transit6}}
}

// packet is an IP packet with its header.
func packet(src, dst string, protocol byte, payload []byte) []byte {
	from, to := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	var b []byte
	if from.Is4() {
		b = append([]byte{0x45, 0, 0, 0, 0, 7, 0, 0, 64, protocol, 0, 0}, slices.Concat(from.AsSlice(), to.AsSlice())...)
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
		binary.BigEndian.PutUint16(b[10:], ^sum(b))
	} else {
		b = append([]byte{0x60, 0, 0, 0, 0, 0, protocol, 64}, slices.Concat(from.AsSlice(), to.AsSlice())...)
		binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	}
	return append(b, payload...)
}

// sum is the Internet checksum before its complement (RFC 1071).
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}

// send has the inside router send its error: destination or port unreachable.
func (c complaint) send(t *testing.T) {
	t.Helper()
	const udp, icmp, icmp6 = 17, 1, 58
	datagram := append([]byte{0x30, 0, 0, 9, 0, byte(8 + len(c.about.Marker)), 0, 0}, c.about.Marker[:]...)
	quote := packet(c.about.FromAddr, c.about.ToAddr, udp, datagram)
	to := netip.MustParseAddr(c.about.FromAddr)
	family, protocol, body := unix.AF_INET, byte(icmp), append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, quote...)
	var over []byte
	if to.Is6() {
		family, protocol, body[0], body[1] = unix.AF_INET6, icmp6, 1, 4
		over = slices.Concat(netip.MustParseAddr(c.router).AsSlice(), to.AsSlice(), []byte{0, 0, byte(len(body) >> 8), byte(len(body)), 0, 0, 0, icmp6})
	}
	binary.BigEndian.PutUint16(body[2:], ^sum(append(over, body...)))
	Check(t, c.about.From.Do(func() error {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		b := packet(c.router, c.about.FromAddr, protocol, body)
		if to.Is6() {
			return unix.Sendto(fd, b, 0, &unix.SockaddrInet6{Addr: to.As16()})
		}
		return unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: to.As4()})
	}))
}

// inClear sends complaints and returns what of them is seen outside.
func (two *TwoSites) inClear(t *testing.T, list []complaint) []string {
	t.Helper()
	stop := Capture(t, two.Router, "wan-a", "")
	for i := range list {
		list[i].about.Marker = site.NewMarker()
		list[i].send(t)
	}
	found, err := site.Found(stop(), needles(list))
	Check(t, err)
	return found
}

func needles(list []complaint) (out []site.Needle) {
	for i := range list {
		out = append(out, site.Needle{What: list[i].about.FromAddr, Bytes: list[i].about.Marker[:]})
	}
	return out
}

// A router behind the gateway answers packets that came out of the tunnel from an address
// of its own: no selector has it, and what it quotes must not leave in clear.
func TestErrorsThatQuoteProtectedPacketsDoNotLeaveInClear(t *testing.T) {
	Need(t)
	t.Parallel()
	everything := []childSpec{{Local: "10.1.0.0/24", Remote: "0.0.0.0/0"}, {Local: "fd01::/64", Remote: "::/0"}}
	for name, children := range map[string][]childSpec{"subnets": subnets(), "everything": everything} {
		t.Run(name, func(t *testing.T) {
			two := NewTwoSites(t)
			Check(t, two.GatewayA.Route(transit4+"/32 via "+HostA4, transit6+"/128 via "+HostA6))
			protected, plain := two.complaints()
			if name == "everything" {
				plain = nil // there is nothing that it does not protect
			}
			hidden := func(when string) {
				t.Helper()
				if found := two.inClear(t, protected); len(found) > 0 {
					t.Errorf("%s: in clear outside are errors to %q", when, found)
				}
				if found := two.inClear(t, plain); len(found) != len(plain) {
					t.Errorf("%s: of errors about what nobody protects only those to %q leave", when, found)
				}
			}
			if found := two.inClear(t, protected); len(found) != len(protected) {
				t.Fatalf("the search finds %q without protection", found)
			}
			s := spec{Children: children}
			a, b := two.both(t, s)
			carry(t, two.flows(), 10_000)
			// They go back by the tunnel. (Over IPv4 the far host then goes by its rp_filter.)
			inside := Capture(t, two.GatewayB, "yumen0", "")
			hidden("while the plane runs")
			if found, err := site.Found(inside(), needles(protected)); err != nil || len(found) != len(protected) {
				t.Errorf("by the tunnel came errors to %q, %v", found, err)
			}
			a.Kill()
			b.Kill()
			hidden("after kill -9")
			pol, err := (&spec{Children: children, ICV: 96}).policy()
			Check(t, err)
			spd, err := policy.Compile(pol)
			Check(t, err)
			in := func(f func() error) { t.Helper(); Check(t, two.GatewayA.Do(f)) }
			in(func() error { return tunnel.RemoveGuard(tunnel.Config{}) })
			in(func() error { _, err := xfrm.SetGuard(spd.Rules()); return err })
			hidden("by the guard of a boot")
			var k *xfrm.Plane
			in(func() (err error) { k, err = xfrm.New(xfrm.Config{}); return err })
			Check(t, k.SetPolicy(pol))
			hidden("by the kernel plane")
			Check(t, k.Close())
			in(xfrm.RemoveGuard)
			if found := two.inClear(t, protected); len(found) != len(protected) {
				t.Errorf("when every guard is gone only errors to %q leave", found)
			}
		})
	}
}
