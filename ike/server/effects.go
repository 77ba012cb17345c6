package server

import (
	"fmt"
	"runtime"
	"time"

	"yumen/esp"
	"yumen/ike"
)

func (c Config) withDefaults() Config {
	if c.Queue <= 0 {
		c.Queue = 1024
	}
	if c.KeyWorkers <= 0 {
		c.KeyWorkers = runtime.GOMAXPROCS(0)
	}
	if c.KeyDeadline <= 0 {
		c.KeyDeadline = 10 * time.Second
	}
	if c.NameTimeout <= 0 {
		c.NameTimeout = 5 * time.Second
	}
	if c.StopTimeout <= 0 {
		c.StopTimeout = 2 * time.Second
	}
	if c.Resolver == nil {
		c.Resolver = SystemResolver(nil)
	}
	return c
}

// book remembers what the data plane holds, so that effects can be undone, and what
// was counted of what it held.
type book struct {
	children map[esp.ChildID]entry
	inUse    map[string]esp.ChildID // by tunnel
	spent    map[string]esp.Usage   // by tunnel: see Reading
}

type entry struct {
	tunnel string
	path   esp.Path
	used   esp.Usage // as last read
}

func newBook() book {
	return book{children: map[esp.ChildID]entry{}, inUse: map[string]esp.ChildID{}, spent: map[string]esp.Usage{}}
}

// adopt enters what the data plane held before this server.
func (b book) adopt(list []ike.Adopted) {
	for _, a := range list {
		b.children[a.Child.ID] = entry{tunnel: a.Child.Tunnel, path: a.Child.Path}
		b.inUse[a.Child.Tunnel] = a.Child.ID
	}
}

// carryOut carries out effects in order. When one fails the ones before it are
// undone and the rest dropped; the result is then what the engine must hear
// next: Failed, and an error for each operation that was dropped unasked, so
// that no session waits for an answer that never comes.
func (s *Server) carryOut(effects []ike.Effect) []ike.Input {
	var undo []func()
	for i, f := range effects {
		back, err := s.apply(f)
		if err == nil {
			if back != nil {
				undo = append(undo, back)
			}
			continue
		}
		for j := len(undo) - 1; j >= 0; j-- {
			undo[j]()
		}
		return append([]ike.Input{ike.Failed{Effect: f, Err: err}}, unasked(effects[i+1:], err)...)
	}
	return nil
}

func unasked(effects []ike.Effect, cause error) []ike.Input {
	var answers []ike.Input
	for _, f := range effects {
		switch f := f.(type) {
		case ike.PrivateOp:
			if f.Power != nil {
				f.Power.Exponent.Wipe()
			}
			answers = append(answers, ike.PrivateDone{ID: f.ID,
				Err: fmt.Errorf("not begun, because the step failed: %w", cause)})
		case ike.Resolve:
			answers = append(answers, ike.Resolved{Peer: f.Peer, Attempt: f.Attempt,
				Err: fmt.Errorf("not begun, because the step failed: %w", cause)})
		}
	}
	return answers
}

// apply carries out one effect and returns how to take it back; nil where there
// is nothing to take back or no way to.
func (s *Server) apply(f ike.Effect) (undo func(), err error) {
	switch f := f.(type) {
	case ike.Install:
		return s.install(f)
	case ike.Use:
		return s.use(f.Child)
	case ike.Rebind:
		return s.rebind(f)
	case ike.Remove:
		return nil, s.remove(f.Child)
	case ike.Resolve:
		go s.resolve(s.running, f, s.policy)
		return nil, nil
	case ike.PathMTU:
		if p, ok := s.cfg.Plane.(PathLearner); ok {
			p.LearnPath(f.Local, f.Remote, f.MTU)
		}
		return nil, nil
	case ike.PrivateOp:
		return nil, s.ops.submit(f, s.keys)
	}
	return nil, fmt.Errorf("the effect %T is unknown to this server", f)
}

func (s *Server) install(f ike.Install) (func(), error) {
	if err := s.cfg.Plane.Install(f.Child, f.From); err != nil {
		return nil, err
	}
	s.book.children[f.Child.ID] = entry{tunnel: f.Child.Tunnel, path: f.Child.Path}
	return func() { s.remove(f.Child.ID) }, nil
}

func (s *Server) use(id esp.ChildID) (func(), error) {
	if err := s.cfg.Plane.Use(id); err != nil {
		return nil, err
	}
	tunnel := s.book.children[id].tunnel
	before, had := s.book.inUse[tunnel]
	s.book.inUse[tunnel] = id
	return func() {
		if had && s.cfg.Plane.Use(before) == nil {
			s.book.inUse[tunnel] = before
		}
	}, nil
}

func (s *Server) rebind(f ike.Rebind) (func(), error) {
	if err := s.cfg.Plane.Rebind(f.Child, f.Path); err != nil {
		return nil, err
	}
	e, known := s.book.children[f.Child]
	before := e.path
	e.path = f.Path
	s.book.children[f.Child] = e
	return func() {
		if known && s.cfg.Plane.Rebind(f.Child, before) == nil {
			e.path = before
			s.book.children[f.Child] = e
		}
	}, nil
}

func (s *Server) remove(id esp.ChildID) error {
	last, _ := s.usage(id) // drops are no part of what Remove returns
	left, err := s.cfg.Plane.Remove(id)
	if err != nil {
		return err
	}
	e, ok := s.book.children[id]
	if ok {
		s.book.spend(e.tunnel, last, left)
	}
	if ok && s.book.inUse[e.tunnel] == id {
		delete(s.book.inUse, e.tunnel)
	}
	delete(s.book.children, id)
	return nil
}
