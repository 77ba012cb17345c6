package tunnel

import "time"

// What may wait for a child. The bounds are for one tunnel, but the last.
const (
	mostWaiting      = 16
	mostWaitingBytes = 64 << 10
	longestWait      = 5 * time.Second
	mostWaitingInAll = 8 << 20 // bytes of all tunnels
)

// waiting holds the first packets of tunnels that have no child yet, in order.
// One goroutine; nothing waits on the steady path. The zero value is ready.
type waiting struct {
	lines map[string]*line
	bytes int
}

// line is what waits for one tunnel, the oldest first.
type line struct {
	packets []held
	bytes   int
}

// held is one packet.
type held struct {
	data  []byte
	ours  bool // put together here
	until time.Time
}

func (w *waiting) empty() bool { return len(w.lines) == 0 }

// add keeps a copy of b, or answers false when the line is full: the first packets
// are those that open a connection, so the newest is the one to go.
func (w *waiting) add(now time.Time, tunnel string, b []byte, ours bool) bool {
	l := w.lines[tunnel]
	if l == nil {
		l = &line{}
	}
	if len(l.packets) >= mostWaiting || l.bytes+len(b) > mostWaitingBytes || w.bytes+len(b) > mostWaitingInAll {
		return false
	}
	if w.lines == nil {
		w.lines = map[string]*line{}
	}
	w.lines[tunnel] = l
	l.packets = append(l.packets, held{data: append([]byte(nil), b...), ours: ours, until: now.Add(longestWait)})
	l.bytes += len(b)
	w.bytes += len(b)
	return true
}

// take ends the line of a tunnel and returns what stood in it.
func (w *waiting) take(tunnel string) []held {
	l := w.lines[tunnel]
	if l == nil {
		return nil
	}
	delete(w.lines, tunnel)
	w.bytes -= l.bytes
	return l.packets
}

// expire drops what waited too long. It returns how many packets that were and
// how long the next one still has.
func (w *waiting) expire(now time.Time) (dropped int, due time.Duration) {
	due = longestWait
	for tunnel, l := range w.lines {
		for len(l.packets) > 0 && !now.Before(l.packets[0].until) {
			w.bytes -= len(l.packets[0].data)
			l.bytes -= len(l.packets[0].data)
			l.packets = l.packets[1:]
			dropped++
		}
		if len(l.packets) == 0 {
			delete(w.lines, tunnel)
			continue
		}
		due = min(due, l.packets[0].until.Sub(now))
	}
	return dropped, due
}
