package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"yumen/esp/tunnel"
	"yumen/test/site"
)

// Whatever of the offloads a kernel lacks, at either end, traffic flows, and a
// plane tells what it uses.
func TestTrafficFlowsWithoutEachOffload(t *testing.T) {
	Need(t)
	t.Parallel()
	all := []tunnel.Offload{tunnel.OffloadTSO, tunnel.OffloadUSO, tunnel.OffloadSend, tunnel.OffloadReceive, tunnel.OffloadQueues}
	var every tunnel.Offload
	for _, o := range all {
		every |= o
	}
	for n, without := range append(all, 0, every) {
		t.Run("without "+without.String(), func(t *testing.T) {
			two := NewTwoSites(t)
			s := spec{Children: subnets(), Encap: true, V6: n%2 == 1, Without: without}
			a := start(t, two.GatewayA, s)
			s.B, s.Without = true, 0
			b := start(t, two.GatewayB, s)
			flows := two.flows()
			carry(t, flows, 3_000_000)
			stop := Capture(t, two.Router, "wan-a", "")
			carry(t, flows, 100_000)
			nothingClear(t, stop(), flows)
			used := a.offloads(t)
			for _, word := range strings.Fields(without.String()) {
				if strings.Contains(used, word) {
					t.Errorf("told to do without %s, it uses %s", word, used)
				}
			}
			if without == 0 && used == "none" {
				t.Error("this kernel has none of the offloads, so that this test tests nothing")
			}
			probed, err := tunnel.ProbeOffloads()
			if err != nil || without == 0 && runtime.NumCPU() > 1 && used != probed.String() {
				t.Errorf("the kernel was found to have %s (%v), a plane uses %s", probed, err, used)
			}
			for _, r := range []*running{a, b} {
				c := r.stop(t)
				for _, bad := range []string{"bad-auth", "replayed", "malformed", "bad-selector", "policy-in", "send", "tun", "wrong-path"} {
					if c[bad] > 0 {
						t.Errorf("%d packets dropped: %s", c[bad], bad)
					}
				}
			}
		})
	}
}

func (r *running) offloads(t *testing.T) string {
	for line := range strings.Lines(r.said(t)) {
		if on, ok := strings.CutPrefix(line, "offloads "); ok {
			return strings.TrimSpace(on)
		}
	}
	t.Fatal("the plane does not tell its offloads")
	return ""
}

// addresses gives HostB one for each of so many tunnels, which are the spec's.
func (two *TwoSites) addresses(t *testing.T, n int) (list []childSpec) {
	t.Helper()
	for i := range n {
		addr := fmt.Sprintf("10.2.0.%d/32", 11+i)
		Run(t, two.HostB, "ip", "addr", "add", addr, "dev", "lan")
		list = append(list, childSpec{Local: "10.1.0.0/24", Remote: addr})
	}
	return list
}

// arrivals are what came of a numbered flow.
type arrivals struct{ sent, got, late, worst int }

// numberedFlows sends one flow into each tunnel of addresses and waits for what comes.
// mixed: a packet of each in turn, with pauses; else each by itself, as fast as it goes.
func (two *TwoSites) numberedFlows(t *testing.T, flows int, mixed bool, length time.Duration) (list []arrivals) {
	t.Helper()
	results := make(chan arrivals, flows)
	sent := make(chan int, flows)
	end := time.Now().Add(length)
	var all []*net.UDPConn
	for n := range flows {
		to := &net.UDPAddr{IP: net.IPv4(10, 2, 0, byte(11+n)), Port: 7000}
		var in, out *net.UDPConn
		Check(t, two.HostB.Do(func() (err error) { in, err = net.ListenUDP("udp4", to); return err }))
		_ = in.SetReadBuffer(8 << 20)
		Check(t, two.HostA.Do(func() (err error) { out, err = net.DialUDP("udp4", nil, to); return err }))
		all = append(all, out)
		go func() { results <- arrive(in, end.Add(time.Second)) }()
	}
	if mixed {
		go numberMixed(all, end, sent)
	} else {
		for _, out := range all {
			go func() { sent <- number(out, end) }()
		}
	}
	for range flows {
		r := <-results
		r.sent = <-sent
		list = append(list, r)
	}
	return list
}

func arrive(in *net.UDPConn, end time.Time) (r arrivals) {
	defer in.Close()
	_ = in.SetReadDeadline(end)
	var buf [2048]byte
	top := 0
	for {
		size, err := in.Read(buf[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return r
		}
		if err != nil || size < 4 {
			continue
		}
		number := int(binary.BigEndian.Uint32(buf[:]))
		r.got++
		if number < top {
			r.late++
			r.worst = max(r.worst, top-number)
		}
		top = max(top, number)
	}
}

// Numbered datagrams of several flows, sent as fast as they go through several
// queues and tunnels: within a flow none comes later than the window is wide, which the
// replay check of the receiver would drop, and none is dropped as a replay.
func TestNumberedFlowsStayWithinTheWindow(t *testing.T) {
	Need(t)
	for _, encap := range []bool{true, false} {
		t.Run(fmt.Sprintf("encap=%t", encap), func(t *testing.T) {
			two := NewTwoSites(t)
			const flows = 4
			a, b := two.both(t, spec{Children: two.addresses(t, flows), Encap: encap})
			for _, r := range two.numberedFlows(t, flows, false, 3*time.Second) {
				t.Logf("%d arrived, %d out of order, the worst by %d", r.got, r.late, r.worst)
				if r.got < 1000 {
					t.Errorf("only %d datagrams arrived: this test tests nothing", r.got)
				}
				if r.worst > 1024 {
					t.Errorf("a packet came %d places late, the window is 1024", r.worst)
				}
			}
			a.stop(t)
			c := b.stop(t)
			if c["replayed"] > 0 || c["wrong-path"] > 0 {
				t.Errorf("%d packets came later than the window, %d at the wrong worker", c["replayed"], c["wrong-path"])
			}
			if runtime.NumCPU() > 1 && c["workers"] < 2 {
				t.Errorf("%d worker received all: nothing was spread", c["workers"])
			}
		})
	}
}

// The receiver's host joins what looks like one flow of UDP, whatever SPIs it carries:
// every packet of every tunnel is opened all the same.
func TestWhatTheHostJoinsOfSeveralTunnelsIsOpened(t *testing.T) {
	Need(t)
	two := NewTwoSites(t)
	// Single packets on the wire, joined where they come in.
	for _, x := range []struct {
		at    *site.Space
		iface string
	}{{two.GatewayA, "wan"}, {two.Router, "wan-a"}, {two.Router, "wan-b"}} {
		Run(t, x.at, "ip", "link", "set", "dev", x.iface, "gso_max_segs", "1")
	}
	const tsoOff, groOn = unix.ETHTOOL_STSO, unix.ETHTOOL_SGRO
	Check(t, two.Router.Do(func() error { return setEthtool("wan-b", tsoOff, 0) }))
	if err := two.GatewayB.Do(func() error { return setEthtool("wan", groOn, 1) }); err != nil {
		t.Skipf("SKIP packets that a host joins: %v", err)
	}
	// As a busy network card: what comes within a moment is looked at together.
	Run(t, two.GatewayB, "sh", "-ec", "cd /sys/class/net/wan; echo 2000000 >gro_flush_timeout; echo 10 >napi_defer_hard_irqs")
	const flows = 4
	// Over IPv4 ours have no UDP checksum, without which Linux joins nothing.
	s := spec{Children: two.addresses(t, flows), Encap: true, V6: true, Without: tunnel.OffloadQueues}
	a := start(t, two.GatewayA, s)
	s.B, s.Without = true, 0
	b := start(t, two.GatewayB, s)
	stop := Capture(t, two.GatewayB, "wan", "udp port 4500 and greater 1300")
	sent, got := 0, 0
	for _, r := range two.numberedFlows(t, flows, true, 2*time.Second) {
		sent, got = sent+r.sent, got+r.got
	}
	joined := packets(t, two, stop())
	a.stop(t)
	c := b.stop(t)
	t.Logf("%d sent, %d arrived, %d joined datagrams, %d workers", sent, got, joined, c["workers"])
	if joined < 100 {
		t.Skipf("SKIP packets that a host joins: this one joined %d", joined)
	}
	if c["wrong-path"] > 0 || got < sent*9/10 {
		t.Errorf("of %d datagrams %d arrived, %d came to the wrong worker", sent, got, c["wrong-path"])
	}
}

// setEthtool sets a word of a network card, in the namespace of the calling thread.
func setEthtool(iface string, command, value uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	words := [2]uint32{command, value}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:], iface)
	request.data = unsafe.Pointer(&words)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); e != 0 {
		return fmt.Errorf("ethtool %#x of %s: %w", command, iface, e)
	}
	return nil
}

const numberedSize = 600

// number sends numbered datagrams, many in one call where the host can cut them, and
// returns how many it sent.
func number(c *net.UDPConn, end time.Time) (n int) {
	defer c.Close()
	run := 1
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, numberedSize) == nil {
				run = 24
			}
		})
	}
	b := make([]byte, numberedSize*run)
	for time.Now().Before(end) {
		for i := range run {
			binary.BigEndian.PutUint32(b[i*numberedSize:], uint32(n+i))
		}
		if _, err := c.Write(b); err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		n += run
	}
	return n
}

// numberMixed sends a numbered datagram by each in turn, and says for each how many.
func numberMixed(all []*net.UDPConn, end time.Time, sent chan<- int) {
	b := make([]byte, numberedSize)
	n := 0
	for ; time.Now().Before(end); n++ {
		binary.BigEndian.PutUint32(b, uint32(n))
		for _, c := range all {
			_, _ = c.Write(b) // what the host refuses is missed
		}
		if n%8 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for _, c := range all {
		c.Close()
		sent <- n
	}
}

// What the host makes of a run has, on the wire, the outer headers of single
// packets: TOS from inside, DF, TTL 64, no fragment, nothing larger than the path.
func TestRunsCarryTheOuterHeaderOfSinglePackets(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	// A card that cannot cut: the capture shows what a wire would carry.
	Run(t, two.GatewayA, "ip", "link", "set", "dev", "wan", "gso_max_segs", "1")
	two.both(t, spec{Children: subnets(), Encap: true})
	stop := Capture(t, two.Router, "wan-a", "udp port 4500 and src host "+OutsideA4)
	flow := two.flows()[0]
	_, err := flow.Bulk(2_000_000)
	Check(t, err)
	Run(t, two.HostA, "ping", "-n", "-q", "-c", "3", "-i", "0.2", "-Q", "0x28", "-M", "dont", HostB4)
	out := Run(t, two.Router, "tcpdump", "-n", "-v", "-r", stop())
	var plain, marked int
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "(tos ") {
			continue
		}
		var tos, id, offset, length int
		var flags string
		header := line[strings.Index(line, "(tos "):]
		if _, err := fmt.Sscanf(header, "(tos 0x%x, ttl 64, id %d, offset %d, flags %s proto UDP (17), length %d)", &tos, &id, &offset, &flags, &length); err != nil {
			t.Fatalf("not as it should be: %s: %v", line, err)
		}
		switch {
		case length > 1500 || offset != 0:
			t.Errorf("too large or a fragment: %s", line)
		case tos == 0x28 && flags == "[none],":
			marked++
		case tos == 0 && flags == "[DF],":
			plain++
		default:
			t.Errorf("another header: %s", line)
		}
	}
	if plain < 1000 || marked != 3 {
		t.Errorf("%d packets of the stream and %d of the ping, want over 1000 and 3", plain, marked)
	}
}
