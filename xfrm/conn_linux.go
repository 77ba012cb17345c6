package xfrm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// conn is a netlink socket to XFRM in the namespace of the thread that opened it.
// The library's own would leave keys in buffers that nobody wipes: requests carry
// them, and so do answers about SAs.
type conn struct {
	port uint32 // by which the kernel knows the socket

	mu  sync.Mutex // guards all below; one request at a time
	fd  int
	seq uint32
	in  []byte
}

// roomIn holds the largest answer: dumps come in pieces of at most 32 KiB.
const roomIn = 64 << 10

var errNoXFRM = errors.New("this kernel has no XFRM: CONFIG_XFRM_USER, module xfrm_user")

func openConn() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, errNoXFRM
	}
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	c := &conn{fd: fd, in: make([]byte, roomIn)}
	wait := unix.Timeval{Sec: 10}
	for _, f := range []func() error{
		func() error { return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) },
		func() error { return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait) },
		// An error would else bring the whole request back, key and all.
		func() error { return unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1) },
	} {
		if err := f(); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("open netlink: %w", err)
		}
	}
	if a, err := unix.Getsockname(fd); err == nil {
		if n, ok := a.(*unix.SockaddrNetlink); ok {
			c.port = n.Pid
		}
	}
	return c, nil
}

func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// do sends a request and hands each answer to each; nil where none is expected.
// What each is given is wiped when do returns, and so is the request.
func (c *conn) do(m *message, each func(data []byte)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer clear(m.b)
	if c.fd < 0 {
		return errClosed
	}
	c.seq++
	binary.NativeEndian.PutUint32(m.b[0:], uint32(len(m.b)))
	binary.NativeEndian.PutUint16(m.b[4:], m.kind)
	binary.NativeEndian.PutUint16(m.b[6:], m.flags|unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(m.b[8:], c.seq)
	if err := unix.Sendto(c.fd, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send to the kernel: %w", err)
	}
	for {
		n, from, err := unix.Recvfrom(c.fd, c.in, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read from the kernel: %w", err)
		}
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
			continue // not the kernel
		}
		end, err := c.take(c.in[:n], m.flags, each)
		clear(c.in[:n])
		if end || err != nil {
			return err
		}
	}
}

// take walks through the messages of one datagram. True: that was all.
func (c *conn) take(b []byte, flags uint16, each func(data []byte)) (bool, error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return true, errors.New("the kernel's answer is cut off")
		}
		kind, got := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		seq, data := binary.NativeEndian.Uint32(b[8:]), b[unix.NLMSG_HDRLEN:size]
		b = b[min((size+3)&^3, len(b)):]
		if seq != c.seq {
			continue // late answer to a request that timed out
		}
		if got&unix.NLM_F_DUMP_INTR != 0 {
			return true, errInterrupted
		}
		switch kind {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			return true, kernelError(data, got)
		default:
			if each != nil {
				each(data)
			}
			if got&unix.NLM_F_MULTI == 0 && flags&unix.NLM_F_ACK == 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

var errInterrupted = errors.New("the list changed while it was read")

// kernelError reads an error and, where the kernel gives one, its text.
func kernelError(data []byte, flags uint16) error {
	if len(data) < 4 {
		return errors.New("the kernel's answer is cut off")
	}
	number := int32(binary.NativeEndian.Uint32(data))
	if number == 0 {
		return nil
	}
	err := error(syscall.Errno(-number))
	const capped, errorHead = 0x100, 4 + unix.NLMSG_HDRLEN // NLM_F_CAPPED: only the head of the request
	if flags&unix.NLM_F_ACK_TLVS == 0 || flags&capped == 0 || len(data) < errorHead {
		return err
	}
	for kind, value := range attrs(data[errorHead:]) {
		if kind == nl.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w: %s", err, unix.ByteSliceToString(value))
		}
	}
	return err
}

// attrs are the attributes in b; it stops at the first that does not fit.
func attrs(b []byte) func(yield func(kind uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if size < unix.SizeofRtAttr || size > len(b) {
				return
			}
			if !yield(kind, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
