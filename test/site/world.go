package site

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// World owns namespaces and processes. Close ends them all.
type World struct {
	// Large has links pass large packets whole, as veths do if they may, so that
	// offloads work from end to end. Otherwise a link carries what a wire would, and
	// a capture shows what an observer outside would see.
	Large  bool
	prefix string
	mu     sync.Mutex // guards undo
	undo   []func()
}

// Space is one network namespace.
type Space struct {
	Name  string // as `ip netns` knows it
	world *World
}

// Missing says what this machine lacks to build sites, and of further tools;
// empty when nothing does.
func Missing(tools ...string) string {
	if os.Geteuid() != 0 {
		return "not root: network namespaces cannot be made"
	}
	for _, tool := range append([]string{"ip", "tcpdump", "ping"}, tools...) {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed"
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return "/dev/net/tun: " + err.Error()
	}
	return ""
}

// New returns an empty world whose names cannot collide with another's. What a
// world left behind whose program was killed is swept away first.
func New() *World {
	sweep()
	var b [3]byte
	_, _ = rand.Read(b[:])
	return &World{prefix: fmt.Sprintf("ym%d-%s", os.Getpid(), hex.EncodeToString(b[:]))}
}

// sweep removes the namespaces of programs that are gone.
func sweep() {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // none was ever made
	}
	for _, e := range entries {
		var pid int
		if n, _ := fmt.Sscanf(e.Name(), "ym%d-", &pid); n != 1 {
			continue
		}
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_, _ = run("ip", "netns", "del", e.Name())
		}
	}
}

// Defer runs undo at Close, last first.
func (w *World) Defer(undo func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.undo = append(w.undo, undo)
}

// Close ends processes and removes namespaces, in the reverse order.
func (w *World) Close() {
	w.mu.Lock()
	undo := w.undo
	w.undo = nil
	w.mu.Unlock()
	for i := len(undo) - 1; i >= 0; i-- {
		undo[i]()
	}
}

// Space makes a namespace with loopback up and forwarding on or off.
func (w *World) Space(name string, forward bool) (*Space, error) {
	s := &Space{Name: w.prefix + "-" + name, world: w}
	if _, err := run("ip", "netns", "add", s.Name); err != nil {
		return nil, err
	}
	w.Defer(func() { _, _ = run("ip", "netns", "del", s.Name) })
	on := "0"
	if forward {
		on = "1"
	}
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"sysctl", "-qw", "net.ipv4.ip_forward=" + on, "net.ipv6.conf.all.forwarding=" + on,
			"net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0"},
	} {
		if _, err := s.Run(args...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Run runs a command in the namespace and returns what it printed.
func (s *Space) Run(args ...string) (string, error) {
	return run("ip", append([]string{"netns", "exec", s.Name}, args...)...)
}

func run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Link joins two namespaces by a veth pair. Each end is "interface address...".
func (w *World) Link(a *Space, ifA string, addrsA []string, b *Space, ifB string, addrsB []string) error {
	if _, err := run("ip", "link", "add", ifA, "netns", a.Name, "type", "veth", "peer", "name", ifB, "netns", b.Name); err != nil {
		return err
	}
	for _, end := range []struct {
		s     *Space
		name  string
		addrs []string
	}{{a, ifA, addrsA}, {b, ifB, addrsB}} {
		for _, addr := range end.addrs {
			if _, err := end.s.Run("ip", "addr", "add", addr, "dev", end.name); err != nil {
				return err
			}
		}
		if !w.Large {
			if _, err := end.s.Run("ip", "link", "set", "dev", end.name, "gso_max_segs", "1"); err != nil {
				return err
			}
		}
		if _, err := end.s.Run("ip", "link", "set", "dev", end.name, "up"); err != nil {
			return err
		}
	}
	return nil
}

// Route adds routes, each "prefix via address".
func (s *Space) Route(routes ...string) error {
	for _, r := range routes {
		if _, err := s.Run(append([]string{"ip", "route", "add"}, strings.Fields(r)...)...); err != nil {
			return err
		}
	}
	return nil
}

// Process is a program that runs in a namespace.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts a program in the namespace with its output in the file log.
func (s *Space) Start(log string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command("ip", append([]string{"netns", "exec", s.Name}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	// The parent-death signal hangs on the thread that started the child.
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		if cmd.Process != nil {
			p.err = cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	s.world.Defer(func() { p.Kill() })
	return p, nil
}

// Pid is the process: `ip netns exec` replaces itself by the program.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill ends the process at once (SIGKILL) and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the process to end and waits; after the limit it is killed.
func (p *Process) Stop(limit time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		p.Kill()
		return errors.New("did not stop in time")
	}
}

// Ended reports whether the process is over.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Do runs f on a thread inside the namespace. Sockets that f opens stay there.
func (s *Space) Do(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		handle, err := netns.GetFromName(s.Name)
		if err == nil {
			defer handle.Close()
			err = netns.Set(handle)
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}
