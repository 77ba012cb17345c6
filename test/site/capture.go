package site

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"
)

// Capture is a running tcpdump.
type Capture struct {
	File string
	p    *Process
	log  string
}

// Capture records an interface of s into file, until Stop. The filter is
// tcpdump's; empty: everything.
func (s *Space) Capture(iface, file, filter string) (*Capture, error) {
	c := &Capture{File: file, log: file + ".log"}
	_ = os.Remove(c.log)
	// Started in front of `ip netns exec` would be another way; -Z keeps root.
	args := []string{"tcpdump", "-i", iface, "-n", "-U", "-s", "0", "-B", "65536", "-Z", "root", "-w", file}
	if filter != "" {
		args = append(args, filter)
	}
	p, err := s.Start(c.log, args...)
	if err != nil {
		return nil, err
	}
	c.p = p
	for range 100 {
		if b, _ := os.ReadFile(c.log); strings.Contains(string(b), "listening on") {
			return c, nil
		}
		if p.Ended() {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	b, _ := os.ReadFile(c.log)
	return nil, fmt.Errorf("tcpdump did not start: %s", b)
}

// Stop ends the capture; all that was seen before is in the file. Packets that
// the kernel dropped make it an error: the search would prove nothing.
func (c *Capture) Stop() error {
	// The kernel hands packets over in blocks, the last one after a second. (Not so
	// with --immediate-mode, but its buffer holds a few hundred packets only.)
	time.Sleep(1300 * time.Millisecond)
	if err := c.p.Stop(10 * time.Second); err != nil {
		return fmt.Errorf("tcpdump: %w", err)
	}
	b, err := os.ReadFile(c.log)
	if err != nil {
		return err
	}
	_ = os.Remove(c.log)
	if !strings.Contains(string(b), "0 packets dropped by kernel") {
		return fmt.Errorf("the capture is not complete: %s", strings.ReplaceAll(string(b), "\n", "; "))
	}
	return nil
}

// Needle is what must not stand in a capture.
type Needle struct {
	What  string
	Bytes []byte
}

// Needles are the markers of flows and their inner addresses as they stand side
// by side in an IP header, in both orders.
func Needles(flows ...Flow) []Needle {
	var ns []Needle
	for _, f := range flows {
		from, to := netip.MustParseAddr(f.FromAddr).AsSlice(), netip.MustParseAddr(f.ToAddr).AsSlice()
		ns = append(ns, Needle{"marker " + f.FromAddr + " to " + f.ToAddr, f.Marker[:]},
			Needle{"addresses " + f.FromAddr + ", " + f.ToAddr, append(from, to...)})
	}
	return ns
}

// Found returns which needles stand in the file.
func Found(file string, needles []Needle) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const keep = 64 // longer than any needle
	buf := make([]byte, 1<<20)
	have, seen := 0, map[string]bool{}
	for {
		n, err := f.Read(buf[have:])
		have += n
		for _, x := range needles {
			if bytes.Contains(buf[:have], x.Bytes) {
				seen[x.What] = true
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if have > keep {
			copy(buf, buf[have-keep:have])
			have = keep
		}
	}
	var found []string
	for _, x := range needles {
		if seen[x.What] {
			found = append(found, x.What)
		}
	}
	return found, nil
}
