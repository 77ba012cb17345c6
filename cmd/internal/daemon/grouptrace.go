package daemon

import (
	"time"

	"yumen/cmd/internal/control"
	"yumen/esp"
)

// maxTraced bounds what one trace remembers; a longer one forgets its beginning.
const maxTraced = 200_000

// trace sends numbered probes as a group's traffic goes, and remembers what became of
// each.
type trace struct {
	every   time.Duration
	next    time.Time // zero: none is under way
	end     time.Time
	base    uint64 // number on the wire of probe 0
	first   uint64 // number of probes[0]
	probes  []control.Sample
	begun   time.Time // by it all times are reckoned, whatever becomes of the wall clock
	begunAt int64
}

func (t *trace) due() time.Time { return t.next }

func (t *trace) begin(now time.Time, every, last time.Duration) {
	*t = trace{}
	if last <= 0 {
		return
	}
	*t = trace{every: every, next: now, end: now.Add(last), base: uint64(now.UnixNano()), first: 1, begun: now, begunAt: now.UnixNano()}
}

func (t *trace) stamp(at time.Time) int64 { return t.begunAt + int64(at.Sub(t.begun)) }

// take makes the next probe, if it is due.
func (t *trace) take(now time.Time) (seq uint64, ok bool) {
	if t.next.IsZero() || now.Before(t.next) {
		return 0, false
	}
	if !now.Before(t.end) {
		t.next = time.Time{}
		return 0, false
	}
	if t.next = t.next.Add(t.every); t.next.Before(now) {
		t.next = now.Add(t.every)
	}
	if len(t.probes) >= maxTraced {
		const drop = maxTraced / 10
		t.probes = append(t.probes[:0], t.probes[drop:]...)
		t.first += drop
	}
	n := t.first + uint64(len(t.probes))
	t.probes = append(t.probes, control.Sample{Seq: n, Sent: t.stamp(now)})
	return t.base + n, true
}

func (t *trace) at(seq uint64) *control.Sample {
	n := seq - t.base
	if n < t.first || n-t.first >= uint64(len(t.probes)) {
		return nil
	}
	return &t.probes[n-t.first]
}

func (t *trace) answered(e esp.Echo) {
	if s := t.at(e.Seq); s != nil && s.Answered == 0 {
		s.Answered, s.Far, s.By = t.stamp(e.At), e.Far, e.Tunnel
	}
}

func (t *trace) failed(seq uint64, err error) {
	if s := t.at(seq); s != nil {
		s.Failed = err.Error()
	}
}

// samples are those from number from on.
func (t *trace) samples(from uint64) control.Samples {
	out := control.Samples{Running: !t.next.IsZero(), Next: max(from, t.first), Probes: []control.Sample{}}
	if skip := out.Next - t.first; skip < uint64(len(t.probes)) {
		rest := t.probes[skip:]
		out.Probes = append(out.Probes, rest[:min(len(rest), control.MaxSamples)]...)
		out.Next += uint64(len(out.Probes))
	}
	return out
}

// traceOne sends the next probe of a trace, if it is due.
func (r *runner) traceOne(now time.Time) {
	r.mu.Lock()
	seq, ok := r.trace.take(now)
	r.mu.Unlock()
	if !ok {
		return
	}
	if err := r.all.plane.EchoGroup(r.policy.Name, seq, now.UnixNano()); err != nil {
		r.mu.Lock()
		r.trace.failed(seq, err)
		r.mu.Unlock()
	}
}
