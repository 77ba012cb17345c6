package tunnel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/policy"
)

// far is the other end of a warm group: a plane of its own, with the same children.
type far struct {
	*warm
	in *inWorker
}

// twoEnds are two planes that share children on all paths.
func twoEnds(t testing.TB, change func(p *policy.Policy)) (a, b far) {
	t.Helper()
	a, b = far{warm: newWarm(t, change)}, far{warm: newWarm(t, change)}
	a.in, b.in = a.receiver(raw4), b.receiver(raw4)
	for i := range warmNames {
		peer := a.child(t, esp.ChildID(i+1), i)
		peer.Path = warmPath(i)
		peer.Selector = dryTunnels()[0].Selector // both ends have one policy here
		b.use(t, peer, esp.State{})
	}
	return a, b
}

// carry brings what one end sent to the other, and forgets it; how many packets that were.
func carry(from, to far) int {
	list := from.sent
	from.dry.sent = nil
	for _, b := range list {
		to.arriveSealed(to.in, int(b[19])-1, b[ipHeader:])
	}
	return len(list)
}

// took is the next answer, if there is one.
func (f far) took() (e esp.Echo, ok bool) {
	select {
	case e = <-f.Echoes():
		return e, true
	default:
		return e, false
	}
}

func TestAnEchoComesBackByTheTunnelThatItWasSentBy(t *testing.T) {
	a, b := twoEnds(t, nil)
	a.steer(t, esp.Weight{Tunnel: "c", Weight: 1}) // where traffic goes does not matter
	b.steer(t, esp.Weight{Tunnel: "b", Weight: 1})
	for round := range uint64(3) {
		for i, name := range warmNames {
			stamp := int64(round)*100 + int64(i)
			if err := a.Echo(name, round+7, stamp); err != nil {
				t.Fatal(err)
			}
			if a.sent[0][19] != byte(i+1) || carry(a, b) != 1 {
				t.Errorf("the request of %s took another way", name)
			}
			if len(b.sent) != 1 || b.sent[0][19] != byte(i+1) || carry(b, a) != 1 {
				t.Fatalf("the answer to %s took another way: %v", name, b.Counters())
			}
			e, ok := a.took()
			want := esp.Echo{Answer: true, Seq: round + 7, Stamp: stamp, Far: b.now.UnixNano(), Received: round + 1, Tunnel: name, At: a.now}
			if !ok || e != want {
				t.Errorf("%+v, want %+v", e, want)
			}
		}
	}
	for _, end := range []far{a, b} {
		if n := end.snap.Load().sending("a").last.in.Load(); n != end.now.UnixNano() {
			t.Errorf("it is no sign of life: %d", n)
		}
		if u, _ := end.Usage(1); u.In != (esp.Count{}) || u.Out != (esp.Count{}) || !u.LastOut.IsZero() || len(end.acquires()) != 0 {
			t.Errorf("it counts as traffic: %+v", u)
		}
	}
	if a.count(opened)+b.count(opened) != 0 {
		t.Error("a host got an echo")
	}
	if _, more := a.took(); more || a.count(echoSent) != 9 || b.count(echoAnswered) != 9 || a.count(echoReceived) != 9 {
		t.Errorf("not each once: %v", a.Counters())
	}
}

func TestAnEchoOfTheGroupGoesAsItsTrafficDoesAtBothEnds(t *testing.T) {
	a, b := twoEnds(t, nil)
	a.steer(t, esp.Weight{Tunnel: "c", Weight: 1})
	b.steer(t, esp.Weight{Tunnel: "b", Weight: 1})
	if err := a.EchoGroup("dr", 1, 2); err != nil {
		t.Fatal(err)
	}
	if a.sent[0][19] != 3 || carry(a, b) != 1 || b.sent[0][19] != 2 || carry(b, a) != 1 {
		t.Error("it took another way")
	}
	if e, ok := a.took(); !ok || !e.Group || e.Tunnel != "b" || e.Seq != 1 || e.Stamp != 2 {
		t.Errorf("%+v", e)
	}
	a.steer(t, esp.Weight{Tunnel: "a", Weight: 1}, esp.Weight{Tunnel: "b", Weight: 1})
	for n := range uint64(50) {
		if err := a.EchoGroup("dr", n, 0); err != nil {
			t.Fatal(err)
		}
	}
	ways := map[byte]int{}
	for _, p := range a.sent {
		ways[p[19]]++
	}
	if len(ways) != 2 || ways[1] < 10 || ways[2] < 10 {
		t.Errorf("50 echoes of two ways went by %v", ways)
	}
}

// A tunnel without a group answers by itself, whatever is asked; it asks nobody, so an
// answer is none to it.
func TestATunnelOfNoGroupAnswersAndTakesNoAnswer(t *testing.T) {
	_, b := twoEnds(t, nil)
	us, peer := b.ends(9, rawPath())
	us.Tunnel = "responds"
	b.use(t, us, esp.State{})
	out, err := esp.NewOutbound(peer, esp.State{}, bytes.NewReader(make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []esp.Echo{{Seq: 1}, {Seq: 2, Group: true}, {Seq: 3, Answer: true}} {
		packet, err := out.SealDummy(nil, esp.AppendEcho(nil, e))
		if err != nil {
			t.Fatal(err)
		}
		b.arriveSealed(b.in, 0, packet)
	}
	if _, took := b.took(); took || len(b.sent) != 2 || b.count(dropDummy) != 1 {
		t.Errorf("%d answers: %v", len(b.sent), b.Counters())
	}
	b.sent = nil
}

func TestAForgedOrRepeatedRequestIsNone(t *testing.T) {
	a, b := twoEnds(t, nil)
	if err := a.Echo("a", 1, 1); err != nil {
		t.Fatal(err)
	}
	request := a.sent[0][ipHeader:]
	forged := bytes.Clone(request)
	forged[20] ^= 1
	b.arriveSealed(b.in, 0, forged)
	b.arriveSealed(b.in, 0, request)
	b.arriveSealed(b.in, 0, request)
	if len(b.sent) != 1 || b.count(dropReplayed) != 1 || b.count(dropAuth) != 1 {
		t.Errorf("%d answers: %v", len(b.sent), b.Counters())
	}
}

func TestAnswersHaveARate(t *testing.T) {
	a, b := twoEnds(t, nil)
	ask := func(n int) (answers int) {
		for i := range n {
			if err := a.Echo("a", uint64(i), 0); err != nil {
				t.Fatal(err)
			}
			carry(a, b)
		}
		answers = len(b.sent)
		b.sent = nil
		return answers
	}
	if n := ask(1000); n != answerBurst || b.count(dropEcho) != 1000-answerBurst {
		t.Errorf("%d answers to 1000 requests at once", n)
	}
	b.pass(50 * time.Millisecond)
	if n := ask(1000); n != 50 {
		t.Errorf("50 ms later %d answers", n)
	}
	b.pass(time.Hour)
	if n := ask(1000); n != answerBurst {
		t.Errorf("an hour later %d answers", n)
	}
}

func TestEchoesThatNobodyReadsAreLostAndHoldNothingUp(t *testing.T) {
	a, b := twoEnds(t, nil)
	for i := range echoQueue + 10 {
		b.pass(answerGap)
		if err := a.Echo("a", uint64(i), 0); err != nil {
			t.Fatal(err)
		}
		carry(a, b)
		carry(b, a)
	}
	if len(a.Echoes()) != echoQueue || a.count(lostEcho) != 10 {
		t.Errorf("%d wait, %d lost", len(a.Echoes()), a.count(lostEcho))
	}
}

func TestAnEchoAllocatesNothing(t *testing.T) {
	a, b := twoEnds(t, nil)
	var packet []byte
	n := testing.AllocsPerRun(500, func() {
		a.sent, b.sent = a.sent[:0], b.sent[:0]
		a.keep = false
		if err := a.Echo("a", 1, 1); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a request", n)
	}
	// An answer: all requests are made before.
	a.keep, b.keep = true, false
	var list [][]byte
	for range 101 {
		if err := a.Echo("a", 1, 1); err != nil {
			t.Fatal(err)
		}
		list = append(list, a.sent[0][ipHeader:])
		a.sent = nil
	}
	next := 0
	d := datagram{remote: warmPath(0).Remote}
	n = testing.AllocsPerRun(100, func() {
		packet, next = list[next], next+1
		d.data = packet
		b.in.begin()
		b.in.take(b.snap.Load(), &d)
		b.in.finish(b.snap.Load())
		b.in.end()
	})
	if n != 0 || b.count(echoAnswered) != 101 {
		t.Errorf("%v allocations for an answer; %d answers", n, b.count(echoAnswered))
	}
}

// withTarget has the group probe a host behind the far gateway.
func withTarget(p *policy.Policy) { p.Groups[0].Probe.Target = netip.MustParseAddr("10.2.0.9") }

func TestATargetIsAskedByTheMemberAndItsAnswerKnownOnAnyPath(t *testing.T) {
	a, b := twoEnds(t, withTarget)
	if err := a.Echo("b", 3, 4); err == nil {
		t.Error("nobody of ours may ask")
	}
	a.around.own = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.1.0.1")}
	a.publish()
	a.keep = true
	for _, name := range []string{"b", "c", "a"} {
		if err := a.Echo(name, 3, 4); err != nil {
			t.Fatal(err)
		}
		if w := a.sent[0][19]; warmNames[w-1] != name {
			t.Errorf("the request of %s took way %d", name, w)
		}
		request := a.opensAt(t, b)
		p, err := esp.ParsePacket(request)
		if err != nil || p.Src != a.around.own[1] || p.Dst.String() != "10.2.0.9" {
			t.Fatalf("asked %v: %v", p.Tuple, err)
		}
		a.arrivesAs(t, b, pongOf(request), "b")
		e, ok := a.took()
		if !ok || e.Tunnel != name || e.Seq != 3 || e.Stamp != 4 || !e.Answer || e.Group {
			t.Errorf("%s: %+v", name, e)
		}
		// Somebody's ping has answers as well, which are the host's.
		other := pongOf(request)
		other[28] ^= 1
		other[ipHeader+2], other[ipHeader+3] = 0, 0
		binary.BigEndian.PutUint16(other[ipHeader+2:], ^fold(sum(0, other[ipHeader:])))
		before := a.count(opened)
		a.arrivesAs(t, b, other, "b")
		if _, ours := a.took(); ours || a.count(opened) != before+1 {
			t.Errorf("an answer to somebody else is taken: %v", a.Counters())
		}
	}
	if err := a.EchoGroup("dr", 5, 6); err != nil {
		t.Fatal(err)
	}
	a.arrivesAs(t, b, pongOf(a.opensAt(t, b)), "c")
	if e, ok := a.took(); !ok || !e.Group || e.Tunnel != "c" || e.Seq != 5 {
		t.Errorf("%+v", e)
	}
}

// A far gateway that cannot send dummy packets pings an address of ours.
func TestAPingOfAnotherPlaneIsAnsweredByThePathItCameBy(t *testing.T) {
	a, b := twoEnds(t, nil)
	far, us := netip.MustParseAddr("10.2.0.9"), netip.MustParseAddr("10.1.0.1")
	a.around.own = []netip.Addr{us}
	a.steer(t, esp.Weight{Tunnel: "c", Weight: 1})
	token := esp.PingToken{1}
	ping := func(to netip.Addr, e esp.Echo) []byte {
		return esp.AppendPing(nil, far, to, 1, esp.AppendPingData(nil, token, 77, e))
	}
	for _, name := range []string{"a", "b", "c"} {
		a.arrivesAs(t, b, ping(us, esp.Echo{Seq: 5, Stamp: 6}), name)
		if len(a.sent) != 1 || warmNames[a.sent[0][19]-1] != name {
			t.Fatalf("asked by %s it sent %d packets by another path", name, len(a.sent))
		}
		answer := a.opensAt(t, b)
		p, err := esp.ParsePacket(answer)
		if tag, e, ok := esp.ParsePingData(esp.Pong(answer, &p), token); err != nil || p.Dst != far || !ok || tag != 77 || e.Seq != 5 {
			t.Errorf("%s: answered %+v, %v", name, e, err)
		}
	}
	if a.count(opened) != 0 || a.count(echoAnswered) != 3 {
		t.Errorf("the host got some of it: %v", a.Counters())
	}
	// What is about the group, about another host, or another's, the host answers.
	strange := esp.AppendPing(nil, far, us, 1, make([]byte, esp.PingLen))
	for n, packet := range [][]byte{ping(us, esp.Echo{Group: true}), ping(netip.MustParseAddr("10.1.0.2"), esp.Echo{}), strange} {
		a.arrivesAs(t, b, packet, "a")
		if a.count(opened) != uint64(n+1) || len(a.sent) != 0 {
			t.Errorf("packet %d did not reach the host: %v", n, a.Counters())
		}
	}
}

// opensAt is the inner packet of what a sent last.
func (f far) opensAt(t *testing.T, b far) []byte {
	t.Helper()
	packet := f.sent[0]
	f.dry.sent = nil
	x := b.snap.Load().sending(warmNames[packet[19]-1])
	inner, err := x.in.Open(make([]byte, 0, 2000), packet[ipHeader:])
	// Both ends of this test have one selector, so that requests look outside.
	if err != nil && !errors.Is(err, esp.ErrSelector) {
		t.Fatal(err)
	}
	if inner == nil {
		in, err := esp.NewInbound(f.peerOf(packet[19]), esp.State{})
		if err != nil {
			t.Fatal(err)
		}
		if inner, err = in.Open(make([]byte, 0, 2000), packet[ipHeader:]); err != nil {
			t.Fatal(err)
		}
	}
	return bytes.Clone(inner)
}

// peerOf is the far end's half of the child on a way.
func (f far) peerOf(way byte) esp.Child {
	_, peer := f.ends(esp.ChildID(way), warmPath(int(way)-1))
	return peer
}

// arrivesAs has an inner packet come from the far end by a path.
func (f far) arrivesAs(t *testing.T, b far, packet []byte, by string) {
	t.Helper()
	x := b.snap.Load().sending(by)
	sealed, err := x.out.Seal(nil, packet)
	if err != nil {
		t.Fatal(err)
	}
	f.arriveSealed(f.in, int(by[0]-'a'), sealed)
}

// pongOf is what the target says to a ping.
func pongOf(request []byte) []byte {
	b := bytes.Clone(request)
	copy(b[12:16], request[16:20])
	copy(b[16:20], request[12:16])
	b[ipHeader], b[ipHeader+2], b[ipHeader+3] = 0, 0, 0
	binary.BigEndian.PutUint16(b[ipHeader+2:], ^fold(sum(0, b[ipHeader:])))
	putHeaderChecksum(b[:ipHeader])
	return b
}

func TestEchoesTravelOverEveryKindOfPath(t *testing.T) {
	six := rawPath()
	six.Local, six.Remote = netip.MustParseAddrPort("[2001:db8::1]:0"), netip.MustParseAddrPort("[2001:db8::2]:0")
	udp6 := udpPath()
	udp6.Local, udp6.Remote = netip.MustParseAddrPort("[2001:db8::1]:4500"), netip.MustParseAddrPort("[2001:db8::2]:4500")
	noPort := udpPath()
	noPort.Local = netip.AddrPortFrom(noPort.Local.Addr(), 0)
	for _, path := range []esp.Path{rawPath(), udpPath(), noPort, six, udp6} {
		w := newWarm(t, nil)
		us, peer := w.ends(1, path)
		us.Tunnel = "a"
		w.use(t, us, esp.State{})
		if err := w.Echo("a", 1, 2); err != nil {
			t.Fatal(err)
		}
		k := kindOf(path.Remote.Addr(), path.Encap)
		in, err := esp.NewInbound(peer, esp.State{})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := in.Open(make([]byte, 0, 500), w.sent[0][outerRoom(k):])
		if e, perr := esp.ParseEcho(payload); !errors.Is(err, esp.ErrEcho) || perr != nil || e.Stamp != 2 {
			t.Errorf("%s: %v, %+v", k, err, e)
		}
		if k == udp4 && binary.BigEndian.Uint16(w.sent[0][ipHeader:]) != 4500 {
			t.Errorf("it left from port %d", binary.BigEndian.Uint16(w.sent[0][ipHeader:]))
		}
	}
}

// Probes and traffic are sealed by different goroutines; numbers leave once each.
func TestProbesAndTrafficShareAChild(t *testing.T) {
	w := newWarm(t, nil)
	peer := w.child(t, 1, 0)
	done := make(chan error)
	go func() {
		for i := range 500 {
			if err := w.Echo("a", uint64(i), 0); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	w.runs(t)
	for n := range uint32(500) {
		w.hands(t, inner(n, 100))
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	until(t, "all are sent", func() bool { return w.count(sealed) == 500 })
	in, err := esp.NewInbound(peer, esp.State{})
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, b := range w.sent {
		if got := binary.BigEndian.Uint32(b[ipHeader+4:]); got != uint32(n+1) {
			t.Fatalf("packet %d has number %d", n+1, got)
		}
		if _, err := in.Open(nil, bytes.Clone(b[ipHeader:])); err != nil && !errors.Is(err, esp.ErrEcho) {
			t.Fatalf("packet %d: %v", n, err)
		}
	}
}
