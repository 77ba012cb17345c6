package ike

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"yumen/esp"
	"yumen/ike/gm"
	"yumen/ike/wire"
	"yumen/policy/trust"
)

// Engine negotiates with every peer of a policy. It is not safe for concurrent
// use: one goroutine owns it.
type Engine struct {
	cfg   Config
	now   time.Time // of the step that is running
	out   Output    // of the step that is running
	clock alarms

	peers   []*peer // in the order of the policy
	tunnels []*tunnel
	started bool
	nonGM   bool // some peer is not GB/T 36968
	ending  bool // Stop of everything was asked

	dials    map[wire.Cookie]*dial
	sessions map[pairKey]*session
	halfOpen halfOpens
	door     *Door
	children map[esp.ChildID]*child
	ops      map[uint64]*op
	spis     map[esp.SPI]esp.ChildID // our inbound SPIs in use or reserved

	chains    chainCache
	envelopes envelopeCache
	learned   learnedList
	gate      gate

	lastChild   esp.ChildID
	lastOp      uint64
	lastAttempt uint64
	lastMessage uint16 // that went out in pieces
	verified    uint64 // signatures over nonce and ID that were checked: tests compare the work
}

// pairKey names a session by both cookies.
type pairKey struct{ i, r wire.Cookie }

// firstKey names a responder's session by the M1 that made it and where it came
// from: half of SM3 over both. Another M1 under the same cookie makes another
// session: which one is forged is not known yet.
type firstKey [16]byte

func firstKeyOf(d Datagram) firstKey {
	from := d.Remote.Addr().As16()
	sum := gm.SM3(from[:], []byte{byte(d.Remote.Port() >> 8), byte(d.Remote.Port())}, d.Data)
	return firstKey(sum[:16])
}

// op is a private-key operation under way. done is called at most once.
type op struct {
	session *session
	done    func(PrivateDone)
}

// NewEngine checks cfg and returns an engine that has done nothing yet. The
// first Tick starts the tunnels whose start mode is StartNow.
func NewEngine(cfg Config) (*Engine, error) {
	e := &Engine{
		dials:    map[wire.Cookie]*dial{},
		sessions: map[pairKey]*session{},
		door:     newDoor(),
		halfOpen: halfOpens{byFirst: map[firstKey]*halfOpen{}, byPair: map[pairKey]*halfOpen{}},
		children: map[esp.ChildID]*child{},
		ops:      map[uint64]*op{},
		spis:     map[esp.SPI]esp.ChildID{},
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	e.learned = slices.Clone(cfg.Learned)
	e.configure(cfg)
	return e, nil
}

// Door is what readers of sockets ask before they queue a datagram. It stays the
// same for the life of the engine.
func (e *Engine) Door() *Door { return e.door }

func (c Config) check() error {
	switch {
	case c.Policy == nil:
		return errors.New("engine: no policy")
	case c.Rand == nil:
		return errors.New("engine: no source of randomness")
	case c.Policy.NeedsCertificates() && (c.Own.Sign.Key == nil || c.Own.Enc.Key == nil):
		return errors.New("engine: own certificates are missing")
	}
	for _, p := range c.Policy.Peers {
		if p.PreShared.Used {
			if c.PreShared[p.Name].Len() == 0 {
				return fmt.Errorf("engine: no pre-shared key for peer %q", p.Name)
			}
			continue
		}
		if c.Verifiers[p.Name] == nil {
			return fmt.Errorf("engine: no verifier for peer %q", p.Name)
		}
	}
	for _, t := range c.Policy.Tunnels {
		if _, ok := c.Policy.Peer(t.Peer); !ok {
			return fmt.Errorf("engine: tunnel %q names the unknown peer %q", t.Name, t.Peer)
		}
	}
	return learnedList(c.Learned).check()
}

// Step gives the engine one input at a moment that never lies before that of
// the step before, and returns everything that follows from it.
func (e *Engine) Step(now time.Time, in Input) Output {
	e.now, e.out = now, Output{}
	switch in := in.(type) {
	case Datagram:
		e.receive(in)
	case Start:
		e.operatorUp(in.Tunnel)
	case Stop:
		e.operatorDown(in.Tunnel)
	case Rekey:
		e.operatorRekey(in)
	case Resolved:
		e.resolved(in)
	case PrivateDone:
		e.privateDone(in)
	case Plane:
		e.plane(in.Event)
	case Failed:
		e.failed(in)
	case Reload:
		e.reload(in.Config)
	case Adopt:
		e.adopt(in.Children)
	case Tick:
		e.tick()
	}
	e.out.Effects = removesFirst(e.out.Effects)
	e.out.Wake = e.clock.next()
	return e.out
}

// removesFirst puts removals before all else, because what stands behind an
// effect that fails is never carried out, and leaves out what else was asked of
// a child that goes in the same step.
func removesFirst(effects []Effect) []Effect {
	gone := map[esp.ChildID]bool{}
	for _, f := range effects {
		if r, ok := f.(Remove); ok {
			gone[r.Child] = true
		}
	}
	if len(gone) == 0 {
		return effects
	}
	var first, rest []Effect
	for _, f := range effects {
		switch f := f.(type) {
		case Remove:
			first = append(first, f)
		case Use:
			if !gone[f.Child] {
				rest = append(rest, f)
			}
		case Rebind:
			if !gone[f.Child] {
				rest = append(rest, f)
			}
		default:
			rest = append(rest, f)
		}
	}
	return append(first, rest...)
}

// tick starts what is to be started, or rings one alarm: one step touches one
// peer, so that a failed effect costs no other peer its packets.
func (e *Engine) tick() {
	if !e.started {
		e.started = true
		for _, t := range e.tunnels {
			t.begin()
		}
		for _, p := range e.peers {
			p.look()
			p.seek()
		}
		return
	}
	if ring := e.clock.due(e.now); ring != nil {
		ring()
	}
}

func (e *Engine) effect(f Effect) { e.out.Effects = append(e.out.Effects, f) }

// tell adds an event; whatever is told of a peer that is not GB/T 36968 says so.
func (e *Engine) tell(v Event) {
	if e.nonGM && v.Peer != "" {
		if p := e.peerNamed(v.Peer); p != nil {
			v.NonGM = p.entry.NonGM()
		}
	}
	e.out.Events = append(e.out.Events, v)
}

// send puts datagrams out, in pieces where they are large and the peer takes them.
func (e *Engine) send(ds ...Datagram) {
	for _, d := range ds {
		if h, err := wire.ParseHeader(d.Data); err == nil && len(d.Data) > pieceBytes && !d.Probe && e.mayCut(h) {
			e.lastMessage++
			e.out.Packets = append(e.out.Packets, inPieces(d, h, e.lastMessage)...)
			continue
		}
		e.out.Packets = append(e.out.Packets, d)
	}
}

// random fills a new slice. A source that fails leaves nothing that could be
// done safely: the process ends, and the guard goes on dropping.
func (e *Engine) random(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(e.cfg.Rand, b); err != nil {
		panic(fmt.Sprintf("the random source failed, which no gateway survives: %v", err))
	}
	return b
}

func (e *Engine) random64() uint64 { return binary.BigEndian.Uint64(e.random(8)) }

// jitter spreads d evenly over its last tenth: between 0.9 d and d.
func (e *Engine) jitter(d time.Duration) time.Duration {
	if d < 10 {
		return d
	}
	return d - time.Duration(e.random64()%uint64(d/10))
}

func (e *Engine) newCookie() (c wire.Cookie) {
	for c == (wire.Cookie{}) {
		copy(c[:], e.random(8))
	}
	return c
}

// drawSPI draws an inbound SPI. It may be taken, or reserved (RFC 4303 2.1).
func (e *Engine) drawSPI() esp.SPI { return esp.SPI(binary.BigEndian.Uint32(e.random(4))) }

// private asks for an operation with one of our keys. The answer is void when
// the session has ended by then.
func (e *Engine) private(s *session, o PrivateOp, done func(PrivateDone)) {
	e.lastOp++
	o.ID = e.lastOp
	e.ops[o.ID] = &op{s, done}
	s.pending++
	e.effect(o)
}

func (e *Engine) privateDone(in PrivateDone) {
	o := e.ops[in.ID]
	delete(e.ops, in.ID)
	if o == nil || o.session.state == ended {
		in.Opened.Wipe()
		return
	}
	o.session.pending--
	o.done(in)
}

// failed takes note of an effect that the caller could not carry out.
func (e *Engine) failed(in Failed) {
	detail := fmt.Sprintf("%T: %v", in.Effect, in.Err)
	switch f := in.Effect.(type) {
	case Install:
		e.childFailed(f.Child.ID, true, detail)
	case Use:
		e.childFailed(f.Child, false, detail)
	case Rebind:
		e.childFailed(f.Child, false, detail)
	case Remove:
		e.tell(Event{Kind: PlaneFailed, Reason: InstallFailed, Child: f.Child, Detail: detail})
	case PrivateOp:
		if f.Power != nil {
			f.Power.Exponent.Wipe()
		}
		e.privateDone(PrivateDone{ID: f.ID, Err: in.Err})
	case Resolve:
		e.resolved(Resolved{Peer: f.Peer, Attempt: f.Attempt, Err: in.Err})
	}
}

// refusal turns the verdict of a verifier into a reason and its text.
func refusal(err error) (Reason, string) {
	var r *trust.Refusal
	if errors.As(err, &r) {
		return Reason(r.Reason), err.Error()
	}
	return CertMalformed, err.Error()
}
