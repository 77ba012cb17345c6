package probe

import (
	"time"

	"yumen/ike"
)

// host runs one engine after another. What they ask of a data plane is dropped,
// and an answer that comes for an engine that is gone goes nowhere.
type host struct {
	engine *ike.Engine
	number uint64 // of the engine, in the upper half of what it asks under
	wake   time.Time
}

const numberBits = 40

// begin replaces the engine.
func (h *host) begin(cfg ike.Config) error {
	e, err := ike.NewEngine(cfg)
	if err != nil {
		return err
	}
	h.engine, h.wake = e, time.Time{}
	h.number++
	return nil
}

// drop forgets the engine.
func (h *host) drop() { h.engine, h.wake = nil, time.Time{} }

// step gives the engine one input.
func (h *host) step(now time.Time, in ike.Input) ike.Output {
	if h.engine == nil {
		return ike.Output{}
	}
	switch x := in.(type) {
	case ike.Plane: // of ours there is none
		return ike.Output{Wake: h.wake}
	case ike.PrivateDone:
		if x.ID>>numberBits != h.number {
			x.Opened.Wipe()
			return ike.Output{Wake: h.wake}
		}
		x.ID &= 1<<numberBits - 1
		in = x
	case ike.Resolved:
		if x.Attempt>>numberBits != h.number {
			return ike.Output{Wake: h.wake}
		}
		x.Attempt &= 1<<numberBits - 1
		in = x
	case ike.Failed:
		switch f := x.Effect.(type) {
		case ike.PrivateOp:
			return h.step(now, ike.PrivateDone{ID: f.ID, Err: x.Err})
		case ike.Resolve:
			return h.step(now, ike.Resolved{Peer: f.Peer, Attempt: f.Attempt, Err: x.Err})
		}
		return ike.Output{Wake: h.wake}
	}
	out := h.engine.Step(now, in)
	var kept []ike.Effect
	for _, f := range out.Effects {
		switch f := f.(type) {
		case ike.PrivateOp:
			f.ID |= h.number << numberBits
			kept = append(kept, f)
		case ike.Resolve:
			f.Attempt |= h.number << numberBits
			kept = append(kept, f)
		}
	}
	out.Effects = kept
	h.wake = out.Wake
	return out
}

// status is that of the engine.
func (h *host) status() ike.Status {
	if h.engine == nil {
		return ike.Status{}
	}
	return h.engine.Status()
}

// earlier is the earlier of two moments, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// join puts what followed from two inputs together.
func join(a, b ike.Output) ike.Output {
	a.Effects = append(a.Effects, b.Effects...)
	a.Packets = append(a.Packets, b.Packets...)
	a.Events = append(a.Events, b.Events...)
	a.Heard = append(a.Heard, b.Heard...)
	return a
}
