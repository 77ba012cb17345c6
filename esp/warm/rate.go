package warm

import (
	"slices"
	"time"

	"yumen/policy"
)

// rate follows whether the path is good, bad or not yet either.
func (p *path) rate(now time.Time) {
	if !p.usable() {
		return
	}
	enough := p.run >= p.probe.Recover
	if judged, _ := p.window(p.from); !p.proven && (enough || !p.failed && judged >= policy.ProbeWindow) {
		p.proven, p.failed, p.goodSince = true, false, now
	}
	if !p.proven {
		return
	}
	loss, median := p.loss(), p.middle
	was := p.bad
	switch {
	case p.probe.Loss > 0 && loss > p.probe.Loss:
		p.bad = Loss
	case p.probe.Delay > 0 && median > p.probe.Delay:
		p.bad = Delay
	case p.bad == Loss && (2*loss > p.probe.Loss || !enough):
	case p.bad == Delay && (median > p.probe.Delay*4/5 || !enough):
	default:
		p.bad = ""
	}
	if was != "" && p.bad == "" {
		p.goodSince = now
	}
}

// usable: nothing but its probes speaks against the path.
func (p *path) usable() bool { return p.child && p.link && !p.drilled }

// loss is the share of lost probes, in percent of a whole window: one probe lost of
// two is no loss of half.
func (p *path) loss() int {
	_, gone := p.window(p.from)
	return gone * 100 / policy.ProbeWindow
}

// recentLoss is the share of lost probes for people: of those that there were, an
// outage included.
func (p *path) recentLoss() int {
	judged, gone := p.window(0)
	return gone * 100 / max(judged, 1)
}

// window counts the last ProbeWindow probes from number from on.
func (p *path) window(from uint64) (judged, gone int) {
	for i := p.n; i > max(p.first(), from) && judged < policy.ProbeWindow; i-- {
		switch p.at(i - 1).fate {
		case answered:
			judged++
		case lost:
			judged++
			gone++
		}
	}
	return judged, gone
}

// median is that of the last round trips; zero if there were none.
func (p *path) median() time.Duration {
	var trips []time.Duration
	for i := p.n; i > p.first() && len(trips) < medianOf; i-- {
		if one := p.at(i - 1); one.fate == answered {
			trips = append(trips, one.trip)
		}
	}
	if len(trips) == 0 {
		return 0
	}
	slices.Sort(trips)
	return trips[len(trips)/2]
}
