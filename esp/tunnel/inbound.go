package tunnel

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/esp/internal/segment"
	"yumen/policy"
)

// inWorker carries packets from one socket to the TUN. The kernel gives it those of its
// kind with its share of SPIs, and over UDP also others: where it joins datagrams it
// goes by the first of them. So whoever has a packet opens it, and claims its child for
// the batch. It writes to the queue of its place, and since the host reads the other direction
// of a connection from the queue that one was written to, both directions of a
// child meet at one place.
type inWorker struct {
	worker
	plane   *Plane
	host    *tunWriter
	from    *inbox
	kind    kind
	place   uint32 // among
	places  uint32 // sockets of the kind
	list    []received
	jobs    []esp.Opening // beside list
	many    esp.Batch
	joiner  segment.Joiner
	piece   []byte
	whole   *gathered
	unknown *sources
	courier courier // of answers
	claimed claims
	fragID  uint32
}

func newInWorker(p *Plane, k kind, i int) *inWorker {
	return &inWorker{
		plane: p, host: newTUNWriter(p.tuns[i%len(p.tuns)]), kind: k, place: uint32(i), places: uint32(1 + len(p.spread[k])), list: make([]received, 0, mostReceived),
		jobs: make([]esp.Opening, 0, mostReceived), piece: make([]byte, maxPacket),
		joiner: segment.Joiner{TCP: p.offloads&OffloadTSO != 0, UDP: p.offloads&OffloadUSO != 0},
		whole:  p.gatheredBy(k), unknown: newSources(), courier: newCourier(p),
	}
}

// mostReceived packets are opened together at most.
const mostReceived = 256

func (w *inWorker) run() {
	var d datagram
	for {
		n, err := w.from.next()
		switch {
		case err == nil:
		case errors.Is(err, os.ErrClosed):
			return
		default: // a shortage
			if !errors.Is(err, unix.EINTR) && !w.plane.pause() {
				return
			}
			continue
		}
		w.begin()
		s := w.plane.snap.Load()
		for i := range n {
			if w.from.datagram(i, &d) != nil {
				w.plane.counts.add(dropMalformed)
				continue
			}
			w.take(s, &d)
		}
		w.finish(s)
		w.end()
	}
}

// take collects the packets of a datagram, which the host may have joined of many.
// They came with one outer header: it joins only such.
func (w *inWorker) take(s *snapshot, d *datagram) {
	data, size := d.data, d.segment
	if size <= 0 {
		size = max(len(data), 1)
	}
	for first := true; first || len(data) > 0; first = false {
		d.data = data[:min(size, len(data))]
		data = data[len(d.data):]
		if !w.kind.udp() || w.isESP(d) {
			w.packet(s, d)
		}
	}
}

// isESP tells the three uses of port 4500 apart (RFC 3948 2.2, 2.3) and hands IKE up.
func (w *inWorker) isESP(d *datagram) bool {
	switch {
	case len(d.data) == 1 && d.data[0] == 0xff:
		w.plane.counts.add(keepaliveReceived)
		return false
	case len(d.data) < 4:
		w.plane.counts.add(dropMalformed)
		return false
	case binary.BigEndian.Uint32(d.data) != 0:
		return true
	}
	w.plane.handUp(d)
	return false
}

// packet puts an ESP packet on the list if there is who can open it.
func (w *inWorker) packet(s *snapshot, d *datagram) {
	if len(d.data) < 8 {
		w.plane.counts.add(dropMalformed)
		return
	}
	spi := esp.SPI(binary.BigEndian.Uint32(d.data))
	in := s.table.Inbound(spi)
	if !w.kind.udp() && (in != nil || !s.foreign.in[spi]) {
		w.plane.counts.add(rawReceived)
	}
	if in == nil && s.foreign.in[spi] {
		w.plane.counts.add(otherPlane)
		return
	}
	if in == nil {
		w.plane.counts.add(dropUnknownSPI)
		w.tellUnknown(spi, d.remote)
		return
	}
	x := s.in[in]
	if x == nil || x.kind != w.kind || !w.kind.udp() && !w.own(x, d) {
		w.plane.counts.add(dropWrongPath)
		return
	}
	if x.muted {
		w.plane.counts.add(dropMuted)
		return
	}
	if len(w.list) == mostReceived {
		w.finish(s)
	}
	w.list = append(w.list, received{x: x, remote: d.remote, tos: d.tos})
	w.jobs = append(w.jobs, esp.Opening{SA: x.in, Packet: d.data}) // in its place
}

// own says whether a packet of protocol 50, of which each socket may get a copy until it
// has its filter, is for this worker, and comes from its peer.
func (w *inWorker) own(x *pair, d *datagram) bool {
	return uint32(x.child.In.SPI)%w.places == w.place && d.remote.Addr() == x.child.Path.Remote.Addr().Unmap()
}

// finish opens what is on the list and hands it to the host.
func (w *inWorker) finish(s *snapshot) {
	if len(w.list) == 0 {
		return
	}
	for i := range w.list {
		x := w.list[i].x
		w.claimed.want(x.child.ID, &x.last.opening)
	}
	w.claimed.take()
	defer w.claimed.release()
	w.many.Open(w.jobs)
	now := w.plane.cfg.Now().UnixNano()
	for i := range w.list {
		r, o := &w.list[i], &w.jobs[i]
		w.notices(r.x)
		if o.Err != nil && !errors.Is(o.Err, esp.ErrFragment) && !errors.Is(o.Err, esp.ErrEcho) {
			w.plane.counts.add(reasonOf(o.Err))
			continue
		}
		r.x.last.in.Store(now)
		if w.kind.udp() {
			w.follow(r, o.Packet)
		}
		if errors.Is(o.Err, esp.ErrEcho) {
			w.echo(s, r.x, o.Inner)
			continue
		}
		if esp.Decapsulate(o.Inner, r.tos) != nil {
			w.plane.counts.add(dropCongestion)
			continue
		}
		w.deliver(s, r.x, o)
	}
	w.emit()
	clear(w.list)
	clear(w.jobs)
	w.list, w.jobs = w.list[:0], w.jobs[:0]
}

// notices passes on what the SA remarked.
func (w *inWorker) notices(x *pair) {
	if x.in.TookFirst() {
		e := x.event(esp.FirstPacket)
		e.ICVBits = x.in.FoundICV()
		x.out.FollowICV(e.ICVBits)
		w.plane.emit(e)
	}
	if x.in.TookSoftLimit() {
		w.plane.emit(x.event(esp.SoftLimit))
	}
	if x.in.TookHardLimit() {
		w.plane.emit(x.event(esp.HardLimit))
	}
}

func (w *inWorker) tellUnknown(spi esp.SPI, remote netip.AddrPort) {
	if !w.unknown.allow(w.plane.cfg.Now(), remote.Addr()) {
		return
	}
	w.plane.emit(esp.Event{Kind: esp.UnknownSPI, SPI: spi, Remote: remote})
}

// follow reports once that the peer's mapping changed. Whether to follow it is
// not decided here.
func (w *inWorker) follow(r *received, packet []byte) {
	x := r.x
	if r.remote == x.child.Path.Remote {
		x.last.moved = netip.AddrPort{}
		return
	}
	if x.last.moved == r.remote || !x.in.Highest(packet) {
		return
	}
	x.last.moved = r.remote
	e := x.event(esp.Moved)
	e.Remote, e.Newest = r.remote, true
	w.plane.emit(e)
}

// deliver checks a packet against the whole policy, because a narrower rule may
// take it away from its SA (RFC 4301 5.2 step 4), and gives it to the host.
func (w *inWorker) deliver(s *snapshot, x *pair, o *esp.Opening) {
	inner := o.Inner
	p, err := esp.ParsePacket(inner)
	if err != nil {
		w.plane.counts.add(dropMalformed)
		return
	}
	v := s.spd.Match(blind(p.FlowIn(), p))
	assembled := o.Err != nil || p.Fragment && v.NeedPorts
	if assembled {
		inner = w.assemble(x, inner)
		if inner == nil {
			return
		}
		if p, err = esp.ParsePacket(inner); err != nil || x.in.Accept(inner) != nil {
			w.plane.counts.add(dropSelector)
			return
		}
		v = s.spd.Match(p.FlowIn())
	}
	if v.Action != policy.Protect || v.Tunnel < 0 || !s.tunnels[v.Tunnel].takes(x.child.Tunnel) {
		w.plane.counts.add(dropPolicyIn)
		return
	}
	if s.pings && w.pong(s, x, inner, &p) || w.ping(s, x, inner, &p) {
		return
	}
	size := len(inner)
	if assembled {
		size = max(min(s.tunMTU, s.maxOuter), minimumMTU6)
	}
	x.clamp(inner, p)
	w.write(inner, size)
}

func (w *inWorker) assemble(x *pair, inner []byte) []byte {
	whole, err := w.whole.add(w.plane.cfg.Now(), x.child.ID, inner)
	if err != nil {
		w.plane.counts.add(dropReassembly)
	}
	return whole
}

// write gives the host what it can forward: a packet put together here is larger
// than its links, so it is cut again.
func (w *inWorker) write(inner []byte, size int) {
	if len(inner) <= size { // nothing to allocate for
		w.joiner.Add(inner)
		return
	}
	w.emit() // first what came first
	w.fragID++
	pieces, err := fragments(inner, w.piece, size, w.fragID)
	if err != nil {
		w.plane.counts.add(dropTooBig)
		return
	}
	for piece := range pieces {
		if err := w.host.write(piece); err != nil {
			w.plane.counts.add(dropTUN)
			return
		}
	}
	w.plane.counts.add(opened)
}

// emit gives the host the packets that were collected for it.
func (w *inWorker) emit() {
	groups := w.joiner.Finish()
	for i := range groups {
		if err := w.host.group(&groups[i]); err != nil {
			w.plane.counts.addMany(dropTUN, groups[i].Count())
			continue
		}
		w.plane.counts.addMany(opened, groups[i].Count())
	}
	w.joiner.Reset()
}

func reasonOf(err error) counter {
	switch {
	case errors.Is(err, esp.ErrReplayed):
		return dropReplayed
	case errors.Is(err, esp.ErrAuth):
		return dropAuth
	case errors.Is(err, esp.ErrSelector):
		return dropSelector
	case errors.Is(err, esp.ErrDummy):
		return dropDummy
	case errors.Is(err, esp.ErrLimit):
		return dropLimit
	}
	return dropMalformed
}
