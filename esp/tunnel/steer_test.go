package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"yumen/esp"
	"yumen/esp/internal/segment"
	"yumen/policy"
)

// warm is a plane with a group of three paths and a tunnel beside it.
type warm struct {
	*dry
	pol *policy.Policy
}

var warmNames = []string{"a", "b", "c"}

func newWarm(t testing.TB, change func(p *policy.Policy)) *warm {
	t.Helper()
	alone := dryTunnels()[1]
	pol := &policy.Policy{
		Peers:   []policy.Peer{{Name: "peer"}},
		Tunnels: []policy.Tunnel{alone},
		Groups:  []policy.Group{{Name: "dr"}},
	}
	for i, name := range warmNames {
		x := dryTunnels()[0]
		x.Name, x.Peer, x.Start = name, "peer-"+name, policy.StartNow
		pol.Peers = append(pol.Peers, policy.Peer{Name: x.Peer, Remote: policy.Remote{Addr: warmPath(i).Remote.Addr()}})
		pol.Tunnels = append(pol.Tunnels, x)
		pol.Groups[0].Members = append(pol.Groups[0].Members, policy.Member{Tunnel: name, Priority: i + 1, Weight: 1})
	}
	if change != nil {
		change(pol)
	}
	return &warm{newDryOf(t, pol), pol}
}

func warmPath(i int) esp.Path {
	p := rawPath()
	p.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 0)
	return p
}

// child installs and uses a child of the i-th path, and returns the far end's half.
func (w *warm) child(t testing.TB, id esp.ChildID, i int) (peer esp.Child) {
	t.Helper()
	us, peer := w.ends(id, warmPath(i))
	us.Tunnel, peer.Tunnel = warmNames[i], warmNames[i]
	w.use(t, us, esp.State{})
	return peer
}

// left is by which paths packets went, and forgets them.
func (w *warm) left() (paths string) {
	for _, b := range w.sent {
		paths += warmNames[b[19]-1]
	}
	w.sent = nil
	return paths
}

// sends has one packet of each of n flows leave.
func (w *warm) sends(n int) string {
	for i := range n {
		w.hand(flowOf(uint16(i), uint32(i), 100))
	}
	return w.left()
}

// flowOf is a numbered packet of one of many flows.
func flowOf(port uint16, n uint32, size int) []byte {
	b := inner(n, size)
	binary.BigEndian.PutUint16(b[20:], port)
	return b
}

func (w *warm) steer(t testing.TB, to ...esp.Weight) {
	t.Helper()
	if err := w.Steer("dr", to); err != nil {
		t.Fatal(err)
	}
}

func TestTrafficGoesWhereItIsSteered(t *testing.T) {
	w := newWarm(t, nil)
	for i := range warmNames {
		w.child(t, esp.ChildID(i+1), i)
	}
	if got := w.sends(3); got != "aaa" {
		t.Errorf("before the first word it goes by %q", got)
	}
	for _, name := range []string{"c", "b", "a", "b"} {
		w.steer(t, esp.Weight{Tunnel: name, Weight: 1})
		if got := w.sends(3); got != strings.Repeat(name, 3) {
			t.Errorf("steered to %s it goes by %q", name, got)
		}
	}
	w.steer(t)
	if got := w.sends(3); got != "aaa" {
		t.Errorf("with no word it goes by %q", got)
	}
}

func TestAMemberWithoutAChildIsLeftOut(t *testing.T) {
	w := newWarm(t, nil)
	w.steer(t, esp.Weight{Tunnel: "a", Weight: 1}, esp.Weight{Tunnel: "c", Weight: 1})
	w.child(t, 2, 1)
	if got := w.sends(4); got != "bbbb" {
		t.Errorf("with the only child it goes by %q", got)
	}
	w.child(t, 3, 2)
	if got := w.sends(4); got != "cccc" {
		t.Errorf("with one of two that were named it goes by %q", got)
	}
	w.child(t, 1, 0)
	if got := w.sends(40); !strings.Contains(got, "a") || !strings.Contains(got, "c") || strings.Contains(got, "b") {
		t.Errorf("with both that were named it goes by %q", got)
	}
	for _, id := range []esp.ChildID{1, 3} {
		if _, err := w.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.sends(2); got != "bb" {
		t.Errorf("when they are gone it goes by %q", got)
	}
	if _, err := w.Remove(2); err != nil {
		t.Fatal(err)
	}
	w.hand(inner(7, 100))
	if got := w.acquires(); !slices.Equal(got, []string{"a"}) || w.count(dropNoSA) != 0 {
		t.Errorf("without any child it asks for %q", got)
	}
	w.child(t, 4, 1)
	w.out.tend()
	if got := w.left(); got != "b" {
		t.Errorf("what waited went by %q", got)
	}
}

func TestSteeringOutlivesAPolicyThatKeepsTheGroup(t *testing.T) {
	w := newWarm(t, nil)
	for i := range warmNames {
		w.child(t, esp.ChildID(i+1), i)
	}
	w.steer(t, esp.Weight{Tunnel: "c", Weight: 1}, esp.Weight{Tunnel: "b", Weight: 1})
	if err := w.Mute("c", true); err != nil {
		t.Fatal(err)
	}
	again := *w.pol
	again.Groups = slices.Clone(w.pol.Groups)
	again.Groups[0].Members = again.Groups[0].Members[:2]
	w.enlist(&again)
	w.publish()
	if got := w.sends(3); got != "bbb" {
		t.Errorf("without c in the group it goes by %q", got)
	}
	if !w.muted["c"] {
		t.Error("a tunnel that stays is no longer muted")
	}
	again.Groups = nil
	again.Tunnels = again.Tunnels[:2]
	w.enlist(&again)
	w.publish()
	if got := w.sends(3); got != "aaa" || len(w.muted) != 0 {
		t.Errorf("without the group it goes by %q; muted: %v", got, w.muted)
	}
}

func TestSteerRefusesWhatThePolicyHasNot(t *testing.T) {
	w := newWarm(t, nil)
	for want, f := range map[string]func() error{
		"no such group":  func() error { return w.Steer("x", nil) },
		"is not in it":   func() error { return w.Steer("dr", []esp.Weight{{Tunnel: "responds", Weight: 1}}) },
		"named twice":    func() error { return w.Steer("dr", []esp.Weight{{Tunnel: "a", Weight: 1}, {Tunnel: "a", Weight: 2}}) },
		"below 1":        func() error { return w.Steer("dr", []esp.Weight{{Tunnel: "a"}}) },
		"no such tunnel": func() error { return w.Mute("x", true) },
		"in no group":    func() error { return w.Echo("responds", 1, 1) },
		"such group":     func() error { return w.EchoGroup("x", 1, 1) },
		"no such child":  func() error { return w.Echo("a", 1, 1) },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, want one about %q", err, want)
		}
	}
}

// A flow stays on one path and in order, whole packets, fragments and large ones.
func TestAFlowStaysOnOnePath(t *testing.T) {
	w := newWarm(t, nil)
	for i := range warmNames {
		w.child(t, esp.ChildID(i+1), i)
	}
	w.steer(t, esp.Weight{Tunnel: "a", Weight: 2}, esp.Weight{Tunnel: "b", Weight: 1}, esp.Weight{Tunnel: "c", Weight: 1})
	total := map[byte]int{}
	for port := range uint16(400) {
		for n := range uint32(3) {
			w.hand(flowOf(port, n, 100+int(n)*300))
		}
		got := w.left()
		if got != strings.Repeat(got[:1], 3) {
			t.Fatalf("flow %d goes by %q", port, got)
		}
		total[got[0]]++
		// A packet of it in pieces, as the host before us would cut it.
		whole := flowOf(port, 9, 1400)
		whole[6] = 0
		pieces, err := fragments(whole, make([]byte, maxPacket), 600, uint32(port)+1)
		if err != nil {
			t.Fatal(err)
		}
		for piece := range pieces {
			w.hand(bytes.Clone(piece))
		}
		if pieces := w.left(); pieces != strings.Repeat(got[:1], len(pieces)) || len(pieces) != 3 {
			t.Fatalf("fragments of flow %d go by %q, the others by %q", port, pieces, got)
		}
	}
	if total['a'] < 150 || total['b'] < 60 || total['c'] < 60 {
		t.Errorf("400 flows by 2:1:1 are %v", total)
	}
}

func TestALargePacketGoesByThePathOfItsFlow(t *testing.T) {
	w := newWarm(t, nil)
	w.tuns[0].vnet, w.offloads = true, allOffloads
	for i := range warmNames {
		w.child(t, esp.ChildID(i+1), i)
	}
	w.steer(t, esp.Weight{Tunnel: "a", Weight: 1}, esp.Weight{Tunnel: "b", Weight: 1}, esp.Weight{Tunnel: "c", Weight: 1})
	seen := map[byte]bool{}
	for port := range uint16(40) {
		large := super(t, 10, 1000, 100, true)
		binary.BigEndian.PutUint16(large[segment.HeaderLen+20:], port)
		single := packet4(40, true)
		single[9] = 6
		copy(single[20:], large[segment.HeaderLen+20:][:20])
		w.read(large, slices.Concat(make([]byte, segment.HeaderLen), single), large)
		got := w.left()
		if len(got) != 21 || got != strings.Repeat(got[:1], 21) {
			t.Fatalf("flow %d goes by %q", port, got)
		}
		seen[got[0]] = true
	}
	if len(seen) != 3 {
		t.Errorf("only %d paths are used", len(seen))
	}
}

func TestWhatComesIsAcceptedOnEveryPathAndNotOnOthers(t *testing.T) {
	w := newWarm(t, nil)
	w.steer(t, esp.Weight{Tunnel: "b", Weight: 1})
	in := w.receiver(raw4)
	for i := range warmNames {
		peer := w.child(t, esp.ChildID(i+1), i)
		w.arrive(t, in, peer, i, answerOf())
		if w.count(opened) != uint64(i+1) {
			t.Errorf("by %s nothing comes in: %v", warmNames[i], w.Counters())
		}
	}
	us, peer := w.ends(9, warmPath(0)) // the selector of the group, by a tunnel beside it
	us.Tunnel = "responds"
	w.use(t, us, esp.State{})
	w.arrive(t, in, peer, 0, answerOf())
	if w.count(dropPolicyIn) != 1 {
		t.Errorf("a tunnel that is in no group brings packets of one: %v", w.Counters())
	}
}

// answerOf is an inner packet from the far site.
func answerOf() []byte {
	b := packet4(80, true)
	copy(b[12:], []byte{10, 2, 0, 2, 10, 1, 0, 2})
	putHeaderChecksum(b[:20])
	return b
}

// arrive has the far end's packet come in by path i.
func (w *warm) arrive(t testing.TB, in *inWorker, peer esp.Child, i int, packet []byte) {
	t.Helper()
	out, err := esp.NewOutbound(peer, esp.State{}, bytes.NewReader(make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := out.Seal(nil, packet)
	if err != nil {
		t.Fatal(err)
	}
	w.arriveSealed(in, i, b)
}

func (w *warm) arriveSealed(in *inWorker, i int, b []byte) {
	in.begin()
	in.take(w.snap.Load(), &datagram{data: bytes.Clone(b), remote: warmPath(i).Remote})
	in.finish(w.snap.Load())
	in.end()
}

func TestAMutedPathLosesEverythingBothWays(t *testing.T) {
	w := newWarm(t, nil)
	peer := w.child(t, 1, 0)
	in := w.receiver(raw4)
	if err := w.Mute("a", true); err != nil {
		t.Fatal(err)
	}
	w.child(t, 2, 1)
	w.sends(2)
	w.arrive(t, in, peer, 0, answerOf())
	if err := w.Echo("a", 1, 1); err != nil {
		t.Fatal(err)
	}
	if w.count(sealed)+w.count(opened)+w.count(echoSent) != 0 || w.count(dropMuted) != 4 {
		t.Errorf("something passed: %v", w.Counters())
	}
	x := w.pairs[1]
	if x.out.Seq() != 0 || x.in.Drops() != (esp.Drops{}) {
		t.Error("a muted child worked")
	}
	w.child(t, 3, 0) // a rekey
	if got := w.sends(1); got != "" || w.count(dropMuted) != 5 {
		t.Errorf("a new child is not muted: %q", got)
	}
	w.tuns[0].vnet = true
	w.read(super(t, 5, 1000, 1000, true))
	if got := w.left(); got != "" || w.count(dropMuted) != 10 {
		t.Errorf("a large packet left by a muted path: %q, %d", got, w.count(dropMuted))
	}
	w.tuns[0].vnet = false
	w.steer(t, esp.Weight{Tunnel: "b", Weight: 1})
	if got := w.sends(1); got != "b" {
		t.Errorf("another path is muted: %q", got)
	}
	w.steer(t)
	if err := w.Mute("a", false); err != nil {
		t.Fatal(err)
	}
	if got := w.sends(2); got != "aa" {
		t.Errorf("it stays muted: %q", got)
	}
	w.arrive(t, in, peer, 0, answerOf())
	if w.count(opened) != 1 {
		t.Errorf("it stays deaf: %v", w.Counters())
	}
}

// Traffic passes while somebody steers to and fro; each packet goes exactly once.
func TestNothingIsLostWhileTrafficIsSteered(t *testing.T) {
	w := newWarm(t, nil)
	w.runs(t)
	var peers []esp.Child
	for i := range warmNames {
		peers = append(peers, w.child(t, esp.ChildID(i+1), i))
	}
	const packets = 3000
	stop := make(chan bool)
	go func() {
		defer close(stop)
		for n := range packets {
			if _, err := w.host.Write(flowOf(uint16(n%7), uint32(n), 60)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for flips := 0; ; flips++ {
		a, b := warmNames[flips%3], warmNames[(flips+1)%3]
		w.steer(t, esp.Weight{Tunnel: a, Weight: 1}, esp.Weight{Tunnel: b, Weight: 1 + flips%3})
		select {
		case <-stop:
		default:
			continue
		}
		break
	}
	until(t, "all are sent", func() bool { return w.count(sealed) == packets })
	seen := map[uint32]int{}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, peer := range peers {
		in, err := esp.NewInbound(peer, esp.State{})
		if err != nil {
			t.Fatal(err)
		}
		last := map[uint16]uint32{}
		for _, b := range w.sent {
			if int(b[19]) != i+1 {
				continue
			}
			plain, err := in.Open(nil, bytes.Clone(b[ipHeader:]))
			if err != nil {
				t.Fatal(err)
			}
			flow, n := binary.BigEndian.Uint16(plain[20:]), binary.BigEndian.Uint32(plain[28:])
			if n < last[flow] {
				t.Fatalf("packet %d of flow %d left by %s behind %d", n, flow, warmNames[i], last[flow])
			}
			last[flow] = n
			seen[n]++
		}
	}
	for n := range uint32(packets) {
		if seen[n] != 1 {
			t.Fatalf("packet %d left %d times", n, seen[n])
		}
	}
}

func TestNothingIsAllocatedWhereFlowsAreSpread(t *testing.T) {
	w := newWarm(t, nil)
	for i := range warmNames {
		w.child(t, esp.ChildID(i+1), i)
	}
	w.steer(t, esp.Weight{Tunnel: "a", Weight: 1}, esp.Weight{Tunnel: "b", Weight: 1}, esp.Weight{Tunnel: "c", Weight: 1})
	w.keep = false
	b := flowOf(1, 1, 1000)
	port := uint16(0)
	n := testing.AllocsPerRun(1000, func() {
		port++
		copy(w.out.buf, b)
		binary.BigEndian.PutUint16(w.out.buf[20:], port)
		w.out.packet(w.snap.Load(), w.out.buf[:len(b)])
		w.out.flush()
	})
	if n != 0 || w.count(sealed) != 1001 {
		t.Errorf("%v allocations for a packet; %d sent", n, w.count(sealed))
	}
}

func BenchmarkSteeredPacket(b *testing.B) {
	for ways := 1; ways <= 3; ways++ {
		b.Run(fmt.Sprint(ways, "-ways"), func(b *testing.B) {
			w := newWarm(b, nil)
			var to []esp.Weight
			for i := range ways {
				w.child(b, esp.ChildID(i+1), i)
				to = append(to, esp.Weight{Tunnel: warmNames[i], Weight: 1})
			}
			w.steer(b, to...)
			w.keep = false
			p := flowOf(1, 1, 200)
			for b.Loop() {
				copy(w.out.buf, p)
				w.out.packet(w.snap.Load(), w.out.buf[:len(p)])
				w.out.flush()
			}
		})
	}
}
