// Package ratio measures how many times as fast one way of doing a thing is as
// another. On a machine that is shared absolute figures move by a factor of two from
// minute to minute; two ways that take turns meet the same neighbours.
package ratio

import (
	"slices"
	"testing"
	"time"
)

// Rounds is how many pairs of runs a figure is the median of.
const Rounds = 101

// Of runs ours and theirs in turn and returns the median of theirs/ours in time,
// and the median time of ours.
func Of(ours, theirs func()) (times float64, one time.Duration) {
	timed := func(f func()) func() time.Duration {
		return func() time.Duration {
			start := time.Now()
			f()
			return time.Since(start)
		}
	}
	return OfTimed(timed(ours), timed(theirs))
}

// OfTimed is Of for what says itself how long it took, since not all that it does
// counts.
func OfTimed(ours, theirs func() time.Duration) (times float64, one time.Duration) {
	ours() // once for the caches
	theirs()
	var ratios []float64
	var spent []time.Duration
	for range Rounds {
		a, b := max(ours(), 1), max(theirs(), 1)
		ratios, spent = append(ratios, float64(b)/float64(a)), append(spent, a)
	}
	slices.Sort(ratios)
	slices.Sort(spent)
	return ratios[Rounds/2], spent[Rounds/2]
}

// Row is one line of a table of ratios.
type Row struct {
	Name      string
	Bytes     int     // that one run works on
	Must, Aim float64 // what was asked for; 0 where nothing was
}

// Report measures a row as a benchmark: the ratio as "x", the throughput of ours,
// and beside them what it must be and aims at. It measures Rounds pairs whatever
// -benchtime says.
func Report(b *testing.B, row Row, ours, theirs func()) {
	b.Run(row.Name, func(b *testing.B) {
		for b.Loop() {
		}
		times, one := Of(ours, theirs)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(times, "x")
		b.ReportMetric(float64(row.Bytes)/one.Seconds()/1e6, "MB/s")
		if row.Must != 0 {
			b.ReportMetric(row.Must, "must")
			b.ReportMetric(row.Aim, "aim")
		}
	})
}
