package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp/tunnel"
	"yumen/test/site"
	"yumen/xfrm"
)

const (
	hostA4, hostB4 = "10.1.0.2", "10.2.0.2"
	hostA6, hostB6 = "fd01::2", "fd02::2"
	gateA4, gateB4 = "192.0.2.1", "192.0.2.2"
	gateA6, gateB6 = "2001:db8::1", "2001:db8::2"
	gateC4         = "192.0.2.3" // another address of gb
	echoPort       = 7777
)

// world is built once: making namespaces is slow in an emulated machine.
type world struct {
	*site.World
	ha, ga, gb, hb *site.Space
	echoes         map[string]*echo // by address
	clear          atomic.Int64     // packets between the gateways in clear
	esp, udp       atomic.Int64     // and those that are not
	mu             sync.Mutex       // guards sample
	sample         string           // of what was in clear
}

var only *world

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plane" {
		if err := victim(); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	if os.Getenv("YUMEN_VM") != "" {
		var err error
		if only, err = build(); err != nil {
			fmt.Println("cannot build the world:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if only != nil {
		only.Close()
	}
	os.Exit(code)
}

// inside returns the world, or skips the test.
func inside(t *testing.T) *world {
	t.Helper()
	if only == nil {
		t.Skip("SKIP kernel data plane: this is not the virtual machine; run make vm")
	}
	only.clear.Store(0)
	t.Cleanup(func() {
		if n := only.clear.Load(); n != 0 {
			only.mu.Lock()
			defer only.mu.Unlock()
			t.Errorf("%d packets between the gateways were in clear: %s", n, only.sample)
		}
		for _, s := range []*site.Space{only.ga, only.gb} {
			err := s.Do(func() error { return errors.Join(xfrm.RemoveGuard(), tunnel.RemoveGuard(tunnel.Config{})) })
			if err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
		only.forgetPaths(t)
	})
	return only
}

// forgetPaths takes back what hosts and gateways learned of paths, which the kernel
// would remember for ten minutes.
func (w *world) forgetPaths(t *testing.T) {
	t.Helper()
	for _, s := range []*site.Space{w.ha, w.ga, w.gb, w.hb} {
		ip(t, s, "-4", "route", "flush", "cache")
		ip(t, s, "-6", "route", "flush", "cache")
	}
}

func build() (w *world, err error) {
	w = &world{World: site.New(), echoes: map[string]*echo{}}
	if out, err := exec.Command("modprobe", "tun").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("modprobe tun: %w: %s", err, out)
	}
	for _, x := range []struct {
		at      **site.Space
		name    string
		forward bool
	}{{&w.ha, "ha", false}, {&w.ga, "ga", true}, {&w.gb, "gb", true}, {&w.hb, "hb", false}} {
		if *x.at, err = w.Space(x.name, x.forward); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(
		w.Link(w.ha, "lan", []string{hostA4 + "/24", hostA6 + "/64"}, w.ga, "lan", []string{"10.1.0.1/24", "fd01::1/64"}),
		w.Link(w.ga, "wan", []string{gateA4 + "/24", gateA6 + "/64"}, w.gb, "wan", []string{gateB4 + "/24", gateC4 + "/24", gateB6 + "/64"}),
		w.Link(w.gb, "lan", []string{"10.2.0.1/24", "fd02::1/64"}, w.hb, "lan", []string{hostB4 + "/24", hostB6 + "/64"}),
		second(w.gb, "10.2.9.1/24", "fd02:9::1/64"), second(w.hb, hostC4+"/24", hostC6+"/64"),
		w.ha.Route("default via 10.1.0.1", "default via fd01::1"),
		w.hb.Route("default via 10.2.0.1", "default via fd02::1"),
		w.ga.Route("10.2.0.0/24 via "+gateB4, "fd02::/64 via "+gateB6, "10.2.9.0/24 via "+gateB4, "fd02:9::/64 via "+gateB6),
		w.gb.Route("10.1.0.0/24 via "+gateA4, "fd01::/64 via "+gateA6),
	); err != nil {
		return nil, err
	}
	for _, h := range []struct {
		s    *site.Space
		addr string
	}{{w.ha, hostA4}, {w.ha, hostA6}, {w.hb, hostB4}, {w.hb, hostB6}, {w.hb, hostC4}, {w.hb, hostC6}} {
		if w.echoes[h.addr], err = serveEcho(h.s, h.addr); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.watch(w.ga), w.watch(w.gb)); err != nil {
		return nil, err
	}
	// Neighbours take a moment; a test must not measure that. This is in clear.
	for _, to := range []string{hostB4, hostB6} {
		if n := w.exchange(w.ha, to, 3); n == 0 {
			return nil, fmt.Errorf("%s cannot be reached in clear", to)
		}
	}
	// All twelve, so that none is counted against the first test.
	if n := grows(&w.clear, 12); n < 6 {
		return nil, fmt.Errorf("the observer saw %d clear packets: it is blind", n)
	}
	return w, nil
}

// second gives a host another address in each family, which it sends from only where
// it is told to.
func second(s *site.Space, v4, v6 string) error {
	_, err := s.Run("ip", "addr", "add", v4, "dev", "lan")
	_, err6 := s.Run("ip", "addr", "add", v6, "dev", "lan", "preferred_lft", "0")
	return errors.Join(err, err6)
}

// watch looks at everything that the gateways send each other. What comes in is left
// out: the kernel shows packets there a second time, after decryption.
func (w *world) watch(s *site.Space) error {
	var fd int
	err := s.Do(func() (err error) {
		all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		i, err := net.InterfaceByName("wan")
		if err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	})
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return
			}
			if a, ok := from.(*unix.SockaddrLinklayer); ok && a.Pkttype == unix.PACKET_OUTGOING {
				w.saw(buf[:n])
			}
		}
	}()
	return nil
}

// grows waits a moment until a counter is at least n: the observer lags behind.
func grows(c *atomic.Int64, n int64) int64 {
	for end := time.Now().Add(3 * time.Second); c.Load() < n && time.Now().Before(end); {
		time.Sleep(2 * time.Millisecond)
	}
	return c.Load()
}

func (w *world) saw(b []byte) {
	src, dst, protocol, ok := addresses(b)
	if !ok {
		return
	}
	inner := func(a netip.Addr) bool { return a.Is4() && a.As4()[0] == 10 || a.Is6() && a.As16()[0] == 0xfd }
	switch {
	case inner(src) || inner(dst):
		w.clear.Add(1)
		w.mu.Lock()
		w.sample = fmt.Sprintf("%s to %s protocol %d at %s", src, dst, protocol, time.Now().Format("15:04:05.000"))
		w.mu.Unlock()
	case protocol == unix.IPPROTO_ESP:
		w.esp.Add(1)
	case protocol == unix.IPPROTO_UDP:
		w.udp.Add(1)
	}
}

func addresses(b []byte) (src, dst netip.Addr, protocol uint8, ok bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[9], true
	case len(b) >= 40 && b[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[6], true
	}
	return src, dst, 0, false
}

// echo answers datagrams and remembers their numbers.
type echo struct {
	c    net.PacketConn
	mu   sync.Mutex // guards seen
	seen map[uint64]int
}

func serveEcho(s *site.Space, addr string) (*echo, error) {
	e := &echo{seen: map[uint64]int{}}
	err := s.Do(func() (err error) {
		e.c, err = net.ListenPacket("udp", net.JoinHostPort(addr, fmt.Sprint(echoPort)))
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := e.c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil || n < 8 {
				continue
			}
			e.mu.Lock()
			e.seen[binary.BigEndian.Uint64(buf)]++
			e.mu.Unlock()
			_, _ = e.c.WriteTo(buf[:n], from)
		}
	}()
	return e, nil
}

func (e *echo) times(number uint64) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen[number]
}

var numbers atomic.Uint64 // of datagrams, unique in a run

// dial is a socket from a host to an echo.
func dial(s *site.Space, to string) (c net.Conn, err error) { return dialFrom(s, "", to) }

// dialFrom is one from an address of its own.
func dialFrom(s *site.Space, own, to string) (c net.Conn, err error) {
	err = s.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(own)}}
		c, err = d.Dial("udp", net.JoinHostPort(to, fmt.Sprint(echoPort)))
		return err
	})
	return c, err
}

// exchange sends n datagrams one after the other and counts the answers.
func (w *world) exchange(from *site.Space, to string, n int) (answers int) {
	return w.exchangeWithin(from, to, n, 2*time.Second)
}

func (w *world) exchangeWithin(from *site.Space, to string, n int, wait time.Duration) (answers int) {
	c, err := dial(from, to)
	if err != nil {
		return 0
	}
	return ask(c, n, wait)
}

// ask sends n datagrams by a socket, one after the other, counts the answers and
// closes it.
func ask(c net.Conn, n int, wait time.Duration) (answers int) {
	defer c.Close()
	buf := make([]byte, 2048)
	for range n {
		number := numbers.Add(1)
		b := binary.BigEndian.AppendUint64(make([]byte, 0, 600), number)
		if _, err := c.Write(b[:8+number%512]); err != nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		for {
			m, err := c.Read(buf)
			if err != nil {
				break
			}
			if m >= 8 && binary.BigEndian.Uint64(buf) == number {
				answers++
				break
			}
		}
	}
	return answers
}

// stream sends numbered datagrams until it is stopped.
type stream struct {
	first, next uint64
	sent        []time.Time
	to          string
	stop        func()
	done        chan struct{}
}

func (w *world) stream(t *testing.T, from *site.Space, to string, gap time.Duration) *stream {
	t.Helper()
	c, err := dial(from, to)
	check(t, err)
	return w.streamBy(t, c, to, gap)
}

func (w *world) streamBy(t *testing.T, c net.Conn, to string, gap time.Duration) *stream {
	t.Helper()
	// Each stream has numbers of its own.
	stop := make(chan struct{})
	s := &stream{first: numbers.Add(1<<20) - 1<<20 + 1, to: to, stop: sync.OnceFunc(func() { close(stop) }), done: make(chan struct{})}
	t.Cleanup(func() { s.stop(); <-s.done })
	s.next = s.first
	go func() {
		defer close(s.done)
		defer c.Close()
		go func() { // answers are not wanted here
			buf := make([]byte, 2048)
			for {
				if _, err := c.Read(buf); errors.Is(err, net.ErrClosed) {
					return
				}
			}
		}()
		tick := time.NewTicker(gap)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				time.Sleep(300 * time.Millisecond) // the last ones are under way
				return
			case <-tick.C:
				b := binary.BigEndian.AppendUint64(make([]byte, 0, 300), s.next)
				if _, err := c.Write(b[:256]); err == nil {
					s.next++
					s.sent = append(s.sent, time.Now())
				}
			}
		}
	}()
	return s
}

// end stops the stream and says how many were sent, lost and repeated.
func (w *world) end(s *stream) (sent, lost, repeated int) {
	s.stop()
	<-s.done
	e := w.echoes[s.to]
	for n := s.first; n < s.next; n++ {
		switch e.times(n) {
		case 0:
			lost++
		case 1:
		default:
			repeated++
		}
	}
	return int(s.next - s.first), lost, repeated
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// firstLost is when the first datagram that never arrived was sent.
func (w *world) firstLost(s *stream) string {
	for i, at := range s.sent {
		if w.echoes[s.to].times(s.first+uint64(i)) == 0 {
			return at.Format("15:04:05.000")
		}
	}
	return "no time"
}
