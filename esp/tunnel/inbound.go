package tunnel

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy"
)

const mostMoved = 4096

// inWorker carries packets from one socket to the TUN. It alone opens packets of
// the SAs whose path ends at its socket.
type inWorker struct {
	worker
	plane   *Plane
	tun     *os.File
	from    *receiver
	kind    kind
	plain   []byte
	piece   []byte
	whole   *esp.Reassembler
	expired time.Time
	unknown *sources
	moved   map[esp.ChildID]netip.AddrPort
	fragID  uint32
}

func newInWorker(p *Plane, k kind) *inWorker {
	return &inWorker{
		plane: p, tun: p.tun, kind: k, plain: make([]byte, 0, maxPacket), piece: make([]byte, maxPacket),
		whole: esp.NewReassembler(esp.ReassemblyLimits{}), unknown: newSources(), moved: map[esp.ChildID]netip.AddrPort{},
	}
}

func (w *inWorker) run() {
	var d datagram
	for {
		err := w.from.next(&d)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, errTruncated):
			w.plane.counts.add(dropMalformed)
			continue
		default: // a shortage
			if !errors.Is(err, unix.EINTR) && !w.plane.pause() {
				return
			}
			continue
		}
		if w.kind.udp() && !w.isESP(&d) {
			continue
		}
		w.begin()
		w.packet(w.plane.snap.Load(), &d)
		w.end()
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
	up := ikeDatagram{data: append([]byte(nil), d.data[4:]...), local: d.local, remote: d.remote}
	select {
	case w.plane.ike <- up:
		w.plane.counts.add(ikeReceived)
	default:
		w.plane.counts.add(dropIKE)
	}
	return false
}

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
	if x == nil || x.kind != w.kind || !w.kind.udp() && d.remote.Addr() != x.child.Path.Remote.Addr().Unmap() {
		w.plane.counts.add(dropWrongPath)
		return
	}
	inner, err := in.Open(w.plain[:0], d.data)
	w.notices(x)
	if err != nil && !errors.Is(err, esp.ErrFragment) {
		w.plane.counts.add(reasonOf(err))
		return
	}
	now := w.plane.cfg.Now()
	x.last.in.Store(now.UnixNano())
	if w.kind.udp() {
		w.follow(x, d)
	}
	if esp.Decapsulate(inner, d.tos) != nil {
		w.plane.counts.add(dropCongestion)
		return
	}
	w.deliver(s, x, inner, err != nil)
}

// notices passes on what the SA remarked.
func (w *inWorker) notices(x *pair) {
	if x.in.TookFirst() {
		w.plane.emit(x.event(esp.FirstPacket))
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
func (w *inWorker) follow(x *pair, d *datagram) {
	if d.remote == x.child.Path.Remote {
		if len(w.moved) > 0 {
			delete(w.moved, x.child.ID)
		}
		return
	}
	if w.moved[x.child.ID] == d.remote || !x.in.Highest(d.data) {
		return
	}
	if len(w.moved) >= mostMoved {
		clear(w.moved) // only remembers what was told already
	}
	w.moved[x.child.ID] = d.remote
	e := x.event(esp.Moved)
	e.Remote = d.remote
	w.plane.emit(e)
}

// deliver checks a packet against the whole policy, because a narrower rule may
// take it away from its SA (RFC 4301 5.2 step 4), and gives it to the host.
func (w *inWorker) deliver(s *snapshot, x *pair, inner []byte, unproven bool) {
	p, err := esp.ParsePacket(inner)
	if err != nil {
		w.plane.counts.add(dropMalformed)
		return
	}
	v := s.spd.Match(blind(p.FlowIn(), p))
	assembled := unproven || p.Fragment && v.NeedPorts
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
	if v.Action != policy.Protect || v.Tunnel < 0 || s.tunnels[v.Tunnel].name != x.child.Tunnel {
		w.plane.counts.add(dropPolicyIn)
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
	now := w.plane.cfg.Now()
	if now.Sub(w.expired) > expireEvery {
		w.whole.Expire(now)
		w.expired = now
	}
	whole, err := w.whole.Add(now, x.child.ID, inner)
	if err != nil {
		w.plane.counts.add(dropReassembly)
	}
	return whole
}

// write gives the host what it can forward: a packet put together here is larger
// than its links, so it is cut again.
func (w *inWorker) write(inner []byte, size int) {
	if len(inner) <= size { // nothing to allocate for
		if _, err := w.tun.Write(inner); err != nil {
			w.plane.counts.add(dropTUN)
			return
		}
		w.plane.counts.add(opened)
		return
	}
	w.fragID++
	pieces, err := fragments(inner, w.piece, size, w.fragID)
	if err != nil {
		w.plane.counts.add(dropTooBig)
		return
	}
	for piece := range pieces {
		if _, err := w.tun.Write(piece); err != nil {
			w.plane.counts.add(dropTUN)
			return
		}
	}
	w.plane.counts.add(opened)
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
