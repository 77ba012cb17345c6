package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"yumen/ike"
)

const (
	maxDatagram = 64 << 10
	readPause   = 50 * time.Millisecond // after a failed read, so that a broken socket does not spin
)

// read hands datagrams of one wire to the loop and drops them when it is behind:
// whatever was dropped is repeated by its sender.
func (s *Server) read(w Bound) {
	if p, ok := w.Wire.(Pusher); ok {
		p.PushIKE(s.take)
	}
	buf := make([]byte, maxDatagram)
	for {
		n, local, remote, err := w.Wire.ReadIKE(buf)
		select {
		case <-s.done:
			return
		default:
		}
		switch {
		case errors.Is(err, net.ErrClosed):
			s.lost <- fmt.Errorf("the socket of port %d was closed: %w", w.Port, err)
			return
		case err != nil:
			s.readFailed.Add(1)
			time.Sleep(readPause)
			continue
		case n == 0:
			continue
		}
		s.take(buf[:n], local, remote)
	}
}

// take queues a datagram if the door says so.
func (s *Server) take(data []byte, local, remote netip.AddrPort) {
	verdict := s.ask(data, remote)
	if verdict == ike.Shut {
		return
	}
	select {
	case s.datagrams <- ike.Datagram{Local: local, Remote: remote, Data: append([]byte(nil), data...), Door: verdict}:
		s.received.Add(1)
	default:
		s.queueDropped.Add(1)
	}
}

// ask asks the door whether a datagram is worth being copied and queued.
func (s *Server) ask(data []byte, remote netip.AddrPort) ike.Verdict {
	if s.cfg.Door == nil {
		return ike.Unasked
	}
	v := s.cfg.Door.Ask(time.Now(), data, remote)
	if v != ike.Admitted {
		s.refused.Add(1)
	}
	return v
}

// send sends packets by the wires of their local ports. What cannot be sent is
// counted and forgotten: the engine repeats what matters.
func (s *Server) send(packets []ike.Datagram) {
	for _, d := range packets {
		w := s.wire(d.Local, d.Remote)
		if d.Probe {
			// One that is too large even for our own link is unanswered like others.
			if p, ok := w.(Prober); ok {
				_ = p.ProbeIKE(d.Data, d.Local, d.Remote)
			}
			continue
		}
		if w == nil || w.WriteIKE(d.Data, d.Local, d.Remote) != nil {
			s.sendFailed.Add(1)
		}
	}
}

func (s *Server) wire(local, remote netip.AddrPort) Wire {
	v4 := remote.Addr().Unmap().Is4()
	for _, w := range s.cfg.Wires {
		if w.Port == local.Port() && (w.IPv4 == w.IPv6 || w.IPv4 == v4) {
			return w.Wire
		}
	}
	return nil
}
