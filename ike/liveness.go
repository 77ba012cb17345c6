package ike

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"yumen/esp"
	"yumen/ike/wire"
)

// strayDial is the least time between two main modes that unknown cookies or
// SPIs from a configured address make us start.
const strayDial = 10 * time.Second

// maxTried bounds how many questions to a new place are remembered: on a slow path
// some are under way at once.
const maxTried = 8

// heardFrom notes an authentic message: the peer lives.
func (s *session) heardFrom(d Datagram) {
	s.heard, s.unanswered = s.e.now, 0
	s.maybeMoved(d.Remote)
}

// watch begins dead peer detection (RFC 3706) with a peer that announced it.
func (s *session) watch() {
	s.heard = s.e.now
	if every := s.peer.entry.DPD.Interval; every > 0 && s.knows.dpd {
		s.e.clock.set(&s.dpd, s.e.now.Add(every), s.probe)
	}
}

// probe asks a peer that was silent for an interval whether it is there, and
// gives it up after the configured number of tries.
func (s *session) probe() {
	e, dpd := s.e, s.peer.entry.DPD
	switch silent := e.now.Sub(s.heard); {
	case silent < dpd.Interval:
		e.clock.set(&s.dpd, s.heard.Add(dpd.Interval), s.probe)
		return
	case s.unanswered >= dpd.Tries:
		s.dead(fmt.Sprintf("no answer for %v", silent.Round(time.Second)))
		return
	}
	s.unanswered++
	s.areYouThere(s.remote)
	e.clock.set(&s.dpd, e.now.Add(dpd.Interval), s.probe)
}

func (s *session) areYouThere(to netip.AddrPort) {
	home := s.remote
	s.remote = to
	s.inform(wire.Payload{Type: wire.TypeNotify, Body: s.rUThere().Append(nil)})
	s.remote = home
}

// rUThere is the next R-U-THERE.
func (s *session) rUThere() wire.Notification {
	s.dpdSeq++
	spi := s.cookies()
	if s.dialect.DPDNoSPI {
		spi = nil
	}
	return wire.Notification{DOI: doiIPsec, Protocol: wire.ProtoISAKMP, Type: wire.RUThere,
		SPI: spi, Data: binary.BigEndian.AppendUint32(nil, s.dpdSeq)}
}

// dead ends a session whose peer does not answer. With the last session the
// children go too: they lead nowhere, and the tunnel starts over.
func (s *session) dead(detail string) {
	e, p := s.e, s.peer
	e.tell(s.event(PeerDead, Dead, detail))
	e.tell(s.event(IKEDown, Dead, detail))
	s.end()
	if p.session() == nil {
		p.dropChildren(Dead, func(*child) bool { return true })
	}
	p.missing()
}

// dropChildren ends, without a word to the peer, the children that match.
func (p *peer) dropChildren(reason Reason, match func(*child) bool) {
	for _, t := range p.e.tunnels {
		for _, c := range slices.Clone(t.children) {
			if t.peer == p && match(c) {
				c.end(reason, quietly)
			}
		}
	}
}

// greet sends INITIAL-CONTACT in the first proven session with a peer since we
// started: whatever the peer has from before is dead. A probe does not say so: it
// has no before, and what the peer has may be another's who holds the same keys.
func (s *session) greet() {
	if s.peer.greeted || s.e.cfg.Hear != nil {
		return
	}
	s.peer.greeted = true
	s.notify(wire.Notification{DOI: doiIPsec, Protocol: wire.ProtoISAKMP, Type: wire.InitialContact, SPI: s.cookies()})
}

// initialContact drops what is left of the peer's life before this session: the
// sessions of the same certificate pair, or of another at the same address (a second
// machine took over), and the children that were there when this session began, but for
// those of another pair that still has a session. What crossed with it is not older.
func (s *session) initialContact() {
	for _, o := range slices.Clone(s.peer.live) {
		another := o.mark != s.mark && (s.nat.theirs || o.remote.Addr() != s.remote.Addr())
		if o == s || !o.up.Before(s.created) || another {
			continue
		}
		s.e.tell(o.event(IKEDown, Replaced, "the peer started anew"))
		o.end()
	}
	lives := func(mark string) bool {
		return slices.ContainsFunc(s.peer.live, func(o *session) bool { return o.mark == mark && mark != s.mark })
	}
	s.peer.dropChildren(Replaced, func(c *child) bool { return c.installed.Before(s.created) && !lives(c.mark) })
	s.peer.missing() // a quick mode may have been under way on what ended
}

// unknownSPI tells a living peer that the SA it sends on is gone here, so that a
// lost delete does not cost more than a moment. Of several at that address, behind one
// NAT or by one of several entries, only one knows what it is about: all are told, if
// the port does not say which one it is.
func (e *Engine) unknownSPI(v esp.Event) {
	var there, near []*session
	for _, p := range e.peers {
		switch s := p.session(); {
		case s == nil:
		case s.remote == v.Remote:
			there = append(there, s)
		case s.remote.Addr() == v.Remote.Addr():
			near = append(near, s)
		}
	}
	if len(there) == 0 {
		there = near
	}
	for _, s := range there {
		if e.gate.unknownSPI(e.now) {
			s.sendDelete(v.SPI)
		}
	}
	if len(there) == 0 && e.gate.unknownSPI(e.now) {
		e.lostTrack(netip.Addr{}, v.Remote.Addr())
	}
}

// lostTrack starts a main mode when an address of a configured peer, with which
// there is no session, speaks in terms that we do not know: one of us restarted.
func (e *Engine) lostTrack(local, remote netip.Addr) {
	candidates, known := e.candidates(local, remote)
	if !known || e.ending {
		return
	}
	p := candidates[0]
	if len(p.live) > 0 || !p.strayAt.IsZero() && e.now.Sub(p.strayAt) < strayDial {
		return
	}
	if p.connect() {
		p.strayAt = e.now
	}
}

// maybeMoved reacts to an authentic message from another place. It is believed
// only of a peer behind a NAT, and only after an answer from there.
func (s *session) maybeMoved(from netip.AddrPort) {
	if from == s.remote || !s.nat.theirs || from == s.tried && s.e.now.Sub(s.triedAt) < answerGap {
		return
	}
	if from != s.tried {
		s.triedBy = nil
	}
	s.tried, s.triedAt = from, s.e.now
	s.areYouThere(from)
	s.triedBy = append(s.triedBy[max(0, len(s.triedBy)+1-maxTried):], s.dpdSeq)
}

// arrived is an authentic answer to the R-U-THERE of that number. Only one that was
// sent to where the answer comes from proves that the peer is there: others can have
// been seen on their way from where it is, and be sent on from anywhere.
func (s *session) arrived(from netip.AddrPort, number uint32) {
	if from != s.tried || from == s.remote || !slices.Contains(s.triedBy, number) {
		return
	}
	old := s.remote
	s.remote, s.tried, s.triedBy = from, netip.AddrPort{}, nil
	s.e.tell(s.event(PeerMoved, "", fmt.Sprintf("from %v", old)))
	s.peer.rebind(old, from)
	s.redirect(old, from)
	s.path.restart()
}

// redirect sends what waits for an answer from the peer to its new place, now and
// when it is repeated: at the old one nobody hears it.
func (s *session) redirect(old, to netip.AddrPort) {
	waiting := []*resend{&s.resend}
	for _, x := range s.exchangeList() {
		waiting = append(waiting, &x.resend)
	}
	for _, r := range waiting {
		for i := range r.packets {
			if r.packets[i].Remote == old {
				r.packets[i].Remote = to
				s.e.send(r.packets[i])
			}
		}
	}
}

// rebind moves the children of a peer that use one outer address to another.
func (p *peer) rebind(from, to netip.AddrPort) {
	for _, t := range p.e.tunnels {
		for _, c := range t.children {
			if t.peer == p && c.Path.Encap && c.Path.Remote == from && !c.gone {
				c.Path.Remote = to
				p.e.effect(Rebind{Child: c.ID, Path: c.Path})
			}
		}
	}
}

// childMoved follows a NAT that gave the peer another address, on the highest
// authentic sequence number; where the data plane does not know that of a packet, to
// where the peer is known to be. The IKE side, and with it every child, follows once
// the peer answers there.
func (e *Engine) childMoved(c *child, to netip.AddrPort, newest bool) {
	s := c.t.peer.session()
	if s == nil || !s.nat.theirs || !c.Path.Encap || c.Path.Remote == to {
		return
	}
	if newest || to == s.remote {
		c.t.peer.rebind(c.Path.Remote, to)
	}
	s.maybeMoved(to)
}

// responderLifetime shortens what the peer will end earlier than we would. Of bytes
// nothing is shortened: the data plane counts them from the start, and the peer, which
// does so too, renews before its own limit.
func (s *session) responderLifetime(n wire.Notification) {
	attributes, err := wire.ParseAttributes(n.Data)
	if err != nil {
		s.drop(Malformed, err.Error())
		return
	}
	var l lifetimes
	for _, a := range attributes { // of an ISAKMP SA some number them as in phase 1
		isType := a.Type == attrSALifeType || a.Type == attrLifeType
		if !isType && a.Type != attrSALifetime && a.Type != attrLifetime {
			continue
		}
		if v, ok := a.Uint(); ok && l.take(isType, v) != nil {
			return
		}
	}
	life := seconds(l.seconds)
	if life <= 0 {
		return
	}
	e := s.e
	shorten := func(a *alarm, at time.Time) {
		if a.pending() && at.Before(a.at) {
			e.clock.set(a, at, a.ring)
		}
	}
	if n.Protocol == wire.ProtoISAKMP {
		shorten(&s.life, s.up.Add(life))
		shorten(&s.soft, s.up.Add(e.jitter(life*9/10)))
		return
	}
	for _, c := range e.children {
		if c.t.peer == s.peer && (string(n.SPI) == string(spiBytes(c.Out.SPI)) || string(n.SPI) == string(spiBytes(c.In.SPI))) {
			shorten(&c.hard, c.installed.Add(life))
			shorten(&c.soft, c.installed.Add(e.jitter(life*17/20)))
		}
	}
}
