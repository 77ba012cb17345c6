package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
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
	sentBytes, receivedBytes int // of IP packets
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

// stream opens the flow of a load.
func (p *pair) stream(l load) (*stream, error) {
	a, b := p.ends(9)
	to, err := p.hostB.udp(b, addrNone)
	if err != nil {
		return nil, err
	}
	from, err := p.hostA.udp(a, b)
	if err != nil {
		to.Close()
		return nil, err
	}
	return &stream{load: l, header: p.header, from: from, to: to}, nil
}

func (s *stream) close() {
	s.from.Close()
	s.to.Close()
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
	if len(b) < 8 {
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
