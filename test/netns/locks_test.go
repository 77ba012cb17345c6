package netns

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// Two gateways carry TCP streams both ways as fast as they can, over live sockets and
// TUN devices: no worker waits for a lock or a channel of the runtime. Ten seconds with
// FULL=1, as make bench has it.
func TestNoLockIsMetAtFullRateOverLiveSockets(t *testing.T) {
	Need(t)
	length := 2 * time.Second
	if os.Getenv("FULL") != "" {
		length = 10 * time.Second
	}
	for _, encap := range []bool{true, false} {
		t.Run(fmt.Sprintf("encap=%t", encap), func(t *testing.T) {
			two := NewTwoSites(t)
			a, b := two.both(t, spec{Children: subnets(), Encap: encap, Locks: true})
			bytes := make(chan int64)
			end := time.Now().Add(length)
			go stream(t, two.HostA, two.HostB, HostB4, end, bytes)
			go stream(t, two.HostB, two.HostA, HostA4, end, bytes)
			sum := <-bytes + <-bytes
			t.Logf("%.2f Gbit/s in both directions together", float64(sum)*8/length.Seconds()/1e9)
			for _, r := range []*running{a, b} {
				if c := r.stop(t); c["sealed"] < 5000 || c["opened"] < 5000 {
					t.Errorf("%d packets sealed, %d opened: this is no full rate", c["sealed"], c["opened"])
				}
				for line := range strings.Lines(r.said(t)) {
					if stack, met := strings.CutPrefix(line, "lock "); met {
						t.Errorf("a worker waited: %s", stack)
					}
				}
			}
		})
	}
}

// stream sends a TCP stream until the end and says how many bytes arrived.
func stream(t *testing.T, from, to *site.Space, addr string, end time.Time, bytes chan<- int64) {
	var arrived int64
	defer func() { bytes <- arrived }()
	var l net.Listener
	err := to.Do(func() (err error) { l, err = net.Listen("tcp4", addr+":0"); return err })
	if err != nil {
		t.Error(err)
		return
	}
	defer l.Close()
	var out net.Conn
	err = from.Do(func() (err error) { out, err = net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second); return err })
	if err != nil {
		t.Error(err)
		return
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	defer in.Close()
	go func() {
		for chunk := make([]byte, 128<<10); ; {
			if _, err := out.Write(chunk); err != nil {
				return
			}
		}
	}()
	_ = in.SetReadDeadline(end)
	arrived, _ = io.Copy(io.Discard, in) // the deadline ends it
}
