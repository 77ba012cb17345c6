// Package numbered sends numbered datagrams between two hosts, both ways, and
// accounts for each of them: what was lost, came twice or out of order, and how
// long nothing came. It knows nothing of what carries them.
package numbered

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"yumen/test/site"
)

// Pair are the addresses at both ends of one flow each way.
type Pair [2]string

// Traffic is numbered UDP between two hosts, in any number of pairs of addresses
// and ports.
type Traffic struct {
	Marker  site.Marker   // in every datagram
	Flows   [][2]*Flow    // by pair and sending end
	Strange atomic.Uint64 // datagrams that are none of ours
	Late    atomic.Int64  // longest delay of a sender behind its schedule, ns

	pairs   []Pair
	sockets [2]net.PacketConn
	senders [][2]*net.UDPConn
	stop    chan struct{}
	sending sync.WaitGroup
	reading sync.WaitGroup
}

// Size is the payload of a datagram in bytes.
const Size = 200

const toPort, fromPort = 7000, 7001 // of the first pair; each has its own

// New opens the sockets of all pairs at both hosts. They are closed with w.
func New(w *site.World, hosts [2]*site.Space, pairs []Pair) (*Traffic, error) {
	t := &Traffic{Marker: site.NewMarker(), Flows: make([][2]*Flow, len(pairs)), pairs: pairs,
		senders: make([][2]*net.UDPConn, len(pairs)), stop: make(chan struct{})}
	for i := range t.Flows {
		t.Flows[i] = [2]*Flow{{Pair: i, From: 0}, {Pair: i, From: 1}}
	}
	for end, host := range hosts {
		if err := host.Do(func() error { return t.open(end) }); err != nil {
			t.close()
			return nil, fmt.Errorf("host %s: %w", host.Name, err)
		}
		t.reading.Go(func() { t.read(end) })
	}
	w.Defer(t.close)
	return t, nil
}

func (t *Traffic) open(end int) error {
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) {
			inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		})
		return errors.Join(err, inner)
	}}
	c, err := listen.ListenPacket(context.Background(), "udp", fmt.Sprintf("[::]:%d", toPort)) // both families
	if err != nil {
		return err
	}
	t.sockets[end] = c
	for n := range t.senders {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(t.pairs[n][end]), Port: fromPort + n},
			&net.UDPAddr{IP: net.ParseIP(t.pairs[n][1-end]), Port: toPort})
		if err != nil {
			return err
		}
		t.senders[n][end] = c
	}
	return nil
}

func (t *Traffic) read(end int) {
	buf := make([]byte, 2048)
	for {
		n, _, err := t.sockets[end].ReadFrom(buf)
		if err != nil {
			return
		}
		if n != Size || !bytes.Equal(buf[:len(t.Marker)], t.Marker[:]) {
			t.Strange.Add(1)
			continue
		}
		pair, from := int(binary.BigEndian.Uint16(buf[32:])), int(buf[34])
		if pair >= len(t.Flows) || from != 1-end {
			t.Strange.Add(1)
			continue
		}
		t.Flows[pair][from].Take(binary.BigEndian.Uint32(buf[35:]), time.Now())
	}
}

// Send begins to send by the pairs of list, each at the rate of packets a
// second in each direction, until halt.
func (t *Traffic) Send(list []int, rate float64) {
	for end := range 2 {
		t.sending.Go(func() { t.pace(list, end, rate*float64(len(list))) })
	}
}

// pace goes round the pairs of list at the rate of packets a second of them all.
func (t *Traffic) pace(list []int, end int, rate float64) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	begin, done := time.Now(), 0
	buf := make([]byte, Size)
	copy(buf, t.Marker[:])
	for {
		select {
		case <-t.stop:
			return
		case now := <-tick.C:
			if behind := int64(time.Since(now)); behind > t.Late.Load() {
				t.Late.Store(behind)
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

func (t *Traffic) one(buf []byte, pair, end int) {
	f := t.Flows[pair][end]
	n := f.Sent.Load()
	binary.BigEndian.PutUint16(buf[32:], uint16(pair))
	buf[34] = byte(end)
	binary.BigEndian.PutUint32(buf[35:], n)
	f.leaves(time.Now())
	if _, err := t.senders[pair][end].Write(buf); err != nil {
		// An ICMP error about an earlier packet, or no buffer: this one did not leave.
		f.Refused.Add(1)
		return
	}
	f.Sent.Add(1)
}

// Halt ends the sending; what is under way still arrives.
func (t *Traffic) Halt() {
	select {
	case <-t.stop:
	default:
		close(t.stop)
	}
	t.sending.Wait()
}

func (t *Traffic) close() {
	t.Halt()
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
