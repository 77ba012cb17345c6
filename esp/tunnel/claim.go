package tunnel

import (
	"cmp"
	"slices"
	"time"
)

// patience is how often a claim is tried before the worker sleeps.
const patience = 200

// claim takes the children of the batch for this worker until release: numbers
// leave in the order in which they are given, so that no packet is overtaken by
// another of its child, however many queues there are, and though probes and their
// answers are sealed by others. It costs two atomic operations for each child of a
// batch. Workers meet at a child only if connections of it are read from several
// queues, or at a probe; then one waits for the other's batch. All
// claim in the order of child numbers, so that none waits in a circle.
func (w *outWorker) claim() {
	w.claimed = w.claimed[:0]
	for i := range w.batch.list {
		x := w.batch.list[i].x
		if n := len(w.claimed); n > 0 && w.claimed[n-1] == x || slices.Contains(w.claimed, x) {
			continue
		}
		w.claimed = append(w.claimed, x)
	}
	slices.SortFunc(w.claimed, func(a, b *pair) int { return cmp.Compare(a.child.ID, b.child.ID) })
	for i, x := range w.claimed {
		if i > 0 && w.claimed[i-1].last == x.last {
			continue // one child twice: its sizes changed within the batch
		}
		x.last.claim()
	}
}

// claim waits until nobody else seals by the child.
func (r *readings) claim() {
	for tries := 0; !r.sealing.CompareAndSwap(false, true); tries++ {
		if tries > patience {
			time.Sleep(20 * time.Microsecond)
		}
	}
}

func (r *readings) release() { r.sealing.Store(false) }

// release gives the children back.
func (w *outWorker) release() {
	for _, x := range w.claimed {
		x.last.release()
	}
	clear(w.claimed)
	w.claimed = w.claimed[:0]
}
