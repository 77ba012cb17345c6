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

	"golang.org/x/sys/unix"

	"yumen/esp/tunnel"
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

// Numbered datagrams of several flows, sent as fast as they go through several
// queues: within a flow none comes later than the window is wide, which the replay
// check of the receiver would drop, and none is dropped as a replay.
func TestNumberedFlowsStayWithinTheWindow(t *testing.T) {
	Need(t)
	for _, encap := range []bool{true, false} {
		t.Run(fmt.Sprintf("encap=%t", encap), func(t *testing.T) {
			two := NewTwoSites(t)
			a, b := two.both(t, spec{Children: subnets(), Encap: encap})
			const flows = 4
			type result struct{ got, late, worst int }
			results := make(chan result, flows)
			end := time.Now().Add(3 * time.Second)
			for n := range flows {
				var in *net.UDPConn
				Check(t, two.HostB.Do(func() (err error) {
					in, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(HostB4), Port: 7000 + n})
					return err
				}))
				_ = in.SetReadBuffer(8 << 20)
				go func() {
					defer in.Close()
					_ = in.SetReadDeadline(end.Add(time.Second))
					var r result
					var buf [2048]byte
					top := 0
					for {
						size, err := in.Read(buf[:])
						if errors.Is(err, os.ErrDeadlineExceeded) {
							break
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
					results <- r
				}()
				var out *net.UDPConn
				Check(t, two.HostA.Do(func() (err error) {
					out, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(HostB4), Port: 7000 + n})
					return err
				}))
				go number(out, end)
			}
			for range flows {
				r := <-results
				t.Logf("%d arrived, %d out of order, the worst by %d", r.got, r.late, r.worst)
				if r.got < 1000 {
					t.Errorf("only %d datagrams arrived: this test tests nothing", r.got)
				}
				if r.worst > 1024 {
					t.Errorf("a packet came %d places late, the window is 1024", r.worst)
				}
			}
			a.stop(t)
			if c := b.stop(t); c["replayed"] > 0 {
				t.Errorf("%d packets came later than the window", c["replayed"])
			}
		})
	}
}

// number sends numbered datagrams, many in one call where the host can cut them.
func number(c *net.UDPConn, end time.Time) {
	defer c.Close()
	const size = 600
	run := 1
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) == nil {
				run = 24
			}
		})
	}
	b := make([]byte, size*run)
	for n := 0; time.Now().Before(end); {
		for i := range run {
			binary.BigEndian.PutUint32(b[i*size:], uint32(n))
			n++
		}
		if _, err := c.Write(b); err != nil {
			time.Sleep(time.Millisecond)
		}
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
