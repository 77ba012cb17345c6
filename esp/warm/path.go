package warm

import (
	"time"

	"yumen/policy"
)

const (
	// history is how many probes are remembered: the window, those on their way, and
	// the longest run of losses that a policy may ask for.
	history = 256
	// medianOf is how many round trips the median is taken over.
	medianOf = 15
	// firstTimeout is waited for answers before the round trip is known (RFC 6298 2.1).
	firstTimeout = time.Second
	// A probe is not waited for longer than maxTimeout, so that a path does not seem to
	// work for long because it once was slow; nor given up before leastTimeout, which
	// is what a busy machine may take.
	maxTimeout   = 2 * time.Second
	leastTimeout = 20 * time.Millisecond
)

// fate is what became of a probe.
type fate uint8

const (
	pending fate = iota
	answered
	lost
)

type probe struct {
	seq  uint64
	sent time.Time
	trip time.Duration
	fate fate
	late bool // nobody looked while it was under way: its trip says nothing
}

// path is what is known of one member.
type path struct {
	name             string
	priority, weight int
	probe            policy.Probe

	child, link, drilled bool
	// failed: it stopped working since it got its child, and has not recovered.
	// proven: it did, or answered well from the beginning.
	failed, proven bool
	bad            Reason // of one that is proven: Loss or Delay
	goodSince      time.Time
	told           State
	since          time.Time // of told

	ring  [history]probe
	n     uint64 // probes ever put into ring
	open  uint64 // none before it is on its way
	from  uint64 // the first that counts for loss: what was lost in an outage is past
	run   int    // answers in a row
	heard bool   // it answered at some time

	patient time.Time // until then no probe is given up: see Late

	smooth, vary time.Duration // round trip and its variation (RFC 6298 2)
	jitter       time.Duration // smoothed difference of neighbours (RFC 3550 6.4.1)
	newest       time.Duration // the last round trip
	middle       time.Duration // median of the last round trips; 0: there were none

	total, gone uint64 // probes judged, and those of them that were lost
}

func newPath(m policy.Member, p policy.Probe) *path {
	return &path{name: m.Tunnel, priority: m.Priority, weight: m.Weight, probe: p, link: true, told: Down}
}

// inherit takes over everything but what the policy says.
func (p *path) inherit(o *path) {
	name, priority, weight, probe := p.name, p.priority, p.weight, p.probe
	*p = *o
	p.name, p.priority, p.weight, p.probe = name, priority, weight, probe
}

func (p *path) setChild(up bool) {
	if up && !p.child {
		p.forget()
		p.failed = false
	}
	p.child = up
	p.unproven(!up)
}

func (p *path) setLink(up bool) {
	if up != p.link {
		p.failed, p.run = true, 0
		p.from = p.n
	}
	p.link = up
	p.unproven(!up)
}

func (p *path) setFailed(on bool) {
	if on != p.drilled {
		p.failed, p.run = true, 0
		p.from = p.n
	}
	p.drilled = on
	p.unproven(on)
}

func (p *path) unproven(yes bool) {
	if yes {
		p.proven, p.bad = false, ""
	}
}

// forget drops the probes of the past, not the round trip.
func (p *path) forget() {
	p.n, p.open, p.from, p.run = 0, 0, 0, 0
}

func (p *path) at(i uint64) *probe { return &p.ring[i%history] }

// first is the number of the oldest probe that is remembered.
func (p *path) first() uint64 {
	if p.n < history {
		return 0
	}
	return p.n - history
}

func (p *path) sent(now time.Time, seq uint64) {
	*p.at(p.n) = probe{seq: seq, sent: now}
	p.n++
}

func (p *path) answered(now, at time.Time, seq uint64) {
	for i := p.n; i > p.first(); i-- {
		one := p.at(i - 1)
		if one.seq != seq {
			continue
		}
		if one.fate == answered {
			return // repeated
		}
		late := one.fate == lost
		if !p.heard {
			p.failed = false // what was lost before says nothing: perhaps nobody answered
		}
		one.fate, one.trip = answered, max(at.Sub(one.sent), 0)
		if !one.late || !p.heard {
			p.measure(one.trip)
		}
		p.heard, p.middle = true, p.median()
		switch {
		case late: // it was judged already: a slow path is known better now
			p.gone--
		default:
			p.total++
			p.run++
		}
		p.rate(now)
		return
	}
}

// measure follows the round trip.
func (p *path) measure(trip time.Duration) {
	if !p.heard {
		p.smooth, p.vary, p.newest = trip, trip/2, trip
		return
	}
	p.jitter += (abs(trip-p.newest) - p.jitter) / 16
	p.vary += (abs(p.smooth-trip) - p.vary) / 4
	p.smooth += (trip - p.smooth) / 8
	p.newest = trip
}

func abs(d time.Duration) time.Duration { return max(d, -d) }

// timeout is how long an answer is waited for. Half an interval is the least, so that
// the last of Lost probes is given up before the next one is due.
func (p *path) timeout() time.Duration {
	if !p.heard {
		return firstTimeout
	}
	return min(max(p.probe.Interval/2, leastTimeout, p.smooth+4*p.vary), maxTimeout)
}

// soon is the least that a probe waits before it counts among several that are
// missing: what the path takes in all likelihood, with no allowance for rare delays.
func (p *path) soon() time.Duration {
	return max(p.probe.Interval/2, leastTimeout, p.middle+p.middle/2)
}

// silentAt is when the path will have been silent for too long, if nothing comes; zero:
// not by the probes that are on their way. Lost of them are missing in a row, the first
// for longer than any answer takes, and the last for longer than most do. To grant each
// the longest time would have one slow answer of the past delay every flip.
func (p *path) silentAt() time.Time {
	first := p.n
	for first > p.first() && p.at(first-1).fate != answered {
		first--
	}
	last := first + uint64(p.probe.Lost) - 1
	if !p.heard || last >= p.n {
		return time.Time{}
	}
	due := p.at(last).sent.Add(p.soon())
	if t := p.at(first).sent.Add(p.timeout()); t.After(due) {
		return t
	}
	return due
}

// late has what is under way waited for once more. Not again right after that: a machine
// that is always late has to judge by what it sees.
func (p *path) late(now time.Time) {
	if now.Before(p.patient.Add(p.timeout())) {
		return
	}
	p.patient = now.Add(p.timeout())
	for i := p.first(); i < p.n; i++ {
		if one := p.at(i); one.fate == pending {
			one.late = true
		}
	}
}

// deadline is when judge has something to do next, if nothing comes; zero: never.
func (p *path) deadline() time.Time {
	due := p.givenUpAt()
	if t := p.silentAt(); !p.failed && !t.IsZero() && (due.IsZero() || t.Before(due)) {
		due = t
	}
	if !due.IsZero() && due.Before(p.patient) {
		return p.patient
	}
	return due
}

// givenUpAt is when the oldest probe on its way will be given up; zero: none is.
func (p *path) givenUpAt() time.Time {
	p.open = max(p.open, p.first())
	for p.open < p.n && p.at(p.open).fate != pending {
		p.open++
	}
	if p.open == p.n {
		return time.Time{}
	}
	return p.at(p.open).sent.Add(p.timeout())
}

// judge gives up the probes that have waited long enough.
func (p *path) judge(now time.Time) {
	if due := p.deadline(); due.IsZero() || now.Before(due) {
		return
	}
	wait, any := p.timeout(), false
	if t := p.silentAt(); !p.failed && !t.IsZero() && !now.Before(t) {
		wait = min(wait, p.soon())
	}
	for i := p.open; i < p.n; i++ {
		if one := p.at(i); one.fate == pending && now.Sub(one.sent) >= wait {
			one.fate = lost
			p.total++
			p.gone++
			p.run, any = 0, true
		}
	}
	if !any {
		return
	}
	if p.lostInARow() >= p.probe.Lost {
		p.failed = true
		p.unproven(true)
		p.from = p.n
	}
	p.rate(now)
}

// lostInARow counts the losses since the newest probe that was answered.
func (p *path) lostInARow() int {
	n := 0
	for i := p.n; i > p.first(); i-- {
		switch p.at(i - 1).fate {
		case answered:
			return n
		case lost:
			n++
		}
	}
	return n
}

func (p *path) state() State {
	switch {
	case !p.usable():
		return Down
	case p.proven && p.bad == "":
		return Good
	case p.proven:
		return Bad
	case !p.failed:
		return Untried
	case !p.heard:
		return Unanswered
	case p.run > 0:
		return Recovering
	}
	return Down
}

// why says why a path is not good; empty for one that is, or of which nothing is known.
func (p *path) why() Reason {
	switch {
	case p.drilled:
		return Drill
	case !p.child:
		return NoChild
	case !p.link:
		return LinkDown
	case p.failed:
		return ProbeLost
	}
	return p.bad
}

// hopeless orders paths that do not work: the lower, the sooner it may do so after
// all.
func (p *path) hopeless() int {
	switch {
	case p.drilled || !p.child:
		return 2
	case !p.link:
		return 1
	}
	return 0
}
