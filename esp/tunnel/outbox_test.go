package tunnel

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A full socket is waited for, and a closed one ends the wait.
func TestAFullSocketIsWaitedForUntilItIsClosed(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "full")
	defer file.Close()
	conn, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	o := newOutbox(&socket{file: file, conn: conn, kind: udp4})
	full := 3
	o.call = func(uintptr) {
		o.sent, o.errno = -1, unix.EAGAIN
		if full--; full < 0 {
			o.sent, o.errno = 1, 0
		}
	}
	at := netip.MustParseAddrPort("127.0.0.1:9")
	fill := func() {
		for range 2 {
			o.add(envelope{remote: at}, span{0, 1})
			o.part([]byte{1})
		}
	}
	fill()
	o.post()
	if full != -2 || o.errs[0] != 0 || o.errs[1] != 0 {
		t.Errorf("%d calls were too many, errors %v", -2-full, o.errs[:2])
	}
	o.empty()
	fill()
	full = 1 << 30
	time.AfterFunc(50*time.Millisecond, func() { file.Close() })
	done := make(chan bool)
	go func() { o.post(); close(done) }()
	select {
	case <-done:
		if o.errs[0] != unix.EBADF || o.errs[1] != unix.EBADF {
			t.Errorf("a closed socket: %v", o.errs[:2])
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a closed socket is still waited for")
	}
}
