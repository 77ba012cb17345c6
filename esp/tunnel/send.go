package tunnel

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy"
)

// seal puts one inner packet on the wire.
func (w *outWorker) seal(x *pair, inner []byte) {
	b, err := x.out.Seal(w.sealed[:outerRoom(x.kind)], inner)
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
	outer := x.child.Outer
	err = w.transmit(x, b, outerLook{
		tos: esp.OuterTOS(outer, esp.TOS(inner)),
		df:  outer.Fragment == policy.FragmentBefore && esp.OuterDF(outer, inner),
	})
	if err != nil {
		w.plane.counts.add(dropSend)
		if errors.Is(err, unix.EMSGSIZE) {
			w.askSize(x)
		}
		return
	}
	x.last.out.Store(w.plane.cfg.Now().UnixNano())
	w.plane.counts.add(sealed)
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

// transmit sends a sealed packet, which stands in b behind room for its outer
// headers. One that is larger than the path is cut here, since the kernel does
// not for whole packets: only fragmentation after encryption, and IPv6 inside at
// its minimum, get here. For IPv6 outside the kernel makes the header, and a
// source that only it knows leaves the cutting to it as well.
func (w *outWorker) transmit(x *pair, b []byte, look outerLook) error {
	path := x.child.Path
	if x.kind.udp() && path.Local.Port() == 0 {
		path.Local = netip.AddrPortFrom(path.Local.Addr(), w.plane.cfg.NATPort)
	}
	to := envelope{local: path.Local, remote: path.Remote}
	large := len(b) > x.outer
	if !x.kind.v6() {
		w.id++
		look.id, look.df = w.id, look.df && !large
		putOuter4(b, x.kind, path, look)
		return w.pieces(w.send4, x, b, to)
	}
	if local := path.Local.Addr(); large && local.Is6() && !local.IsUnspecified() {
		putOuter6(b, x.kind, path, look.tos)
		return w.pieces(w.whole6, x, b, to)
	}
	to.tos, to.hopLimit = look.tos, esp.OuterTTL
	return w.send6[x.kind].send(b[outerRoom(x.kind):], to)
}

// pieces sends a whole outer packet, cut where it is larger than the path.
func (w *outWorker) pieces(by *sender, x *pair, b []byte, to envelope) error {
	if len(b) <= x.outer {
		return by.send(b, to)
	}
	return w.cut(by, x, b, to)
}

// cut stands alone because what its loop captures is allocated as it is entered.
func (w *outWorker) cut(by *sender, x *pair, b []byte, to envelope) error {
	w.fragID++
	list, err := fragments(b, w.piece, x.outer, w.fragID)
	if err != nil {
		return err
	}
	for piece := range list {
		if err := by.send(piece, to); err != nil {
			return err
		}
	}
	return nil
}

func (x *pair) event(k esp.EventKind) esp.Event {
	return esp.Event{Kind: k, Child: x.child.ID, Tunnel: x.child.Tunnel, SPI: x.child.In.SPI}
}

// newOutWorker makes the worker at the TUN.
func newOutWorker(p *Plane) *outWorker {
	return &outWorker{
		plane: p, tun: p.tun, buf: make([]byte, maxPacket), piece: make([]byte, maxPacket),
		sealed: make([]byte, 0, maxPacket+1024),
		whole:  esp.NewReassembler(esp.ReassemblyLimits{}), acquired: map[string]time.Time{},
	}
}
