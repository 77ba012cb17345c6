package tunnel

import (
	"net/netip"
	"sync/atomic"
	"time"

	"yumen/esp"
	"yumen/policy"
)

// pair is one child as the workers see it. What they read never changes; a new
// path makes a new pair that shares SAs and readings with the old.
type pair struct {
	child esp.Child // without keys
	in    *esp.Inbound
	out   *esp.Outbound
	kind  kind
	mtu   int    // largest inner packet
	turn  uint64 // of the last Use; 0: never sent
	last  *readings
}

// readings are times as Unix nanoseconds, 0: never.
type readings struct{ in, out atomic.Int64 }

// snapshot is everything a worker needs, frozen.
type snapshot struct {
	spd      *policy.SPD
	tunnels  []string // names, by index in the policy
	table    *esp.Table
	in       map[*esp.Inbound]*pair
	out      map[*esp.Outbound]*pair
	own4     netip.Addr // whom our ICMP errors come from
	own6     netip.Addr
	tunMTU   int
	maxOuter int
}

// worker is the part of a goroutine that the control side can see: odd while a
// packet is in its hands.
type worker struct{ turn atomic.Uint64 }

// begin must come before the snapshot is loaded.
func (w *worker) begin() { w.turn.Add(1) }
func (w *worker) end()   { w.turn.Add(1) }

// settle returns when no worker can still hold what the last snapshot no longer
// shows. A worker that is asleep or between packets holds nothing.
func (p *Plane) settle() {
	for _, w := range p.workers {
		seen := w.turn.Load()
		for seen&1 == 1 && w.turn.Load() == seen {
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// publish freezes the control side's state for the workers. The caller holds mu.
func (p *Plane) publish() {
	s := &snapshot{
		spd: p.spd, tunnels: p.tunnels, table: p.table, in: map[*esp.Inbound]*pair{}, out: map[*esp.Outbound]*pair{},
		own4: p.own4, own6: p.own6, tunMTU: p.tunMTU, maxOuter: p.cfg.MTU,
	}
	for _, x := range p.pairs {
		s.in[x.in], s.out[x.out] = x, x
	}
	p.snap.Store(s)
}
