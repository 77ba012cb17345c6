package tunnel

import (
	"net/netip"
	"slices"
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
	outer int // largest outer packet, what follows comes from it
	mtu   int // largest inner packet
	mss4  int // largest TCP segment over IPv4; 0: any
	mss6  int
	turn  uint64 // of the last Use; 0: never sent
	muted bool   // see Mute
	last  *readings
}

// readings are times as Unix nanoseconds, 0: never; and who seals and opens by the child
// now.
type readings struct {
	in, out          atomic.Int64
	sealing, opening claim
	// Of whoever opens by the child: echoes asked for, the time that their answers stand
	// for, and where the peer was last said to have moved.
	asked   uint64
	answers int64
	moved   netip.AddrPort
}

// snapshot is everything a worker needs, frozen.
type snapshot struct {
	spd      *policy.SPD
	tunnels  []tunnelEntry // by index in the policy
	ways     []way         // beside tunnels; of a group by its head
	places   map[string]int
	members  map[string]member // of groups, by tunnel
	heads    map[string]int    // by group
	pings    bool              // some group has a target
	table    *esp.Table
	in       map[*esp.Inbound]*pair
	out      map[*esp.Outbound]*pair
	sent     map[sentKey]*pair
	foreign  foreign
	own      []netip.Addr // addresses of this host
	own4     netip.Addr   // whom our ICMP errors come from
	own6     netip.Addr
	tunMTU   int
	maxOuter int
}

// tunnelEntry is what a worker needs of a tunnel in the policy.
type tunnelEntry struct {
	name  string
	lanes uint8    // children side by side at most; 0: one
	waits bool     // for a child that we negotiate when it is missed
	group string   // it is the head of; empty: it is none
	also  []string // the other members of that group
}

// takes says whether a packet that came by a tunnel is one of this entry's.
func (t *tunnelEntry) takes(tunnel string) bool {
	return t.name == tunnel || len(t.also) > 0 && slices.Contains(t.also, tunnel)
}

// sentKey names the child of a packet of ours that somebody quotes.
type sentKey struct {
	remote netip.Addr
	spi    esp.SPI
}

// sending is the child that one tunnel sends by, in a group or not; nil: none.
func (s *snapshot) sending(tunnel string) *pair {
	out := s.table.Outbound(tunnel)
	if out == nil {
		return nil
	}
	return s.out[out]
}

// side are the children that one tunnel sends by side by side, by lane.
func (s *snapshot) side(tunnel string) (list []*pair) {
	for lane := range max(s.tunnels[s.places[tunnel]].lanes, 1) {
		if out := s.table.Lane(tunnel, lane); out != nil && s.out[out] != nil {
			list = append(list, s.out[out])
		}
	}
	return list
}

// worker is the part of a goroutine that the control side can see: odd while a
// packet is in its hands.
type worker struct{ turn atomic.Uint64 }

// begin must come before the snapshot is loaded.
func (w *worker) begin() { w.turn.Add(1) }
func (w *worker) end()   { w.turn.Add(1) }

// Received is how many batches each receiving worker has dealt with: whether the host
// spreads what comes over the cores.
func (p *Plane) Received() (batches []uint64) {
	for _, w := range p.openers {
		batches = append(batches, w.turn.Load()/2)
	}
	return batches
}

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
		sent:    make(map[sentKey]*pair, len(p.pairs)),
		foreign: p.foreign,
		own4:    p.own4, own6: p.own6, tunMTU: p.tunMTU, maxOuter: p.cfg.MTU, places: p.places,
	}
	for _, x := range p.pairs {
		s.in[x.in], s.out[x.out] = x, x
		s.sent[sentKey{remote: x.child.Path.Remote.Addr().Unmap(), spi: x.child.Out.SPI}] = x
	}
	s.own = p.around.own
	p.direct(s)
	p.snap.Store(s)
}

// direct says by which children the packets of each tunnel leave. The caller holds mu.
func (p *Plane) direct(s *snapshot) {
	s.ways = make([]way, len(s.tunnels))
	one := make([]*pair, len(s.tunnels))
	for i, t := range s.tunnels {
		if g := p.groups[t.group]; g != nil {
			s.ways[i] = p.wayOf(g, s.side)
		} else if t.lanes > 1 {
			s.ways[i] = p.wide(s.side(t.name))
		} else if one[i] = s.sending(t.name); one[i] != nil {
			s.ways[i].pairs = one[i : i+1]
		}
	}
	s.members, s.heads = map[string]member{}, map[string]int{}
	for _, g := range p.groups {
		head := p.places[g.members[0]]
		s.heads[g.name] = head
		s.pings = s.pings || g.target.IsValid()
		from := p.around.inside(g.local)
		for _, name := range g.members {
			s.members[name] = member{head: head, tag: tagOf(name), target: g.target, from: from}
		}
	}
}
