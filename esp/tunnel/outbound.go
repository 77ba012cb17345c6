package tunnel

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy"
)

const (
	maxPacket   = 65535
	acquireGap  = time.Second // between two acquires of one tunnel
	expireEvery = time.Second
	minimumMTU6 = 1280 // RFC 8200 5
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
			if errors.Is(err, os.ErrClosed) {
				return
			}
			w.plane.counts.add(dropTUN)
			if !errors.Is(err, unix.EINTR) && !w.plane.pause() {
				return
			}
			continue
		}
		w.begin()
		w.packet(w.plane.snap.Load(), w.buf[:n])
		w.end()
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
	tunnel := s.tunnels[v.Tunnel]
	out := s.table.Outbound(tunnel)
	x := s.out[out]
	if out == nil || x == nil {
		w.plane.counts.add(dropNoSA)
		w.acquire(tunnel)
		return
	}
	w.fit(s, x, b, p)
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

func (w *outWorker) acquire(tunnel string) {
	now := w.plane.cfg.Now()
	if last, ok := w.acquired[tunnel]; ok && now.Sub(last) < acquireGap {
		return
	}
	w.acquired[tunnel] = now
	w.plane.emit(esp.Event{Kind: esp.Acquire, Tunnel: tunnel})
}

// fit sees to it that what is sealed fits the path: IPv4 without DF is cut before
// encryption (RFC 4301 8.2), as is what we put together ourselves; everything
// else is answered by an ICMP error.
func (w *outWorker) fit(s *snapshot, x *pair, b []byte, p esp.Packet) {
	limit := x.mtu
	if p.Src.Is6() {
		limit = max(limit, minimumMTU6) // below it the outer packet is fragmented
	}
	if len(b) <= limit {
		w.seal(s, x, b)
		return
	}
	ours := &b[0] != &w.buf[0]
	if ours || p.Src.Is4() && b[6]&0x40 == 0 {
		w.fragID++
		pieces, err := fragments(b, w.piece, limit, w.fragID)
		if err != nil {
			w.plane.counts.add(dropTooBig)
			return
		}
		for piece := range pieces {
			w.seal(s, x, piece)
		}
		return
	}
	w.plane.counts.add(dropTooBig)
	if answer := tooBig(w.piece, b, errorSource(s, x, p), limit); answer != nil {
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

func (w *outWorker) seal(s *snapshot, x *pair, inner []byte) {
	room := outerRoom(x.kind)
	b, err := x.out.Seal(w.sealed[:room], inner)
	if x.out.TookSoftLimit() {
		w.plane.emit(x.event(esp.SoftLimit))
	}
	if err != nil {
		if x.out.TookHardLimit() {
			w.plane.emit(x.event(esp.HardLimit))
		}
		w.plane.counts.add(dropSeal)
		return
	}
	tos := esp.OuterTOS(x.child.Outer, esp.TOS(inner))
	if room > 0 {
		err = w.send4Packet(s, x, b, outerLook{tos: tos, df: esp.OuterDF(x.child.Outer, inner)})
	} else {
		path := x.child.Path
		err = w.send6[x.kind].send(b, envelope{local: path.Local, remote: path.Remote, tos: tos, hopLimit: esp.OuterTTL})
	}
	if err != nil {
		w.plane.counts.add(dropSend)
		return
	}
	x.last.out.Store(w.plane.cfg.Now().UnixNano())
	w.plane.counts.add(sealed)
}

// send4Packet fragments the outer packet itself where that is allowed, since the
// kernel does not for whole packets.
func (w *outWorker) send4Packet(s *snapshot, x *pair, b []byte, look outerLook) error {
	w.id++
	look.id = w.id
	if len(b) > s.maxOuter {
		look.df = false // only IPv6 inside, at its minimum, can get here
	}
	path := x.child.Path
	if path.Local.Port() == 0 {
		path.Local = netip.AddrPortFrom(path.Local.Addr(), w.plane.cfg.NATPort)
	}
	putOuter4(b, x.kind, path, look)
	to := envelope{local: path.Local, remote: path.Remote}
	if len(b) <= s.maxOuter {
		return w.send4.send(b, to)
	}
	pieces, err := fragments(b, w.piece, s.maxOuter, 0)
	if err != nil {
		return err
	}
	for piece := range pieces {
		if err := w.send4.send(piece, to); err != nil {
			return err
		}
	}
	return nil
}

func (x *pair) event(k esp.EventKind) esp.Event {
	return esp.Event{Kind: k, Child: x.child.ID, Tunnel: x.child.Tunnel, SPI: x.child.In.SPI}
}
