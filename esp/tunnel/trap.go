package tunnel

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy"
)

const acquireGap = time.Second // between two acquires of one tunnel

// trap takes a packet whose tunnel has no child to send by: it asks for one and
// lets the packet wait. A tunnel that only responds cannot ask.
func (w *outWorker) trap(t *tunnelEntry, b []byte, ours bool) {
	if !t.waits {
		w.plane.counts.add(dropNoSA)
		return
	}
	now := w.plane.cfg.Now()
	if !w.waiting.add(now, t.name, b, ours) {
		w.plane.counts.add(dropQueueFull)
	}
	if last, ok := w.acquired[t.name]; ok && now.Sub(last) < acquireGap {
		return
	}
	w.acquired[t.name] = now
	w.plane.emit(esp.Event{Kind: esp.Acquire, Tunnel: t.name})
}

// tend sends what may go, drops what waited too long and sets the alarm for the
// next. A child that is put to use while the alarm is set would be missed, so the
// snapshot is looked at again afterwards.
func (w *outWorker) tend() {
	for {
		s := w.tendOnce()
		if w.plane.snap.Load() == s {
			return
		}
	}
}

func (w *outWorker) tendOnce() *snapshot {
	w.begin()
	defer w.end()
	s := w.plane.snap.Load()
	for tunnel := range w.waiting.lines {
		i, known := s.places[tunnel]
		switch {
		case !known:
			w.plane.counts.addMany(dropNoPolicy, len(w.waiting.take(tunnel)))
		case len(s.ways[i].pairs) > 0:
			w.unhold(s, i)
		}
	}
	w.flush()
	dropped, due := w.waiting.expire(w.plane.cfg.Now())
	for range dropped {
		w.plane.counts.add(dropQueueOld)
	}
	var alarm time.Time // zero: none
	if !w.waiting.empty() {
		alarm = time.Now().Add(due)
	}
	_ = w.tun.file.SetReadDeadline(alarm)
	return s
}

// unhold sends what waits for a tunnel that has a child now, by its place. The policy
// may have changed since.
func (w *outWorker) unhold(s *snapshot, tunnel int) {
	for _, h := range w.waiting.take(s.tunnels[tunnel].name) {
		p, err := esp.ParsePacket(h.data)
		if err != nil {
			w.plane.counts.add(dropMalformed)
			continue
		}
		v := s.spd.Match(blind(p.FlowOut(), p))
		if v.Action != policy.Protect || v.Tunnel != tunnel || v.NeedPorts && p.Fragment {
			w.plane.counts.add(dropNoPolicy)
			continue
		}
		w.fit(s, s.ways[tunnel].of(w.flows, &p), parsed{b: h.data, p: p, ours: h.ours})
	}
}

// nudge wakes the workers at the TUN, whose read has no other end.
func (p *Plane) nudge() {
	for _, q := range p.tuns {
		_ = q.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// wakes deals with the end of a read. False: it is over.
func (w *outWorker) wakes(err error) bool {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.tend()
	case errors.Is(err, os.ErrClosed):
		return false
	default:
		w.plane.counts.add(dropTUN)
		return errors.Is(err, unix.EINTR) || w.plane.pause()
	}
	return true
}
