package vm

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy"
	"yumen/test/site"
)

// look is what of an IPv4 header a tunnel may copy.
type look struct {
	tos byte
	df  bool
}

// sniffer sees what leaves gateway A outside.
func sniffer(t *testing.T, s *site.Space) *os.File {
	t.Helper()
	var f *os.File
	check(t, s.Do(func() error {
		all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "sniffer")
		i, err := net.InterfaceByName("wan")
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	}))
	t.Cleanup(func() { f.Close() })
	return f
}

// outerLook is that of the next ESP packet that a sniffer sees.
func outerLook(t *testing.T, f *os.File) look {
	t.Helper()
	check(t, f.SetReadDeadline(time.Now().Add(5*time.Second)))
	for buf := make([]byte, 4096); ; {
		n, err := f.Read(buf)
		check(t, err)
		if n >= 20 && buf[0]>>4 == 4 && buf[9] == unix.IPPROTO_ESP {
			return look{buf[1], buf[6]&0x40 != 0}
		}
	}
}

// inner is a socket of the host behind A whose packets look so.
func inner(t *testing.T, s *site.Space, l look, to string) (c net.Conn) {
	t.Helper()
	discover := unix.IP_PMTUDISC_DONT
	if l.df {
		discover = unix.IP_PMTUDISC_DO
	}
	check(t, s.Do(func() (err error) {
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			var inner error
			err := raw.Control(func(fd uintptr) {
				inner = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, int(l.tos)),
					unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discover))
			})
			return errors.Join(err, inner)
		}}
		c, err = d.DialContext(context.Background(), "udp4", to)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

// hears gives the type of service with which each datagram arrives.
func hears(t *testing.T, s *site.Space, at string) func() byte {
	t.Helper()
	var c *net.UDPConn
	check(t, s.Do(func() error {
		p, err := net.ListenPacket("udp4", at)
		if err != nil {
			return err
		}
		c = p.(*net.UDPConn)
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		var inner error
		err = raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1) })
		return errors.Join(err, inner)
	}))
	t.Cleanup(func() { c.Close() })
	return func() byte {
		t.Helper()
		buf, oob := make([]byte, 2048), make([]byte, 128)
		check(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
		_, n, _, _, err := c.ReadMsgUDPAddrPort(buf, oob)
		check(t, err)
		list, err := unix.ParseSocketControlMessage(oob[:n])
		check(t, err)
		for _, m := range list {
			if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TOS {
				return m.Data[0]
			}
		}
		t.Fatal("the host does not say with which type of service it came")
		return 0
	}
}

// The outer header copies of the inner one what the tunnel says, congestion is told
// through the tunnel both ways (RFC 6040), and what a router did to the outer DSCP stays
// outside.
func TestTheOuterHeaderFollowsTheTunnel(t *testing.T) {
	const ef, ect0, ce = 46 << 2, 2, 3
	for name, c := range map[string]struct {
		outer       policy.Outer
		inner, want look
	}{
		"copied":  {policy.Outer{DSCP: policy.CopyDSCP}, look{ef | ect0, true}, look{ef | ect0, true}},
		"without": {policy.Outer{DSCP: policy.CopyDSCP}, look{0, false}, look{0, false}},
		"hidden":  {policy.Outer{DF: policy.DFClear}, look{ef | ect0, true}, look{ect0, false}},
	} {
		t.Run(name, func(t *testing.T) {
			w := inside(t)
			a, b := w.open(t, false, kernel), w.open(t, true, kernel)
			for _, s := range []*side{a, b} {
				x := child(s.b, 0, 0, form{icv: 96})
				x.Outer = c.outer
				check(t, s.Install(x, esp.State{}))
				check(t, s.Use(x.ID))
			}
			at := net.JoinHostPort(hostB4, "7778")
			sees, heard, from := sniffer(t, w.ga), hears(t, w.hb, at), inner(t, w.ha, c.inner, at)
			send := func() {
				t.Helper()
				_, err := from.Write([]byte("look at this"))
				check(t, err)
			}
			send()
			if got := outerLook(t, sees); got != c.want {
				t.Errorf("outside %+v, want %+v", got, c.want)
			}
			if got := heard(); got != c.inner.tos {
				t.Errorf("inside %#x became %#x", c.inner.tos, got)
			}
			file := filepath.Join(t.TempDir(), "congested.nft")
			check(t, os.WriteFile(file, []byte("table ip c { chain post { type filter hook postrouting priority 300; ip protocol esp ip dscp set cs1 ip ecn set ce; }; }\n"), 0o644))
			_, err := w.ga.Run("nft", "-f", file)
			check(t, err)
			t.Cleanup(func() { _, _ = w.ga.Run("nft", "delete table ip c") })
			want := c.inner.tos
			if want&3 == ect0 {
				want |= ce
			}
			send()
			if got := heard(); got != want {
				t.Errorf("a router saw congestion, inside %#x became %#x, want %#x", c.inner.tos, got, want)
			}
		})
	}
}
