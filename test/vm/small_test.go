package vm

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"yumen/test/site"
)

// answered sends datagrams that make inner packets of a size, until one comes back.
func (w *world) answered(t *testing.T, from *site.Space, to string, size int) bool {
	t.Helper()
	c, err := dial(from, to)
	check(t, err)
	defer c.Close()
	head := 20 + 8
	if netip.MustParseAddr(to).Is6() {
		head = 40 + 8
	}
	buf := make([]byte, 4096)
	for range 4 {
		number := numbers.Add(1)
		b := make([]byte, size-head)
		binary.BigEndian.PutUint64(b, number)
		if _, err := c.Write(b); err != nil {
			continue // the host heard that it is too large, and cuts it next time
		}
		_ = c.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
		for {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			if n == len(b) && binary.BigEndian.Uint64(buf) == number {
				return true
			}
		}
	}
	return false
}

// A link between the gateways is so small that no inner packet of 1280 bytes fits it.
// IPv6 has no smaller size (RFC 8200 5), and the kernel would drop such packets: so that
// tunnel moves into userspace by itself, which cuts them after encryption. IPv4 stays,
// its senders are told.
func TestIPv6LeavesTheKernelWhereThePathIsTooSmall(t *testing.T) {
	w := inside(t)
	d := w.daemons(t)
	d.configure(cbcLines, "auto", "auto", "")
	d.start(d.b, d.a)
	d.up(d.a, d.b)
	d.in(d.a, map[string]string{"t4": "kernel", "t6": "kernel"})
	link := func(mtu string) {
		t.Helper()
		for _, s := range []*site.Space{w.ga, w.gb} {
			ip(t, s, "link", "set", "wan", "mtu", mtu)
		}
	}
	t.Cleanup(func() { link("1500") })
	link("1300")
	for _, g := range []*site.Gateway{d.a, d.b} {
		eventually(t, "t6 is in userspace", func() error { return d.lives(g, map[string]string{"t4": "kernel", "t6": "userspace"}) })
	}
	for _, x := range []struct {
		to   string
		size int
	}{{hostB6, 1280}, {hostB6, 1240}, {hostB6, 1400}, {hostB4, 1280}, {hostB4, 1400}} {
		if !w.answered(t, w.ha, x.to, x.size) {
			t.Errorf("%d bytes to %s do not pass a path of 1300", x.size, x.to)
		}
	}
	d.refused(d.a, []string{"dataplane", "move", "t6", "kernel"}, "t6", "its path takes inner packets of", "1280")
	d.answers(2, hostB4, hostB6)
}
