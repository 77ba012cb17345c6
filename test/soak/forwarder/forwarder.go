// Package forwarder is a wire with a mind of its own: it carries frames between
// two interfaces of a network namespace and may drop, repeat or delay them, by a
// seed. It writes down each frame that it did this to, so that a test can say:
// lost = sent - received - dropped by it. It knows no keys and changes no frame.
package forwarder

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Fate is what becomes of a frame.
type Fate uint8

const (
	Pass Fate = iota
	Drop
	Repeat // passed on twice
	Delay  // passed on later, so that others overtake it
)

// String is the word of the log.
func (f Fate) String() string { return [...]string{"pass", "drop", "repeat", "delay"}[f] }

// Weather is how bad the wire is. The zero value is a perfect one. Rates are
// parts of 1 and concern ESP and IKE alone.
type Weather struct {
	Loss, Repeat, Delay float64
	Least, Longest      time.Duration // of a delay
	// Decide, if it is set, has the first word; with Pass the rates decide. It
	// is called by one goroutine for each direction.
	Decide func(toB bool, id Identity) Fate
}

// Config says where a forwarder stands and what it looks for.
type Config struct {
	A, B    string // the two interfaces
	Seed    uint64
	Log     io.Writer // gets a line for each frame that was not simply passed on; nil: none
	Needles [][]byte  // what must not be seen; see Clear
}

// Count is what happened to the packets of one SPI.
type Count struct{ Seen, Dropped, Repeated, Delayed uint64 }

// Forwarder is a running wire. Close ends it.
type Forwarder struct {
	cfg     Config
	start   time.Time
	weather atomic.Pointer[Weather]
	ends    [2]int // sockets; of A and B
	stop    atomic.Bool
	running sync.WaitGroup
	clear   atomic.Uint64
	frames  atomic.Uint64
	failed  atomic.Uint64 // frames that the kernel did not take

	mu    sync.Mutex // guards what follows
	spis  map[uint32]*Count
	total Count // of ESP
	ike   Count
	log   *bufio.Writer
	late  sync.WaitGroup
}

const (
	queueBytes = 64 << 20
	vnetHeader = 10 // virtio_net_hdr: checksum and segmentation offload travel with the frame
	patience   = 100 * time.Millisecond
)

// New starts a perfect wire. It must be called on a thread inside the namespace
// (site.Space.Do). It needs CAP_NET_RAW.
func New(cfg Config) (*Forwarder, error) {
	f := &Forwarder{cfg: cfg, start: time.Now(), spis: map[uint32]*Count{}}
	if cfg.Log != nil {
		f.log = bufio.NewWriterSize(cfg.Log, 1<<16)
	}
	f.weather.Store(&Weather{})
	for i, name := range []string{cfg.A, cfg.B} {
		fd, err := open(name)
		if err != nil {
			for _, other := range f.ends[:i] {
				unix.Close(other)
			}
			return nil, fmt.Errorf("forwarder on %s: %w", name, err)
		}
		f.ends[i] = fd
	}
	for side := range f.ends {
		f.running.Go(func() { f.carry(side) })
	}
	return f, nil
}

// open makes a packet socket that gets and gives whole frames with their offload
// header, and does not see what it sends.
func open(name string) (int, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queueBytes),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, queueBytes),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}),
	)
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// Set changes the weather.
func (f *Forwarder) Set(w Weather) { f.weather.Store(&w) }

// carry moves frames that come in at one side to the other.
func (f *Forwarder) carry(side int) {
	dice := rand.New(rand.NewPCG(f.cfg.Seed, uint64(side)))
	buf := make([]byte, 1<<17)
	for !f.stop.Load() {
		n, _, err := unix.Recvfrom(f.ends[side], buf, 0)
		if err != nil || n < vnetHeader {
			continue // nobody sent for a while
		}
		f.frames.Add(1)
		frame := buf[vnetHeader:n]
		f.search(frame)
		id := Identify(frame)
		w := f.weather.Load()
		fate := w.fate(dice, side == 0, id)
		f.note(side, id, fate)
		switch fate {
		case Drop:
			continue
		case Delay:
			kept := bytes.Clone(buf[:n])
			wait := w.Least + time.Duration(dice.Float64()*float64(max(0, w.Longest-w.Least)))
			f.late.Add(1)
			time.AfterFunc(wait, func() {
				defer f.late.Done()
				f.send(1-side, kept)
			})
			continue
		case Repeat:
			f.send(1-side, buf[:n])
		}
		f.send(1-side, buf[:n])
	}
}

func (f *Forwarder) send(side int, b []byte) {
	for range 50 {
		_, err := unix.Write(f.ends[side], b)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	f.failed.Add(1)
}

// fate draws what becomes of a frame. The dice fall the same number of times for
// each, so that one more rule does not change the fate of all that follow.
func (w *Weather) fate(dice *rand.Rand, toB bool, id Identity) Fate {
	drop, again, later := dice.Float64() < w.Loss, dice.Float64() < w.Repeat, dice.Float64() < w.Delay
	if id.Kind == Other {
		return Pass
	}
	if w.Decide != nil {
		if fate := w.Decide(toB, id); fate != Pass {
			return fate
		}
	}
	switch {
	case drop:
		return Drop
	case again:
		return Repeat
	case later:
		return Delay
	}
	return Pass
}

func (f *Forwarder) search(frame []byte) {
	for _, needle := range f.cfg.Needles {
		if bytes.Contains(frame, needle) {
			f.clear.Add(1)
			return
		}
	}
}

func (f *Forwarder) note(side int, id Identity, fate Fate) {
	if id.Kind == Other {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch id.Kind {
	case ESP:
		c := f.spis[id.SPI]
		if c == nil {
			c = &Count{}
			f.spis[id.SPI] = c
		}
		c.add(fate)
		f.total.add(fate)
	case IKE:
		f.ike.add(fate)
	}
	if fate != Pass && f.log != nil {
		fmt.Fprintf(f.log, "%10.6f %s %s %s\n", time.Since(f.start).Seconds(), [...]string{"a>b", "b>a"}[side], fate, id)
	}
}

func (c *Count) add(fate Fate) {
	c.Seen++
	switch fate {
	case Drop:
		c.Dropped++
	case Repeat:
		c.Repeated++
	case Delay:
		c.Delayed++
	}
}

// SPIs is what happened to ESP so far, by SPI.
func (f *Forwarder) SPIs() map[uint32]Count {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[uint32]Count, len(f.spis))
	for spi, c := range maps.All(f.spis) {
		out[spi] = *c
	}
	return out
}

// Totals is what happened to ESP and to IKE so far.
func (f *Forwarder) Totals() (esp, ike Count) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total, f.ike
}

// Clear counts the frames that held one of the needles.
func (f *Forwarder) Clear() uint64 { return f.clear.Load() }

// Frames counts all frames that came in.
func (f *Forwarder) Frames() uint64 { return f.frames.Load() }

// Overflow counts frames that got lost at the forwarder's own sockets since it
// was last asked. They are in no log: a run with some proves nothing.
func (f *Forwarder) Overflow() (uint64, error) {
	n := f.failed.Swap(0)
	for _, fd := range f.ends {
		st, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil {
			return n, fmt.Errorf("statistics of a packet socket: %w", err)
		}
		n += uint64(st.Drops)
	}
	return n, nil
}

// Close delivers what is delayed and ends the wire.
func (f *Forwarder) Close() error {
	f.stop.Store(true)
	f.running.Wait()
	f.late.Wait()
	for _, fd := range f.ends {
		unix.Close(fd)
	}
	if f.log == nil {
		return nil
	}
	return f.log.Flush()
}
