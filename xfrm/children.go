package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy/secret"
)

// pair is an installed child.
type pair struct {
	child   esp.Child // its keymats are gone
	in, out state     // with keymats of our own
	turn    uint64    // when it was put to use; 0: never
	heard   bool      // the first packet
	soft    bool      // was told
	ended   bool      // by a hard limit
	parked  bool      // its SAs are not in the kernel: see Mute
	mapped  mapping   // told last
	last    esp.Usage
}

func (x *pair) wipe() {
	x.in.keymat.Wipe()
	x.out.keymat.Wipe()
}

// Install makes c able to receive, going on after from. It does not send by c until
// Use. The keymat of c is copied: wiping c's is the caller's.
func (p *Plane) Install(c esp.Child, from esp.State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.install(c, from); err != nil {
		return fmt.Errorf("install child %d of tunnel %s: %w", c.ID, c.Tunnel, err)
	}
	return nil
}

func (p *Plane) install(c esp.Child, from esp.State) error {
	r, known := p.reqids[c.Tunnel]
	switch {
	case p.closed:
		return errClosed
	case c.ID == 0 || p.pairs[c.ID] != nil:
		return errors.New("its number is 0 or taken")
	case !known:
		return errors.New("the policy has no such tunnel")
	}
	path, err := p.locate(c.Path)
	if err != nil {
		return err
	}
	c.Path = path
	x := &pair{child: c}
	x.child.In.Keymat, x.child.Out.Keymat = secret.Secret{}, secret.Secret{}
	x.in, x.out, err = planChild(c, from, p.context(c.Tunnel, r))
	if err != nil {
		return err
	}
	x.heard = !x.in.watched
	if x.in.watched {
		if err := p.listener.watchPackets(true); err != nil {
			return err
		}
	}
	p.pairs[c.ID] = x // before the first packet can come
	x.parked = p.muted[c.Tunnel]
	if x.parked {
		x.in.keymat, x.out.keymat = secret.New(c.In.Keymat.Bytes()), secret.New(c.Out.Keymat.Bytes())
		return nil
	}
	if err := carryOut([]step{adding(p.conn, x.in), adding(p.conn, x.out)}); err != nil {
		delete(p.pairs, c.ID)
		return err
	}
	x.in.keymat, x.out.keymat = secret.New(c.In.Keymat.Bytes()), secret.New(c.Out.Keymat.Bytes())
	return nil
}

func (p *Plane) context(tunnel string, reqid uint32) context {
	return context{reqid: reqid, ifID: p.cfg.InterfaceID, outputMark: p.cfg.OutputMark, inMark: p.marks[tunnel]}
}

// locate fills in our own address and port and refuses what no socket of ours could
// carry.
func (p *Plane) locate(path esp.Path) (esp.Path, error) {
	local, remote := path.Local.Addr().Unmap(), path.Remote.Addr().Unmap()
	port := path.Local.Port()
	if path.Encap {
		if p.wire.conns[index(remote.Is6())] == nil {
			return path, errors.New("esp in udp over IPv6: this host has no IPv6")
		}
		port = p.cfg.NATPort
	}
	if (!local.IsValid() || local.IsUnspecified()) && remote.IsValid() {
		a, err := p.host.source(remote)
		if err != nil {
			return path, err
		}
		local = a
	}
	path.Local = netip.AddrPortFrom(local, port)
	path.Remote = netip.AddrPortFrom(remote, path.Remote.Port())
	return path, checkPath(path)
}

// Use sends the traffic of the child's tunnel by the child from now on.
func (p *Plane) Use(id esp.ChildID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.pairs[id]
	if p.closed || x == nil {
		return fmt.Errorf("use child %d: %w", id, esp.ErrNoChild)
	}
	from := p.sending(x.child.Tunnel)
	if err := carryOut(p.switchTo(x.child.Tunnel, from, templateOf(x.out))); err != nil {
		return fmt.Errorf("use child %d: %w", id, err)
	}
	p.turn++
	x.turn = p.turn
	p.tellPinger()
	switch tunnel := x.child.Tunnel; {
	case len(p.leftover[p.headOf(tunnel)]) == 0:
	case x.heard: // the peer was quicker than we
		p.retireNow(tunnel)
	default:
		time.AfterFunc(p.cfg.Overlap, func() { p.retire(tunnel) })
	}
	return nil
}

// Rebind moves a child to another path. Other ports alone are changed in place;
// otherwise its SAs are deleted and added with their state, and what arrives between
// is lost.
func (p *Plane) Rebind(id esp.ChildID, path esp.Path) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.pairs[id]
	if p.closed || x == nil {
		return fmt.Errorf("rebind child %d: %w", id, esp.ErrNoChild)
	}
	if err := p.rebind(x, path); err != nil {
		return fmt.Errorf("rebind child %d: %w", id, err)
	}
	return nil
}

// skipped is how far the numbers of an outbound SA that moves jump ahead, since it may
// send between our reading and its end, so much later: 15 packets each microsecond,
// which are the smallest at 10 Gbit/s, and some that were on their way.
func skipped(later time.Duration) uint64 {
	const underWay, perMicrosecond = 128, 15
	return underWay + uint64(later/time.Microsecond+1)*perMicrosecond
}

func (p *Plane) rebind(x *pair, path esp.Path) error {
	path, err := p.locate(path)
	if err != nil {
		return err
	}
	in, out := x.in, x.out
	in.src, in.dst, out.src, out.dst = path.Remote.Addr(), path.Local.Addr(), path.Local.Addr(), path.Remote.Addr()
	in.sport, in.dport, out.sport, out.dport = 0, 0, 0, 0
	if path.Encap {
		in.sport, in.dport = path.Remote.Port(), path.Local.Port()
		out.sport, out.dport = path.Local.Port(), path.Remote.Port()
	}
	if x.parked {
		x.in, x.out, x.child.Path = in, out, path
		return nil
	}
	if in.src == x.in.src && in.dst == x.in.dst && path.Encap == x.child.Path.Encap {
		steps := []step{p.porting(in, x.in), p.porting(out, x.out)}
		if err := carryOut(steps); err != nil {
			return err
		}
	} else if err := p.relocate(x, in, out); err != nil {
		return err
	}
	x.in, x.out, x.child.Path = in, out, path
	return nil
}

func (p *Plane) porting(to, from state) step {
	return step{
		do:   func() error { return p.conn.updatePorts(to) },
		undo: func() error { return p.conn.updatePorts(from) },
		what: fmt.Sprintf("move SA %08x to other ports", uint32(to.spi)),
	}
}

// relocate replaces both SAs of x. If one cannot be added the old ones come back.
func (p *Plane) relocate(x *pair, in, out state) error {
	ri, err := p.conn.readState(x.in.dst, x.in.spi, false)
	if err != nil {
		return fmt.Errorf("read SA %08x: %w", uint32(x.in.spi), err)
	}
	read := time.Now()
	ro, err := p.conn.readState(x.out.dst, x.out.spi, false)
	if err != nil {
		return fmt.Errorf("read SA %08x: %w", uint32(x.out.spi), err)
	}
	resume := func(s *state, r reading) {
		s.seq, s.replay, s.count, s.watched = r.state.seq, r.state.replay, r.counts, false
	}
	oldIn, oldOut := x.in, x.out
	for _, s := range []*state{&in, &oldIn} {
		resume(s, ri)
		s.watched = !x.heard
	}
	for _, s := range []*state{&out, &oldOut} {
		resume(s, ro)
		s.replay = nil
	}
	steps := []step{replacing(p.conn, oldOut, out, read), replacing(p.conn, oldIn, in, read)}
	if p.inUse(x) {
		steps = append(steps, p.switchTo(x.child.Tunnel, templateOf(oldOut), templateOf(out))...)
	}
	return carryOut(steps)
}

// replacing deletes an SA that was read then and adds it as it shall be.
func replacing(c *conn, from, to state, read time.Time) step {
	swap := func(from, to state) error {
		if err := c.deleteState(from.dst, from.spi); err != nil {
			return err
		}
		if to.outbound {
			to.seq += skipped(time.Since(read))
			from.seq = to.seq
		}
		if err := c.addState(to); err != nil {
			return errors.Join(err, c.addState(from))
		}
		return nil
	}
	return step{
		do:   func() error { return swap(from, to) },
		undo: func() error { return swap(to, from) },
		what: fmt.Sprintf("move SA %08x to %s", uint32(to.spi), to.dst),
	}
}

// Remove stops a child and returns what it needs to go on elsewhere. If another
// child of its tunnel was in use before it, that one sends again. A child that is
// not installed is no error.
func (p *Plane) Remove(id esp.ChildID) (esp.State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.pairs[id]
	if x == nil || p.closed {
		return esp.State{}, nil
	}
	if p.inUse(x) {
		next := p.next(x)
		if err := carryOut(p.switchTo(x.child.Tunnel, templateOf(x.out), next)); err != nil {
			return esp.State{}, fmt.Errorf("remove child %d: %w", id, err)
		}
	}
	s := p.state(x)
	err := errors.Join(p.conn.deleteState(x.out.dst, x.out.spi), p.conn.deleteState(x.in.dst, x.in.spi))
	if err != nil {
		return s, fmt.Errorf("remove child %d: %w", id, err)
	}
	x.wipe()
	delete(p.pairs, id)
	p.tellPinger()
	return s, p.watchAsNeeded()
}

// next is the template that follows when x goes.
func (p *Plane) next(x *pair) template {
	if y := p.latest(x.child.Tunnel, x.child.ID); y != nil {
		return templateOf(y.out)
	}
	if t, ok := p.adopted[x.child.Tunnel]; ok && groupOf(p.groups, x.child.Tunnel) == nil {
		return t
	}
	p.idleTurn++
	return idle(p.reqids[x.child.Tunnel], p.idleTurn)
}

// state reads what a child needs to go on elsewhere; an SA that a hard limit ended
// has nothing to say.
func (p *Plane) state(x *pair) (s esp.State) {
	if x.parked {
		return esp.State{InSeq: x.in.seq, Replay: x.in.replay, In: x.in.count, OutSeq: x.out.seq, Out: x.out.count}
	}
	if r, err := p.conn.readState(x.in.dst, x.in.spi, false); err == nil {
		s.InSeq, s.Replay, s.In = r.state.seq, r.state.replay, r.counts
	}
	if r, err := p.conn.readState(x.out.dst, x.out.spi, false); err == nil {
		s.OutSeq, s.Out = r.state.seq, r.counts
	}
	return s
}

// latest is the child of a tunnel that was put to use last and still lives, other
// than except.
func (p *Plane) latest(tunnel string, except esp.ChildID) (found *pair) {
	for id, x := range p.pairs {
		if x.child.Tunnel == tunnel && id != except && x.turn > 0 && !x.ended && (found == nil || x.turn > found.turn) {
			found = x
		}
	}
	return found
}

func (p *Plane) inUse(x *pair) bool {
	y := p.latest(x.child.Tunnel, 0)
	return y == x || y == nil && x.turn > 0
}

// Usage reads the counters of a child. False: not installed.
func (p *Plane) Usage(id esp.ChildID) (esp.Usage, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.pairs[id]
	if x == nil || p.closed {
		return esp.Usage{}, false
	}
	u := &x.last
	u.EffectiveMTU = esp.MaxInner(x.child, p.pathMTU(ends{x.out.src, x.out.dst}))
	if r, err := p.conn.readState(x.in.dst, x.in.spi, false); err == nil {
		u.LastIn = lastUsed(u.LastIn, r, u.In)
		u.In, u.Replayed, u.BadAuth = r.counts, r.replays, r.badAuth
	} else if !errors.Is(err, unix.ESRCH) {
		p.fault(err)
	}
	if r, err := p.conn.readState(x.out.dst, x.out.spi, false); err == nil {
		u.LastOut = lastUsed(u.LastOut, r, u.Out)
		u.Out = r.counts
	}
	return *u, true
}

// lastUsed is when an SA carried its last packet. Kernels that do not say leave the
// moment at which the counter was first seen to have grown.
func lastUsed(before time.Time, r reading, seen esp.Count) time.Time {
	switch {
	case r.counts.Packets == 0:
		return time.Time{}
	case r.used > 0:
		return time.Unix(int64(r.used), 0)
	case r.counts != seen || before.IsZero():
		return time.Now()
	}
	return before
}
