package tunnel

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of x/sys allocate an address for each packet; those here, of outbox and
// of inbox do not.

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

// envelope is where packets go and from where.
type envelope struct {
	local, remote netip.AddrPort
	tos           byte
	hopLimit      int  // IPv6 only; 0: the default of the host
	whole         bool // IPv6 only: not to be cut by the host
	segment       int  // UDP only: the host cuts the message into datagrams of this size; 0: it is one
}

// letter is the address of a message and what goes with it, as the kernel wants it.
type letter struct {
	name    unix.RawSockaddrInet6 // the larger of the two
	control [160]byte
	used    int
}

// address fills the letter and the parts of h that point to it.
func (l *letter) address(h *unix.Msghdr, k kind, e envelope) {
	l.used = 0
	if k.v6() {
		l.address6(k, e)
		h.Namelen = unix.SizeofSockaddrInet6
	} else {
		l.address4(e)
		h.Namelen = unix.SizeofSockaddrInet4
	}
	if e.segment > 0 {
		body := l.attach(unix.SOL_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(body, uint16(e.segment))
	}
	h.Name, h.Control = (*byte)(unsafe.Pointer(&l.name)), nil
	if l.used > 0 {
		h.Control = &l.control[0]
	}
	h.SetControllen(l.used)
}

func (l *letter) address4(e envelope) {
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&l.name))
	*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: bigEndian(e.remote.Port()), Addr: e.remote.Addr().Unmap().As4()}
	if local := e.local.Addr().Unmap(); local.Is4() && !local.IsUnspecified() {
		spec := local.As4()
		copy(l.attach(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)[4:8], spec[:])
	}
	if e.segment > 0 { // everything else brings its own header or does not care
		binary.NativeEndian.PutUint32(l.attach(unix.IPPROTO_IP, unix.IP_TOS, 4), uint32(e.tos))
	}
}

func (l *letter) address6(k kind, e envelope) {
	port := e.remote.Port()
	if !k.udp() {
		port = 0 // a raw socket takes it for the protocol
	}
	l.name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: bigEndian(port), Addr: e.remote.Addr().As16()}
	if local := e.local.Addr(); local.Is6() && !local.IsUnspecified() {
		spec := local.As16()
		copy(l.attach(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo), spec[:])
	}
	binary.NativeEndian.PutUint32(l.attach(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4), uint32(e.tos))
	if e.hopLimit > 0 {
		binary.NativeEndian.PutUint32(l.attach(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 4), uint32(e.hopLimit))
	}
	if e.whole {
		binary.NativeEndian.PutUint32(l.attach(unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 4), 1)
	}
}

// attach adds a control message and returns its zeroed body.
func (l *letter) attach(level, typ, size int) []byte {
	b := l.control[l.used : l.used+unix.CmsgSpace(size)]
	l.used += len(b)
	clear(b)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = int32(level), int32(typ)
	h.SetLen(unix.CmsgLen(size))
	return b[unix.CmsgLen(0):]
}

// sender writes one datagram at a time to a socket. Not for concurrent use.
type sender struct {
	socket *socket
	letter letter
	iov    unix.Iovec
	hdr    unix.Msghdr
	errno  unix.Errno
	flags  int
	try    func(fd uintptr) bool
	once   func(fd uintptr) // nil: a full socket is waited for
}

// newHastySender makes a sender that waits for nothing: a full socket is an error.
func newHastySender(s *socket) *sender {
	w := newSender(s)
	w.flags |= unix.MSG_DONTWAIT
	w.once = func(fd uintptr) { w.try(fd) }
	return w
}

func newSender(s *socket) *sender {
	w := &sender{socket: s, flags: unix.MSG_NOSIGNAL}
	w.try = func(fd uintptr) bool {
		_, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&w.hdr)), uintptr(w.flags))
		w.errno = errno
		return errno != unix.EAGAIN
	}
	return w
}

// send writes data.
func (w *sender) send(data []byte, e envelope) error {
	if len(data) == 0 {
		return unix.EINVAL
	}
	w.iov.Base = &data[0]
	w.iov.SetLen(len(data))
	w.hdr = unix.Msghdr{Iov: &w.iov}
	w.hdr.SetIovlen(1)
	w.letter.address(&w.hdr, w.socket.kind, e)
	var err error
	if w.once != nil {
		err = w.socket.conn.Control(w.once)
	} else {
		err = w.socket.conn.Write(w.try)
	}
	if err != nil {
		return err
	}
	if w.errno != 0 {
		return w.errno
	}
	return nil
}
