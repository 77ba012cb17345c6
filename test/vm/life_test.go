package vm

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/esp"
	"yumen/policy"
	"yumen/test/site"
	"yumen/xfrm"
)

// A soft limit is told once; at a hard limit the traffic stops, and nothing leaves in
// clear.
func TestLimitsAreToldAndKept(t *testing.T) {
	w := inside(t)
	a, b := w.open(t, false, kernel), w.open(t, true, kernel)
	f := form{icv: 96}
	for i := range nets {
		limited := child(false, i, 0, f)
		limited.Limits = esp.Limits{SoftPackets: 4, HardPackets: 8}
		check(t, a.Install(limited, esp.State{}))
		check(t, a.Use(limited.ID))
		check(t, b.Install(child(true, i, 0, f), esp.State{}))
		check(t, b.Use(child(true, i, 0, f).ID))
	}
	if got := w.exchange(w.ha, hostB4, 6); got != 6 {
		t.Fatalf("%d of 6 came back", got)
	}
	e := a.await(t, esp.SoftLimit, 5*time.Second)
	if e.Child != child(false, 0, 0, f).ID || e.Tunnel != "t4" {
		t.Errorf("soft limit of child %d of %q", e.Child, e.Tunnel)
	}
	if got := w.exchangeWithin(w.ha, hostB4, 4, 300*time.Millisecond); got != 2 {
		t.Errorf("%d packets came back beyond the sixth, 8 are allowed", got)
	}
	if e := a.await(t, esp.HardLimit, 5*time.Second); e.Child != child(false, 0, 0, f).ID {
		t.Errorf("hard limit of child %d", e.Child)
	}
	if _, again := a.event(esp.HardLimit, 200*time.Millisecond); again {
		t.Error("a hard limit was told twice")
	}
	if got := w.exchangeWithin(w.ha, hostB4, 2, 200*time.Millisecond); got != 0 {
		t.Error("traffic went on after the hard limit")
	}
	if got := w.exchange(w.ha, hostB6, 2); got != 2 {
		t.Error("the other tunnel stopped too")
	}
	// Bytes, and time as the last resort when no engine lives.
	limited := child(false, 0, 1, f)
	limited.Limits = esp.Limits{SoftBytes: 1}
	check(t, a.Install(limited, esp.State{}))
	check(t, b.Install(child(true, 0, 1, f), esp.State{}))
	check(t, a.Use(limited.ID))
	check(t, b.Use(child(true, 0, 1, f).ID))
	w.exchange(w.ha, hostB4, 2)
	if e := a.await(t, esp.SoftLimit, 5*time.Second); e.Child != limited.ID {
		t.Errorf("soft limit of child %d", e.Child)
	}
}

// The first packet of a tunnel without a child asks for one and waits for it.
func TestFirstPacketAsksAndWaits(t *testing.T) {
	w := inside(t)
	a, b := w.open(t, false, kernel), w.open(t, true, kernel)
	f := form{icv: 96}
	for round := range 2 { // the second begins after a child was there
		s := w.stream(t, w.ha, hostB4, 50*time.Millisecond)
		if e, ok := a.event(esp.Acquire, 5*time.Second); !ok || e.Tunnel != "t4" {
			stats(t, a, b)
			t.Fatalf("round %d: acquire %t for %q:\n%s", round, ok, e.Tunnel, ip(t, w.ga, "xfrm", "state", "list", "nokeys")+ip(t, w.ga, "xfrm", "policy"))
		}
		time.Sleep(300 * time.Millisecond)
		install(t, round, f, b, a)
		time.Sleep(1500 * time.Millisecond)
		if sent, lost, repeated := w.end(s); sent < 10 || lost != 0 || repeated != 0 {
			t.Errorf("round %d: sent %d, lost %d, repeated %d", round, sent, lost, repeated)
			stats(t, a, b)
		}
		remove(t, round, a, b)
		for range len(a.Events()) {
			<-a.Events()
		}
	}
	// A new process asks at once, although the one before it asked a moment ago.
	one := w.stream(t, w.ha, hostB4, 50*time.Millisecond)
	a.await(t, esp.Acquire, 5*time.Second)
	check(t, a.Close())
	a.start(t, kernel, xfrm.Config{ManageSysctl: true})
	if _, ok := a.event(esp.Acquire, 3*time.Second); !ok {
		t.Error("a new process is not asked")
	}
	w.end(one)
	// As long as nobody answers, it keeps asking, but not for each packet.
	s := w.stream(t, w.ha, hostB6, 20*time.Millisecond)
	asked := 0
	for end := time.Now().Add(3500 * time.Millisecond); time.Now().Before(end); {
		if e, ok := a.event(esp.Acquire, time.Until(end)); ok && e.Tunnel == "t6" {
			asked++
		}
	}
	if asked < 2 || asked > 4 {
		t.Errorf("asked %d times in 3.5 s", asked)
	}
	if sent, lost, _ := w.end(s); lost != sent {
		t.Errorf("%d of %d arrived without a child", sent-lost, sent)
	}
}

// A daemon that is gone leaves its SAs; the next takes them over, traffic never
// stops, and they go when a new child has taken over.
func TestRestartKeepsTrafficFlowing(t *testing.T) {
	w := inside(t)
	a, b := w.open(t, false, kernel), w.open(t, true, kernel)
	install(t, 0, form{icv: 96}, a, b)
	w.everyWay(t, 1)
	toB, toA := w.stream(t, w.ha, hostB4, 4*time.Millisecond), w.stream(t, w.hb, hostA6, 4*time.Millisecond)
	check(t, a.Close())
	time.Sleep(200 * time.Millisecond)
	a.start(t, kernel, xfrm.Config{ManageSysctl: true})
	left := a.dataplane.(*xfrm.Plane).Leftovers()
	sending := 0
	for _, l := range left {
		if l.Sending && l.Count.Packets > 0 && l.Path.Remote.Addr() == netip.MustParseAddr(gateB4) {
			sending++
		}
	}
	if len(left) != 4 || sending != 2 {
		t.Errorf("%d left, %d sending", len(left), sending)
	}
	check(t, a.SetPolicy(twoTunnels(false))) // a reload harms nothing
	time.Sleep(200 * time.Millisecond)
	install(t, 1, form{icv: 96}, b, a)
	a.await(t, esp.FirstPacket, 5*time.Second)
	a.await(t, esp.FirstPacket, 5*time.Second)
	time.Sleep(200 * time.Millisecond)
	for _, s := range []*stream{toB, toA} {
		if sent, lost, repeated := w.end(s); sent < 50 || lost != 0 || repeated != 0 {
			t.Errorf("to %s: sent %d, lost %d, repeated %d", s.to, sent, lost, repeated)
		}
	}
	if left := a.dataplane.(*xfrm.Plane).Leftovers(); len(left) != 0 {
		t.Errorf("%d old SAs stay although the new child carries", len(left))
	}
	if n := strings.Count(ip(t, w.ga, "xfrm", "state", "list", "nokeys"), "auth-trunc"); n != 4 {
		t.Errorf("%d states in the kernel, want those of one generation", n)
	}
	// What the next process finds under the same names, for other traffic or with a peer
	// that is elsewhere, it does not take over.
	for what, change := range map[string]func(p *policy.Policy){
		"narrower tunnels": func(p *policy.Policy) {
			p.Tunnels[0].Selector.Remote = policy.NetOf(netip.MustParsePrefix("10.2.0.0/25"))
			p.Tunnels[1].Selector.Remote = policy.NetOf(netip.MustParsePrefix("fd02::/65"))
		},
		"another peer": func(p *policy.Policy) { p.Peers[0].Remote.Addr = netip.MustParseAddr(gateC4) },
	} {
		check(t, a.Close())
		pol := twoTunnels(false)
		change(pol)
		check(t, w.ga.Do(func() (err error) {
			if a.dataplane, err = xfrm.New(xfrm.Config{ManageSysctl: true}); err == nil {
				err = a.SetPolicy(pol)
			}
			return err
		}))
		t.Cleanup(func() { a.Close() })
		if out := ip(t, w.ga, "xfrm", "state", "list", "nokeys"); strings.Contains(out, "auth-trunc") {
			t.Errorf("%s: the SAs of before are still there", what)
		}
		w.noWay(t)
		check(t, a.SetPolicy(twoTunnels(false)))
		install(t, 2, form{icv: 96}, a)
	}
	// A policy without the tunnels takes their old SAs along, and only then the guard.
	check(t, a.Close())
	a.start(t, kernel, xfrm.Config{ManageSysctl: true})
	check(t, a.SetPolicy(&policy.Policy{}))
	if out := ip(t, w.ga, "xfrm", "state", "list", "nokeys"); strings.Contains(out, "auth-trunc") {
		t.Error("SAs of tunnels that are no more are still there")
	}
	check(t, a.SetPolicy(twoTunnels(false)))
}

// What a dead daemon left is bound by its limits; then the tunnel asks for a child.
func TestLeftoverEndsAtItsLimit(t *testing.T) {
	w := inside(t)
	a, b := w.open(t, false, kernel), w.open(t, true, kernel)
	f := form{icv: 96}
	limited := child(false, 0, 0, f)
	limited.Limits = esp.Limits{HardPackets: 3}
	check(t, a.Install(limited, esp.State{}))
	check(t, a.Use(limited.ID))
	check(t, b.Install(child(true, 0, 0, f), esp.State{}))
	check(t, b.Use(child(true, 0, 0, f).ID))
	check(t, a.Close())
	a.start(t, kernel, xfrm.Config{ManageSysctl: true})
	if got := w.exchangeWithin(w.ha, hostB4, 5, 300*time.Millisecond); got != 3 {
		t.Errorf("%d came back, 3 are allowed", got)
	}
	if e := a.await(t, esp.Acquire, 5*time.Second); e.Tunnel != "t4" {
		t.Errorf("acquire for %q", e.Tunnel)
	}
	for _, l := range a.dataplane.(*xfrm.Plane).Leftovers() {
		if l.Sending {
			t.Errorf("%08x still counts as sending", uint32(l.SPI))
		}
	}
}

func ip(t *testing.T, s *site.Space, args ...string) string {
	t.Helper()
	out, err := s.Run(append([]string{"ip"}, args...)...)
	check(t, err)
	return out
}

// victim is a process with a kernel plane, made to be killed.
func victim() error {
	p, err := xfrm.New(xfrm.Config{ManageSysctl: true})
	if err != nil {
		return err
	}
	if err := p.SetPolicy(twoTunnels(false)); err != nil {
		return err
	}
	for i := range nets {
		c := child(false, i, 0, form{icv: 96})
		if err := p.Install(c, esp.State{}); err != nil {
			return err
		}
		if err := p.Use(c.ID); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	select {}
}

// The guard outlives the daemon, its SAs, and reloads: nothing in clear, which
// inside() asserts of every test.
func TestGuardOutlivesTheDaemon(t *testing.T) {
	w := inside(t)
	b := w.open(t, true, kernel)
	for i := range nets {
		check(t, b.Install(child(true, i, 0, form{icv: 96}), esp.State{}))
		check(t, b.Use(child(true, i, 0, form{icv: 96}).ID))
	}
	log := filepath.Join(t.TempDir(), "log")
	self, err := os.Executable()
	check(t, err)
	p, err := w.ga.Start(log, self, "plane")
	check(t, err)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if said, _ := os.ReadFile(log); bytes.Contains(said, []byte("ready")) {
			break
		} else if time.Now().After(end) || p.Ended() {
			t.Fatalf("the process did not come up: %s", said)
		}
	}
	w.everyWay(t, 1)
	s := w.stream(t, w.ha, hostB4, 3*time.Millisecond)
	p.Kill()
	time.Sleep(200 * time.Millisecond)
	if sent, lost, _ := w.end(s); lost != 0 {
		t.Errorf("kill -9: lost %d of %d, the kernel had everything it needs", lost, sent)
	}
	ip(t, w.ga, "xfrm", "state", "flush") // as if all had expired
	w.noWay(t)
	// What arrives in clear at the other end is refused as well, on its own account.
	ip(t, w.gb, "xfrm", "state", "flush")
	w.noWay(t)
	if n := w.clear.Load(); n != 0 {
		t.Fatalf("%d in clear", n)
	}
	check(t, w.ga.Do(xfrm.RemoveGuard))
	if w.exchangeWithin(w.ha, hostB4, 1, 300*time.Millisecond) != 0 {
		t.Error("gb took a clear packet that claims to come from a protected network")
	}
	if grows(&w.clear, 1) == 0 {
		t.Error("without a guard nothing was in clear: the observer is blind")
	}
	w.clear.Store(0)
}

// The peer's port changes, as behind a NAT: told after an authentic packet, then
// followed in place; then its address, with all state.
func TestPathIsFollowed(t *testing.T) {
	w := inside(t)
	a := w.open(t, false, kernel)
	b := &side{b: true, space: w.gb}
	b.start(t, kernel, xfrm.Config{ManageSysctl: true, NATPort: 5500})
	f := form{icv: 96, udp: true}
	install(t, 0, f, a, b) // a believes that b is at 4500
	w.exchangeWithin(w.hb, hostA4, 2, 300*time.Millisecond)
	e := a.await(t, esp.Moved, 5*time.Second)
	want := netip.AddrPortFrom(netip.MustParseAddr(gateB4), 5500)
	if e.Child != child(false, 0, 0, f).ID || e.Remote != want {
		t.Fatalf("child %d moved to %s", e.Child, e.Remote)
	}
	rebind := func(s *side, change func(*esp.Path)) {
		t.Helper()
		for i := range nets {
			path := child(s.b, i, 0, f).Path
			change(&path)
			check(t, s.Rebind(child(s.b, i, 0, f).ID, path))
		}
	}
	rebind(a, func(p *esp.Path) { p.Remote = want })
	w.everyWay(t, 2)
	before, _ := a.Usage(child(false, 0, 0, f).ID)
	c4 := netip.MustParseAddr(gateC4)
	rebind(a, func(p *esp.Path) { p.Remote = netip.AddrPortFrom(c4, 5500) })
	rebind(b, func(p *esp.Path) { p.Local = netip.AddrPortFrom(c4, 5500) })
	w.everyWay(t, 2)
	after, _ := a.Usage(child(false, 0, 0, f).ID)
	if after.In.Packets != before.In.Packets+4 || after.Out.Packets != before.Out.Packets+4 {
		t.Errorf("counts went from %+v to %+v", before, after)
	}
	// Out of UDP and back to protocol 50.
	raw := func(p *esp.Path) {
		*p = esp.Path{Local: netip.AddrPortFrom(p.Local.Addr(), 0), Remote: netip.AddrPortFrom(p.Remote.Addr(), 0)}
	}
	rebind(a, raw)
	rebind(b, raw)
	w.everyWay(t, 2)
	s, err := a.Remove(child(false, 0, 0, f).ID)
	check(t, err)
	if s.OutSeq < 10 || s.InSeq < 10 || len(s.Replay) != 16 || s.Replay[0]&1 == 0 || s.In.Packets != after.In.Packets+4 {
		t.Errorf("state %+v", s)
	}
	// With its state it goes on; without it, the peer would take nothing.
	back := child(false, 0, 0, f)
	raw(&back.Path)
	check(t, a.Install(back, s))
	check(t, a.Use(back.ID))
	w.everyWay(t, 2)
}
