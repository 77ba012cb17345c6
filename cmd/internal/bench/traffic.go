package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	burst      = 32                     // datagrams of one system call
	drainAfter = 150 * time.Millisecond // of silence nothing more comes
	drainMost  = 2 * time.Second
	seqBits    = 40 // of the number in a datagram; above it stands the trial
	numberLen  = 8  // of both
)

// many sends and receives several datagrams by one system call.
type many interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

func manyOf(c *net.UDPConn) many {
	if c.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
		return ipv4.NewPacketConn(c)
	}
	return ipv6.NewPacketConn(c)
}

// stream is a numbered flow of datagrams from one host to the other.
type stream struct {
	load   load
	header int
	from   *net.UDPConn
	to     *net.UDPConn
	trial  uint64
}

// trial is what became of one flow.
type trial struct {
	sent, received           int
	sentBytes, receivedBytes int // of frames
	sending, receiving       time.Duration
}

func (t trial) loss() float64 {
	if t.sent == 0 {
		return 0
	}
	return 100 * float64(t.sent-t.received) / float64(t.sent)
}

func (t trial) offered() float64 { return mbit(t.sentBytes, t.sending) }
func (t trial) arrived() float64 { return mbit(t.receivedBytes, t.receiving) }
func (t trial) rate() float64    { return float64(t.received) / t.receiving.Seconds() }

func mbit(bytes int, d time.Duration) float64 { return float64(bytes) * 8 / 1e6 / d.Seconds() }

// streams are flows at the same time, of which each has its share of a rate.
type streams []*stream

// streams opens a flow of a load in each direction.
func (p *pair) streams(l load) (list streams, err error) {
	a, b := p.ends(9)
	for _, way := range []struct {
		from, to *space
		src, dst netip.AddrPort
	}{{p.hostA, p.hostB, a, b}, {p.hostB, p.hostA, netip.AddrPortFrom(b.Addr(), 0), netip.AddrPortFrom(a.Addr(), b.Port())}} {
		s := &stream{load: l, header: p.header}
		if s.to, err = way.to.udp(way.dst, addrNone); err == nil {
			if s.from, err = way.from.udp(way.src, way.dst); err != nil {
				s.to.Close()
			}
		}
		if err != nil {
			list.close()
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func (list streams) close() {
	for _, s := range list {
		s.from.Close()
		s.to.Close()
	}
}

// offer has all flows send for d, rate packets a second together, or as many as they can
// where rate is 0.
func (list streams) offer(ctx context.Context, rate float64, d time.Duration) (sum trial, err error) {
	trials, faults := make([]trial, len(list)), make([]error, len(list))
	var all sync.WaitGroup
	for i, s := range list {
		all.Go(func() { trials[i], faults[i] = s.offer(ctx, rate/float64(len(list)), d) })
	}
	all.Wait()
	for _, t := range trials {
		sum.add(t)
	}
	return sum, errors.Join(faults...)
}

// add takes a flow of the same time in.
func (t *trial) add(u trial) {
	t.sent, t.received = t.sent+u.sent, t.received+u.received
	t.sentBytes, t.receivedBytes = t.sentBytes+u.sentBytes, t.receivedBytes+u.receivedBytes
	t.sending, t.receiving = max(t.sending, u.sending), max(t.receiving, u.receiving)
}

// offer sends packets for d, rate of them a second, or as many as it can where rate
// is 0, and counts what arrives, each number once.
func (s *stream) offer(ctx context.Context, rate float64, d time.Duration) (trial, error) {
	s.trial++
	count := &counter{header: s.header, trial: s.trial, begin: time.Now()}
	ended := make(chan error, 1)
	go func() { ended <- count.run(s.to) }()
	t, err := s.send(ctx, rate, d)
	for end := time.Now().Add(drainMost); err == nil && time.Now().Before(end) && int(count.packets.Load()) < t.sent; {
		before := count.packets.Load()
		time.Sleep(drainAfter)
		if count.packets.Load() == before {
			break
		}
	}
	_ = s.to.SetReadDeadline(time.Unix(1, 0)) // wakes the counter
	err = errors.Join(err, <-ended, s.to.SetReadDeadline(time.Time{}))
	t.received, t.receivedBytes = int(count.packets.Load()), count.bytes
	t.receiving = max(count.last.Sub(count.begin), t.sending)
	return t, err
}

func (s *stream) send(ctx context.Context, rate float64, d time.Duration) (t trial, err error) {
	out := manyOf(s.from)
	messages := make([]ipv4.Message, burst)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, linkMTU)}
	}
	begin := time.Now()
	for ; ; t.sending = time.Since(begin) {
		if t.sending >= d {
			return t, ctx.Err()
		}
		n := burst
		if rate > 0 {
			n = min(n, int(rate*t.sending.Seconds())+1-t.sent)
		}
		if n <= 0 {
			time.Sleep(50 * time.Microsecond)
			continue
		}
		for i := range n {
			length := s.length(t.sent+i) - s.header
			messages[i].Buffers[0] = messages[i].Buffers[0][:length]
			binary.BigEndian.PutUint64(messages[i].Buffers[0], s.trial<<seqBits|uint64(t.sent+i))
		}
		n, err := out.WriteBatch(messages[:n], 0)
		for i := range max(n, 0) {
			t.sentBytes += s.length(t.sent + i)
		}
		t.sent += max(n, 0)
		switch {
		case err == nil:
		case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ECONNREFUSED):
			time.Sleep(50 * time.Microsecond)
		default:
			return t, err
		}
	}
}

func (s *stream) length(i int) int { return s.load.lengths[i%len(s.load.lengths)] }

// counter counts what arrives of one trial.
type counter struct {
	header  int
	trial   uint64
	begin   time.Time
	packets atomic.Int64
	bytes   int
	last    time.Time
	seen    []uint64 // a bit for each number
}

// run ends at the deadline of the socket.
func (c *counter) run(from *net.UDPConn) error {
	in := manyOf(from)
	messages := make([]ipv4.Message, burst)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 2048)}
	}
	for {
		n, err := in.ReadBatch(messages, 0)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		if err != nil {
			return err
		}
		now := time.Now()
		for _, m := range messages[:n] {
			c.take(m.Buffers[0][:m.N], now)
		}
	}
}

func (c *counter) take(b []byte, now time.Time) {
	if len(b) < numberLen {
		return
	}
	x := binary.BigEndian.Uint64(b)
	number := x & (1<<seqBits - 1)
	if x>>seqBits != c.trial || number > 1<<32 {
		return // of the trial before, or nobody's
	}
	for int(number/64) >= len(c.seen) {
		c.seen = append(c.seen, 0)
	}
	if c.seen[number/64]&(1<<(number%64)) != 0 {
		return
	}
	c.seen[number/64] |= 1 << (number % 64)
	c.packets.Add(1)
	c.bytes += len(b) + c.header
	c.last = now
}
