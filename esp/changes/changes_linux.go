// Package changes tells that something in the tables of a network namespace changed:
// routes, ip rules, addresses, IPsec policies. That is all it tells: which of a thousand messages
// matters its user finds by looking, and where some were lost that is news as well.
//
// It refuses to know what the tables should hold. It is for both data planes, which
// must not know each other.
package changes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Message is one message of the kernel.
type Message struct {
	Kind uint16
	Body []byte // good until the call returns
}

// Watch is what is watched.
type Watch struct {
	Protocol int                // of netlink
	Groups   []int              // of that protocol
	Matters  func(Message) bool // nil: each does
	Settle   time.Duration      // gathers a burst; 0: told at once, and what comes meanwhile once more
	Changed  func()
}

// room for messages that wait, in bytes: more than the system allows others. A full
// table of routes does not fit, and need not.
const room = 1 << 20

// Begin watches the namespace of the calling thread until done is closed. Changed is
// called by one goroutine.
func (w Watch) Begin(done <-chan struct{}) error {
	file, err := w.open(room)
	if err != nil {
		return fmt.Errorf("watch netlink protocol %d: %w", w.Protocol, err)
	}
	w.run(file, done)
	return nil
}

func (w Watch) open(room int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, w.Protocol)
	if err != nil {
		return nil, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room) // as much as there may be
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range w.Groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

func (w Watch) run(file *os.File, done <-chan struct{}) {
	news := make(chan struct{}, 1)
	go func() {
		<-done
		file.Close()
	}()
	go w.hear(file, done, news)
	go w.tell(done, news)
}

// hear reads for ever. It cannot begin anew with another socket, which would be one of
// whatever namespace its thread is in then; so whatever goes wrong it reads on.
func (w Watch) hear(file *os.File, done <-chan struct{}, news chan<- struct{}) {
	buf := make([]byte, 64<<10)
	for {
		n, err := file.Read(buf)
		select {
		case <-done:
			return
		default:
		}
		if err == nil && !w.matters(buf[:n]) {
			continue
		}
		select {
		case news <- struct{}{}:
		default: // that it changed is known already
		}
		if err == nil || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
			continue
		}
		select { // a broken socket must not spin
		case <-done:
			return
		case <-time.After(time.Second):
		}
	}
}

func (w Watch) matters(b []byte) bool {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false
		}
		if w.Matters == nil || w.Matters(Message{binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:size]}) {
			return true
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false
}

func (w Watch) tell(done <-chan struct{}, news <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-news:
		}
		if w.Settle > 0 {
			select {
			case <-done:
				return
			case <-time.After(w.Settle):
			}
			select {
			case <-news:
			default:
			}
		}
		w.Changed()
	}
}

// settleRoutes gathers a burst of changes.
const settleRoutes = 50 * time.Millisecond

// Routes calls changed after routes changed, but for those that protocol made, and with
// addresses after these did. The kernel notes each address as a route too.
func Routes(done <-chan struct{}, protocol uint8, addresses bool, changed func()) error {
	w := Watch{Protocol: unix.NETLINK_ROUTE, Groups: []int{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE},
		Settle: settleRoutes, Changed: changed, Matters: func(m Message) bool {
			route := m.Kind == unix.RTM_NEWROUTE || m.Kind == unix.RTM_DELROUTE
			return !route || !madeBy(m, protocol)
		}}
	if addresses {
		w.Groups = append(w.Groups, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	}
	return w.Begin(done)
}

// Removals calls changed after ip rules were removed, or routes that protocol made,
// whoever took them away: to the kernel they are all the same.
func Removals(done <-chan struct{}, protocol uint8, changed func()) error {
	w := Watch{Protocol: unix.NETLINK_ROUTE, Settle: settleRoutes, Changed: changed, Groups: []int{
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
	}, Matters: func(m Message) bool {
		return m.Kind == unix.RTM_DELRULE || m.Kind == unix.RTM_DELROUTE && madeBy(m, protocol)
	}}
	return w.Begin(done)
}

// madeBy says who made the route of a message.
func madeBy(m Message, protocol uint8) bool {
	const place = 5 // in struct rtmsg
	return len(m.Body) > place && m.Body[place] == protocol
}

// Messages about IPsec policies (linux/xfrm.h), their group, and where the priority
// stands in struct xfrm_userpolicy_info.
const (
	policyGroup   = 4
	newPolicy     = 0x13
	deletePolicy  = 0x14
	updatePolicy  = 0x19
	flushPolicy   = 0x1d
	priorityPlace = 152
)

// Policies calls changed at once when IPsec policies went, whoever took them away, or
// when one came whose priority is not in the band: the kernel may have put it into the
// place of one that is.
func Policies(done <-chan struct{}, band func(priority uint32) bool, changed func()) error {
	w := Watch{Protocol: unix.NETLINK_XFRM, Groups: []int{policyGroup}, Changed: changed, Matters: func(m Message) bool {
		switch m.Kind {
		case deletePolicy, flushPolicy:
			return true
		case newPolicy, updatePolicy:
			return len(m.Body) < priorityPlace+4 || !band(binary.NativeEndian.Uint32(m.Body[priorityPlace:]))
		}
		return false
	}}
	return w.Begin(done)
}
