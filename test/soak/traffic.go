package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"yumen/test/site"
)

// flow is the numbered traffic of one tunnel in one direction.
type flow struct {
	tunnel, from int
	sent         atomic.Uint32 // numbers 0 to sent-1
	refused      atomic.Uint64 // by the host's own stack

	mu       sync.Mutex // guards what follows
	seen     []uint64   // bitmap by number
	received uint64     // different numbers
	twice    uint64     // numbers that came again
	last     time.Time
}

// take notes the arrival of a number.
func (f *flow) take(n uint32, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = now
	word, bit := int(n/64), uint64(1)<<(n%64)
	for word >= len(f.seen) {
		f.seen = append(f.seen, make([]uint64, max(16, len(f.seen)))...)
	}
	if f.seen[word]&bit != 0 {
		f.twice++
		return
	}
	f.seen[word] |= bit
	f.received++
}

func (f *flow) counts() (received, twice uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.received, f.twice
}

// missing names the numbers that did not arrive: the first runs of them.
func (f *flow) missing() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var runs []string
	begin := -1
	for i := 0; i <= int(f.sent.Load()) && len(runs) < 5; i++ {
		gone := i < int(f.sent.Load()) && (i/64 >= len(f.seen) || f.seen[i/64]&(1<<(i%64)) == 0)
		switch {
		case gone && begin < 0:
			begin = i
		case !gone && begin >= 0:
			runs, begin = append(runs, fmt.Sprintf("%d-%d", begin, i-1)), -1
		}
	}
	return strings.Join(runs, " ")
}

// arrivedFrom reports whether any packet numbered n or higher arrived.
func (f *flow) arrivedFrom(n uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := uint64(n); i < uint64(len(f.seen))*64; i++ {
		if f.seen[i/64]&(1<<(i%64)) != 0 {
			return true
		}
	}
	return false
}

// traffic sends numbered UDP through every tunnel, both ways.
type traffic struct {
	marker  site.Marker
	flows   [][2]*flow // by tunnel and sending end
	size    int        // bytes of UDP payload
	sockets [2]net.PacketConn
	senders [][2]*net.UDPConn
	stop    chan struct{}
	sending sync.WaitGroup
	reading sync.WaitGroup
	strange atomic.Uint64 // datagrams that are none of ours
	late    atomic.Int64  // longest delay of a sender behind its schedule, ns
}

const (
	toPort, fromPort = 7000, 7001
	headBytes        = 32 + 2 + 1 + 4 // marker, tunnel, end, number
	packetSize       = 200
)

// newTraffic opens the sockets of n tunnels at both hosts.
func newTraffic(s *sites, n int) (*traffic, error) {
	t := &traffic{marker: site.NewMarker(), flows: make([][2]*flow, n), size: packetSize,
		senders: make([][2]*net.UDPConn, n), stop: make(chan struct{})}
	for i := range t.flows {
		t.flows[i] = [2]*flow{{tunnel: i, from: endA}, {tunnel: i, from: endB}}
	}
	for end := range 2 {
		if err := s.host[end].Do(func() error { return t.open(end) }); err != nil {
			t.close()
			return nil, fmt.Errorf("host %s: %w", side(end), err)
		}
		t.reading.Go(func() { t.read(end) })
	}
	s.world.Defer(t.close)
	return t, nil
}

func (t *traffic) open(end int) error {
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) {
			inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		})
		return errors.Join(err, inner)
	}}
	c, err := listen.ListenPacket(background, "udp", fmt.Sprintf("[::]:%d", toPort)) // both families
	if err != nil {
		return err
	}
	t.sockets[end] = c
	for n := range t.senders {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(inner(end, n)), Port: fromPort},
			&net.UDPAddr{IP: net.ParseIP(inner(1-end, n)), Port: toPort})
		if err != nil {
			return err
		}
		t.senders[n][end] = c
	}
	return nil
}

func (t *traffic) read(end int) {
	buf := make([]byte, 2048)
	for {
		n, _, err := t.sockets[end].ReadFrom(buf)
		if err != nil {
			return
		}
		if n != t.size || !bytes.Equal(buf[:len(t.marker)], t.marker[:]) {
			t.strange.Add(1)
			continue
		}
		tunnel, from := int(binary.BigEndian.Uint16(buf[32:])), int(buf[34])
		if tunnel >= len(t.flows) || from != 1-end {
			t.strange.Add(1)
			continue
		}
		t.flows[tunnel][from].take(binary.BigEndian.Uint32(buf[35:]), time.Now())
	}
}

// send begins to send by the tunnels of list, each at the rate of packets a
// second in each direction, until halt.
func (t *traffic) send(list []int, rate float64) {
	for end := range 2 {
		t.sending.Go(func() { t.pace(list, end, rate*float64(len(list))) })
	}
}

// pace goes round the tunnels of list at the rate of packets a second of them all.
func (t *traffic) pace(list []int, end int, rate float64) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	begin, done := time.Now(), 0
	buf := make([]byte, t.size)
	copy(buf, t.marker[:])
	for {
		select {
		case <-t.stop:
			return
		case now := <-tick.C:
			if behind := int64(time.Since(now)); behind > t.late.Load() {
				t.late.Store(behind)
			}
			// What a busy machine missed is made up for slowly: no bursts.
			due := min(int(now.Sub(begin).Seconds()*rate)-done, 32)
			for range due {
				t.one(buf, list[done%len(list)], end)
				done++
			}
		}
	}
}

func (t *traffic) one(buf []byte, tunnel, end int) {
	f := t.flows[tunnel][end]
	n := f.sent.Load()
	binary.BigEndian.PutUint16(buf[32:], uint16(tunnel))
	buf[34] = byte(end)
	binary.BigEndian.PutUint32(buf[35:], n)
	if _, err := t.senders[tunnel][end].Write(buf); err != nil {
		// An ICMP error about an earlier packet, or no buffer: this one did not leave.
		f.refused.Add(1)
		return
	}
	f.sent.Add(1)
}

// halt ends the sending; what is under way still arrives.
func (t *traffic) halt() {
	select {
	case <-t.stop:
	default:
		close(t.stop)
	}
	t.sending.Wait()
}

func (t *traffic) close() {
	t.halt()
	for end := range 2 {
		if t.sockets[end] != nil {
			t.sockets[end].Close()
		}
		for _, pair := range t.senders {
			if pair[end] != nil {
				pair[end].Close()
			}
		}
	}
	t.reading.Wait()
}
