package site

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"time"
)

// Marker is 32 random bytes that stand in traffic, to be searched for.
type Marker [32]byte

// NewMarker draws a marker.
func NewMarker() (m Marker) {
	_, _ = rand.Read(m[:])
	return m
}

// Flow is one direction of traffic between two hosts.
type Flow struct {
	From, To         *Space
	FromAddr, ToAddr string
	Marker           Marker
}

// Ping sends three echo requests.
func (f Flow) Ping() error {
	_, err := f.From.Run("ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2", "-I", f.FromAddr, f.ToAddr)
	return err
}

// Datagram sends the marker in one UDP datagram; it may get lost.
func (f Flow) Datagram() error {
	return f.From.Do(func() error {
		c, err := net.Dial("udp", net.JoinHostPort(f.ToAddr, "9"))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(f.Marker[:])
		return err
	})
}

// Bulk sends size bytes over TCP, the marker in every 4 KiB of them, and checks
// what arrives. It returns the rate in bit/s.
func (f Flow) Bulk(size int) (float64, error) {
	chunk := make([]byte, 4096)
	_, _ = rand.Read(chunk)
	copy(chunk[1000:], f.Marker[:])
	payload := bytes.Repeat(chunk, size/len(chunk)+1)[:size]
	want := sha256.Sum256(payload)

	var l net.Listener
	err := f.To.Do(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(f.ToAddr, "0"))
		return err
	})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	got := make(chan error, 1)
	go func() { got <- receive(l, want) }()

	var c net.Conn
	begin := time.Now()
	err = f.From.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), 20*time.Second)
		return err
	})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(begin.Add(120 * time.Second))
	if _, err := c.Write(payload); err != nil {
		return 0, err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return 0, err
	}
	if err := <-got; err != nil {
		return 0, err
	}
	return float64(size) * 8 / time.Since(begin).Seconds(), nil
}

// Talk sends the marker over tcp or udp to a port and waits for its echo. It
// returns an error when that has not come in time.
func (f Flow) Talk(network string, port int, limit time.Duration) error {
	at := net.JoinHostPort(f.ToAddr, fmt.Sprint(port))
	var echo io.Closer
	err := f.To.Do(func() (err error) {
		if network == "udp" {
			var c net.PacketConn
			if c, err = net.ListenPacket(network, at); err == nil {
				echo = c
				go echoPackets(c)
			}
			return err
		}
		var l net.Listener
		if l, err = net.Listen(network, at); err == nil {
			echo = l
			go echoStreams(l)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer echo.Close()
	return f.From.Do(func() error {
		d := net.Dialer{Timeout: limit}
		if network == "udp" {
			d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(f.FromAddr)}
		} else {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(f.FromAddr)}
		}
		c, err := d.Dial(network, at)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit))
		if _, err := c.Write(f.Marker[:]); err != nil {
			return err
		}
		var back Marker
		if _, err := io.ReadFull(c, back[:]); err != nil {
			return err
		}
		if back != f.Marker {
			return fmt.Errorf("%s %s: the echo differs", network, at)
		}
		return nil
	})
}

func echoPackets(c net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}

func echoStreams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		go func() { _, _ = io.Copy(c, c); c.Close() }()
	}
}

func receive(l net.Listener, want [32]byte) error {
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second))
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(120 * time.Second))
	h := sha256.New()
	n, err := io.Copy(h, c)
	if err != nil {
		return err
	}
	if [32]byte(h.Sum(nil)) != want {
		return fmt.Errorf("%d bytes arrived that are not those sent", n)
	}
	return nil
}
