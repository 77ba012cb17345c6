package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"yumen/test/site"
)

// Addresses of every pairing: outside on the veth, inside on the loopback.
const (
	outsideA, outsideB = "192.0.2.1", "192.0.2.2"
	insideA, insideB   = "10.1.0.1", "10.2.0.1"
)

// pairing is two gateways with a veth pair between them.
type pairing struct {
	a, b *site.Space
	dir  string

	planes []*site.Process // of ours
}

func newPairing(w *site.World, name, dir string) (*pairing, error) {
	p := &pairing{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if p.a, err = w.Space(name+"a", true); err != nil {
		return nil, err
	}
	if p.b, err = w.Space(name+"b", true); err != nil {
		return nil, err
	}
	if err := w.Link(p.a, "wan", []string{outsideA + "/24"}, p.b, "wan", []string{outsideB + "/24"}); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		at   *site.Space
		addr string
	}{{p.a, insideA}, {p.b, insideB}} {
		if _, err := s.at.Run("ip", "addr", "add", s.addr+"/32", "dev", "lo"); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// said is what our planes told about themselves.
func (p *pairing) said() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "a.log"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if on, ok := strings.CutPrefix(line, "offloads "); ok {
			return "; offloads: " + strings.TrimSpace(on)
		}
	}
	return ""
}

// reachable waits until B answers from behind its gateway.
func (p *pairing) reachable() error {
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if _, err = p.a.Run("ping", "-n", "-q", "-c", "1", "-W", "1", "-I", insideA, insideB); err == nil {
			return nil
		}
	}
	return err
}

// stream sends one TCP stream from A to B for d and returns the bits per second
// that arrived, without the first tenth.
func (p *pairing) stream(d time.Duration) (float64, error) {
	var l net.Listener
	err := p.b.Do(func() (err error) {
		l, err = net.Listen("tcp4", insideB+":0")
		return err
	})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	var c net.Conn
	err = p.a.Do(func() (err error) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(insideA)}, Timeout: 10 * time.Second}
		c, err = dialer.DialContext(context.Background(), "tcp4", l.Addr().String())
		return err
	})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	end := time.Now().Add(d)
	_ = c.SetDeadline(end)
	go func() {
		chunk := make([]byte, 128<<10)
		for {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}()
	r, err := l.Accept()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	_ = r.SetDeadline(end)
	return arrived(r, time.Now().Add(d/10))
}

func arrived(r io.Reader, from time.Time) (float64, error) {
	buf := make([]byte, 256<<10)
	var begin time.Time
	var last time.Time
	bytes := 0
	for {
		n, err := r.Read(buf)
		now := time.Now()
		switch {
		case n > 0 && begin.IsZero() && now.After(from):
			begin = now
		case n > 0 && !begin.IsZero():
			bytes += n
			last = now
		}
		if errors.Is(err, os.ErrDeadlineExceeded) || err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	if bytes == 0 {
		return 0, errors.New("nothing arrived")
	}
	return float64(bytes) * 8 / last.Sub(begin).Seconds(), nil
}

// flood has A send datagrams of size bytes by f for d, and returns the bits per
// second in packets that left by its outer interface.
func (p *pairing) flood(size int, d time.Duration, f func(end time.Time) error) (float64, error) {
	count := counterOf{p.a, "wan", "tx_packets"}
	packets, err := count.during(d, f)
	return packets * float64(size) * 8, err
}

// counterOf is a counter of an interface.
type counterOf struct {
	at         *site.Space
	link, name string
}

// during runs f until d from now and returns by how much it grew in a second.
func (c counterOf) during(d time.Duration, f func(end time.Time) error) (float64, error) {
	before, err := c.read()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := f(begin.Add(d)); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	after, err := c.read()
	return float64(after-before) / took.Seconds(), err
}

func (c counterOf) read() (n int, err error) {
	out, err := c.at.Run("cat", "/sys/class/net/"+c.link+"/statistics/"+c.name)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(out, &n)
	return n, err
}

// offered is the rate in bits per second at which datagrams come to a gateway:
// more than it can send by raw sockets, and not so much that the source, which
// nothing holds back, takes the cores from it.
const offered = 2.5e9

// datagrams sends runs of UDP datagrams from behind A to a port of B where nobody
// reads: what is measured is the gateway, not a reader. The port is open, so that
// the host there does not answer each with an error.
func (p *pairing) datagrams(size int, end time.Time) error {
	var sink, c *net.UDPConn
	err := p.b.Do(func() (err error) {
		sink, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(insideB)})
		return err
	})
	if err != nil {
		return err
	}
	defer sink.Close()
	err = p.a.Do(func() (err error) {
		c, err = net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(insideA)}, sink.LocalAddr().(*net.UDPAddr))
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	run := 1
	_ = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) == nil {
			run = 32
		}
	})
	b := make([]byte, size*run)
	begin, sent := time.Now(), 0.0
	for ; time.Now().Before(end); sent += float64(len(b)) * 8 {
		time.Sleep(time.Until(begin.Add(time.Duration(sent / offered * float64(time.Second)))))
		if _, err := c.Write(b); err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
	return nil
}
