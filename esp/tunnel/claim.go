package tunnel

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"yumen/esp"
)

// patience is how often a claim is tried before the worker sleeps.
const patience = 200

// claim is the right to work with something that takes one worker at a time. The zero
// value is free.
type claim struct{ held atomic.Bool }

// take waits until nobody else has it.
func (c *claim) take() {
	for tries := 0; !c.held.CompareAndSwap(false, true); tries++ {
		if tries > patience {
			time.Sleep(20 * time.Microsecond)
		}
	}
}

func (c *claim) release() { c.held.Store(false) }

// claims are what a worker takes of the children of a batch, all before it works on any:
// the right to seal by them, so that numbers leave in the order in which they are given
// and no packet is overtaken by another of its child, however many queues there are, and
// though probes and their answers are sealed by others; or the right to open by them, so
// that a window has one owner, though the host may hand packets of a child to any socket
// of its kind. It costs two atomic operations for each child of a batch. Workers meet at
// a child only if connections of it are read from several queues, at a probe, or where
// the host joined packets of several children; then one waits for the other's batch. All
// take in the order of child numbers, and to open before to seal, so that none waits in
// a circle.
type claims []claimed

type claimed struct {
	of esp.ChildID
	by *claim
}

// want notes a claim. One child may come twice: its sizes changed within the batch.
func (c *claims) want(of esp.ChildID, by *claim) {
	one := claimed{of, by}
	if n := len(*c); n > 0 && (*c)[n-1] == one || slices.Contains(*c, one) {
		return
	}
	*c = append(*c, one)
}

// take takes what was wanted.
func (c claims) take() {
	slices.SortFunc(c, func(a, b claimed) int { return cmp.Compare(a.of, b.of) })
	for _, one := range c {
		one.by.take()
	}
}

// release gives everything back.
func (c *claims) release() {
	for _, one := range *c {
		one.by.release()
	}
	clear(*c)
	*c = (*c)[:0]
}
