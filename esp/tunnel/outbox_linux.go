package tunnel

import (
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	mostMessages = 64  // of one system call
	mostParts    = 192 // slices of all of them
)

// mmsghdr is struct mmsghdr, whose end the compiler pads as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// outbox collects messages to one socket and sends them by one system call. Not
// for concurrent use.
type outbox struct {
	socket  *socket
	letters [mostMessages]letter
	heads   [mostMessages]mmsghdr
	parts   [mostParts]unix.Iovec
	jobs    [mostMessages]span
	errs    [mostMessages]unix.Errno
	count   int
	used    int // parts

	from  int // the message that comes next
	sent  int
	errno unix.Errno
	call  func(fd uintptr) // replaced by tests; one closure for all batches, as wait
	room  unix.PollFd
	most  unix.Timespec // that a wait for room takes before the socket is looked at again
	wait  func(fd uintptr)
}

// span is which packets of a batch a message carries.
type span struct{ from, n int }

func newOutbox(s *socket) *outbox {
	o := &outbox{socket: s}
	o.call = func(fd uintptr) {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&o.heads[o.from])),
			uintptr(o.count-o.from), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		o.sent, o.errno = int(n), errno
	}
	o.wait = func(fd uintptr) {
		// A closed file stays open while it is waited for, so not for ever.
		o.room, o.most = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}, unix.NsecToTimespec(int64(20*time.Millisecond))
		_, _, _ = unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&o.room)), 1, uintptr(unsafe.Pointer(&o.most)), 0, 0, 0)
	}
	return o
}

// full says whether a message of so many parts no longer fits.
func (o *outbox) full(parts int) bool {
	return o.count == mostMessages || o.used+parts > mostParts
}

// add begins a message for the packets of job; its parts follow by part.
func (o *outbox) add(e envelope, job span) {
	h := &o.heads[o.count]
	*h = mmsghdr{hdr: unix.Msghdr{Iov: &o.parts[o.used]}}
	o.letters[o.count].address(&h.hdr, o.socket.kind, e)
	o.jobs[o.count], o.errs[o.count] = job, 0
	o.count++
}

func (o *outbox) part(b []byte) {
	p := &o.parts[o.used]
	p.Base = &b[0]
	p.SetLen(len(b))
	o.used++
	h := &o.heads[o.count-1].hdr
	h.SetIovlen(int(h.Iovlen) + 1)
}

// post sends what was added and leaves in errs what became of each message. It
// waits where the socket's buffer is full, and only there.
func (o *outbox) post() {
	for o.from = 0; o.from < o.count; {
		err := o.socket.conn.Control(o.call)
		if err == nil && o.errno == unix.EAGAIN {
			err = o.socket.conn.Control(o.wait)
		}
		switch {
		case err != nil: // the socket is closed
			o.errs[o.from] = unix.EBADF
			o.from++
		case o.errno == unix.EINTR, o.errno == unix.EAGAIN:
		case o.errno != 0: // of the first message; those behind it were not tried
			o.errs[o.from] = o.errno
			o.from++
		default:
			o.from += o.sent
		}
	}
}

// empty forgets the messages.
func (o *outbox) empty() { o.count, o.used = 0, 0 }

// inbox receives many datagrams by one system call. Not for concurrent use.
type inbox struct {
	socket   *socket
	port     uint16 // of ours, for UDP
	bufs     [][]byte
	heads    []mmsghdr
	names    []unix.RawSockaddrInet6
	controls [][128]byte
	parts    []unix.Iovec
	n        int
	errno    unix.Errno
	try      func(fd uintptr) bool
}

// newInbox makes an inbox for s; joined says that datagrams come in runs.
func newInbox(s *socket, port uint16, joined bool) *inbox {
	most := 32
	if joined && s.kind.udp() {
		most = 8
	}
	r := &inbox{
		socket: s, port: port, bufs: make([][]byte, most), heads: make([]mmsghdr, most),
		names: make([]unix.RawSockaddrInet6, most), controls: make([][128]byte, most), parts: make([]unix.Iovec, most),
	}
	if !s.kind.udp() {
		r.port = 0
	}
	memory := make([]byte, most*maxPacket)
	for i := range r.bufs {
		r.bufs[i] = memory[i*maxPacket : (i+1)*maxPacket]
	}
	r.try = func(fd uintptr) bool {
		r.prepare()
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.heads[0])), uintptr(len(r.heads)), 0, 0, 0)
		r.n, r.errno = int(n), errno
		return errno != unix.EAGAIN
	}
	return r
}

func (r *inbox) prepare() {
	for i := range r.heads {
		r.parts[i].Base = &r.bufs[i][0]
		r.parts[i].SetLen(len(r.bufs[i]))
		h := &r.heads[i].hdr
		h.Iov = &r.parts[i]
		h.SetIovlen(1)
		h.Flags = 0
		if r.socket.kind == raw4 {
			continue // all else stands in the header of the packet
		}
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&r.names[i])), uint32(unsafe.Sizeof(r.names[i]))
		h.Control = &r.controls[i][0]
		h.SetControllen(len(r.controls[i]))
	}
}

// next waits for datagrams and returns how many came. They are valid until the
// next call.
func (r *inbox) next() (int, error) {
	if r.socket.conn.Read(r.try) != nil {
		return 0, os.ErrClosed // the poller has its own word for it
	}
	if r.errno != 0 {
		return 0, r.errno
	}
	return r.n, nil
}

// datagram fills d with the i-th of what next brought.
func (r *inbox) datagram(i int, d *datagram) error {
	if r.socket.kind == raw4 {
		return d.fill(raw4, r.bufs[i][:r.heads[i].n], nil)
	}
	if r.socket.kind.v6() {
		d.remote = netip.AddrPortFrom(netip.AddrFrom16(r.names[i].Addr), bigEndian(r.names[i].Port))
	} else {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&r.names[i]))
		d.remote = netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), bigEndian(v4.Port))
	}
	if !r.socket.kind.udp() {
		d.remote = netip.AddrPortFrom(d.remote.Addr(), 0)
	}
	d.local = netip.AddrPortFrom(netip.Addr{}, r.port)
	return d.fill(r.socket.kind, r.bufs[i][:r.heads[i].n], r.controls[i][:r.heads[i].hdr.Controllen])
}
