package tunnel

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/esp/internal/segment"
	"yumen/test/locks"
)

// offloaded is a dry plane whose TUN speaks with headers and whose runs leave as
// one message.
func offloaded(t testing.TB, path esp.Path) (*dry, esp.Child) {
	t.Helper()
	d := newDry(t)
	d.tuns[0].vnet = true
	d.offloads, d.bulk = allOffloads, []*socket{d.sockets[udp4]}
	d.out = newOutWorker(d.Plane, 0)
	d.out.send4, d.out.whole6 = d.catch(d.sockets[raw4]), d.catch(d.sockets[raw6])
	d.out.send6[raw6], d.out.send6[udp6] = d.catch(d.sockets[raw6]), d.catch(d.sockets[udp6])
	d.out.bulk4, d.out.bulkDF = d.catch(d.sockets[udp4]), newCutting(d.sockets[udp4])
	d.workers = []*worker{&d.out.worker}
	us, peer := d.ends(1, path)
	d.use(t, us, esp.State{})
	return d, peer
}

// super is one read of a large TCP packet: segments of size bytes each, the last of
// tail, from packets that a joiner put together.
func super(t testing.TB, segments, size, tail int, df bool) []byte {
	t.Helper()
	j := &segment.Joiner{TCP: true}
	for i := range segments {
		payload := size
		if i == segments-1 {
			payload = tail
		}
		b := packet4(20+payload, df)
		b[9] = 6
		binary.BigEndian.PutUint16(b[4:], uint16(i))
		tcp := b[20:]
		clear(tcp[:20])
		binary.BigEndian.PutUint32(tcp[4:], uint32(i*size))
		tcp[12], tcp[13] = 5<<4, 0x10
		s := sum(sum(0, b[12:20])+uint32(len(tcp))+6, tcp)
		binary.BigEndian.PutUint16(tcp[16:], ^fold(s))
		putHeaderChecksum(b[:20])
		j.Add(b)
	}
	groups := j.Finish()
	if len(groups) != 1 {
		t.Fatalf("%d groups", len(groups))
	}
	return append(bytes.Clone(groups[0].Head[:]), bytes.Join(groups[0].Pieces, nil)...)
}

// read gives the worker what one read of the TUN brought.
func (d *dry) read(list ...[]byte) {
	for _, b := range list {
		d.out.take(d.snap.Load(), d.out.buf[:copy(d.out.buf, b)])
	}
	d.out.flush()
}

// opened opens what was sent and checks that the host would take each for whole.
func (d *dry) opened(t testing.TB, peer esp.Child, room int) (sizes []int) {
	t.Helper()
	in, err := esp.NewInbound(peer, esp.State{})
	if err != nil {
		t.Fatal(err)
	}
	for n, b := range d.sent {
		plain, err := in.Open(nil, bytes.Clone(b[room:]))
		if err != nil {
			t.Fatalf("packet %d: %v", n, err)
		}
		header := int(plain[0]&15) * 4
		s := sum(sum(0, plain[12:20])+uint32(len(plain)-header)+uint32(plain[9]), plain[header:])
		if fold(sum(0, plain[:header])) != 0xffff || plain[9] == 6 && fold(s) != 0xffff {
			t.Errorf("packet %d: checksum", n)
		}
		sizes = append(sizes, len(plain))
	}
	return sizes
}

func TestALargePacketLeavesAsOneMessage(t *testing.T) {
	d, peer := offloaded(t, udpPath())
	d.read(super(t, 40, 1380, 100, true))
	sizes := d.opened(t, peer, ipHeader+udpHeader)
	if len(sizes) != 40 || sizes[0] != 1420 || sizes[39] != 140 || d.calls != 1 || !slices.Equal(d.groups, []int{40}) {
		t.Errorf("%d packets in %d calls, messages of %v", len(sizes), d.calls, d.groups)
	}
	if d.count(sealed) != 40 {
		t.Errorf("counted %d", d.count(sealed))
	}
}

func TestALargePacketLeavesByRawSocketsInOneCall(t *testing.T) {
	d, peer := offloaded(t, rawPath())
	d.read(super(t, 40, 1380, 100, true))
	if sizes := d.opened(t, peer, ipHeader); len(sizes) != 40 || d.calls != 1 {
		t.Errorf("%d packets in %d calls", len(sizes), d.calls)
	}
}

// One message has one outer header: packets of another look go into another.
func TestRunsAreSplitByOuterHeader(t *testing.T) {
	d, peer := offloaded(t, udpPath())
	var list [][]byte
	for _, tos := range []byte{0, 0, 2, 2, 3, 0, 0} {
		b := super(t, 1, 500, 500, true)
		b[segment.HeaderLen+1] = tos
		putHeaderChecksum(b[segment.HeaderLen:][:20])
		list = append(list, b)
	}
	loose := super(t, 2, 500, 500, false)
	d.read(append(list, loose)...)
	if sizes := d.opened(t, peer, ipHeader+udpHeader); len(sizes) != 9 {
		t.Errorf("%d packets", len(sizes))
	}
	if !slices.Equal(d.groups, []int{2, 2, 2, 2}) { // and one alone
		t.Errorf("messages of %v", d.groups)
	}
}

func TestWhatTheHostRefusesAsOneGoesOneByOne(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EIO, unix.EINVAL, unix.EMSGSIZE} {
		d, peer := offloaded(t, udpPath())
		catch := d.out.bulk4.call
		d.out.bulk4.call = func(uintptr) { d.out.bulk4.sent, d.out.bulk4.errno = -1, errno }
		d.read(super(t, 10, 1380, 1380, true))
		if sizes := d.opened(t, peer, ipHeader+udpHeader); len(sizes) != 10 || d.count(sealed) != 10 || d.count(dropSend) != 0 {
			t.Errorf("%v: %d packets, %v", errno, len(sizes), d.Counters())
		}
		d.out.bulk4.call = catch
		d.groups = nil
		d.read(super(t, 10, 1380, 1380, true))
		// Only a card that can never do it is not asked again.
		if again := len(d.groups) > 0; again != (errno != unix.EIO) || d.Offloads()&OffloadSend != 0 != again {
			t.Errorf("%v: the next run: messages of %v, offloads %s", errno, d.groups, d.Offloads())
		}
	}
}

// A path that shrank under a connection: its packets are cut or answered like any
// other, and one large packet has one answer.
func TestPartsThatDoNotFitFallBack(t *testing.T) {
	d, peer := offloaded(t, udpPath())
	d.learn(report{remote: udpPath().Remote.Addr(), mtu: 1000})
	d.read(super(t, 10, 1380, 1380, true))
	if len(d.sent) != 0 || d.count(dropTooBig) != 10 {
		t.Errorf("%d packets left: %v", len(d.sent), d.Counters())
	}
	buf := make([]byte, 2048)
	_ = d.host.SetReadDeadline(time.Now().Add(time.Second))
	n, err := d.host.Read(buf)
	if err != nil || buf[segment.HeaderLen+20] != 3 || buf[segment.HeaderLen+21] != 4 {
		t.Errorf("no answer: %v % x", err, buf[:n])
	}
	_ = d.host.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := d.host.Read(buf); err == nil {
		t.Errorf("another answer of %d bytes", n)
	}
	d.read(super(t, 10, 1380, 1380, false))
	in, err := esp.NewInbound(peer, esp.State{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range d.sent {
		if len(b) > 1000 {
			t.Errorf("a packet of %d bytes", len(b))
		}
		if _, err := in.Open(nil, bytes.Clone(b[28:])); err != nil {
			t.Error(err)
		}
	}
	if len(d.sent) != 20 {
		t.Errorf("10 packets became %d fragments", len(d.sent))
	}
}

func TestALargePacketWaitsForItsChild(t *testing.T) {
	d, _ := offloaded(t, udpPath())
	if _, err := d.Remove(1); err != nil {
		t.Fatal(err)
	}
	d.read(super(t, 5, 1380, 1380, true))
	if got := d.acquires(); len(got) != 1 || len(d.sent) != 0 {
		t.Fatalf("asked for %v, sent %d", got, len(d.sent))
	}
	us, peer := d.ends(2, udpPath())
	d.use(t, us, esp.State{})
	d.out.tend()
	if sizes := d.opened(t, peer, 28); len(sizes) != 5 {
		t.Errorf("%d packets", len(sizes))
	}
}

// arrivals are datagrams of many packets each, as UDP_GRO gives them.
func arrivals(t testing.TB, peer esp.Child, packets int) func() datagram {
	t.Helper()
	there, err := esp.NewOutbound(peer, esp.State{}, bytes.NewReader(make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	large := super(t, packets, 1380, 1380, true)
	parts := make([][]byte, packets)
	var s segment.Splitter
	h, err := segment.ParseHeader(large)
	if err != nil || s.Start(h, large[segment.HeaderLen:]) != nil {
		t.Fatal(err)
	}
	for i := range parts {
		parts[i] = make([]byte, s.Left())
		s.Next(parts[i])
		copy(parts[i][12:], []byte{10, 2, 0, 2, 10, 1, 0, 2}) // the sum does not mind
	}
	buf := make([]byte, 0, maxPacket)
	return func() datagram {
		buf = buf[:0]
		size := 0
		for _, p := range parts {
			var err error
			if buf, err = there.Seal(buf, p); err != nil {
				t.Fatal(err)
			}
			if size == 0 {
				size = len(buf)
			}
		}
		return datagram{data: buf, segment: size, local: udpPath().Local, remote: udpPath().Remote}
	}
}

func TestARunArrivesAsOneLargePacket(t *testing.T) {
	d, peer := offloaded(t, udpPath())
	in := newInWorker(d.Plane, udp4, 0)
	next := arrivals(t, peer, 30)
	g := next()
	in.take(d.snap.Load(), &g)
	in.finish(d.snap.Load())
	buf := make([]byte, 70000)
	n, err := d.host.Read(buf)
	if err != nil || n != segment.HeaderLen+40+30*1380 || d.count(opened) != 30 {
		t.Fatalf("read %d, %v: %v", n, err, d.Counters())
	}
	h, err := segment.ParseHeader(buf)
	if err != nil || h.Kind != segment.TCP4 || h.Size != 1380 {
		t.Errorf("header %+v, %v", h, err)
	}
}

func TestADatagramOfARunThatIsNoESPGoesItsOwnWay(t *testing.T) {
	d, _ := offloaded(t, udpPath())
	in := newInWorker(d.Plane, udp4, 0)
	g := datagram{data: append(make([]byte, 4, 24), bytes.Repeat([]byte{1}, 20)...), segment: 12, remote: udpPath().Remote}
	in.take(d.snap.Load(), &g) // a message of IKE, and an ESP packet of an unknown SPI
	if len(d.ike) != 1 || d.count(dropUnknownSPI) != 1 {
		t.Errorf("%d messages for IKE: %v", len(d.ike), d.Counters())
	}
	for _, data := range [][]byte{{0xff}, {}} {
		in.take(d.snap.Load(), &datagram{data: data})
	}
	if d.count(keepaliveReceived) != 1 || d.count(dropMalformed) != 1 {
		t.Errorf("keepalive and nothing at all: %v", d.Counters())
	}
}

// batches is a plane at full rate in both directions: 40 packets out and 40 in.
func batches(t testing.TB) (*dry, func()) {
	t.Helper()
	d, peer := offloaded(t, udpPath())
	d.keep = false
	in := newInWorker(d.Plane, udp4, 0)
	next := arrivals(t, peer, 40)
	large := super(t, 40, 1380, 1380, true)
	drain := make([]byte, 70000)
	conn, err := d.host.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	read := func(fd uintptr) { _, _ = unix.Read(int(fd), drain) }
	return d, func() {
		d.out.begin()
		d.out.take(d.snap.Load(), d.out.buf[:copy(d.out.buf, large)])
		d.out.flush()
		d.out.end()
		g := next()
		in.begin()
		in.take(d.snap.Load(), &g)
		in.finish(d.snap.Load())
		in.end()
		_ = conn.Control(read)
	}
}

func TestNothingIsAllocatedForALargeBatch(t *testing.T) {
	d, both := batches(t)
	both()
	if n := testing.AllocsPerRun(200, both); n != 0 {
		t.Errorf("%v allocations for 40 packets out and 40 in", n)
	}
	if d.count(sealed) != 40*202 || d.count(opened) != 40*202 {
		t.Errorf("not everything went through: %v", d.Counters())
	}
}

// Two queues bring packets of one child at the same time: they leave in the order
// of their numbers, and nothing else of a worker's batch waits in a circle.
func TestTwoQueuesSealInOrder(t *testing.T) {
	d, _ := offloaded(t, udpPath())
	us, _ := d.ends(2, rawPath())
	us.Tunnel, us.Selector = dryTunnels()[1].Name, dryTunnels()[1].Selector
	d.use(t, us, esp.State{})
	d.keep = false
	d.tuns = append(d.tuns, d.tuns[0])
	var mu sync.Mutex // guards what follows
	sent, disorder := map[uint32]uint32{}, 0
	note := func(o *outbox, room int) {
		o.call = func(uintptr) {
			mu.Lock()
			defer mu.Unlock()
			o.sent, o.errno = o.count-o.from, 0
			for i := range o.heads[o.from:o.count] {
				h := &o.heads[o.from+i].hdr
				for _, part := range unsafe.Slice(h.Iov, h.Iovlen) {
					b := unsafe.Slice(part.Base, part.Len)[room:]
					spi, seq := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
					if seq != sent[spi]+1 {
						disorder++
					}
					sent[spi] = seq
				}
			}
		}
	}
	const rounds = 200
	toOther := super(t, 20, 1380, 1380, true)
	other := toOther[segment.HeaderLen:]
	other[17] = 3
	putHeaderChecksum(other[:20])
	reads := [][]byte{super(t, 20, 1380, 1380, true), toOther}
	var workers sync.WaitGroup
	for i := range 2 {
		w := newOutWorker(d.Plane, i)
		w.bulk4, w.bulkDF = newOutbox(d.sockets[udp4]), newCutting(d.sockets[udp4])
		w.send4 = newOutbox(d.sockets[raw4])
		note(w.bulk4, 0)
		note(w.send4, ipHeader)
		workers.Go(func() {
			for range rounds {
				w.begin()
				for n := range reads { // each begins with another child
					w.take(d.snap.Load(), w.buf[:copy(w.buf, reads[(n+i)%2])])
				}
				w.flush()
				w.end()
			}
		})
	}
	workers.Wait()
	if disorder > 0 || sent[uint32(0x1002)] != 2*20*rounds || sent[uint32(0x2002)] != 2*20*rounds {
		t.Errorf("%d packets out of order; the last numbers are %v", disorder, sent)
	}
}

// At full rate, with both workers on threads of their own and somebody reading the
// counters, no lock or channel of the runtime is met on the packet path. With sockets
// of a host it is the same: test/netns.
func TestNoLockIsMetAtFullRate(t *testing.T) {
	met := locks.Watch()
	length := 2 * time.Second
	if os.Getenv("FULL") != "" {
		length = 10 * time.Second
	}
	end := time.Now().Add(length)
	done := make(chan uint64)
	for range 2 {
		go func() {
			d, both := batches(t)
			for time.Now().Before(end) {
				for range 100 {
					both()
				}
				d.Usage(1)
				d.Counters()
			}
			done <- d.count(sealed)
		}()
	}
	if a, b := <-done, <-done; a == 0 || b == 0 {
		t.Fatal("nothing was sealed")
	}
	list, err := met()
	if err != nil || len(list) > 0 {
		t.Errorf("%v: %s", err, strings.Join(list, "\n\n"))
	}
}

func BenchmarkBatchOutAndIn(b *testing.B) {
	_, both := batches(b)
	b.SetBytes(2 * 40 * 1420)
	b.ReportAllocs()
	for b.Loop() {
		both()
	}
}
