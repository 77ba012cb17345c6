package tunnel

import (
	"net/netip"
	"os"
	"time"

	"yumen/esp"
	"yumen/policy"
)

const (
	maxPacket   = 65535
	expireEvery = time.Second
)

// outWorker carries packets from the TUN to the wire. One goroutine.
type outWorker struct {
	worker
	plane    *Plane
	tun      *os.File
	buf      []byte
	sealed   []byte
	piece    []byte // one fragment
	send4    *sender
	send6    [kinds]*sender
	whole6   *sender // of whole IPv6 packets
	waiting  waiting
	asked    time.Time
	whole    *esp.Reassembler
	expired  time.Time
	acquired map[string]time.Time
	id       uint16
	fragID   uint32
}

func (w *outWorker) run() {
	for {
		n, err := w.tun.Read(w.buf)
		if err != nil {
			if !w.failed(err) {
				return
			}
			continue
		}
		w.begin()
		w.packet(w.plane.snap.Load(), w.buf[:n])
		w.end()
		if !w.waiting.empty() {
			w.tend()
		}
	}
}

func (w *outWorker) packet(s *snapshot, b []byte) {
	p, err := esp.ParsePacket(b)
	if err != nil {
		w.plane.counts.add(dropMalformed)
		return
	}
	v, b, p := w.judge(s, b, p)
	if b == nil {
		return
	}
	if v.Action != policy.Protect || v.Tunnel < 0 {
		w.plane.counts.add(dropNoPolicy)
		return
	}
	t, ours := s.tunnels[v.Tunnel], &b[0] != &w.buf[0]
	x := s.sending(t.name)
	if x == nil {
		w.trap(t, b, ours)
		return
	}
	if !w.waiting.empty() {
		w.release(s, x) // first what came first
	}
	w.fit(s, x, parsed{b: b, p: p, ours: ours})
}

// parsed is a packet on its way.
type parsed struct {
	b    []byte
	p    esp.Packet
	ours bool // put together here, so that it may be cut whatever it says
}

// judge asks the policy. A fragment is judged without its ports, the first like
// the others: either all of them go to the reassembler or none. b is nil while
// it waits and when it is dropped.
func (w *outWorker) judge(s *snapshot, b []byte, p esp.Packet) (policy.Verdict, []byte, esp.Packet) {
	v := s.spd.Match(blind(p.FlowOut(), p))
	if !v.NeedPorts || !p.Fragment {
		return v, b, p
	}
	now := w.plane.cfg.Now()
	if now.Sub(w.expired) > expireEvery {
		w.whole.Expire(now)
		w.expired = now
	}
	whole, err := w.whole.Add(now, 0, b)
	if err == nil && whole == nil {
		return v, nil, p
	}
	if err == nil {
		p, err = esp.ParsePacket(whole)
	}
	if err != nil {
		w.plane.counts.add(dropReassembly)
		return v, nil, p
	}
	return s.spd.Match(p.FlowOut()), whole, p
}

// blind takes from the flow of a fragment what only the first one knows.
func blind(f policy.Flow, p esp.Packet) policy.Flow {
	if p.Fragment {
		f.LocalPort, f.RemotePort, f.HasPorts = 0, 0, false
	}
	return f
}

// fit sees to it that what is sealed fits the path: IPv4 without DF is cut before
// encryption (RFC 4301 8.2), as is what we put together ourselves; everything
// else is answered by an ICMP error.
func (w *outWorker) fit(s *snapshot, x *pair, in parsed) {
	b, limit := in.b, x.mtu
	x.clamp(b, in.p)
	if in.p.Src.Is6() {
		limit = max(limit, minimumMTU6) // below it the outer packet is fragmented
	}
	if len(b) <= limit {
		w.seal(x, b)
		return
	}
	if in.ours || in.p.Src.Is4() && b[6]&0x40 == 0 {
		w.fragID++
		pieces, err := fragments(b, w.piece, limit, w.fragID)
		if err != nil {
			w.plane.counts.add(dropTooBig)
			return
		}
		for piece := range pieces {
			w.seal(x, piece)
		}
		return
	}
	w.plane.counts.add(dropTooBig)
	if answer := tooBig(w.piece, b, errorSource(s, x, in.p), limit); answer != nil {
		if _, err := w.tun.Write(answer); err != nil {
			w.plane.counts.add(dropTUN)
		}
	}
}

// errorSource is who an ICMP error comes from: an address of this host inside
// the selector, or else the local end of the path, or else the packet's own
// destination, so that it is never silent (a black hole of large packets is the
// commonest complaint about tunnels).
func errorSource(s *snapshot, x *pair, p esp.Packet) netip.Addr {
	own := s.own4
	if p.Src.Is6() {
		own = s.own6
	}
	if own.IsValid() {
		return own
	}
	if a := x.child.Path.Local.Addr().Unmap(); a.IsValid() && a.Is4() == p.Src.Is4() {
		return a
	}
	return p.Dst
}
