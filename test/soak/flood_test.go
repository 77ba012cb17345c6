package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yumen/test/site"
	"yumen/test/soak/forwarder"
)

// siege is gateways a, b, c and d around a router, and an attacker there too. b
// knows the addresses of a and c, and takes d from anywhere, so that it has to
// consider every source.
type siege struct {
	star     *site.Star
	attacker *site.Space
	first    []byte // a recorded M1 of a
	third    []byte // and its M3
}

const (
	attackerAddr = "198.18.9.2"
	portClosed   = 5999
)

// newSiege sets them up; entries of peers have more of it in the end.
func newSiege(t testing.TB, w *site.World, dir, more string) *siege {
	t.Helper()
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		must(os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	star, err := site.NewStar(w, yumen, dir, "a", "b", "c", "d")
	must(err)
	s := &siege{star: star}
	s.attacker, err = w.Space("x", false)
	must(err)
	must(w.Link(s.attacker, "out", []string{attackerAddr + "/24"}, star.Router, "to-x", []string{"198.18.9.1/24"}),
		s.attacker.Route("default via 198.18.9.1"))
	a, b, c, d := star.Places[0], star.Places[1], star.Places[2], star.Places[3]
	must(site.Issue(yumen, dir, a.Gateway, b.Gateway, c.Gateway, d.Gateway))
	entry := func(name, remote string) string {
		return fmt.Sprintf("  - {name: %s, remote: %q, ca: ca.crt, subject: %q%s}\n", name, remote, site.Subject(name), more)
	}
	tunnel := func(name, peer, local, remote, keys string) string {
		return fmt.Sprintf("  - {name: %s, peer: %s, local: %q, remote: %q%s}\n", name, peer, local, remote, keys)
	}
	must(
		a.Gateway.Configure("site: a\npeers:\n"+entry("b", b.Gate4)+"tunnels:\n"+tunnel("ab", "b", a.Net4, b.Net4, "")),
		b.Gateway.Configure("site: b\npeers:\n"+entry("a", a.Gate4)+entry("c", c.Gate4)+
			entry("d", "any")+"tunnels:\n"+tunnel("db", "d", b.Net4, d.Net4, ", start: respond")+
			tunnel("ab", "a", b.Net4, a.Net4, ", start: respond")+tunnel("cb", "c", b.Net4, c.Net4, ", start: respond")),
		c.Gateway.Configure("site: c\npeers:\n"+entry("b", b.Gate4)+"tunnels:\n"+tunnel("cb", "b", c.Net4, b.Net4, "")),
		d.Gateway.Configure("site: d\npeers:\n"+entry("b", b.Gate4)+"tunnels:\n"+tunnel("db", "b", d.Net4, b.Net4, "")),
	)
	record := s.record(t)
	must(b.Gateway.Start(), a.Gateway.Start(), a.Gateway.WaitUp(20*time.Second))
	record()
	if s.first == nil || s.third == nil {
		t.Fatal("no M1 and M3 of a were recorded")
	}
	return s
}

// record listens at the router until the function is called.
func (s *siege) record(t testing.TB) func() {
	var fd int
	err := s.star.Router.Do(func() (err error) {
		const ip = unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xff00
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, ip)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.Timeval{Usec: 100_000}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	var stop atomic.Bool
	var done sync.WaitGroup
	done.Go(func() {
		defer unix.Close(fd)
		buf := make([]byte, 4096)
		for !stop.Load() {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				continue
			}
			id := forwarder.Identify(buf[:n])
			if id.Kind != forwarder.IKE || id.Exchange != forwarder.MainMode || n < 14+20+8+4+28 {
				continue
			}
			data := append([]byte(nil), buf[14+20+8:n]...)
			if binary.BigEndian.Uint32(data) == 0 { // RFC 3948 2.2: the NAT traversal port
				data = data[4:]
			}
			switch {
			case s.first == nil && id.Cookies[8] == 0 && binary.BigEndian.Uint64(id.Cookies[8:]) == 0:
				s.first = data
			case s.third == nil && len(data) > 600 && data[16] != 1: // M2 begins with an SA
				s.third = data
			}
		}
	})
	return func() { stop.Store(true); done.Wait() }
}

// flood attacks b at full speed until the function is called, which returns how
// many packets went out. It attacks the given ports: those of IKE, or for comparison
// closed ones.
func (s *siege) flood(t testing.TB, ports [2]uint16) (stop func() uint64) {
	t.Helper()
	f := &flood{siege: s, dice: rand.New(rand.NewPCG(1, 2)), ports: ports}
	if err := s.attacker.Do(f.open); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(f.run)
	return func() uint64 {
		f.over.Store(true)
		done.Wait()
		return f.sent
	}
}

// What a flood attacks.
var (
	bothPorts   = [2]uint16{500, 4500}
	natPort     = [2]uint16{4500, 4500}
	closedPorts = [2]uint16{portClosed, portClosed + 1}
)

type flood struct {
	*siege
	dice  *rand.Rand
	ports [2]uint16
	raw   int    // sends whole IP packets
	zeros []byte // before IKE on the NAT traversal port
	udp   int    // hears what is answered to our own address
	over  atomic.Bool
	sent  uint64
	third uint64 // M3 in answer to an M2
}

func (f *flood) open() (err error) {
	if f.raw, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		return err
	}
	if f.udp, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	if f.ports == natPort {
		f.zeros = make([]byte, 4)
	}
	return unix.Bind(f.udp, &unix.SockaddrInet4{Port: 500})
}

func (f *flood) run() {
	defer unix.Close(f.raw)
	defer unix.Close(f.udp)
	own, known := netip.MustParseAddr(attackerAddr), netip.MustParseAddr(f.star.Places[0].Gate4)
	answer := make([]byte, 4096)
	for !f.over.Load() {
		forged := netip.AddrFrom4([4]byte{11, byte(f.dice.Uint32()), byte(f.dice.Uint32()), byte(f.dice.Uint32())})
		f.send(own, 0, f.fresh(f.siege.first))
		f.send(forged, 0, f.fresh(f.siege.first))
		f.send(known, 0, f.fresh(f.siege.first))
		f.send(own, 0, f.siege.third)
		f.send(known, 0, f.siege.third)
		f.send(known, 0, f.fresh(f.siege.third))
		f.send(forged, 0, f.garbage(1+f.dice.IntN(1200)))
		f.send(known, 1, f.garbage(4+f.dice.IntN(1200)))
		for {
			n, _, err := unix.Recvfrom(f.udp, answer, 0)
			if err != nil || n < 28+len(f.zeros) {
				break
			}
			third := append([]byte(nil), f.siege.third...) // recorded, under the new cookies
			copy(third, answer[len(f.zeros):][:16])
			f.send(own, 0, third)
			f.third++
		}
	}
}

// fresh gives a message another initiator cookie.
func (f *flood) fresh(m []byte) []byte {
	m = append([]byte(nil), m...)
	binary.BigEndian.PutUint64(m, f.dice.Uint64()|1)
	return m
}

func (f *flood) garbage(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.dice.Uint32())
	}
	return b
}

// send sends UDP to b from any address, without a checksum, which IPv4 allows.
func (f *flood) send(from netip.Addr, port int, data []byte) {
	to := netip.MustParseAddr(f.star.Places[1].Gate4).As4()
	src := from.As4()
	p := make([]byte, 28, 28+len(f.zeros)+len(data))
	p[0], p[8], p[9] = 0x45, 64, 17
	copy(p[12:], src[:])
	copy(p[16:], to[:])
	binary.BigEndian.PutUint16(p[20:], 500)
	binary.BigEndian.PutUint16(p[22:], f.ports[port])
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(f.zeros)+len(data)))
	p = append(append(p, f.zeros...), data...)
	if unix.Sendto(f.raw, p, 0, &unix.SockaddrInet4{Addr: to}) == nil {
		f.sent++
	}
}

// resident is the memory of a process that is in RAM, in MiB.
func resident(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		var kb int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			return kb >> 10, nil
		}
	}
	return 0, errors.New("no VmRSS")
}

// mostGrowth is how much more memory a flood may make a daemon keep, in MiB: the
// bounds on half-open sessions, envelopes, chains and queues together, and what
// the collector leaves lying between two runs.
const mostGrowth = 96

func TestUnderAFloodTunnelsLiveAndNewPeersGetIn(t *testing.T) { liveUnder(t, bothPorts, "") }

// From M5 on all of them speak on the port that the data plane owns.
func TestUnderAFloodOfTheNATPortTunnelsLiveAndNewPeersGetIn(t *testing.T) {
	liveUnder(t, natPort, ", encap: force")
}

func liveUnder(t *testing.T, ports [2]uint16, more string) {
	w, dir := site.Begin(t)
	s := newSiege(t, w, dir, more)
	a, b, c, d := s.star.Places[0], s.star.Places[1], s.star.Places[2], s.star.Places[3]
	before, err := resident(b.Gateway.Daemon().Pid())
	need(t, err)
	stop := s.flood(t, ports)
	begin := time.Now()

	time.Sleep(2 * time.Second)
	ab := s.star.Flow(0, 1, false)
	passed := 0
	for range 20 {
		if ab.Talk("udp", 4242, 2*time.Second) == nil {
			passed++
		}
	}
	if passed < 15 {
		t.Errorf("only %d of 20 datagrams and their echoes passed", passed)
	}
	st, err := a.Gateway.Status()
	need(t, err)
	old := st.Tunnels[0].Children[0].In.SPI
	need(t, newDesk(a.Gateway).rekey("ab"))
	rekeyed := eventually(t, "the tunnel is rekeyed", 30*time.Second, func() error {
		st, err := a.Gateway.Status()
		if err != nil {
			return err
		}
		for _, child := range st.Tunnels[0].Children {
			if child.InUse && child.In.SPI != old {
				return nil
			}
		}
		return errors.New("still the old child")
	})
	join := func(place int, g *site.Gateway) time.Duration {
		need(t, g.Start())
		in := time.Now()
		need(t, g.WaitUp(30*time.Second))
		joined := time.Since(in)
		eventually(t, "traffic of a new peer", 20*time.Second, func() error { return s.star.Flow(place, 1, false).Talk("udp", 4242, 2*time.Second) })
		return joined.Round(10 * time.Millisecond)
	}
	known, unknown := join(2, c.Gateway), join(3, d.Gateway)

	after, err := resident(b.Gateway.Daemon().Pid())
	need(t, err)
	sent := stop()
	st, err = b.Gateway.Status()
	need(t, err)
	t.Logf("%d packets in %v; %d of 20 passed; rekeyed after %v; a new peer of a known address was in after %v, of an unknown one after %v; %d MiB before, %d MiB after; %d half open",
		sent, time.Since(begin).Round(time.Second), passed, rekeyed.Round(10*time.Millisecond), known, unknown, before, after, st.HalfOpen)
	if after > before+mostGrowth {
		t.Errorf("memory grew from %d to %d MiB", before, after)
	}
	if sent < 100_000 {
		t.Errorf("only %d packets: that was no flood", sent)
	}
}

// BenchmarkThroughputUnderAFlood compares TCP through a tunnel under a flood of
// its gateway with the same under the same flood at closed ports, turn about.
func BenchmarkThroughputUnderAFlood(b *testing.B) {
	w, dir := site.Begin(b)
	s := newSiege(b, w, dir, "")
	var rates [2][]float64
	for b.Loop() {
		for range 3 {
			for i, ports := range [][2]uint16{bothPorts, closedPorts} {
				stop := s.flood(b, ports)
				time.Sleep(time.Second)
				rate, err := s.star.Flow(0, 1, false).Bulk(32 << 20)
				stop()
				if err != nil {
					b.Fatal(err)
				}
				rates[i] = append(rates[i], rate)
			}
		}
	}
	middle := func(list []float64) float64 { slices.Sort(list); return list[len(list)/2] }
	under, beside := middle(rates[0]), middle(rates[1])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(under/1e6, "Mbit/s-flooded")
	b.ReportMetric(beside/1e6, "Mbit/s-closed-port")
	b.ReportMetric(under/beside, "ratio")
}
