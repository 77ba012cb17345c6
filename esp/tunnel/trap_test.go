package tunnel

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"yumen/esp"
)

// runs starts the worker; packets go in by the host's end of the TUN.
func (d *dry) runs(t *testing.T) {
	t.Helper()
	d.running.Go(d.out.run)
}

func (d *dry) hands(t *testing.T, b []byte) {
	t.Helper()
	if _, err := d.host.Write(b); err != nil {
		t.Fatal(err)
	}
}

// until waits for what a worker does in its own time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(limit) {
			t.Fatalf("%s: not in 10 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// numbers opens what was sent and returns who said what in which order.
func (d *dry) numbers(t *testing.T, peer esp.Child, room int) []uint32 {
	t.Helper()
	in, err := esp.NewInbound(peer, esp.State{})
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []uint32
	for _, b := range d.sent {
		plain, err := in.Open(make([]byte, 0, 65536), b[room:])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, binary.BigEndian.Uint32(plain[28:]))
	}
	return out
}

func (d *dry) acquires() (tunnels []string) {
	for {
		select {
		case e := <-d.events:
			if e.Kind == esp.Acquire {
				tunnels = append(tunnels, e.Tunnel)
			}
		default:
			return tunnels
		}
	}
}

func TestTheFirstPacketsWaitAndLeaveInOrder(t *testing.T) {
	d := newDry(t)
	d.runs(t)
	for n := range uint32(20) {
		d.hands(t, inner(n, 100))
	}
	until(t, "20 packets met no child", func() bool { return d.count(dropQueueFull) == 20-mostWaiting })
	if got := d.acquires(); !slices.Equal(got, []string{"asks"}) {
		t.Errorf("asked for %q, want once", got)
	}
	us, peer := d.ends(1, rawPath())
	d.use(t, us, esp.State{})
	// Nothing more comes from the host: the use itself sets them free.
	until(t, "what waited is sent", func() bool { return d.count(sealed) == mostWaiting })
	d.hands(t, inner(100, 100))
	until(t, "the next is sent", func() bool { return d.count(sealed) == mostWaiting+1 })
	want := []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 100}
	if got := d.numbers(t, peer, ipHeader); !slices.Equal(got, want) {
		t.Errorf("sent %v", got)
	}
	if !d.out.waiting.empty() || d.out.waiting.bytes != 0 {
		t.Error("something still waits")
	}
}

func TestWhatWaitsTooLongIsDroppedWithoutFurtherTraffic(t *testing.T) {
	d := newDry(t)
	d.runs(t)
	d.hands(t, inner(1, 100))
	until(t, "it waits", func() bool { return len(d.acquires()) == 1 })
	d.pass(longestWait)
	d.nudge() // the alarm is set by the real clock; here its time has come
	until(t, "it is dropped", func() bool { return d.count(dropQueueOld) == 1 })
	us, _ := d.ends(1, rawPath())
	d.use(t, us, esp.State{})
	d.hands(t, inner(2, 100))
	until(t, "the next is sent", func() bool { return d.count(sealed) == 1 })
}

func TestAnAlarmDropsWhatWaits(t *testing.T) {
	d := newDry(t)
	d.cfg.Now = time.Now
	d.out.waiting.add(time.Now().Add(50*time.Millisecond-longestWait), "asks", inner(1, 100), false)
	d.out.tend()
	d.runs(t)
	until(t, "the alarm dropped it", func() bool { return d.count(dropQueueOld) == 1 })
}

func TestTrafficAsksAgainEachSecond(t *testing.T) {
	d := newDry(t)
	for range 3 {
		for range 5 {
			d.hand(inner(1, 100))
		}
		d.pass(acquireGap)
	}
	if got := d.acquires(); len(got) != 3 {
		t.Errorf("asked %d times in 3 s of traffic: %q", len(got), got)
	}
}

func TestATunnelThatRespondsDropsAtOnce(t *testing.T) {
	d := newDry(t)
	b := inner(1, 100)
	b[17] = 3
	putHeaderChecksum(b[:20])
	d.hand(b)
	if got := d.acquires(); len(got) != 0 || !d.out.waiting.empty() || d.count(dropNoSA) != 1 {
		t.Errorf("events %q, waiting %t, counters %v", got, !d.out.waiting.empty(), d.Counters())
	}
}

func TestWhatWaitsIsBoundedByBytesToo(t *testing.T) {
	var w waiting
	now := time.Unix(0, 0)
	for n := range 3 {
		if ok := w.add(now, "a", make([]byte, 30<<10), false); ok != (n < 2) {
			t.Errorf("packet %d of 30 KiB: %t", n, ok)
		}
	}
	for n := range 1000 {
		w.add(now, fmt.Sprint(n), make([]byte, 60<<10), false)
	}
	if w.bytes > mostWaitingInAll {
		t.Errorf("%d bytes wait, at most %d may", w.bytes, mostWaitingInAll)
	}
	if n, due := w.expire(now.Add(longestWait / 2)); n != 0 || due != longestWait/2 {
		t.Errorf("after half the time: %d dropped, the next in %v", n, due)
	}
	if n, _ := w.expire(now.Add(longestWait)); n == 0 || !w.empty() || w.bytes != 0 {
		t.Errorf("after the longest wait: %d dropped, %d bytes", n, w.bytes)
	}
}

func TestAPolicyThatChangedWhileAPacketWaitedHolds(t *testing.T) {
	d := newDry(t)
	d.hand(inner(1, 100))
	us, _ := d.ends(1, rawPath())
	if err := d.Install(us, esp.State{}); err != nil {
		t.Fatal(err)
	}
	d.tunnels = []tunnelEntry{{name: "another"}, {name: "responds"}, {name: "asks"}}
	d.places = map[string]int{"another": 0, "responds": 1, "asks": 2}
	d.table = d.table.WithOutbound(d.pairs[1].out)
	d.publish()
	d.out.tend()
	if d.count(sealed) != 0 || d.count(dropNoPolicy) != 1 {
		t.Errorf("a packet left by a tunnel that is no longer its own: %v", d.Counters())
	}
	d.out.waiting.add(d.cfg.Now(), "gone", inner(1, 100), false)
	d.out.tend()
	if d.count(dropNoPolicy) != 2 || !d.out.waiting.empty() {
		t.Errorf("a packet waits for a tunnel that is gone: %v", d.Counters())
	}
}

func TestEachSourceOfUnknownSPIsIsToldOnceASecond(t *testing.T) {
	d := newDry(t)
	in := newInWorker(d.Plane, udp4, 0)
	now := 0
	send := func(from string) {
		in.packet(d.snap.Load(), &datagram{data: make([]byte, 100), remote: udpFrom(from)})
	}
	for range 3 {
		for range 50 {
			send("203.0.113.1:4500")
			send("203.0.113.1:9999") // another port is the same source
		}
		d.pass(unknownGap)
		now++
	}
	told := 0
	for len(d.events) > 0 {
		if e := <-d.events; e.Kind == esp.UnknownSPI && e.Remote.Addr() == udpFrom("203.0.113.1:1").Addr() {
			told++
		}
	}
	if told != now {
		t.Errorf("told %d times in %d s", told, now)
	}
	// One source does not silence the others, and a thousand do not flood.
	for n := range 1000 {
		send(fmt.Sprintf("203.0.%d.%d:4500", 100+n/250, n%250))
	}
	if n := len(d.events); n < 200 || n > 256 {
		t.Errorf("1000 sources made %d events", n)
	}
}
