package tunnel

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"

	"yumen/esp"
)

// joining is a plane with two receiving sockets over UDP and two children in use, whose
// SPIs belong to one socket each; there are their far ends.
func joining(t testing.TB) (d *dry, by [2]*inWorker, there [2]*esp.Outbound) {
	t.Helper()
	d = newDry(t)
	d.Plane.spread[udp4] = []*socket{d.sockets[udp4]}
	for i := range by {
		by[i] = newInWorker(d.Plane, udp4, i)
		d.catchCourier(&by[i].courier)
		us, peer := d.ends(esp.ChildID(i+1), udpPath())
		us.In.SPI = esp.SPI(0x2000 + i)
		peer.Out.SPI = us.In.SPI
		d.use(t, us, esp.State{})
		var err error
		if there[i], err = esp.NewOutbound(peer, esp.State{}, bytes.NewReader(make([]byte, 16))); err != nil {
			t.Fatal(err)
		}
	}
	return d, by, there
}

// join seals numbered packets by each child in turn, as one datagram.
func join(t testing.TB, there [2]*esp.Outbound, first uint32, packets int) datagram {
	t.Helper()
	path := udpPath()
	out := datagram{local: path.Local, remote: path.Remote}
	for n := range packets {
		b := inner(first+uint32(n), 600)
		copy(b[12:], []byte{10, 2, 0, 2, 10, 1, 0, 2})
		putHeaderChecksum(b[:20])
		b, err := there[n%2].Seal(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		out.data, out.segment = append(out.data, b...), len(b)
	}
	return out
}

// opens has a worker deal with a datagram.
func (w *inWorker) opens(g datagram) {
	w.begin()
	s := w.plane.snap.Load()
	w.take(s, &g)
	w.finish(s)
	w.end()
}

// The host joins packets of several children of one peer, and gives all of them to the
// socket of the first: the far end sends by several tunnels, by lanes, or by the old
// child and the new at a renewal.
func TestPacketsOfSeveralChildrenThatTheHostJoinedAreAllOpened(t *testing.T) {
	for place := range 2 {
		d, by, there := joining(t)
		const packets = 40
		by[place].opens(join(t, there, 0, packets))
		if d.count(opened) != packets || d.count(dropWrongPath) != 0 {
			t.Errorf("socket %d: of %d packets %d were opened: %v", place, packets, d.count(opened), d.Counters())
		}
		buf := make([]byte, 2048)
		for n := range uint32(d.count(opened)) {
			if size, err := d.host.Read(buf); err != nil || size != 600 || binary.BigEndian.Uint32(buf[28:]) != n {
				t.Fatalf("socket %d: packet %d: %d bytes, %v", place, n, size, err)
			}
		}
	}
}

// Both workers get packets of both children at the same time, each of them twice.
func TestAChildIsOpenedByOneWorkerAtATime(t *testing.T) {
	d, by, there := joining(t)
	const rounds, packets = 200, 32
	buf := make([]byte, 2048)
	for round := range uint32(rounds) {
		var both sync.WaitGroup
		for i, w := range by {
			g := join(t, there, round*2*packets+uint32(i)*packets, packets)
			again := g
			again.data = bytes.Clone(g.data)
			both.Go(func() { w.opens(g); w.opens(again) })
		}
		both.Wait()
		if n := d.count(opened); n != uint64(round+1)*2*packets {
			t.Fatalf("%d packets opened after round %d: %v", n, round, d.Counters())
		}
		for range 2 * packets {
			if _, err := d.host.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
	}
	if o, r := d.count(opened), d.count(dropReplayed); o != 2*rounds*packets || r != o {
		t.Errorf("%d packets opened once and %d refused as repeated, want %d each: %v", o, r, 2*rounds*packets, d.Counters())
	}
}

func TestWhoOpensWaitsForWhoeverHasAChildOfItsBatch(t *testing.T) {
	d, by, there := joining(t)
	first, second := d.pairs[1].last, d.pairs[2].last
	second.opening.take()
	done := make(chan bool)
	go func() { by[0].opens(join(t, there, 0, 2)); close(done) }()
	for !first.opening.held.Load() {
		select {
		case <-done:
			t.Fatal("it waited for nobody")
		default:
			runtime.Gosched()
		}
	}
	if n := d.count(opened); n != 0 {
		t.Errorf("%d packets were opened meanwhile", n)
	}
	second.opening.release()
	<-done
	if d.count(opened) != 2 || first.opening.held.Load() || second.opening.held.Load() {
		t.Errorf("afterwards: %v, children claimed %t and %t", d.Counters(), first.opening.held.Load(), second.opening.held.Load())
	}
}

func TestNothingIsAllocatedForJoinedPacketsOfSeveralChildren(t *testing.T) {
	d, by, there := joining(t)
	const packets, rounds = 16, 200
	var all []datagram
	for n := range uint32(rounds + 2) {
		all = append(all, join(t, there, n*packets, packets))
	}
	buf, next := make([]byte, 2048), 0
	n := testing.AllocsPerRun(rounds, func() {
		by[0].opens(all[next])
		next++
		for range packets {
			if _, err := d.host.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n != 0 || d.count(opened) != packets*(rounds+1) {
		t.Errorf("%v allocations; %v", n, d.Counters())
	}
}

// Fragments of a packet that only the whole of it proves may come by different sockets.
func TestFragmentsThatCameByDifferentSocketsMeet(t *testing.T) {
	d, by, _ := joining(t)
	whole := inner(1, 1200)
	pieces, err := fragments(whole, make([]byte, maxPacket), 700, 7)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	i := 0
	for piece := range pieces {
		if got != nil {
			t.Fatal("whole before the last fragment")
		}
		got = by[i%2].assemble(d.pairs[1], piece)
		i++
	}
	if i < 2 || !bytes.Equal(got[28:], whole[28:]) {
		t.Errorf("%d fragments did not become the packet", i)
	}
}
