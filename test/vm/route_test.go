package vm

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/xfrm"
)

// Routes decide what goes into an XFRM interface, which the plane makes; the guard
// still holds the rest.
func TestRouteBased(t *testing.T) {
	w := inside(t)
	cfg := xfrm.Config{ManageSysctl: true, Interface: "ipsec0", InterfaceID: 42}
	a, b := &side{space: w.ga}, &side{b: true, space: w.gb}
	ends := []struct {
		s      *side
		routes [][3]string // prefix, gateway in clear, family
	}{
		{a, [][3]string{{"10.2.0.0/24", gateB4, "-4"}, {"fd02::/64", gateB6, "-6"}}},
		{b, [][3]string{{"10.1.0.0/24", gateA4, "-4"}, {"fd01::/64", gateA6, "-6"}}},
	}
	for _, x := range ends {
		x.s.start(t, kernel, cfg)
	}
	install(t, 0, form{icv: 128}, a, b)
	for _, to := range []string{hostB4, hostB6} {
		if got := w.exchangeWithin(w.ha, to, 1, 300*time.Millisecond); got != 0 {
			t.Errorf("traffic to %s passed that no route led into the interface", to)
		}
	}
	for _, x := range ends {
		for _, r := range x.routes {
			ip(t, x.s.space, r[2], "route", "replace", r[0], "dev", "ipsec0")
			t.Cleanup(func() { ip(t, x.s.space, r[2], "route", "replace", r[0], "via", r[1]) })
		}
	}
	for _, to := range []string{hostB4, hostB6} {
		if got := w.exchange(w.ha, to, 3); got != 3 {
			t.Errorf("to %s: %d of 3 came back", to, got)
			stats(t, a, b)
		}
	}
	for i := range nets {
		if u, _ := a.Usage(child(false, i, 0, form{icv: 128}).ID); u.Out.Packets < 3 {
			t.Errorf("usage %+v", u)
		}
	}
	// It stays when the process ends, and another finds it.
	check(t, a.Close())
	if out := ip(t, w.ga, "-d", "link", "show", "ipsec0"); !strings.Contains(out, "if_id 0x2a") {
		t.Errorf("the interface is %s", out)
	}
	a.start(t, kernel, cfg)
	if got := w.exchange(w.ha, hostB4, 2); got != 2 {
		t.Errorf("after a restart %d of 2 came back", got)
	}
	wrong := cfg
	wrong.InterfaceID = 43
	err := w.ga.Do(func() error { _, err := xfrm.New(wrong); return err })
	if err == nil || !strings.Contains(err.Error(), "if_id 42, not 43") {
		t.Errorf("another number: %v", err)
	}
	check(t, w.ga.Do(xfrm.RemoveGuard))
	if out := ip(t, w.ga, "link", "show", "type", "xfrm"); out != "" {
		t.Errorf("the interface stays: %s", out)
	}
}

// What probes found out about a path, senders behind us hear of, and usage says it.
func TestALearnedPathIsToldToSenders(t *testing.T) {
	w := inside(t)
	a, b := w.open(t, false, kernel), w.open(t, true, kernel)
	const learned = 1400
	for n, f := range []form{{icv: 96}, {icv: 128, udp: true}, {icv: 96, v6: true}, {icv: 256, v6: true, udp: true}} {
		install(t, n, f, a, b)
		w.everyWay(t, 1)
		c := child(false, 0, n, f)
		whole, _ := a.Usage(c.ID)
		a.dataplane.(*xfrm.Plane).LearnPath(c.Path.Local.Addr(), c.Path.Remote.Addr(), learned)
		want := esp.MaxInner(c, learned)
		var u esp.Usage
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end) && u.EffectiveMTU != want; time.Sleep(50 * time.Millisecond) {
			u, _ = a.Usage(c.ID)
		}
		if u.EffectiveMTU != want || whole.EffectiveMTU != esp.MaxInner(c, 1500) {
			t.Errorf("%s: effective MTU %d, then %d, want %d", f, whole.EffectiveMTU, u.EffectiveMTU, want)
		}
		if got := w.senderMTU(t, hostB4); got != want {
			t.Errorf("%s: a sender hears of %d bytes, want %d", f, got, want)
		}
		if got := w.senderMTU(t, hostB6); got != want {
			t.Errorf("%s: an IPv6 sender hears of %d bytes, want %d", f, got, want)
		}
		remove(t, n, a, b)
		w.forgetPaths(t)
		time.Sleep(2100 * time.Millisecond) // what was looked up is good for so long
	}
}

// senderMTU is the path MTU that a host learns from sending a packet that is too large.
func (w *world) senderMTU(t *testing.T, to string) int {
	t.Helper()
	c, err := dial(w.ha, to)
	check(t, err)
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	check(t, err)
	level, discover, mtu := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU
	if netip.MustParseAddr(to).Is6() {
		level, discover, mtu = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU
	}
	got := 0
	check(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, discover, unix.IP_PMTUDISC_DO) }))
	check(t, err)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_, _ = c.Write(make([]byte, 1450))
		check(t, raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), level, mtu) }))
		check(t, err)
		if got < 1500 {
			break
		}
	}
	return got
}
