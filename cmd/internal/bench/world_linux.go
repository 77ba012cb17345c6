package bench

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// This is the only file that meets netlink and x/sys.

// world owns a folder, namespaces and processes; close ends them all. Namespaces
// have no name and processes die with this one: a kill leaves nothing but the
// folder.
type world struct {
	dir  string
	undo []func()
}

func newWorld() (*world, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces take root: run this as root, or leave it at --only kernels")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return nil, fmt.Errorf("the gateways need a TUN device: %w (load the module tun)", err)
	}
	dir, err := os.MkdirTemp("", "yumen-bench-")
	if err != nil {
		return nil, err
	}
	return &world{dir: dir, undo: []func(){func() { os.RemoveAll(dir) }}}, nil
}

func (w *world) close() {
	for i := len(w.undo) - 1; i >= 0; i-- {
		w.undo[i]()
	}
	w.undo = nil
}

// space is a network namespace that lives as long as its file is open.
type space struct {
	w  *world
	ns *os.File
}

// space makes a namespace, with loopback up, that forwards if it is a gateway's.
func (w *world) space(forward bool) (*space, error) {
	s := &space{w: w}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w (CAP_SYS_ADMIN is needed)", err)
		}
		if s.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		return prepareSpace(forward)
	})
	if s.ns != nil {
		w.undo = append(w.undo, func() { s.ns.Close() })
	}
	return s, err
}

// prepareSpace runs inside a new namespace.
func prepareSpace(forward bool) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	settings := map[string]string{"ipv6/conf/default/accept_dad": "0", "ipv6/conf/all/accept_dad": "0"}
	if forward {
		settings["ipv4/ip_forward"], settings["ipv6/conf/all/forwarding"] = "1", "1"
	}
	for key, value := range settings {
		err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0)
		if err != nil && !(strings.HasPrefix(key, "ipv6") && errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// ownThread runs f in a goroutine on a thread that ends with it, so that a change of
// its namespace touches nobody else.
func ownThread(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The first thread of a process never ends and would keep the namespace: it is
		// held while another one is found.
		defer runtime.UnlockOSThread()
		done := make(chan struct{})
		ownThread(func() {
			defer close(done)
			f()
		})
		<-done
	}()
}

func onThread(f func() error) error {
	result := make(chan error, 1)
	ownThread(func() { result <- f() })
	return <-result
}

// do runs f inside the namespace. Sockets that f opens stay there.
func (s *space) do(f func() error) error {
	return onThread(func() error {
		if err := s.enter(); err != nil {
			return err
		}
		return f()
	})
}

func (s *space) enter() error {
	if err := unix.Setns(int(s.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	return nil
}

// end is one end of a link.
type end struct {
	at    *space
	name  string
	addrs []string
	mtu   int // bytes; 0: that of Ethernet
}

// link joins two namespaces by a veth pair that passes single packets, as a wire
// does.
func link(a, b end) error {
	err := a.at.do(func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a.name, MTU: cmp.Or(a.mtu, linkMTU)}, PeerName: b.name,
			PeerNamespace: netlink.NsFd(int(b.at.ns.Fd()))}
		return netlink.LinkAdd(v)
	})
	if err != nil {
		return fmt.Errorf("make a veth pair: %w", err)
	}
	for _, e := range []end{a, b} {
		if err := e.at.do(func() error { return e.raise() }); err != nil {
			return fmt.Errorf("interface %s: %w", e.name, err)
		}
	}
	return nil
}

func (e end) raise() error {
	l, err := netlink.LinkByName(e.name)
	if err != nil {
		return err
	}
	for _, addr := range e.addrs {
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	if e.mtu != 0 {
		if err := netlink.LinkSetMTU(l, e.mtu); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetGSOMaxSegs(l, 1); err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// route adds a route by way of a neighbour. Without one the addresses are the
// namespace's own.
func (s *space) route(prefix, via string) error {
	return s.do(func() error {
		_, dst, err := net.ParseCIDR(prefix)
		if err != nil {
			return err
		}
		r := &netlink.Route{Dst: dst, Gw: net.ParseIP(via)}
		if via == "" {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			r.Gw, r.LinkIndex, r.Type, r.Table, r.Scope = nil, lo.Attrs().Index, unix.RTN_LOCAL, unix.RT_TABLE_LOCAL, netlink.SCOPE_HOST
		}
		if err := netlink.RouteAdd(r); err != nil {
			return fmt.Errorf("route %s via %s: %w", prefix, via, err)
		}
		return nil
	})
}

// udp opens a socket at an address of the namespace, connected if to is valid, with
// as much room as the kernel gives to root.
func (s *space) udp(at, to netip.AddrPort) (c *net.UDPConn, err error) {
	const room = 8 << 20
	err = s.do(func() (err error) {
		if to.IsValid() {
			c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(at), net.UDPAddrFromAddrPort(to))
		} else {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { // more room is welcome, not needed
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room)
		})
	}
	return c, err
}

// process is a program that runs in a namespace.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a program in the namespace with its output in a file. It dies with this
// process.
func (s *space) start(log string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A Ctrl-C is for us: we then end our children, in good order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p.cmd.Dir = filepath.Dir(log)
	started := make(chan error, 1)
	ownThread(func() {
		// The namespace is that of the thread, and the parent-death signal hangs on
		// it: it stays until the child is gone.
		defer close(p.done)
		err := s.enter()
		if err == nil {
			err = p.cmd.Start()
		}
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // whoever waits for done reads its log
		}
	})
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	s.w.undo = append(s.w.undo, p.stop)
	return p, nil
}

// stop ends the process, in good order if it can.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
