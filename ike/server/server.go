// Package server puts sockets and a clock around an engine. It carries out the
// engine's effects on a data plane, then sends its packets, then tells its
// events, and calls it again when it asked to be called. It refuses to know what
// any message means: that is the engine's, and it keeps no keys: private-key
// operations are carried to whoever holds them and back.
package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
	"yumen/policy/secret"
)

// Engine is the protocol: *ike.Engine. One goroutine of the server owns it.
type Engine interface {
	Step(now time.Time, in ike.Input) ike.Output
	Status() ike.Status
}

// Dataplane is what the server needs of a data plane. Install lets a child
// receive, Use makes its tunnel send on it, Rebind moves its endpoints; Remove of
// an unknown child is not an error. SetPolicy is idempotent. The channel of
// Events is closed when the plane ends.
type Dataplane interface {
	SetPolicy(p *policy.Policy) error
	Install(child esp.Child, from esp.State) error
	Use(id esp.ChildID) error
	Rebind(id esp.ChildID, path esp.Path) error
	Remove(id esp.ChildID) (esp.State, error)
	Usage(id esp.ChildID) (esp.Usage, bool)
	Events() <-chan esp.Event
}

// PathLearner is a data plane that takes advice about paths: packets from local to
// remote may be of mtu bytes, all headers included. Advice that is not repeated
// within ten minutes is void. Planes that are none see to paths by themselves.
type PathLearner interface {
	LearnPath(local, remote netip.Addr, mtu int)
}

// Wire carries IKE datagrams of one local port, without the non-ESP marker.
// ReadIKE blocks; an error that wraps net.ErrClosed ends the wire. Where local is
// not valid or unspecified, WriteIKE leaves the source address to the kernel.
type Wire interface {
	ReadIKE(buf []byte) (n int, local, remote netip.AddrPort, err error)
	WriteIKE(data []byte, local, remote netip.AddrPort) error
}

// Pusher is a wire that can hand over what it reads where it reads it, so that the
// door is asked before anything is copied or waits: in a queue before the door a
// flood pushes out what the door would let in. PushIKE makes ReadIKE wait for the
// end of the wire; to may be called by several goroutines at once, does not block,
// and keeps nothing of data.
type Pusher interface {
	PushIKE(to func(data []byte, local, remote netip.AddrPort))
}

// Prober is a wire that can send a datagram whole or not at all: with DF set in
// IPv4, without fragments in IPv6, however small the path is believed to be. Wires
// that cannot send no probes, and then nothing is concluded about paths.
type Prober interface {
	ProbeIKE(data []byte, local, remote netip.AddrPort) error
}

// Bound is a wire with the local port that it serves and its family; IPv4 and
// IPv6 both false means that it serves both.
type Bound struct {
	Wire       Wire
	Port       uint16
	IPv4, IPv6 bool
}

// PrivateKeys are our two keys, wherever they are. Both calls may be slow, may
// run at the same time as others, and may be given up by the caller.
type PrivateKeys interface {
	// Sign signs e = SM3(Z|M) and returns DER.
	Sign(digest []byte) ([]byte, error)
	// Open opens the SM2 envelope of an SK payload and says in which form it was.
	Open(envelope []byte) (secret.Secret, policy.SKEncoding, error)
}

// Config is everything that a server is made of. The first five fields are
// required, the rest have defaults.
type Config struct {
	Engine Engine
	Plane  Dataplane
	Wires  []Bound
	Keys   PrivateKeys
	Policy *policy.Policy // of the engine: says where its peers are

	// Adopted are children that the plane carried on with since a server before.
	Adopted []ike.Adopted

	Door        *ike.Door       // of the engine: asked before a datagram is queued; nil: the engine asks
	Tell        func(ike.Event) // called by the owner of the engine: must not block; nil: nobody listens
	Resolver    Resolver        // nil: the system's
	Queue       int             // datagrams that may wait; 0: 1024
	KeyWorkers  int             // private-key operations at a time; 0: one for each processor
	KeyDeadline time.Duration   // of one private-key operation, waiting included; 0: 10 s
	NameTimeout time.Duration   // of one look-up; 0: 5 s
	StopTimeout time.Duration   // of a clean stop; 0: 2 s
}

// Counters count what the engine never sees.
type Counters struct {
	Received     uint64 // datagrams handed to the engine's queue
	Refused      uint64 // datagrams that the door of the engine refused
	QueueDropped uint64 // datagrams dropped because the queue was full
	ReadFailed   uint64 // failed reads of a wire
	SendFailed   uint64 // datagrams that could not be sent
}

// Server runs one engine.
type Server struct {
	cfg    Config
	policy *policy.Policy
	keys   PrivateKeys
	ops    *pool
	book   book // what the data plane holds

	wake      time.Time
	datagrams chan ike.Datagram // from the wires; full: dropped
	results   chan ike.Input    // answers to effects; never dropped
	calls     chan func()       // what other goroutines want done between two steps
	lost      chan error        // a wire ended by itself
	running   context.Context   // of Run; ends look-ups
	done      chan struct{}     // closed when the loop has ended
	left      bool              // Leave was called; of the loop

	received, refused, queueDropped, readFailed, sendFailed atomic.Uint64
}

// ErrStopped says that the server has stopped.
var ErrStopped = errors.New("the server has stopped")

// New returns a server that has done nothing yet. It refuses a configuration
// with a missing part.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Engine == nil:
		return nil, errors.New("server: no engine")
	case cfg.Plane == nil:
		return nil, errors.New("server: no data plane")
	case len(cfg.Wires) == 0:
		return nil, errors.New("server: no sockets")
	case cfg.Keys == nil:
		return nil, errors.New("server: no private keys")
	case cfg.Policy == nil:
		return nil, errors.New("server: no policy")
	}
	cfg = cfg.withDefaults()
	s := &Server{
		cfg: cfg, policy: cfg.Policy, keys: cfg.Keys, book: newBook(),
		datagrams: make(chan ike.Datagram, cfg.Queue),
		results:   make(chan ike.Input, 64),
		calls:     make(chan func()),
		lost:      make(chan error, len(cfg.Wires)),
		done:      make(chan struct{}),
	}
	s.ops = newPool(cfg.KeyDeadline, s.answer)
	return s, nil
}

// Counters returns a reading; it may be called from anywhere at any time.
func (s *Server) Counters() Counters {
	return Counters{s.received.Load(), s.refused.Load(), s.queueDropped.Load(), s.readFailed.Load(), s.sendFailed.Load()}
}

// Run gives the engine its first Tick and serves it until ctx ends; then it lets
// the engine take leave of its peers and returns, after Config.StopTimeout at the
// latest. It is called once. The caller closes the wires afterwards: their
// readers end then. A wire that ends by itself ends Run with an error.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.running = ctx
	for _, w := range s.cfg.Wires {
		go s.read(w)
	}
	for range s.cfg.KeyWorkers {
		go s.ops.work(s.done)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.loop(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit := time.NewTimer(s.cfg.StopTimeout)
	defer limit.Stop()
	select {
	case err := <-ended:
		return err
	case <-limit.C:
		return fmt.Errorf("the server did not stop within %v: the data plane or a socket hangs", s.cfg.StopTimeout)
	}
}

// loop owns the engine. Answers go before datagrams, so that a flood cannot hold
// up an exchange that is already paid for.
func (s *Server) loop(ctx context.Context) error {
	defer close(s.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	events := s.cfg.Plane.Events()
	scrub()
	if len(s.cfg.Adopted) > 0 {
		s.book.adopt(s.cfg.Adopted)
		s.step(ike.Adopt{Children: s.cfg.Adopted})
	}
	s.step(ike.Tick{})
	for !s.left {
		s.set(timer)
		select {
		case in := <-s.results:
			s.step(in)
			continue
		default:
		}
		select {
		case <-ctx.Done():
			s.step(ike.Stop{})
			return nil
		case err := <-s.lost:
			s.step(ike.Stop{})
			return err
		case in := <-s.results:
			s.step(in)
		case ev, open := <-events:
			if !open {
				events = nil
				continue
			}
			s.step(ike.Plane{Event: ev})
		case call := <-s.calls:
			call()
		case d := <-s.datagrams:
			s.step(d)
		case <-timer.C:
			s.step(ike.Tick{})
		}
	}
	return nil
}

// set makes the timer ring at the moment the engine asked for.
func (s *Server) set(timer *time.Timer) {
	if s.wake.IsZero() {
		timer.Stop()
		return
	}
	timer.Reset(time.Until(s.wake))
}

// step gives the engine one input and everything that follows from it at once.
func (s *Server) step(in ike.Input) {
	for queue := []ike.Input{in}; len(queue) > 0; {
		scrub() // the collector takes back stack that is not used: see there
		out := s.cfg.Engine.Step(time.Now(), queue[0])
		s.wake = out.Wake
		failed := s.carryOut(out.Effects)
		if failed == nil {
			s.send(out.Packets)
		}
		if s.cfg.Tell != nil {
			for _, ev := range out.Events {
				s.cfg.Tell(ev)
			}
		}
		queue = append(failed, queue[1:]...)
		if len(out.Effects)+len(out.Packets) > 0 { // what is dropped uses no key
			scrub()
		}
	}
}

// answer hands the loop an answer to an effect.
func (s *Server) answer(in ike.Input) {
	select {
	case s.results <- in:
	case <-s.done:
		if p, ok := in.(ike.PrivateDone); ok {
			p.Opened.Wipe()
		}
	}
}

// call runs f between two steps and waits for it.
func (s *Server) call(ctx context.Context, f func()) error {
	ready := make(chan struct{})
	select {
	case s.calls <- func() { f(); close(ready) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrStopped
	}
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		select {
		case <-ready: // it was the last that the loop did
			return nil
		default:
			return ErrStopped
		}
	}
}

// Do gives the engine one input of an operator, Start, Stop or Rekey, and returns when
// its consequences were carried out.
func (s *Server) Do(ctx context.Context, in ike.Input) error {
	switch in.(type) {
	case ike.Start, ike.Stop, ike.Rekey:
		return s.call(ctx, func() { s.step(in) })
	}
	return fmt.Errorf("server: %T is no input of an operator", in)
}

// Reload replaces policy, certificates and keys: first the policy of the data
// plane, then the engine's. On error everything stays as it was. Operations under
// way keep the key they began with.
func (s *Server) Reload(ctx context.Context, cfg ike.Config, keys PrivateKeys) error {
	var failed error
	err := s.call(ctx, func() {
		if err := s.cfg.Plane.SetPolicy(cfg.Policy); err != nil {
			failed = errors.Join(err, s.cfg.Plane.SetPolicy(s.policy))
			return
		}
		s.policy, s.keys = cfg.Policy, keys
		s.step(ike.Reload{Config: cfg})
		s.book.forget(cfg.Policy)
	})
	if err != nil {
		return err
	}
	return failed
}

// Leave ends Run without a word to the peers, so that another server can go on with
// the children of the tunnels that stay says. Those of the others are deleted first,
// as by a Stop of each, and the sessions too where no tunnel stays. The status is of what stays, and nothing happens after it.
func (s *Server) Leave(ctx context.Context, stay func(ike.TunnelStatus) bool) (status ike.Status, err error) {
	err = s.call(ctx, func() {
		remain := 0
		for _, t := range s.cfg.Engine.Status().Tunnels {
			if stay(t) {
				remain++
				continue
			}
			s.step(ike.Stop{Tunnel: t.Name})
		}
		if remain == 0 {
			s.step(ike.Stop{})
		}
		status, s.left = s.cfg.Engine.Status(), true
	})
	return status, err
}

// Snapshot returns a reading of the engine alone.
func (s *Server) Snapshot(ctx context.Context) (status ike.Status, err error) {
	err = s.call(ctx, func() { status = s.cfg.Engine.Status() })
	return status, err
}
