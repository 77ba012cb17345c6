package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"yumen/ike"
)

// Gateway is one engine with its keys, its data plane and its place in the net.
type Gateway struct {
	Site
	// Engine is the engine that runs now; Restart replaces it.
	Engine *ike.Engine
	// Plane is the data plane.
	Plane *Plane
	// Driver, when set, takes the place of Engine: a machine around engines of its own.
	Driver interface {
		Step(now time.Time, in ike.Input) ike.Output
	}
	// Refuse, when set, makes an effect fail by answering an error.
	Refuse func(ike.Effect) error
	// Told is called with every event, when set.
	Told func(ike.Event)
	// Kernel: its data plane tells, as the kernel's, of each packet from another place
	// and does not know which is the newest.
	Kernel bool
	// Keys counts private-key operations that were asked for.
	Keys int
	// Wake is when the engine wants to be called next.
	Wake time.Time

	lab    *Lab
	seed   uint64
	starts int // how often it was started
	random source
	wake   uint64 // number of the alarm that counts
	nat    natTable
}

// Config is what the engine works from.
func (g *Gateway) Config() ike.Config {
	p := g.Policy
	return ike.Config{Policy: &p, Own: g.Own.Pair, Verifiers: g.verifiers(), PreShared: g.keys(), Rand: g.random,
		Files: g.Files, Learned: g.Learned, Ports: g.Ports}
}

// Random is the source of the engine.
func (g *Gateway) Random() io.Reader { return g.random }

// Restart begins anew with an empty engine and an empty data plane, as after a
// loss of power: nobody is told. Its configuration is that of Site.
func (g *Gateway) Restart() {
	g.starts++
	g.random = newSource(g.seed, fmt.Sprintf("%s %d", g.Name, g.starts))
	g.Engine = must(ike.NewEngine(g.Config()))
	g.Plane = newPlane(g)
	g.wake++
	g.later(0, func() { g.Feed(ike.Tick{}) })
}

// Resume begins anew with an empty engine and the data plane of before, as a gateway
// does whose children were left in the kernel: the new engine adopts those in use.
func (g *Gateway) Resume() {
	var left ike.Adopt
	for _, t := range g.Engine.Status().Tunnels {
		for i, c := range t.Children {
			if c.ID == t.InUse {
				left.Children = append(left.Children, ike.Adopted{Child: c, Installed: t.Installed[i], Origin: t.Origins[i]})
			}
		}
	}
	plane := g.Plane
	g.Restart()
	g.Plane = plane
	g.Feed(left)
}

// later plans do unless the gateway is restarted before.
func (g *Gateway) later(d time.Duration, do func()) {
	born := g.starts
	g.lab.After(d, func() {
		if g.starts == born {
			do()
		}
	})
}

// Feed gives the engine one input and carries out what follows: effects first,
// then packets, then events.
func (g *Gateway) Feed(in ike.Input) ike.Output {
	step := g.Engine.Step
	if g.Driver != nil {
		step = g.Driver.Step
	}
	out := step(g.lab.now, in)
	failed := g.carryOut(out.Effects)
	if failed == nil {
		for _, d := range out.Packets {
			g.lab.send(g, d)
		}
	}
	for _, v := range out.Events {
		g.lab.Story.event(g, v)
		if g.Told != nil {
			g.Told(v)
		}
	}
	g.wakeAt(out.Wake)
	for _, next := range failed {
		g.Feed(next)
	}
	return out
}

// wakeAt plans the next Tick; an earlier plan is void.
func (g *Gateway) wakeAt(at time.Time) {
	g.wake++
	g.Wake = at
	if at.IsZero() {
		return
	}
	number := g.wake
	g.later(max(0, at.Sub(g.lab.now)), func() {
		if g.wake == number {
			g.Feed(ike.Tick{})
		}
	})
}

// carryOut carries out effects in order. When one fails those before it are
// undone and those behind it dropped; the inputs that tell the engine so are
// returned.
func (g *Gateway) carryOut(effects []ike.Effect) (failed []ike.Input) {
	var undo []func()
	for i, f := range effects {
		back, err := g.apply(f)
		if err == nil {
			undo = append(undo, back)
			continue
		}
		for j := len(undo) - 1; j >= 0; j-- {
			undo[j]()
		}
		failed = []ike.Input{ike.Failed{Effect: f, Err: err}}
		for _, rest := range effects[i+1:] {
			switch rest := rest.(type) {
			case ike.PrivateOp:
				failed = append(failed, ike.PrivateDone{ID: rest.ID, Err: errDropped})
			case ike.Resolve:
				failed = append(failed, ike.Resolved{Peer: rest.Peer, Attempt: rest.Attempt, Err: errDropped})
			}
		}
		return failed
	}
	return nil
}

var errDropped = errors.New("not begun, because the step failed")

func (g *Gateway) apply(f ike.Effect) (undo func(), err error) {
	g.lab.Story.effect(g, f)
	if g.Refuse != nil {
		if err := g.Refuse(f); err != nil {
			g.lab.Story.line(g, "!", "refused: %v", err)
			return nil, err
		}
	}
	switch f := f.(type) {
	case ike.Install:
		return g.Plane.install(f), nil
	case ike.Use:
		return g.Plane.use(f.Child), nil
	case ike.Rebind:
		return g.Plane.rebind(f), nil
	case ike.Remove:
		return g.Plane.remove(f.Child), nil
	case ike.Resolve:
		g.resolve(f)
	case ike.PathMTU:
		g.Plane.Paths[f.Remote] = f.MTU
	case ike.PrivateOp:
		g.private(f)
	default:
		g.lab.fault("%s: unknown effect %T", g.Name, f)
	}
	return func() {}, nil
}

func (g *Gateway) resolve(f ike.Resolve) {
	answer := ike.Resolved{Peer: f.Peer, Attempt: f.Attempt, Local: g.Addr}
	for _, p := range g.Policy.Peers {
		switch {
		case p.Name != f.Peer:
		case p.Local.Addr.IsValid() && !g.has(p.Local.Addr):
			answer.Err = fmt.Errorf("%w: %v", ike.ErrAway, p.Local.Addr)
		case p.Remote.Addr.IsValid():
			answer.Remote = []netip.Addr{p.Remote.Addr}
			if p.Local.Addr.IsValid() {
				answer.Local = p.Local.Addr
			}
		default:
			answer.Remote = g.lab.Names[p.Remote.FQDN]
		}
	}
	if answer.Err == nil && len(answer.Remote) == 0 {
		answer.Err = errors.New("no such name")
	}
	g.later(0, func() { g.Feed(answer) })
}

// has reports whether the gateway has an address.
func (g *Gateway) has(a netip.Addr) bool { return g.Addr == a || slices.Contains(g.More, a) }

// private answers a private-key operation, at once or when the card is ready.
func (g *Gateway) private(f ike.PrivateOp) {
	g.Keys++
	f.Envelope, f.Digest = bytes.Clone(f.Envelope), bytes.Clone(f.Digest)
	var wait time.Duration
	if g.lab.KeyDelay != nil {
		wait = g.lab.KeyDelay()
	}
	answer := g.Own.do(f, g.random)
	g.later(wait, func() { g.Feed(answer) })
}
