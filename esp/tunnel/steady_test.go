package tunnel

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy"
	"yumen/policy/secret"
)

// dry is a plane without host: its TUN is one end of a pair of sockets, and what
// it would send is caught. Everything between is what runs in production.
type dry struct {
	*Plane
	out    *outWorker
	host   *os.File // the other end of the TUN
	mu     sync.Mutex
	sent   [][]byte
	groups []int // packets of each message that carried several
	calls  int   // for sending
	keep   bool
	now    time.Time
}

// dryTunnels are one tunnel that asks for its child and one that does not.
func dryTunnels() []policy.Tunnel {
	sel := func(local, remote string) policy.Selector {
		l, _ := policy.ParseNet(local)
		r, _ := policy.ParseNet(remote)
		return policy.Selector{Local: l, Remote: r}
	}
	common := policy.Tunnel{
		Peer: "peer", Suites: []policy.Suite{policy.SM4CBCHMACSM3}, ICVBits: 96, Window: 1024,
		Outer: policy.Outer{DSCP: policy.CopyDSCP},
	}
	asks, waits := common, common
	asks.Name, asks.Selector, asks.Start = "asks", sel("10.1.0.0/16", "10.2.0.0/16"), policy.StartTrap
	waits.Name, waits.Selector, waits.Start = "responds", sel("10.1.0.0/16", "10.3.0.0/16"), policy.StartNone
	return []policy.Tunnel{asks, waits}
}

func newDry(t testing.TB) *dry {
	t.Helper()
	return newDryOf(t, &policy.Policy{Peers: []policy.Peer{{Name: "peer"}}, Tunnels: dryTunnels()})
}

func newDryOf(t testing.TB, pol *policy.Policy) *dry {
	t.Helper()
	d := &dry{keep: true, now: time.Unix(1000, 0)}
	d.Plane = &Plane{
		cfg:  Config{Now: func() time.Time { d.mu.Lock(); defer d.mu.Unlock(); return d.now }}.withDefaults(),
		done: make(chan struct{}), events: make(chan esp.Event, eventQueue), ike: make(chan ikeDatagram, 1),
		reports: make(chan report, 16), pairs: map[esp.ChildID]*pair{}, muted: map[string]bool{}, paths: map[netip.Addr]learned{}, probed: map[ends]learned{},
	}
	d.tunMTU = 1500
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d.host = os.NewFile(uintptr(pair[1]), "host")
	tun, err := newTUNQueue(os.NewFile(uintptr(pair[0]), "tun"), false)
	if err != nil {
		t.Fatal(err)
	}
	d.tuns = []*tunQueue{tun}
	t.Cleanup(func() { d.tuns[0].file.Close(); d.host.Close(); d.running.Wait() })
	conn, err := d.host.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for k := range d.sockets {
		d.sockets[k] = &socket{conn: conn, kind: kind(k)}
	}
	d.asker = d.sockets[raw4]
	if d.spd, err = policy.Compile(pol); err != nil {
		t.Fatal(err)
	}
	d.enlist(pol)
	d.publish()
	if err := d.startProbes(); err != nil {
		t.Fatal(err)
	}
	d.out = newOutWorker(d.Plane, 0)
	d.out.send4, d.out.whole6 = d.catch(d.sockets[raw4]), d.catch(d.sockets[raw6])
	d.out.send6[raw6], d.out.send6[udp6] = d.catch(d.sockets[raw6]), d.catch(d.sockets[udp6])
	d.workers = append(d.workers, &d.out.worker)
	d.catchCourier(&d.probe.courier)
	return d
}

// catch is an outbox whose system call is replaced. What it would send as a run
// is caught as the host would cut it, behind room for the headers.
func (d *dry) catch(s *socket) *outbox {
	o := newOutbox(s)
	o.call = func(uintptr) {
		o.sent, o.errno = o.count-o.from, 0
		d.calls++
		if !d.keep {
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		for i := range o.heads[o.from:o.count] {
			h := &o.heads[o.from+i].hdr
			parts := unsafe.Slice(h.Iov, h.Iovlen)
			if len(parts) > 1 {
				d.groups = append(d.groups, len(parts))
			}
			for _, part := range parts {
				b := bytes.Clone(unsafe.Slice(part.Base, part.Len))
				if len(parts) > 1 {
					b = append(make([]byte, outerRoom(s.kind)), b...)
				}
				d.sent = append(d.sent, b)
			}
		}
	}
	return o
}

// catchCourier does the same for single packets. IPv6 headers are the kernel's, so that
// room stands for them.
func (d *dry) catchCourier(c *courier) {
	for k := range c.by {
		s := newHastySender(d.sockets[k])
		s.try = func(uintptr) bool {
			s.errno = 0
			d.calls++
			if !d.keep {
				return true
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			var b []byte
			if kind(k).v6() {
				b = make([]byte, outerRoom(kind(k)))
			}
			d.sent = append(d.sent, append(b, unsafe.Slice(s.iov.Base, s.iov.Len)...))
			return true
		}
		c.by[k] = s
	}
}

// receiver is a worker for packets of a kind, whose answers are caught.
func (d *dry) receiver(k kind) *inWorker {
	in := newInWorker(d.Plane, k, 0)
	d.catchCourier(&in.courier)
	return in
}

// hand gives the worker a packet as if it had been read.
func (d *dry) hand(b []byte) {
	d.out.packet(d.snap.Load(), d.out.buf[:copy(d.out.buf, b)])
	d.out.flush()
}

func (d *dry) pass(x time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(x)
}

func (d *dry) count(n counter) uint64 { return d.counts[n].Load() }

// ends are both ends of a child of a tunnel, the second as the peer sees it.
func (d *dry) ends(id esp.ChildID, path esp.Path) (us, peer esp.Child) {
	t := dryTunnels()[0]
	half := func(n byte) esp.Half {
		return esp.Half{SPI: esp.SPI(0x1000*int(id) + int(n)), Keymat: secret.New(bytes.Repeat([]byte{n}, esp.KeymatLen(t.Suites[0])))}
	}
	us = esp.Child{
		ID: id, Tunnel: t.Name, Peer: "peer", Selector: t.Selector, Suite: t.Suites[0], ICVBits: 96, Window: 1024,
		Outer: t.Outer, Path: path, In: half(1), Out: half(2),
	}
	peer = us
	peer.In, peer.Out, peer.Selector = us.Out, us.In, us.Selector.Reverse()
	return us, peer
}

func (d *dry) use(t testing.TB, c esp.Child, from esp.State) {
	t.Helper()
	if err := d.Install(c, from); err != nil {
		t.Fatal(err)
	}
	if err := d.Use(c.ID); err != nil {
		t.Fatal(err)
	}
}

func rawPath() esp.Path {
	return esp.Path{Local: netip.MustParseAddrPort("192.0.2.1:0"), Remote: netip.MustParseAddrPort("198.51.100.1:0")}
}

func udpPath() esp.Path {
	return esp.Path{Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.1:4500"), Encap: true}
}

// inner is packet4 that says who sent it.
func inner(n uint32, size int) []byte {
	b := packet4(size-20, true)
	binary.BigEndian.PutUint32(b[28:], n)
	return b
}

// steady is a plane in the middle of its work, with packets for both workers. The
// function carries one packet out and one in.
func steady(t testing.TB, path esp.Path) (*dry, func()) {
	t.Helper()
	d := newDry(t)
	us, peer := d.ends(1, path)
	d.use(t, us, esp.State{})
	there, err := esp.NewOutbound(peer, esp.State{}, bytes.NewReader(make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	d.keep = false
	in := d.receiver(kindOf(path.Remote.Addr(), path.Encap))
	answer := packet4(1400-20, true)
	copy(answer[12:], []byte{10, 2, 0, 2, 10, 1, 0, 2})
	putHeaderChecksum(answer[:20])
	buf, drain := make([]byte, 0, 2048), make([]byte, 2048)
	copy(d.out.buf, inner(1, 1400))
	drainConn, err := d.host.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	read := func(fd uintptr) bool { _, _ = syscall.Read(int(fd), drain); return true }
	return d, func() {
		d.out.begin()
		d.out.packet(d.snap.Load(), d.out.buf[:1400])
		d.out.flush()
		d.out.end()
		b, err := there.Seal(buf, answer)
		if err != nil {
			t.Fatal(err)
		}
		g := datagram{data: b, local: path.Local, remote: path.Remote}
		in.begin()
		in.take(d.snap.Load(), &g)
		in.finish(d.snap.Load())
		in.end()
		_ = drainConn.Read(read)
	}
}

func TestNothingIsAllocatedOnTheSteadyPath(t *testing.T) {
	six := rawPath()
	six.Local, six.Remote = netip.MustParseAddrPort("[2001:db8::1]:0"), netip.MustParseAddrPort("[2001:db8::2]:0")
	for _, path := range []esp.Path{rawPath(), udpPath(), six} {
		d, both := steady(t, path)
		both() // what is made once
		n := testing.AllocsPerRun(2000, both)
		if n != 0 {
			t.Errorf("%s: %v allocations for a packet out and one in", path.Remote, n)
		}
		if d.count(sealed) != 2002 || d.count(opened) != 2002 {
			t.Errorf("%s: %d packets out, %d in, want 2002 each: %v", path.Remote, d.count(sealed), d.count(opened), d.Counters())
		}
	}
}

// The sockets themselves, which the test above leaves out.
func TestNothingIsAllocatedForASystemCall(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{conn: conn, kind: udp4}
	at := c.LocalAddr().(*net.UDPAddr).AddrPort()
	w, r, o := newSender(s), newInbox(s, at.Port(), false), newOutbox(s)
	data := bytes.Repeat([]byte{7}, 1400)
	var d datagram
	n := testing.AllocsPerRun(1000, func() {
		if err := w.send(data, envelope{local: at, remote: at}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			o.add(envelope{local: at, remote: at}, span{0, 1})
			o.part(data[:700])
			o.part(data[700:])
		}
		o.post()
		o.empty()
		for got := 0; got < 3; {
			n, err := r.next()
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if err := r.datagram(i, &d); err != nil || len(d.data) != 1400 || d.remote != at {
					t.Fatal(err, d.remote, len(d.data))
				}
			}
			got += n
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for sending and receiving", n)
	}
}

// Whoever controls the plane holds its mutex as long as he likes.
func TestTrafficPassesWhileTheControlSideHoldsItsMutex(t *testing.T) {
	d, both := steady(t, rawPath())
	d.Plane.mu.Lock()
	defer d.Plane.mu.Unlock()
	done := make(chan bool)
	go func() {
		for range 1000 {
			both()
		}
		// And what leads off the path: no child, another address, a foreign SPI.
		copy(d.out.buf, inner(1, 1400))
		d.out.buf[17] = 3
		d.out.packet(d.snap.Load(), d.out.buf[:1400])
		d.out.flush()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("a worker waits for the control side")
	}
	if d.count(sealed) != 1000 || d.count(opened) != 1000 || d.count(dropNoSA) != 1 {
		t.Errorf("not everything went through: %v", d.Counters())
	}
}

func BenchmarkPacketOutAndIn(b *testing.B) {
	for name, path := range map[string]esp.Path{"raw": rawPath(), "udp": udpPath()} {
		b.Run(name, func(b *testing.B) {
			_, both := steady(b, path)
			b.SetBytes(2 * 1400)
			b.ReportAllocs()
			for b.Loop() {
				both()
			}
		})
	}
}
