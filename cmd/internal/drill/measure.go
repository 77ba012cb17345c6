package drill

import (
	"slices"
	"time"

	"yumen/cmd/internal/control"
)

// Direction is what happened to the traffic of one direction.
type Direction struct {
	Lost int `json:"lost"` // numbered probes
	// Recovered is from the failure until probes passed this way again, in
	// milliseconds. An upper bound: between two probes nobody looks.
	Recovered float64 `json:"recovered_ms"`
}

// Measure is what one change of a path did to the traffic of its group.
type Measure struct {
	Sent int `json:"sent"` // probes
	Lost int `json:"lost"` // without an answer, in either direction
	// Gap is the longest time without an answer, in milliseconds.
	Gap   float64   `json:"gap_ms"`
	There Direction `json:"there"` // from here to the far end
	Back  Direction `json:"back"`  // from the far end to here
	// Blind: what was lost on the way back is not known. See measure.
	Blind bool `json:"back_not_measured,omitempty"`
	// Moved says by which path traffic went on, as answers came in.
	Moved []string `json:"moved,omitempty"`
	Again bool     `json:"again"` // traffic passed at the end
}

// change is a moment at which a path failed or came back, as nanoseconds of the clock
// that the probes are stamped with.
type change struct {
	at, end int64
	moved   int64 // when our own end sent by another path; 0: it did not have to
}

// measure reads the probes that were sent between at and end. A probe that left before
// our own end had moved and was not answered was lost on the way there; one that left
// later was lost on the way back, because then it had a path that works.
//
// That holds where the far data plane answers, as its traffic goes, which it says by its
// clock. A ping is answered by a host, or by a gateway that sends the answer by the path
// that the question came by (fwmark_reflect): nothing is lost on the way back that the
// traffic may lose, and what is lost is of neither way.
func measure(probes []control.Sample, c change) Measure {
	answered := func(s control.Sample) bool { return s.Answered != 0 }
	told := func(s control.Sample) bool { return s.Far != 0 }
	m := Measure{Blind: slices.ContainsFunc(probes, answered) && !slices.ContainsFunc(probes, told)}
	first := slices.IndexFunc(probes, func(s control.Sample) bool { return s.Sent >= c.at })
	if first < 0 {
		return m
	}
	last := c.at // answer before the change: what came from then on is counted
	for _, s := range probes[:first] {
		last = max(last, min(s.Answered, c.at))
	}
	backFrom := int64(0)
	for _, s := range probes[first:] {
		if s.Sent >= c.end {
			break
		}
		m.Sent++
		if s.Answered == 0 {
			m.Lost++
			m.Again = false
			switch {
			case s.Sent < c.moved:
				m.There.Lost++
			case !m.Blind:
				m.Back.Lost++
			}
			continue
		}
		m.Again = true
		m.Gap = max(m.Gap, ms(s.Answered-last))
		last = max(last, s.Answered)
		if m.Lost > 0 && (backFrom == 0 || s.Answered < backFrom) {
			backFrom = s.Answered
		}
		if s.By != "" && !slices.Contains(m.Moved, s.By) {
			m.Moved = append(m.Moved, s.By)
		}
	}
	m.Gap = max(m.Gap, m.open(probes, c, last))
	if m.There.Lost > 0 {
		m.There.Recovered = ms(c.moved - c.at)
	}
	if m.Back.Lost > 0 && backFrom > 0 {
		m.Back.Recovered = ms(backFrom - c.at)
	}
	return m
}

// Homeward is the way back in words.
func (m Measure) Homeward() string {
	if m.Blind {
		return "not measured"
	}
	return m.Back.String()
}

// open is the time without an answer that had not ended.
func (m *Measure) open(probes []control.Sample, c change, last int64) float64 {
	if m.Again || m.Sent == 0 {
		return 0
	}
	return ms(min(c.end, probes[len(probes)-1].Sent) - last)
}

func ms(ns int64) float64 { return float64(ns/int64(time.Microsecond)) / 1000 }
