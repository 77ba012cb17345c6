package server

import (
	"context"
	"maps"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// Reading is what Status returns.
type Reading struct {
	Engine ike.Status
	Usage  map[esp.ChildID]esp.Usage // of the children that stand
	// Spent is, by tunnel, what children counted that are gone: only with it does a
	// sum over a tunnel never fall.
	Spent map[string]esp.Usage
}

// Status returns a reading of the engine and of each child's counters.
func (s *Server) Status(ctx context.Context) (Reading, error) {
	r := Reading{Usage: map[esp.ChildID]esp.Usage{}}
	err := s.call(ctx, func() {
		r.Engine, r.Spent = s.cfg.Engine.Status(), maps.Clone(s.book.spent)
		for _, t := range r.Engine.Tunnels {
			for _, c := range t.Children {
				if u, ok := s.usage(c.ID); ok {
					r.Usage[c.ID] = u
				}
			}
		}
	})
	if err != nil {
		return Reading{}, err
	}
	return r, nil
}

// usage reads the counters of a child. A plane that cannot say for a moment does not
// make them zero.
func (s *Server) usage(id esp.ChildID) (esp.Usage, bool) {
	u, ok := s.cfg.Plane.Usage(id)
	e, known := s.book.children[id]
	switch {
	case ok && known:
		e.used = u
		s.book.children[id] = e
	case known:
		return e.used, e.used != esp.Usage{}
	}
	return u, ok
}

// spend adds the counters of a child that ends: last read just before, and what its
// removal told of packets that came until then.
func (b book) spend(tunnel string, last esp.Usage, left esp.State) {
	sum := b.spent[tunnel]
	sum.In, sum.Out = plus(sum.In, most(last.In, left.In)), plus(sum.Out, most(last.Out, left.Out))
	sum.Replayed += last.Replayed
	sum.BadAuth += last.BadAuth
	sum.BadSelector += last.BadSelector
	b.spent[tunnel] = sum
}

// forget drops what belongs to tunnels that are no more.
func (b book) forget(p *policy.Policy) {
	names := map[string]bool{}
	for _, t := range p.Tunnels {
		names[t.Name] = true
	}
	maps.DeleteFunc(b.spent, func(name string, _ esp.Usage) bool { return !names[name] })
}

func plus(a, b esp.Count) esp.Count {
	return esp.Count{Bytes: a.Bytes + b.Bytes, Packets: a.Packets + b.Packets}
}

func most(a, b esp.Count) esp.Count {
	return esp.Count{Bytes: max(a.Bytes, b.Bytes), Packets: max(a.Packets, b.Packets)}
}
