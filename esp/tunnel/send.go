package tunnel

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/esp/internal/segment"
)

const (
	mostSegments = 64    // of one message: UDP_MAX_SEGMENTS of older kernels
	mostRun      = 65000 // bytes of one message
)

// stage copies one inner packet to where it will be sealed.
func (w *outWorker) stage(x *pair, inner []byte) {
	if x.muted {
		w.plane.counts.add(dropMuted)
		return
	}
	if !w.batch.roomy(len(inner)) {
		w.flush()
	}
	copy(w.batch.place(x, len(inner)), inner)
	w.batch.see()
}

// flush seals what is staged and sends it, in as few system calls as possible:
// packets of one child that look alike leave as one message where the host can cut
// it, and messages to one socket by one call. The order is kept.
func (w *outWorker) flush() {
	list := w.batch.list
	if len(list) == 0 {
		return
	}
	for i := range list {
		x := list[i].x
		w.claimed.want(x.child.ID, &x.last.sealing)
	}
	w.claimed.take()
	defer w.claimed.release()
	w.now = w.plane.cfg.Now().UnixNano()
	w.batch.seal()
	for i := 0; i < len(list); {
		x, n := list[i].x, w.alike(i)
		if x.out.TookSoftLimit() {
			w.plane.emit(x.event(esp.SoftLimit))
		}
		switch {
		case w.batch.sealed(i) == nil:
			if x.out.TookHardLimit() {
				w.plane.emit(x.event(esp.HardLimit))
			}
			w.plane.counts.add(dropSeal)
		case n == 1:
			w.single(i)
		default:
			w.bulk(i, n)
		}
		i += n
	}
	w.post()
	w.batch.reset()
}

// alike is how many packets from i on may leave as one message: one child, one
// outer header, one size, but for the last, which may be shorter.
func (w *outWorker) alike(i int) int {
	list, size := w.batch.list[i:], len(w.batch.sealed(i))
	x, look := list[0].x, list[0].look
	if size == 0 || size > x.outer || w.runs(x) == nil {
		return 1
	}
	n, total := 1, size
	for n < min(len(list), mostSegments) {
		next := len(w.batch.sealed(i + n))
		total += next
		if next == 0 || list[n].x != x || list[n].look != look || next > size || total > mostRun {
			break
		}
		n++
		if next < size {
			break
		}
	}
	return n
}

// runs is where runs of a child leave; nil: there is no such way. The sockets have
// one port.
func (w *outWorker) runs(x *pair) *outbox {
	port := x.child.Path.Local.Port()
	switch {
	case !x.kind.udp() || w.plane.Offloads()&OffloadSend == 0:
		return nil
	case x.kind.v6():
		return w.send6[x.kind]
	case port != 0 && port != w.plane.cfg.NATPort:
		return nil
	}
	return w.bulk4
}

// bulk adds the message of a run. The host computes its UDP checksum: it cuts
// nothing without (that of a single packet over IPv4 is zero, RFC 3948 2.1).
func (w *outWorker) bulk(i, n int) {
	first := &w.batch.list[i]
	x, room := first.x, outerRoom(first.x.kind)
	box := w.runs(x)
	if !x.kind.v6() && !w.bulkDF.is(first.look.df) {
		w.post()
		w.bulkDF.set(first.look.df)
	}
	w.use(box, n)
	box.add(envelope{
		local: x.child.Path.Local, remote: x.child.Path.Remote, tos: first.look.tos,
		hopLimit: esp.OuterTTL, segment: len(w.batch.sealed(i)) - room,
	}, span{i, n})
	for j := i; j < i+n; j++ {
		box.part(w.batch.sealed(j)[room:])
	}
}

// use makes room in box for a message of n parts. What other boxes hold leaves
// first, so that the order stays.
func (w *outWorker) use(box *outbox, n int) {
	if w.open != box || box.full(n) {
		w.post()
	}
	w.open = box
}

// post sends what the open box holds. A run that the host does not take goes one
// by one: a card without checksums refuses it, and a path that shrank. False: a
// packet was lost.
func (w *outWorker) post() (all bool) {
	box := w.open
	if box == nil || box.count == 0 {
		return true
	}
	w.open = nil
	box.post()
	done, failed, all := 0, w.failed[:0], true
	for m, job := range box.jobs[:box.count] {
		x := w.batch.list[job.from].x
		switch errno := box.errs[m]; {
		case errno == 0:
			done += job.n
			x.last.out.Store(w.now)
		case job.n > 1:
			if errno == unix.EIO {
				w.plane.noBulk.Store(true)
			}
			failed = append(failed, job)
		default:
			all = false
			w.plane.counts.add(dropSend)
			if errors.Is(errno, unix.EMSGSIZE) {
				w.askSize(x)
			}
		}
	}
	box.empty()
	w.plane.counts.addMany(sealed, done)
	for _, job := range failed {
		for i := job.from; i < job.from+job.n; i++ {
			w.single(i)
		}
	}
	if len(failed) > 0 {
		all = w.post() && all // single packets, which cannot fail so
	}
	return all
}

// askSize has the path measured of a packet that the host found too large.
func (w *outWorker) askSize(x *pair) {
	now := w.plane.cfg.Now()
	if now.Sub(w.asked) < reportGap {
		return
	}
	w.asked = now
	w.plane.tell(report{remote: x.child.Path.Remote.Addr().Unmap()})
}

// single adds the message of one sealed packet, which stands behind room for its
// outer headers. One that is larger than the path is cut here, since the kernel
// does not for whole packets: only fragmentation after encryption, and IPv6 inside
// at its minimum, get here. For IPv6 outside the kernel makes the header, and a
// source that only it knows leaves the cutting to it as well.
func (w *outWorker) single(i int) {
	s := &w.batch.list[i]
	x, b, look := s.x, w.batch.sealed(i), s.look
	path := x.child.Path
	if x.kind.udp() && path.Local.Port() == 0 {
		path.Local = netip.AddrPortFrom(path.Local.Addr(), w.plane.cfg.NATPort)
	}
	to := envelope{local: path.Local, remote: path.Remote}
	large := len(b) > x.outer
	if !x.kind.v6() {
		w.id += w.step
		look.id, look.df = w.id, look.df && !large
		putOuter4(b, x.kind, path, look)
		w.message(w.send4, i, b, to)
		return
	}
	if local := path.Local.Addr(); large && local.Is6() && !local.IsUnspecified() {
		putOuter6(b, x.kind, path, look.tos)
		w.message(w.whole6, i, b, to)
		return
	}
	to.tos, to.hopLimit = look.tos, esp.OuterTTL
	box := w.send6[x.kind]
	w.use(box, 1)
	box.add(to, span{i, 1})
	box.part(b[outerRoom(x.kind):])
}

// message adds a whole outer packet, cut where it is larger than the path.
func (w *outWorker) message(by *outbox, i int, b []byte, to envelope) {
	if len(b) > w.batch.list[i].x.outer {
		w.cut(by, i, b, to)
		return
	}
	w.use(by, 1)
	by.add(to, span{i, 1})
	by.part(b)
}

// cut stands alone because what its loop captures is allocated as it is entered.
// All fragments but the last count for nothing.
func (w *outWorker) cut(by *outbox, i int, b []byte, to envelope) {
	w.fragID += uint32(w.step)
	list, err := fragments(b, w.piece, w.batch.list[i].x.outer, w.fragID)
	if err != nil {
		w.plane.counts.add(dropSend)
		return
	}
	left := len(b) - w.headerOf(b)
	for piece := range list {
		left -= len(piece) - w.headerOf(piece)
		job := span{i, 0}
		if left <= 0 {
			job.n = 1
		}
		w.use(by, 1)
		by.add(to, job)
		by.part(piece)
		if !w.post() { // now: the next is built in the same memory
			return
		}
	}
}

// headerOf is what of an outer packet or a fragment of one is not payload.
func (w *outWorker) headerOf(b []byte) int {
	switch {
	case b[0]>>4 == 4:
		return ipHeader
	case b[6] == protoFrag6:
		return ip6Header + 8
	}
	return ip6Header
}

func (x *pair) event(k esp.EventKind) esp.Event {
	return esp.Event{Kind: k, Child: x.child.ID, Tunnel: x.child.Tunnel, SPI: x.child.In.SPI}
}

// newOutWorker makes the worker at a queue of the TUN.
func newOutWorker(p *Plane, i int) *outWorker {
	return &outWorker{
		// Numbers of fragments of different workers must not meet.
		step: uint16(len(p.tuns)), id: uint16(i), fragID: uint32(i),
		plane: p, tun: p.tuns[i], host: newTUNWriter(p.tuns[i]), buf: make([]byte, segment.HeaderLen+maxPacket),
		cutOff: make([]byte, maxPacket), piece: make([]byte, maxPacket), batch: newBatch(),
		whole: esp.NewReassembler(esp.ReassemblyLimits{}), acquired: map[string]time.Time{}, flows: esp.NewFlows(p.flowSeed),
	}
}
