package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
	"yumen/policy/secret"
)

// script is an engine that follows a function: what a test wants to see carried
// out, and what it was given.
type script struct {
	next   func(in ike.Input) ike.Output
	inputs []ike.Input
	status ike.Status
}

func (e *script) Step(_ time.Time, in ike.Input) ike.Output {
	e.inputs = append(e.inputs, in)
	if e.next == nil {
		return ike.Output{}
	}
	return e.next(in)
}

func (e *script) Status() ike.Status { return e.status }

// diary lists, in order, what reached the data plane, the wire and the narrator.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.lines...)
}

// plane is a data plane that notes what is asked of it and refuses what it is
// told to refuse.
type plane struct {
	*diary
	events chan esp.Event
	refuse map[string]error
}

func (p *plane) do(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	if err := p.refuse[line]; err != nil {
		p.note("%s refused", line)
		return err
	}
	p.note("%s", line)
	return nil
}

func (p *plane) SetPolicy(q *policy.Policy) error         { return p.do("policy %s", q.Site) }
func (p *plane) Install(c esp.Child, _ esp.State) error   { return p.do("install %d", c.ID) }
func (p *plane) Use(id esp.ChildID) error                 { return p.do("use %d", id) }
func (p *plane) Rebind(id esp.ChildID, to esp.Path) error { return p.do("rebind %d %v", id, to.Remote) }
func (p *plane) Remove(id esp.ChildID) (esp.State, error) { return esp.State{}, p.do("remove %d", id) }
func (p *plane) Usage(id esp.ChildID) (esp.Usage, bool) {
	return esp.Usage{Replayed: uint64(id)}, id == 1
}
func (p *plane) Events() <-chan esp.Event { return p.events }

// pipe is a wire without a network.
type pipe struct {
	*diary
	in     chan ike.Datagram
	closed chan struct{}
	once   sync.Once
}

func newPipe(d *diary) *pipe {
	return &pipe{diary: d, in: make(chan ike.Datagram), closed: make(chan struct{})}
}

func (p *pipe) ReadIKE(buf []byte) (int, netip.AddrPort, netip.AddrPort, error) {
	select {
	case d := <-p.in:
		if d.Data == nil {
			return 0, d.Local, d.Remote, errors.New("network is down")
		}
		return copy(buf, d.Data), d.Local, d.Remote, nil
	case <-p.closed:
		return 0, netip.AddrPort{}, netip.AddrPort{}, net.ErrClosed
	}
}

func (p *pipe) WriteIKE(data []byte, _, _ netip.AddrPort) error {
	p.note("send %s", data)
	return nil
}

func (p *pipe) close() { p.once.Do(func() { close(p.closed) }) }

// hand is a pair of keys in the hands of a test.
type hand struct {
	sign func(digest []byte) ([]byte, error)
}

func (h hand) Sign(d []byte) ([]byte, error) { return h.sign(d) }
func (h hand) Open(b []byte) (secret.Secret, policy.SKEncoding, error) {
	return secret.New(b), policy.SKDER, nil
}

var (
	here  = netip.MustParseAddrPort("192.0.2.1:500")
	there = netip.MustParseAddrPort("198.51.100.7:500")
)

func packet(text string) ike.Datagram {
	return ike.Datagram{Local: here, Remote: there, Data: []byte(text)}
}

// world is a server with everything around it under the control of a test.
type world struct {
	*diary
	engine *script
	plane  *plane
	pipe   *pipe
	server *Server
	cancel context.CancelFunc
	ended  chan error
}

// start builds a world, lets change alter the configuration, and runs it.
func start(next func(ike.Input) ike.Output, change ...func(*Config)) *world {
	d := &diary{}
	w := &world{diary: d, engine: &script{next: next}, pipe: newPipe(d), ended: make(chan error, 1),
		plane: &plane{diary: d, events: make(chan esp.Event), refuse: map[string]error{}}}
	cfg := Config{
		Engine: w.engine, Plane: w.plane, Keys: hand{func(b []byte) ([]byte, error) { return b, nil }},
		Wires:  []Bound{{Wire: w.pipe, Port: 500}},
		Policy: &policy.Policy{Site: "old"},
		Tell:   func(e ike.Event) { d.note("tell %s", e.Detail) },
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if w.server, err = New(cfg); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() { w.ended <- w.server.Run(ctx) }()
	return w
}

// stop ends the world and returns what Run said.
func (w *world) stop() error {
	w.cancel()
	err := <-w.ended
	w.pipe.close()
	return err
}
