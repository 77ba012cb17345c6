package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"
)

// addrNone leaves a socket unconnected.
var addrNone netip.AddrPort

func (o Options) trialTime() time.Duration { return time.Duration(o.Seconds * float64(time.Second)) }

// measureLoss sends all that the generator can, several times.
func (o Options) measureLoss(ctx context.Context, s streams) (Loss, error) {
	var offered, received, packets, loss []float64
	for range o.Rounds {
		t, err := s.offer(ctx, 0, o.trialTime())
		if err != nil {
			return Loss{}, err
		}
		offered, received = append(offered, t.offered()), append(received, t.arrived())
		packets, loss = append(packets, t.rate()), append(loss, t.loss())
	}
	return Loss{Case: s[0].load.name, Offered: milli(median(offered)), Received: milli(median(received)),
		Packets: milli(median(packets)), Loss: milli(median(loss))}, nil
}

// measureThroughput halves its way to the highest rate that loses no more than is
// accepted, below somewhat more than what got through at the full rate, and then
// confirms it by the median of several trials; what is not confirmed goes down.
func (o Options) measureThroughput(ctx context.Context, s streams, full float64) (Throughput, error) {
	low, high := 0.0, 1.2*full
	for range o.Steps {
		rate := (low + high) / 2
		t, err := s.offer(ctx, rate, o.trialTime())
		if err != nil {
			return Throughput{}, err
		}
		if t.received > 0 && t.loss() <= o.AcceptLoss {
			low = rate
		} else {
			high = rate
		}
	}
	if low == 0 {
		low = high / 2
	}
	var found Throughput
	for range confirmations {
		var received, packets, loss []float64
		for range o.Rounds {
			t, err := s.offer(ctx, low, o.trialTime())
			if err != nil {
				return Throughput{}, err
			}
			received, packets, loss = append(received, t.arrived()), append(packets, t.rate()), append(loss, t.loss())
		}
		found = Throughput{Case: s[0].load.name, Directions: len(s), Mbit: milli(median(received)), Packets: milli(median(packets)), Loss: milli(median(loss))}
		if found.Loss <= o.AcceptLoss {
			return found, nil
		}
		low *= 0.8
	}
	return found, errNoRate
}

const confirmations = 8

var errNoRate = errors.New("no rate was found at which the loss accepted is kept: let nothing else run, or accept more with --accept-loss")

const (
	pace     = 2 * time.Millisecond // between two round trips
	tripTime = 500 * time.Millisecond
)

// measureLatency has host B send back what host A sends, one at a time.
func (o Options) measureLatency(ctx context.Context, p *pair, l load) (Latency, error) {
	a, b := p.ends(7)
	echo, err := p.hostB.udp(b, addrNone)
	if err != nil {
		return Latency{}, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 2048)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(buf)
			if err != nil {
				return // closed
			}
			_, _ = echo.WriteToUDPAddrPort(buf[:n], from) // a loss is counted by who waits
		}
	}()
	defer func() { echo.Close(); <-ended }()
	c, err := p.hostA.udp(a, b)
	if err != nil {
		return Latency{}, err
	}
	defer c.Close()
	out := Latency{Case: l.name}
	var trips []float64
	count := max(50, int(o.Seconds*float64(o.Rounds)*float64(time.Second)/float64(2*pace)))
	for i := range count {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		took, err := trip(c, uint64(i), l.lengths[i%len(l.lengths)]-p.header)
		if errors.Is(err, errLost) {
			out.Lost++
		} else if err != nil {
			return out, err
		} else {
			trips = append(trips, float64(took.Nanoseconds())/1000)
		}
		time.Sleep(pace)
	}
	if len(trips) == 0 {
		return out, errors.New("no packet came back")
	}
	out.Samples, out.Delay = len(trips), milli(mean(trips)/2)
	out.Median, out.P99 = milli(median(trips)), milli(percentile(trips, 99))
	return out, nil
}

var errLost = errors.New("lost")

// trip sends one numbered datagram and waits until it is back.
func trip(c *net.UDPConn, number uint64, length int) (time.Duration, error) {
	b := make([]byte, length)
	binary.BigEndian.PutUint64(b, number)
	begin := time.Now()
	if err := c.SetReadDeadline(begin.Add(tripTime)); err != nil {
		return 0, err
	}
	if _, err := c.Write(b); err != nil {
		return 0, err
	}
	for {
		n, err := c.Read(b)
		took := time.Since(begin)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return 0, errLost
		case err != nil:
			return 0, err
		case n >= 8 && binary.BigEndian.Uint64(b) == number:
			return took, nil
		}
	}
}
