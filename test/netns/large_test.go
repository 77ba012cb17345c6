package netns

import (
	"fmt"
	"net"
	"testing"
	"time"

	"yumen/test/site"
)

const largeSize = 5000 // bytes: several fragments

// sendLarge sends one datagram that must be fragmented and returns how many bytes
// of it arrived.
func sendLarge(t *testing.T, f site.Flow, port int) int {
	t.Helper()
	var in net.PacketConn
	to := net.JoinHostPort(f.ToAddr, fmt.Sprint(port))
	Check(t, f.To.Do(func() (err error) {
		in, err = net.ListenPacket("udp", to)
		return err
	}))
	defer in.Close()
	for range 3 { // the first may meet a path MTU that is not known yet
		_ = f.From.Do(func() error {
			out, err := net.Dial("udp", to)
			if err != nil {
				return err
			}
			defer out.Close()
			_, err = out.Write(make([]byte, largeSize))
			return err
		})
		Check(t, in.SetReadDeadline(time.Now().Add(700*time.Millisecond)))
		buf := make([]byte, 65536)
		if n, _, err := in.ReadFrom(buf); err == nil {
			return n
		}
	}
	return 0
}
