package server

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAnswersLeaveFromTheAddressThatWasAsked sends to two addresses of one
// socket and expects each answer from the address that was asked, IPv4 and IPv6,
// and with a message larger than any path.
func TestAnswersLeaveFromTheAddressThatWasAsked(t *testing.T) {
	s, err := Listen(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	big := bytes.Repeat([]byte{0xa5}, 9000)
	for _, b := range s.Wires() {
		hosts := addrs("127.0.0.1", "127.0.0.2")
		if b.IPv6 {
			hosts = addrs("::1")
		}
		for _, host := range hosts {
			askAndAnswer(t, b, netip.AddrPortFrom(host, b.Port), big)
		}
	}
}

func askAndAnswer(t *testing.T, b Bound, to netip.AddrPort, data []byte) {
	t.Helper()
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.WriteToUDPAddrPort(data, to); err != nil {
		if to.Addr().Is6() {
			t.Skipf("no IPv6 on this host: %v", err)
		}
		t.Fatal(err)
	}
	buf := make([]byte, maxDatagram)
	n, local, remote, err := b.Wire.ReadIKE(buf)
	if err != nil || local != to || !bytes.Equal(buf[:n], data) {
		t.Fatalf("read %d bytes to %v from %v: %v", n, local, remote, err)
	}
	if err := b.Wire.WriteIKE(buf[:n], local, remote); err != nil {
		t.Fatal(err)
	}
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil || from.Addr().Unmap() != to.Addr() || n != len(data) {
		t.Errorf("%v was asked, %v answered with %d bytes: %v", to, from, n, err)
	}
	if err := b.Wire.WriteIKE([]byte("x"), netip.AddrPort{}, remote); err != nil {
		t.Errorf("without a source: %v", err)
	}
}

func TestASocketInUseIsNamedWithItsPort(t *testing.T) {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if s, err := Listen(port, nil); err == nil {
		s.Close()
		t.Error("two sockets on one port")
	} else if !errors.Is(err, unix.EADDRINUSE) {
		t.Error(err)
	}
}

// A probe leaves whole and lets what follows it be cut.
func TestAProbeChangesOneDatagramOnly(t *testing.T) {
	s, err := Listen(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, b := range s.Wires() {
		host, level, option := addrs("127.0.0.1")[0], unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
		if b.IPv6 {
			host, level, option = addrs("::1")[0], unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
		}
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
		if err != nil && b.IPv6 {
			continue // no IPv6 here
		}
		if err != nil {
			t.Fatal(err)
		}
		to := c.LocalAddr().(*net.UDPAddr).AddrPort()
		if err := b.Wire.(Prober).ProbeIKE(make([]byte, 1400), netip.AddrPortFrom(host, b.Port), to); err != nil {
			t.Error(err)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if n, from, err := c.ReadFromUDPAddrPort(make([]byte, maxDatagram)); n != 1400 || from.Addr().Unmap() != host {
			t.Errorf("%d bytes from %v: %v", n, from, err)
		}
		c.Close()
		raw, err := b.Wire.(*socket).conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if v, err := unix.GetsockoptInt(int(fd), level, option); err != nil || v != unix.IP_PMTUDISC_DONT {
				t.Errorf("path MTU discovery is %d afterwards, %v", v, err)
			}
		})
	}
}

func TestSocketsAreMarkedAndFragmentTheirAnswers(t *testing.T) {
	var marked int
	s, err := Listen(0, func(c syscall.RawConn) error {
		marked++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if marked != len(s.Wires()) {
		t.Errorf("%d of %d sockets were marked", marked, len(s.Wires()))
	}
	for _, b := range s.Wires() {
		level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
		if b.IPv6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
		}
		raw, err := b.Wire.(*socket).conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if v, err := unix.GetsockoptInt(int(fd), level, option); err != nil || v != unix.IP_PMTUDISC_DONT {
				t.Errorf("path MTU discovery is %d, %v", v, err)
			}
		})
	}
	s.Close()
	if _, _, _, err := s.Wires()[0].Wire.ReadIKE(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed socket says %v", err)
	}
	refused := errors.New("not permitted")
	if _, err := Listen(0, func(syscall.RawConn) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("a socket that could not be marked was opened: %v", err)
	}
}
