package xfrm

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/esp/ours"
	"yumen/policy"
	"yumen/policy/secret"
)

func child() esp.Child {
	keymat := func(b byte) secret.Secret { return secret.New(bytes.Repeat([]byte{b}, 48)) }
	return esp.Child{
		ID: 1, Tunnel: "t", Suite: policy.SM4CBCHMACSM3, ICVBits: 96, Window: 1024,
		Outer: policy.Outer{DSCP: policy.CopyDSCP},
		In:    esp.Half{SPI: 0x1001, Keymat: keymat(1)}, Out: esp.Half{SPI: 0x2002, Keymat: keymat(2)},
		Path: esp.Path{Local: netip.MustParseAddrPort("192.0.2.1:0"), Remote: netip.MustParseAddrPort("198.51.100.1:0")},
	}
}

func TestChildBecomesTwoStates(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*esp.Child, *esp.State)
		check  func(in, out state) bool
	}{
		{"addresses, SPIs and keys by direction", func(*esp.Child, *esp.State) {}, func(in, out state) bool {
			return in.dst.String() == "192.0.2.1" && in.spi == 0x1001 && in.keymat.Bytes()[0] == 1 && !in.outbound &&
				out.dst.String() == "198.51.100.1" && out.spi == 0x2002 && out.keymat.Bytes()[0] == 2 && out.outbound
		}},
		{"no ports without UDP", func(*esp.Child, *esp.State) {}, func(in, out state) bool { return in.sport == 0 && out.dport == 0 }},
		{"ports by direction", func(c *esp.Child, _ *esp.State) {
			c.Path = esp.Path{Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.1:61000"), Encap: true}
		}, func(in, out state) bool {
			return in.sport == 61000 && in.dport == 4500 && out.sport == 4500 && out.dport == 61000
		}},
		{"a fresh child is watched", func(*esp.Child, *esp.State) {}, func(in, out state) bool { return in.watched && !out.watched }},
		{"one that goes on is not", func(_ *esp.Child, s *esp.State) { s.InSeq = 7 }, func(in, out state) bool { return !in.watched && in.seq == 7 }},
		{"numbers and counts go on", func(_ *esp.Child, s *esp.State) {
			*s = esp.State{OutSeq: 9, InSeq: 5, Replay: []uint64{3}, Out: esp.Count{Packets: 9}, In: esp.Count{Packets: 4}}
		}, func(in, out state) bool {
			return out.seq == 9 && out.count.Packets == 9 && out.replay == nil && in.seq == 5 && in.count.Packets == 4 && in.replay[0] == 3
		}},
		{"limits of both directions, time with slack", func(c *esp.Child, _ *esp.State) {
			c.Limits = esp.Limits{SoftBytes: 1, HardBytes: 2, SoftPackets: 3, HardPackets: 4, HardTime: 1500 * time.Millisecond}
		}, func(in, out state) bool { return in.limits == lifetime{1, 2, 3, 4, 7} && out.limits == in.limits }},
		{"no time limit stays none", func(*esp.Child, *esp.State) {}, func(in, _ state) bool { return in.limits == lifetime{} }},
		{"DF copied by default", func(*esp.Child, *esp.State) {}, func(_, out state) bool { return out.pathMTU && out.copyDSCP }},
		{"DF cleared", func(c *esp.Child, _ *esp.State) { c.Outer.DF = policy.DFClear }, func(_, out state) bool { return !out.pathMTU }},
		{"cut after encryption clears DF", func(c *esp.Child, _ *esp.State) { c.Outer.Fragment = policy.FragmentAfter }, func(_, out state) bool { return !out.pathMTU }},
		{"DSCP 0", func(c *esp.Child, _ *esp.State) { c.Outer.DSCP = 0 }, func(_, out state) bool { return !out.copyDSCP }},
		{"output mark outwards only", func(*esp.Child, *esp.State) {}, func(in, out state) bool { return in.outputMark == 0 && out.outputMark == 9 }},
	} {
		ch, from := child(), esp.State{}
		c.change(&ch, &from)
		in, out, err := planChild(ch, from, context{reqid: 7, outputMark: 9})
		if err != nil || !c.check(in, out) || in.reqid != 7 || out.reqid != 7 {
			t.Errorf("%s: in %d/%d out %d/%d err %v", c.name, in.spi, in.seq, out.spi, out.seq, err)
		}
	}
}

func TestWhatTheKernelCannotCarryIsRefused(t *testing.T) {
	for want, change := range map[string]func(*esp.Child){
		"SM4-GCM":           func(c *esp.Child) { c.Suite = policy.SM4GCM128 },
		"suite 0":           func(c *esp.Child) { c.Suite = 0 },
		"SPI 255":           func(c *esp.Child) { c.In.SPI = 255 },
		"keymat of 47":      func(c *esp.Child) { c.Out.Keymat = secret.New(make([]byte, 47)) },
		"ICV of 160":        func(c *esp.Child) { c.ICVBits = 160 },
		"window of 32":      func(c *esp.Child) { c.Window = 32 },
		"DSCP 46":           func(c *esp.Child) { c.Outer.DSCP = 46 },
		"always set DF":     func(c *esp.Child) { c.Outer.DF = policy.DFSet },
		"to 1200 bytes":     func(c *esp.Child) { c.Outer.MSS = 1200 },
		"two families":      func(c *esp.Child) { c.Path.Local = netip.MustParseAddrPort("[::2]:0") },
		"lacks a port":      func(c *esp.Child) { c.Path.Encap = true },
		"no remote address": func(c *esp.Child) { c.Path.Remote = netip.AddrPort{} },
	} {
		c := child()
		change(&c)
		if _, _, err := planChild(c, esp.State{}, context{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func mustPolicy(t *testing.T, tunnels []policy.Selector, rules ...policy.Rule) []zone {
	t.Helper()
	p := &policy.Policy{Rules: rules}
	for i, s := range tunnels {
		p.Tunnels = append(p.Tunnels, policy.Tunnel{Name: string(rune('a' + i)), Selector: s})
	}
	spd, err := policy.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return zonesOf(spd.Rules())
}

func sel(local, remote string) policy.Selector {
	return policy.Selector{Local: policy.NetOf(netip.MustParsePrefix(local)), Remote: policy.NetOf(netip.MustParsePrefix(remote))}
}

// verdict is what the kernel does with a packet: the first policy that matches.
func verdict(plan []entry, dir direction, src, dst string, protocol uint8, dport uint16) kind {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	for _, e := range plan {
		if e.dir == dir && e.device == 0 && e.src.Contains(s) && e.dst.Contains(d) && (e.protocol == 0 || e.protocol == protocol) &&
			e.srcPort == 0 && (e.dstPort == 0 || e.dstPort == dport) {
			return e.kind
		}
	}
	return 255
}

func TestGuardDecides(t *testing.T) {
	tcp := sel("10.1.0.0/16", "10.3.0.0/16")
	tcp.Protocol, tcp.RemotePort = 6, 443
	zones := mustPolicy(t, []policy.Selector{sel("10.1.0.0/16", "10.2.0.0/16"), tcp, sel("fd01::/64", "::/0")},
		policy.Rule{Name: "mgmt", Action: policy.Bypass, Selector: sel("10.1.0.0/16", "10.2.9.0/24")},
		policy.Rule{Name: "no", Action: policy.Drop, Selector: sel("10.1.0.0/16", "10.2.8.0/24")})
	plan := planGuard(zones, surroundings{connected: []netip.Prefix{netip.MustParsePrefix("10.2.7.0/24"), netip.MustParsePrefix("fd01::/64")}})
	for _, c := range []struct {
		dir      direction
		src, dst string
		protocol uint8
		port     uint16
		want     kind
	}{
		{dirOut, "10.1.0.1", "10.2.0.1", 17, 9, protect},
		{dirIn, "10.2.0.1", "10.1.0.1", 17, 9, protect},
		{dirFwd, "10.2.0.1", "10.1.0.1", 17, 9, protect},
		{dirFwd, "10.1.0.1", "10.2.0.1", 17, 9, 255}, // decided on its way out
		{dirOut, "10.1.0.1", "10.3.0.1", 6, 443, protect},
		{dirOut, "10.1.0.1", "10.3.0.1", 6, 80, tunnelBlock},
		{dirOut, "10.1.0.1", "10.3.0.1", 17, 443, tunnelBlock},
		{dirFwd, "10.3.0.1", "10.1.0.1", 17, 443, tunnelBlock},
		{dirOut, "10.1.0.1", "10.2.9.1", 17, 9, bypassAllow},
		{dirIn, "10.2.9.1", "10.1.0.1", 17, 9, bypassAllow},
		{dirOut, "10.1.0.1", "10.2.8.1", 17, 9, ruleBlock},
		{dirOut, "10.1.0.1", "10.2.7.1", 17, 9, connectedAllow},
		{dirOut, "10.9.0.1", "10.2.0.1", 17, 9, 255},
		{dirOut, "fd01::1", "2001:db8::1", 17, 9, protect},
		{dirOut, "fd01::1", "fd01::2", 17, 9, connectedAllow},
		{dirOut, "fd01::1", "fe80::1", 17, 9, controlAllow},
		{dirOut, "fd01::1", "ff02::1", 17, 9, controlAllow},
		{dirOut, "fd01::1", "2001:db8::1", 17, 547, controlAllow},
	} {
		if got := verdict(plan, c.dir, c.src, c.dst, c.protocol, c.port); got != c.want {
			t.Errorf("dir %d %s to %s protocol %d port %d: %d, want %d", c.dir, c.src, c.dst, c.protocol, c.port, got, c.want)
		}
	}
	for i, e := range plan {
		if !ours.InKernelBand(e.priority) || i > 0 && plan[i-1].priority > e.priority {
			t.Errorf("entry %d has priority %#x", i, e.priority)
		}
		if (e.kind == protect) != (e.tunnel != "") {
			t.Errorf("entry %d: kind %d names tunnel %q", i, e.kind, e.tunnel)
		}
	}
}

func TestDiscoveryPassesUnderWideSelectors(t *testing.T) {
	plan := planGuard(mustPolicy(t, []policy.Selector{sel("::/0", "::/0")}), surroundings{})
	for _, icmp := range []uint16{133, 135, 136, 137} {
		if !slices.ContainsFunc(plan, func(e entry) bool {
			return e.kind == controlAllow && e.dir == dirOut && e.protocol == 58 && e.srcPort == icmp && e.priority < plan[len(plan)-1].priority
		}) {
			t.Errorf("ICMPv6 type %d is not allowed", icmp)
		}
	}
	if narrow := planGuard(mustPolicy(t, []policy.Selector{sel("10.1.0.0/16", "10.2.0.0/16")}), surroundings{}); len(narrow) != 3 {
		t.Errorf("a narrow selector makes %d entries", len(narrow))
	}
}

func TestInterfaceStandsAboveTheBlock(t *testing.T) {
	plan := planGuard(mustPolicy(t, []policy.Selector{sel("10.1.0.0/16", "10.2.0.0/16")}), surroundings{ifID: 42, device: 5})
	seen := map[kind]uint32{}
	for _, e := range plan {
		if e.dir == dirOut {
			seen[e.kind] = e.priority
			if (e.ifID == 42) != (e.kind == protect) || (e.device == 5) != (e.kind == deviceAllow) {
				t.Errorf("kind %d has if_id %d and device %d", e.kind, e.ifID, e.device)
			}
		}
	}
	if len(seen) != 3 || seen[deviceAllow] >= seen[protect] || seen[protect] >= seen[tunnelBlock] {
		t.Errorf("priorities %v", seen)
	}
}

func TestReqidsFollowFromNames(t *testing.T) {
	names := []string{"b", "a", "c"}
	first, second := numberTunnels(names, nil), numberTunnels([]string{"c", "a", "b"}, nil)
	seen := map[uint32]bool{}
	for _, n := range names {
		if first[n] != second[n] || !ours.IsReqid(first[n]) || seen[first[n]] {
			t.Errorf("%s: %#x and %#x", n, first[n], second[n])
		}
		seen[first[n]] = true
	}
	// A name that falls on a taken number moves on and leaves the owner alone.
	taken := map[string]uint32{"x": numberTunnels([]string{"y"}, nil)["y"]}
	got := numberTunnels([]string{"x", "y"}, taken)
	if got["x"] != taken["x"] || got["y"] != ours.Reqid|(taken["x"]+1)&ours.ReqidBits {
		t.Errorf("collision: %#x", got)
	}
}

// The kernel's rule (net/xfrm/xfrm_replay.c, xfrm_replay_check_bmp) against the bitmap of esp.
func TestReplayBitmapIsTheKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, window := range []int{64, 100, 128, 1024, 4096} {
		w, err := esp.NewWindow(window)
		if err != nil {
			t.Fatal(err)
		}
		top := uint64(1)<<32 - uint64(window) // passes the change of the high half
		for range 3 * window {
			top += uint64(r.IntN(4))
			if seq := top - uint64(r.IntN(window)); w.Check(seq) {
				w.Update(seq)
			}
		}
		top = w.Top()
		ring := toRing(top, window, w.Bitmap())
		for i := range uint64(window) {
			pos := (uint32(top) - 1) % uint32(window)
			bit := pos - uint32(i)
			if uint32(i) > pos {
				bit = uint32(window) - (uint32(i) - pos)
			}
			if seen := ring[bit/32]>>(bit%32)&1 == 1; seen == w.Check(top-i) {
				t.Fatalf("window %d, number top-%d: the ring says seen %t", window, i, seen)
			}
		}
		if !slices.Equal(fromRing(top, window, ring), w.Bitmap()) {
			t.Errorf("window %d: the bitmap did not survive", window)
		}
	}
	if len(toRing(0, 1024, nil)) != 32 || fromRing(0, 1024, make([]uint32, 32)) != nil {
		t.Error("a fresh window is not empty")
	}
}

// attrsOf are the attributes of a message after a head of that many bytes.
func attrsOf(m *message, head int) map[uint16][]byte {
	out := map[uint16][]byte{}
	for k, v := range attrs(m.body()[head:]) {
		out[k] = v
	}
	return out
}

func TestMessageSaysWhatTheKernelWouldGuess(t *testing.T) {
	c := child()
	in, out, err := planChild(c, esp.State{OutSeq: 1<<32 + 5, Out: esp.Count{Packets: 3}}, context{reqid: ours.Reqid | 1})
	if err != nil {
		t.Fatal(err)
	}
	m := stateMessage(in, 1000)
	a := attrsOf(m, nl.SizeofXfrmUsersaInfo)
	info := nl.DeserializeXfrmUsersaInfo(m.body())
	if info.ReplayWindow != 0 || info.Flags&nl.XFRM_STATE_ESN != 0 {
		t.Errorf("window %d, flags %#x: without ESN the window of 1024 belongs into its attribute", info.ReplayWindow, info.Flags)
	}
	if v := a[nl.XFRMA_REPLAY_ESN_VAL]; len(v) != 24+128 || v[0] != 32 || v[20] != 0 || v[21] != 4 {
		t.Errorf("replay attribute of %d bytes", len(v))
	}
	if v := a[nl.XFRMA_ALG_AUTH_TRUNC]; len(v) != 72+32 || v[68] != 96 || v[72] != 1 {
		t.Errorf("integrity attribute of %d bytes", len(v))
	}
	if v := a[nl.XFRMA_ALG_CRYPT]; len(v) != 68+16 || algorithm(v) != "cbc(sm4)" {
		t.Errorf("cipher attribute of %d bytes", len(v))
	}
	if a[nl.XFRMA_ALG_AUTH] != nil || a[nl.XFRMA_ENCAP] != nil || a[nl.XFRMA_LTIME_VAL] != nil || a[nl.XFRMA_REPLAY_THRESH][0] != 1 {
		t.Error("an attribute that should not be there, or no watch")
	}
	m = stateMessage(out, 1000)
	a = attrsOf(m, nl.SizeofXfrmUsersaInfo)
	if v := a[nl.XFRMA_REPLAY_ESN_VAL]; v[4] != 5 || v[12] != 1 || v[8] != 0 {
		t.Error("the sequence number of the outbound SA is not in its place")
	}
	if v := a[nl.XFRMA_LTIME_VAL]; len(v) != 32 || v[8] != 3 || v[16] != 1000%256 {
		t.Error("counts go on without the time of birth: the SA would expire at once")
	}
	if cap(m.b) != messageRoom {
		t.Error("the buffer has grown: a copy of the key is left behind")
	}
	r, ok := parseState(m.body(), true)
	if !ok || r.state.spi != out.spi || r.state.dst != out.dst || r.state.seq != out.seq || !r.state.keymat.Equal(out.keymat.Bytes()) || r.larval {
		t.Errorf("read back: %08x to %s, number %d", uint32(r.state.spi), r.state.dst, r.state.seq)
	}
	if r, _ := parseState(m.body(), false); r.state.keymat.Len() != 0 {
		t.Error("the key was read although nobody asked")
	}
}

// The library takes fd01:: for an IPv4 address and loses the mask.
func TestPoliciesAreReadByTheirFamily(t *testing.T) {
	for _, prefix := range []string{"fd01::/64", "::/0", "0.0.0.0/0", "10.0.0.0/8", "2001:db8::/32"} {
		p := netip.MustParsePrefix(prefix)
		e := entry{dir: dirOut, kind: protect, src: p, dst: p, priority: ours.KernelBand, ifID: 3, protocol: 6, dstPort: 443}
		want := template{src: netip.MustParseAddr("fd01::"), dst: netip.MustParseAddr("2001:db8::"), spi: 0x1234, reqid: 5}
		got, ok := parsePolicy(policyMessage(e, &want).body())
		if !ok || got.selector != e.selector() || *got.template != want || got.blocks || !got.is(e, &want) {
			t.Errorf("%s came back as %s to %s", prefix, got.src, got.dst)
		}
	}
}

func TestPlanThatFailsIsUndone(t *testing.T) {
	var log []string
	note := func(s string) func() error { return func() error { log = append(log, s); return nil } }
	boom := errors.New("boom")
	err := carryOut([]step{
		{do: note("1"), undo: note("-1"), what: "one"},
		{do: note("2"), what: "two"},
		{do: note("3"), undo: func() error { log = append(log, "-3"); return unix.EPERM }, what: "three"},
		{do: func() error { return boom }, undo: note("-4"), what: "four"},
		{do: note("5"), what: "five"},
	})
	if !slices.Equal(log, []string{"1", "2", "3", "-3", "-1"}) || !errors.Is(err, boom) || !errors.Is(err, unix.EPERM) || !strings.HasPrefix(err.Error(), "four: ") {
		t.Errorf("did %v: %v", log, err)
	}
}

func TestKernelAgeIsRead(t *testing.T) {
	for release, want := range map[string]bool{"4.19.90-24.4.v2101.ky10.x86_64": true, "5.10.0-60.18": true, "5.16.9": true,
		"5.17.0": false, "6.1.0-56-amd64": false, "6.18.44": false, "odd": false} {
		if old(release) != want {
			t.Errorf("%s: %t", release, !want)
		}
	}
}

func TestNoKernelCarriesGCM(t *testing.T) {
	var u *Unsupported
	if err := Probe(policy.SM4GCM128); !errors.As(err, &u) || len(u.Missing) != 0 {
		t.Errorf("%v", err)
	}
}

func TestGarbageFromTheKernelIsNotRead(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	m := stateMessage(planned(t), 0).body()
	for n := range len(m) {
		parseState(m[:n], true)
		parsePolicy(m[:n])
		b := slices.Clone(m)
		for range 8 {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		parseState(b, true)
		parsePolicy(b)
		for kind := uint16(0x10); kind <= 0x26; kind++ {
			if x := parseNotice(kind, b[:n]); x.kind != nothing && !ours.IsReqid(x.reqid) {
				t.Fatalf("a message of kind %#x that is not ours was taken", kind)
			}
		}
	}
}

func planned(t *testing.T) state {
	t.Helper()
	in, _, err := planChild(child(), esp.State{}, context{reqid: ours.Reqid | 1})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// However long it takes to end an SA after it was read, no number is used twice at the
// packet rate of 10 Gbit/s.
func TestNumbersJumpBeyondWhatMayHaveLeft(t *testing.T) {
	const most = 14_880_952 // packets a second
	for _, later := range []time.Duration{0, 30 * time.Microsecond, 999 * time.Microsecond, 20 * time.Millisecond, time.Second} {
		left := uint64(later) * most / uint64(time.Second)
		if n := skipped(later); n < left+128 || n > left+left/50+300 {
			t.Errorf("after %v the numbers jump by %d, %d may have left", later, n, left)
		}
	}
}
