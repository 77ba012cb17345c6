package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Sockets are the UDP sockets of one port, one for each family that the host has.
type Sockets struct{ bound []Bound }

// Listen binds port on all addresses, IPv4 and IPv6; port 0 takes any free one
// for each family. Answers can leave from the address that was asked, and large
// messages (certificates) are left to IP fragmentation. A host without IPv6 gets
// the IPv4 socket only.
func Listen(port uint16, bypass Bypass) (*Sockets, error) {
	s := &Sockets{}
	for _, network := range []string{"udp4", "udp6"} {
		w, err := listen(network, port, bypass)
		if network == "udp6" && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			continue
		}
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("%s port %d: %w (is another IKE daemon running?)", network, port, err)
		}
		s.bound = append(s.bound, w)
	}
	return s, nil
}

// Wires returns the sockets in the form that Config wants.
func (s *Sockets) Wires() []Bound { return s.bound }

// Close closes the sockets; their readers end.
func (s *Sockets) Close() error {
	var faults []error
	for _, b := range s.bound {
		faults = append(faults, b.Wire.(*socket).conn.Close())
	}
	return errors.Join(faults...)
}

// socket is a UDP socket of one family. Exactly one of v4 and v6 is set.
type socket struct {
	mu   sync.Mutex // of writers: guards how the socket discovers path MTUs
	conn *net.UDPConn
	port uint16
	v4   *ipv4.PacketConn
	v6   *ipv6.PacketConn

	control [256]byte // of the one reader
}

func listen(network string, port uint16, bypass Bypass) (Bound, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		if err := fragmentAnswers(network, c); err != nil {
			return err
		}
		if bypass != nil {
			return bypass(c)
		}
		return nil
	}}
	pc, err := lc.ListenPacket(context.Background(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		return Bound{}, err
	}
	s := &socket{conn: pc.(*net.UDPConn)}
	s.port = s.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if network == "udp4" {
		s.v4 = ipv4.NewPacketConn(s.conn)
		err = s.v4.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	} else {
		s.v6 = ipv6.NewPacketConn(s.conn)
		err = s.v6.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	}
	if err != nil {
		s.conn.Close()
		return Bound{}, err
	}
	return Bound{Wire: s, Port: s.port, IPv4: s.v4 != nil, IPv6: s.v6 != nil}, nil
}

// fragmentAnswers turns path MTU discovery off: a message with four certificates
// is larger than most paths, and a peer never answers one that did not arrive.
func fragmentAnswers(network string, c syscall.RawConn) error {
	return discover(c, network == "udp6", unix.IP_PMTUDISC_DONT)
}

// discover sets how path MTUs are discovered; the values of IPv6 are those of
// IPv4. IP_PMTUDISC_PROBE sends all that the link takes, whole.
func discover(c syscall.RawConn, v6 bool, how int) error {
	level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, how) })
	if err != nil {
		return err
	}
	return failed
}

// ReadIKE reads one datagram and says to which of our addresses it came. It
// allocates nothing: floods come this way.
func (s *socket) ReadIKE(buf []byte) (n int, local, remote netip.AddrPort, err error) {
	n, control, _, remote, err := s.conn.ReadMsgUDPAddrPort(buf, s.control[:])
	if err != nil {
		return 0, netip.AddrPort{}, netip.AddrPort{}, err
	}
	to := destination(s.control[:control])
	if !to.IsValid() || to.IsMulticast() {
		return 0, netip.AddrPort{}, netip.AddrPort{}, nil
	}
	return n, netip.AddrPortFrom(to, s.port), netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()), nil
}

// destination finds in control messages where a datagram was sent to; a link-local
// address of IPv6 with its interface.
func destination(control []byte) netip.Addr {
	for len(control) > 0 {
		h, body, rest, err := unix.ParseOneSocketControlMessage(control)
		switch {
		case err != nil:
			return netip.Addr{}
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(body) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(body[8:12]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(body) >= unix.SizeofInet6Pktinfo:
			to := netip.AddrFrom16([16]byte(body[:16])).Unmap()
			if to.Is6() && to.IsLinkLocalUnicast() {
				to = to.WithZone(fmt.Sprint(binary.NativeEndian.Uint32(body[16:])))
			}
			return to
		}
		control = rest
	}
	return netip.Addr{}
}

// WriteIKE sends data to remote from local, or from where the kernel likes when
// local has no address.
func (s *socket) WriteIKE(data []byte, local, remote netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(data, local, remote)
}

// ProbeIKE sends data like WriteIKE, but whole or not at all.
func (s *socket) ProbeIKE(data []byte, local, remote netip.AddrPort) error {
	c, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := discover(c, s.v6 != nil, unix.IP_PMTUDISC_PROBE); err != nil {
		return err
	}
	err = s.write(data, local, remote)
	return errors.Join(err, discover(c, s.v6 != nil, unix.IP_PMTUDISC_DONT))
}

func (s *socket) write(data []byte, local, remote netip.AddrPort) error {
	from := local.Addr()
	if !from.IsValid() || from.IsUnspecified() {
		_, err := s.conn.WriteToUDPAddrPort(data, remote)
		return err
	}
	to := net.UDPAddrFromAddrPort(remote)
	if s.v4 != nil {
		_, err := s.v4.WriteTo(data, &ipv4.ControlMessage{Src: from.AsSlice()}, to)
		return err
	}
	_, err := s.v6.WriteTo(data, &ipv6.ControlMessage{Src: from.AsSlice()}, to)
	return err
}
