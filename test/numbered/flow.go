package numbered

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Flow is the traffic of one pair in one direction.
type Flow struct {
	Pair, From int
	Sent       atomic.Uint32 // numbers 0 to Sent-1
	Refused    atomic.Uint64 // by the host's own stack

	mu       sync.Mutex // guards what follows
	seen     []uint64   // bitmap by number
	received uint64     // different numbers
	twice    uint64     // numbers that came again
	late     uint64     // numbers that came after a higher one
	highest  uint32
	watched  bool
	base     uint32      // number of sent[0]
	sent     []time.Time // when, since the watch began
	newest   int         // place in sent of the highest number that arrived; -1: none
	gap      time.Duration
}

// Take notes the arrival of a number.
func (f *Flow) Take(n uint32, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.measure(n, now)
	word, bit := int(n/64), uint64(1)<<(n%64)
	for word >= len(f.seen) {
		f.seen = append(f.seen, make([]uint64, max(16, len(f.seen)))...)
	}
	if f.seen[word]&bit != 0 {
		f.twice++
		return
	}
	if n < f.highest {
		f.late++
	}
	f.highest = max(f.highest, n)
	f.seen[word] |= bit
	f.received++
}

// Counts is how many different numbers arrived, and how many came again.
func (f *Flow) Counts() (received, twice uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.received, f.twice
}

// Overtaken counts numbers that came after a higher one.
func (f *Flow) Overtaken() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.late
}

// Watch begins to measure how long nothing is delivered.
func (f *Flow) Watch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched, f.base, f.sent, f.newest, f.gap = true, f.Sent.Load(), nil, -1, 0
}

// leaves notes that the next number is about to be sent.
func (f *Flow) leaves(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.watched {
		return
	}
	at := int(f.Sent.Load() - f.base)
	for len(f.sent) < at { // it was on its way out when the watch began
		f.sent = append(f.sent, now)
	}
	f.sent = append(f.sent[:at], now) // a number that the host refused is sent again
}

// measure takes the arrival of a number in: nothing was delivered since the first one
// behind the newest before it was sent. So a generator that paused is no gap.
func (f *Flow) measure(n uint32, now time.Time) {
	at := int(n) - int(f.base)
	if !f.watched || at <= f.newest || at >= len(f.sent) {
		return
	}
	f.gap = max(f.gap, now.Sub(f.sent[f.newest+1]))
	f.newest = at
}

// Gap is the longest time since Watch without a delivery although something had been
// sent, the one that still lasts at now included.
func (f *Flow) Gap(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watched && f.newest+1 < len(f.sent) {
		return max(f.gap, now.Sub(f.sent[f.newest+1]))
	}
	return f.gap
}

// Lost counts the numbers from first to end-1 that did not arrive.
func (f *Flow) Lost(first, end uint32) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := first; i < end; i++ {
		if !f.has(i) {
			n++
		}
	}
	return n
}

func (f *Flow) has(n uint32) bool {
	return int(n/64) < len(f.seen) && f.seen[n/64]&(1<<(n%64)) != 0
}

// Missing names the numbers that did not arrive: the first runs of them.
func (f *Flow) Missing() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var runs []string
	begin := -1
	for i := 0; i <= int(f.Sent.Load()) && len(runs) < 5; i++ {
		gone := i < int(f.Sent.Load()) && !f.has(uint32(i))
		switch {
		case gone && begin < 0:
			begin = i
		case !gone && begin >= 0:
			runs, begin = append(runs, fmt.Sprintf("%d-%d", begin, i-1)), -1
		}
	}
	return strings.Join(runs, " ")
}

// ArrivedFrom reports whether any packet numbered n or higher arrived.
func (f *Flow) ArrivedFrom(n uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.received > 0 && f.highest >= n
}
