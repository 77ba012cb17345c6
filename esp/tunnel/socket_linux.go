package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// kind is which of the four receiving sockets a packet came in by. An SA is
// served by one kind only.
type kind uint8

const (
	raw4 kind = iota
	raw6
	udp4
	udp6
	kinds
)

func (k kind) String() string {
	return [...]string{"esp over ipv4", "esp over ipv6", "udp over ipv4", "udp over ipv6"}[k]
}

func (k kind) udp() bool { return k >= udp4 }
func (k kind) v6() bool  { return k&1 != 0 }

// kindOf says which socket serves a path.
func kindOf(remote netip.Addr, encap bool) kind {
	k := raw4
	if encap {
		k = udp4
	}
	if !remote.Unmap().Is4() {
		k++
	}
	return k
}

// socket is a socket: a non-blocking one in the runtime's poller, or one that only
// sends.
type socket struct {
	file *os.File
	conn syscall.RawConn
	kind kind
}

const socketBuffer = 4 << 20 // bytes: some milliseconds at 10 Gbit/s

// openSocket opens a receiving socket. UDP sockets are bound to port, which a
// further one shares with those that allow it.
func openSocket(k kind, port uint16, mark uint32, further bool) (*socket, error) {
	family, typ, proto := unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ESP
	if k.v6() {
		family = unix.AF_INET6
	}
	if k.udp() {
		typ, proto = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	}
	s, err := newSocket([3]int{family, typ, proto}, k, mark)
	if err != nil {
		return nil, err
	}
	err = s.control(func(fd int) error {
		if further && k.udp() {
			if err := sharesPort(fd); err != nil {
				return err
			}
		}
		return prepare(fd, k, port)
	})
	if err != nil {
		s.file.Close()
		return nil, fmt.Errorf("open socket for %s: %w", k, err)
	}
	return s, nil
}

// openSender opens a socket that takes whole IP packets. By it leave all of IPv4,
// because a per-packet DF bit can be had in no other way, and those of IPv6 that
// are larger than their path.
func openSender(v6 bool, mark uint32) (*socket, error) {
	if v6 {
		return newMuteSocket([3]int{unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW}, raw6, mark)
	}
	return newMuteSocket([3]int{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW}, raw4, mark)
}

// newSocket opens a socket that is waited for by the runtime's poller.
func newSocket(what [3]int, k kind, mark uint32) (*socket, error) {
	what[1] |= unix.SOCK_NONBLOCK // by which os.NewFile knows it
	return newMuteSocket(what, k, mark)
}

// newMuteSocket opens one that only sends. It stays out of the poller: whose socket
// is in an epoll set pays for a wake-up with each packet that has left, a tenth of
// what a packet of protocol 50 costs. An outbox waits by itself.
func newMuteSocket(what [3]int, k kind, mark uint32) (*socket, error) {
	fd, err := unix.Socket(what[0], what[1]|unix.SOCK_CLOEXEC, what[2])
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("open socket for %s: %w (run as root or grant CAP_NET_RAW)", k, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open socket for %s: %w", k, err)
	}
	if err := bypass(fd, mark); err != nil {
		unix.Close(fd)
		return nil, err
	}
	size := unix.SO_SNDBUFFORCE
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, size, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer) // as far as allowed
	}
	file := os.NewFile(uintptr(fd), k.String())
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open socket for %s: %w", k, err)
	}
	return &socket{file: file, conn: conn, kind: k}, nil
}

func prepare(fd int, k kind, port uint16) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	}
	type option struct {
		level, name, value int
	}
	var options []option
	switch {
	case k.v6():
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
		}
		if k.udp() { // before bind; a raw socket is bound from birth
			options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
		}
	case k.udp():
		options = []option{
			{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
			{unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
			// IKE may be fragmented anywhere; ESP does not leave by this socket. Other
			// than DONT it keeps the host from believing every ICMP error about size.
			{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT},
		}
	} // a raw socket of IPv4 gives the header itself
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("socket option %d: %w", o.name, err)
		}
	}
	if !k.udp() {
		return nil
	}
	var err error
	if k.v6() {
		err = unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)})
	} else {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)})
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("udp port %d: %w (stop the other IKE daemon)", port, err)
	}
	return err
}

// probing has IPv4 packets carry DF and leave whole, or ends that. It is for the
// UDP socket, by which no ESP of IPv4 leaves. IPv6 has a control message for it.
func (s *socket) probing(on bool) error {
	if s.kind.v6() {
		return nil
	}
	how := unix.IP_PMTUDISC_OMIT
	if on {
		how = unix.IP_PMTUDISC_PROBE
	}
	return s.control(func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, how)
	})
}

func (s *socket) control(f func(fd int) error) error {
	var inner error
	if err := s.conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// datagram is what one receive brought.
type datagram struct {
	data          []byte
	local, remote netip.AddrPort
	tos           byte
	segment       int // data is several datagrams of this size, the last perhaps shorter; 0: one
}

var errTruncated = errors.New("packet without an outer header")

// fill makes d from what the socket delivered: IPv4 raw sockets give the IP
// header, all others control messages.
func (d *datagram) fill(k kind, data, control []byte) error {
	d.data, d.tos, d.segment = data, 0, 0
	if k == raw4 {
		return d.stripHeader()
	}
	for len(control) >= unix.SizeofCmsghdr {
		size, level, typ := cmsghdr(control)
		if size < unix.SizeofCmsghdr || size > len(control) {
			break
		}
		d.note(level, typ, control[unix.CmsgLen(0):size])
		control = control[min(len(control), unix.CmsgSpace(size-unix.CmsgLen(0))):]
	}
	return nil
}

func (d *datagram) stripHeader() error {
	b := d.data
	if len(b) < 20 || len(b) < int(b[0]&15)*4 {
		return errTruncated
	}
	d.tos = b[1]
	d.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), 0)
	d.local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), 0)
	d.data = b[int(b[0]&15)*4:]
	return nil
}

func (d *datagram) note(level, typ int32, body []byte) {
	port := d.local.Port()
	switch {
	case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO && len(body) >= 12:
		d.local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[8:12])), port)
	case level == unix.IPPROTO_IP && typ == unix.IP_TOS && len(body) >= 1:
		d.tos = body[0]
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(body) >= 16:
		d.local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])), port)
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_TCLASS && len(body) >= 4:
		d.tos = byte(binary.NativeEndian.Uint32(body))
	case level == unix.SOL_UDP && typ == unix.UDP_GRO && len(body) >= 4:
		d.segment = int(binary.NativeEndian.Uint32(body))
	}
}
