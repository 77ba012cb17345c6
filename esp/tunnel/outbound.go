package tunnel

import (
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/esp/internal/segment"
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
	tun      *tunQueue
	host     *tunWriter
	buf      []byte
	batch    batch
	split    segment.Splitter
	cutOff   []byte // one packet of a large one
	cutting  bool   // the packet at hand is part of a large one,
	answered bool   // whose sender has had his answer
	piece    []byte // one fragment
	send4    *outbox
	send6    [kinds]*outbox
	whole6   *outbox // of whole IPv6 packets
	bulk4    *outbox // of runs over IPv4; nil: there are none
	bulkDF   *cutting
	open     *outbox // with messages that have not left yet
	failed   [mostMessages]span
	now      int64 // of the batch, Unix nanoseconds
	flows    *esp.Flows
	waiting  waiting
	asked    time.Time
	whole    *esp.Reassembler
	expired  time.Time
	acquired map[string]time.Time
	step     uint16 // between two numbers of fragments
	id       uint16
	fragID   uint32
	claimed  claims
}

// mostReads bounds what is read before it is sent.
const mostReads = 64

func (w *outWorker) run() {
	for {
		n, err := w.tun.next(w.buf, true)
		if err != nil {
			if !w.wakes(err) {
				return
			}
			continue
		}
		w.begin()
		s := w.plane.snap.Load()
		for reads := 0; n > 0 && err == nil; reads++ {
			w.take(s, w.buf[:n])
			if reads == mostReads || len(w.batch.list) >= mostReads {
				break
			}
			n, err = w.tun.next(w.buf, false) // an error comes again
		}
		w.flush()
		w.end()
		if !w.waiting.empty() {
			w.tend()
		}
	}
}

// take deals with what one read brought.
func (w *outWorker) take(s *snapshot, b []byte) {
	if !w.tun.vnet {
		w.packet(s, b)
		return
	}
	h, err := segment.ParseHeader(b)
	if err == nil {
		b = b[segment.HeaderLen:]
		if h.Kind == segment.Whole {
			err = segment.Complete(h, b)
		} else {
			err = w.split.Start(h, b)
		}
	}
	switch {
	case err != nil:
		w.plane.counts.add(dropMalformed)
	case h.Kind == segment.Whole:
		w.packet(s, b)
	default:
		w.large(s, b)
	}
}

// large cuts a packet that the host did not. All its parts are of one flow, so
// that the policy is asked once; where they cannot leave at once each goes its
// own way.
func (w *outWorker) large(s *snapshot, b []byte) {
	p, err := esp.ParsePacket(b)
	if err != nil {
		w.plane.counts.add(dropMalformed)
		return
	}
	var x *pair
	v := s.spd.Match(p.FlowOut())
	if v.Action == policy.Protect && v.Tunnel >= 0 {
		x = s.ways[v.Tunnel].of(w.flows, &p)
	}
	if x == nil || x.muted || w.split.Largest() > x.limit(p) {
		w.cutting, w.answered = true, false
		for n := w.split.Next(w.cutOff); n > 0; n = w.split.Next(w.cutOff) {
			w.packet(s, w.cutOff[:n])
		}
		w.cutting = false
		return
	}
	if !w.waiting.empty() {
		w.unhold(s, v.Tunnel)
	}
	for n := w.split.Left(); n > 0; n = w.split.Left() {
		if !w.batch.roomy(n) {
			w.flush()
		}
		w.split.Next(w.batch.place(x, n))
		w.batch.see()
	}
}

func (w *outWorker) packet(s *snapshot, b []byte) {
	p, err := esp.ParsePacket(b)
	if err != nil {
		w.plane.counts.add(dropMalformed)
		return
	}
	read := b
	v, b, p := w.judge(s, b, p)
	if b == nil {
		return
	}
	if v.Action != policy.Protect || v.Tunnel < 0 {
		w.plane.counts.add(dropNoPolicy)
		return
	}
	ours, x := &b[0] != &read[0], s.ways[v.Tunnel].of(w.flows, &p)
	if x == nil {
		w.trap(&s.tunnels[v.Tunnel], b, ours)
		return
	}
	if !w.waiting.empty() {
		w.unhold(s, v.Tunnel) // first what came first
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
	b, limit := in.b, x.limit(in.p)
	x.clamp(b, in.p)
	if len(b) <= limit {
		w.stage(x, b)
		return
	}
	if in.ours || in.p.Src.Is4() && b[6]&0x40 == 0 {
		w.fragID += uint32(w.step)
		pieces, err := fragments(b, w.piece, limit, w.fragID)
		if err != nil {
			w.plane.counts.add(dropTooBig)
			return
		}
		for piece := range pieces {
			w.stage(x, piece)
		}
		return
	}
	w.plane.counts.add(dropTooBig)
	if w.cutting && w.answered {
		return
	}
	w.answered = true
	if answer := tooBig(w.piece, b, errorSource(s, x, in.p), limit); answer != nil {
		if err := w.host.write(answer); err != nil {
			w.plane.counts.add(dropTUN)
		}
	}
}

// limit is the largest inner packet of p's family.
func (x *pair) limit(p esp.Packet) int {
	if p.Src.Is6() {
		return max(x.mtu, minimumMTU6) // below it the outer packet is fragmented
	}
	return x.mtu
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
