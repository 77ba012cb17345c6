package ike

import (
	"container/heap"
	"time"
)

// alarm is one pending deadline. The zero value is not set.
type alarm struct {
	at   time.Time
	seq  uint64 // breaks ties, so that equal deadlines ring in the order they were set
	slot int    // position in the heap plus one; 0: not set
	ring func()
}

// alarms is a heap of pending deadlines, earliest first.
type alarms struct {
	heap []*alarm
	seq  uint64
}

func (h *alarms) Len() int { return len(h.heap) }
func (h *alarms) Less(i, j int) bool {
	a, b := h.heap[i], h.heap[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.seq < b.seq
}
func (h *alarms) Swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].slot, h.heap[j].slot = i+1, j+1
}
func (h *alarms) Push(x any) {
	a := x.(*alarm)
	h.heap = append(h.heap, a)
	a.slot = len(h.heap)
}
func (h *alarms) Pop() any {
	last := len(h.heap) - 1
	a := h.heap[last]
	h.heap[last] = nil
	h.heap = h.heap[:last]
	a.slot = 0
	return a
}

// set moves a to at, with what is then to be done.
func (h *alarms) set(a *alarm, at time.Time, ring func()) {
	h.stop(a)
	h.seq++
	a.at, a.seq, a.ring = at, h.seq, ring
	heap.Push(h, a)
}

// stop takes a out, if it is set.
func (h *alarms) stop(a *alarm) {
	if a.slot > 0 {
		heap.Remove(h, a.slot-1)
	}
	a.ring = nil
}

// pending reports whether a is set.
func (a *alarm) pending() bool { return a.slot > 0 }

// due takes out the earliest alarm that is due at now.
func (h *alarms) due(now time.Time) func() {
	if len(h.heap) == 0 || h.heap[0].at.After(now) {
		return nil
	}
	a := heap.Pop(h).(*alarm)
	ring := a.ring
	a.ring = nil
	return ring
}

// next is when the earliest alarm is due; zero when none is.
func (h *alarms) next() time.Time {
	if len(h.heap) == 0 {
		return time.Time{}
	}
	return h.heap[0].at
}
