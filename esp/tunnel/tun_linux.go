package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"yumen/esp/internal/segment"
)

// tunQueue is one queue of the open TUN device. One goroutine reads, any may write: each write
// is one packet, and none waits for another.
type tunQueue struct {
	file *os.File
	conn syscall.RawConn
	vnet bool // each packet stands behind a segment.Header

	buf   []byte
	n     int
	errno unix.Errno
	try   func(fd uintptr) bool // one closure for all packets
	once  func(fd uintptr)
}

// openTUN creates the device name with so many queues and what the kernel has of
// offloads, but those of without. It lives as long as one of the files is open.
func openTUN(name string, queues int, without Offload) (list []*tunQueue, on Offload, err error) {
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if without&OffloadTSO == 0 {
		flags |= unix.IFF_VNET_HDR
	}
	if without&OffloadQueues == 0 && queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
		on |= OffloadQueues
	}
	defer func() {
		if err != nil {
			for _, q := range list {
				q.file.Close()
			}
			list = nil
		}
	}()
	first, err := openQueue(name, flags)
	if errors.Is(err, unix.EINVAL) { // a kernel that knows none of this
		flags, on = unix.IFF_TUN|unix.IFF_NO_PI, 0
		first, err = openQueue(name, flags)
	}
	if err != nil {
		return nil, 0, err
	}
	list = append(list, first)
	for on&OffloadQueues != 0 && len(list) < queues {
		q, err := openQueue(name, flags)
		if err != nil {
			return list, 0, err
		}
		list = append(list, q)
	}
	if first.vnet {
		err = first.control(func(fd int) { on |= offloadTUN(fd, without) })
	}
	return list, on, err
}

func openQueue(name string, flags uint16) (*tunQueue, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("open /dev/net/tun: %w (load the kernel module: modprobe tun)", err)
	case err != nil:
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	if err := attachTUN(fd, name, flags); err != nil {
		unix.Close(fd)
		return nil, err
	}
	// Only now: the poller must not see the file before it is a device.
	return newTUNQueue(os.NewFile(uintptr(fd), "/dev/net/tun"), flags&unix.IFF_VNET_HDR != 0)
}

func attachTUN(fd int, name string, flags uint16) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("tun device name %q: %w (at most 15 bytes)", name, err)
	}
	request.SetUint16(flags)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("create tun device %s: %w (run as root or grant CAP_NET_ADMIN)", name, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("create tun device %s: %w (another process owns it: stop it or choose another name)", name, err)
	case err != nil:
		return fmt.Errorf("create tun device %s: %w", name, err)
	}
	return nil
}

// offloadTUN tells the device what we can cut, the most first.
func offloadTUN(fd int, without Offload) Offload {
	const tso, uso = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6
	if without&OffloadUSO == 0 && unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso|uso) == nil {
		return OffloadTSO | OffloadUSO
	}
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso) == nil {
		return OffloadTSO
	}
	return 0
}

func (q *tunQueue) control(f func(fd int)) error {
	return q.conn.Control(func(fd uintptr) { f(int(fd)) })
}

func newTUNQueue(file *os.File, vnet bool) (*tunQueue, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("tun device: %w", err)
	}
	q := &tunQueue{file: file, conn: conn, vnet: vnet}
	read := func(fd uintptr) {
		n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&q.buf[0])), uintptr(len(q.buf)))
		q.n, q.errno = int(n), errno
	}
	q.once = read
	q.try = func(fd uintptr) bool { read(fd); return q.errno != unix.EAGAIN }
	return q, nil
}

// next reads one packet, with its header if there are headers, into buf. With wait
// it waits for one, without it returns 0 when none is there.
func (q *tunQueue) next(buf []byte, wait bool) (int, error) {
	q.buf = buf
	var err error
	if wait {
		err = q.conn.Read(q.try)
	} else {
		err = q.conn.Control(q.once)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, err
	case err != nil: // the poller's own word for it
		return 0, os.ErrClosed
	case q.errno == unix.EAGAIN && !wait:
		return 0, nil
	case q.errno != 0:
		return 0, q.errno
	}
	return q.n, nil
}

// tunWriter writes packets. Not for concurrent use; of one queue there may be many.
type tunWriter struct {
	queue *tunQueue
	head  [segment.HeaderLen]byte // of a packet that is not to be cut
	iov   [66]unix.Iovec
	n     int
	errno unix.Errno
	call  func(fd uintptr)
}

func newTUNWriter(q *tunQueue) *tunWriter {
	w := &tunWriter{queue: q}
	w.call = func(fd uintptr) {
		_, _, w.errno = unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&w.iov[0])), uintptr(w.n))
	}
	return w
}

// write gives the host one packet.
func (w *tunWriter) write(packet []byte) error {
	w.n = 0
	if w.queue.vnet {
		w.add(w.head[:])
	}
	w.add(packet)
	return w.flush()
}

// group gives the host packets that were joined.
func (w *tunWriter) group(g *segment.Group) error {
	w.n = 0
	if w.queue.vnet {
		w.add(g.Head[:])
	}
	for _, b := range g.Pieces {
		w.add(b)
	}
	return w.flush()
}

func (w *tunWriter) add(b []byte) {
	w.iov[w.n].Base = &b[0]
	w.iov[w.n].SetLen(len(b))
	w.n++
}

// flush does not wait: a TUN device takes a packet or drops it.
func (w *tunWriter) flush() error {
	if err := w.queue.conn.Control(w.call); err != nil {
		return err
	}
	if w.errno != 0 {
		return w.errno
	}
	return nil
}
