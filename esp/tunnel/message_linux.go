package tunnel

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of x/sys allocate an address for each packet; these do not.

// receiver reads one datagram at a time from a socket. Not for concurrent use.
type receiver struct {
	socket  *socket
	port    uint16 // of ours, for UDP
	buf     []byte
	control [256]byte
	name    unix.RawSockaddrInet6 // the larger of the two
	iov     unix.Iovec
	hdr     unix.Msghdr
	n       int
	errno   unix.Errno
	try     func(fd uintptr) bool // one closure for all packets
}

func newReceiver(s *socket, port uint16) *receiver {
	r := &receiver{socket: s, port: port, buf: make([]byte, maxPacket)}
	if !s.kind.udp() {
		r.port = 0
	}
	r.try = func(fd uintptr) bool {
		r.iov.Base = &r.buf[0]
		r.iov.SetLen(len(r.buf))
		r.hdr = unix.Msghdr{
			Name: (*byte)(unsafe.Pointer(&r.name)), Namelen: uint32(unsafe.Sizeof(r.name)),
			Iov: &r.iov, Control: &r.control[0],
		}
		r.hdr.SetIovlen(1)
		r.hdr.SetControllen(len(r.control))
		n, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.hdr)), 0)
		r.n, r.errno = int(n), errno
		return errno != unix.EAGAIN
	}
	return r
}

// next waits for a datagram. Its data is valid until the next call.
func (r *receiver) next(d *datagram) error {
	if err := r.socket.conn.Read(r.try); err != nil {
		return err
	}
	if r.errno != 0 {
		return r.errno
	}
	if r.socket.kind.v6() {
		d.remote = netip.AddrPortFrom(netip.AddrFrom16(r.name.Addr), bigEndian(r.name.Port))
	} else {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&r.name))
		d.remote = netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), bigEndian(v4.Port))
	}
	if !r.socket.kind.udp() {
		d.remote = netip.AddrPortFrom(d.remote.Addr(), 0)
	}
	d.local = netip.AddrPortFrom(netip.Addr{}, r.port)
	return d.split(r.socket.kind, r.buf[:r.n], r.control[:r.hdr.Controllen])
}

// bigEndian turns a port as it lies in a socket address.
func bigEndian(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

func cmsghdr(b []byte) (size int, level, typ int32) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	return int(h.Len), h.Level, h.Type
}

// envelope is where one packet goes and from where.
type envelope struct {
	local, remote netip.AddrPort
	tos           byte
	hopLimit      int  // IPv6 only; 0: the default of the host
	whole         bool // IPv6 only: not to be cut by the host
}

// sender writes one datagram at a time to a socket. Not for concurrent use.
type sender struct {
	socket  *socket
	control [128]byte
	name    unix.RawSockaddrInet6
	iov     unix.Iovec
	hdr     unix.Msghdr
	errno   unix.Errno
	try     func(fd uintptr) bool
}

func newSender(s *socket) *sender {
	w := &sender{socket: s}
	w.try = func(fd uintptr) bool {
		_, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&w.hdr)), unix.MSG_NOSIGNAL)
		w.errno = errno
		return errno != unix.EAGAIN
	}
	return w
}

// send writes data. For the IPv4 sender data is a whole IP packet.
func (w *sender) send(data []byte, e envelope) error {
	if len(data) == 0 {
		return unix.EINVAL
	}
	w.iov.Base = &data[0]
	w.iov.SetLen(len(data))
	w.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&w.name)), Iov: &w.iov}
	w.hdr.SetIovlen(1)
	if w.socket.kind.v6() {
		w.address6(e)
	} else {
		w.address4(e)
	}
	if err := w.socket.conn.Write(w.try); err != nil {
		return err
	}
	if w.errno != 0 {
		return w.errno
	}
	return nil
}

func (w *sender) address4(e envelope) {
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&w.name))
	*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: bigEndian(e.remote.Port()), Addr: e.remote.Addr().Unmap().As4()}
	w.hdr.Namelen = unix.SizeofSockaddrInet4
	local := e.local.Addr().Unmap()
	if !local.Is4() || local.IsUnspecified() {
		return
	}
	body := w.attach(0, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
	spec := local.As4()
	copy(body[4:8], spec[:])
	w.used(unix.CmsgSpace(unix.SizeofInet4Pktinfo))
}

func (w *sender) address6(e envelope) {
	port := e.remote.Port()
	if !w.socket.kind.udp() {
		port = 0 // a raw socket takes it for the protocol
	}
	w.name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: bigEndian(port), Addr: e.remote.Addr().As16()}
	w.hdr.Namelen = unix.SizeofSockaddrInet6
	at := 0
	if local := e.local.Addr(); local.Is6() && !local.IsUnspecified() {
		body := w.attach(at, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		spec := local.As16()
		copy(body, spec[:])
		at += unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	body := w.attach(at, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4)
	binary.NativeEndian.PutUint32(body, uint32(e.tos))
	at += unix.CmsgSpace(4)
	if e.hopLimit > 0 {
		body := w.attach(at, unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 4)
		binary.NativeEndian.PutUint32(body, uint32(e.hopLimit))
		at += unix.CmsgSpace(4)
	}
	if e.whole {
		body := w.attach(at, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 4)
		binary.NativeEndian.PutUint32(body, 1)
		at += unix.CmsgSpace(4)
	}
	w.used(at)
}

// attach writes a control message header at offset at and returns its zeroed body.
func (w *sender) attach(at, level, typ, size int) []byte {
	b := w.control[at : at+unix.CmsgSpace(size)]
	clear(b)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = int32(level), int32(typ)
	h.SetLen(unix.CmsgLen(size))
	return b[unix.CmsgLen(0):]
}

func (w *sender) used(n int) {
	w.hdr.Control = &w.control[0]
	w.hdr.SetControllen(n)
}
