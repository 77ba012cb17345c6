package ike

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"yumen/esp"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/secret"
)

const (
	// overlap is how long an old child still receives after a new one took over.
	overlap = 10 * time.Second
	// stragglers is how long an old child still receives once the peer sends on
	// the new one: packets may overtake each other.
	stragglers = 2 * time.Second
	// peerReady is how long a peer of another make may take to read QM3.
	peerReady = time.Second
	// rekeyRetry is the wait after a rekey that failed.
	rekeyRetry = 10 * time.Second
)

var none secret.Secret

// Who is told when a child ends.
const (
	quietly  = false
	tellPeer = true
)

// child is one pair of SAs, from its negotiation to its end.
type child struct {
	esp.Child
	e         *Engine
	t         *tunnel
	origin    Origin
	ours      bool // we started its quick mode
	started   time.Time
	installed time.Time
	upAt      time.Time
	up        bool
	gone      bool
	heard     bool // a good packet came in
	ends      bool // retired, and ours to delete
	left      bool // the peer was told that it goes
	adopted   bool // negotiated by an engine before this one
	exchange  *exchange
	useSoon   alarm
	soft      alarm
	hard      alarm
	overlap   alarm

	mark string // of the session that negotiated it; empty: not known
}

// make fills in what the exchange agreed.
func (c *child) make(x *exchange, pick chosen) {
	s, t := x.s, x.tunnel.entry
	in, out := x.spi, pick.spi
	n := esp.KeymatLen(pick.x.suite)
	key := func(spi esp.SPI) secret.Secret {
		return s.keys.Keymat(uint8(wire.ProtoESP), uint32(spi), x.hash.Ni, x.hash.Nr, n)
	}
	c.Child = esp.Child{
		ID: c.ID, Tunnel: t.Name, Peer: s.peer.entry.Name, Selector: x.selector,
		Lane:  x.tunnel.lane,
		Suite: pick.x.suite, ICVBits: x.tunnel.icvBits(), ESN: pick.x.esn, Window: t.Window, Outer: t.Outer,
		Path: esp.Path{Local: s.local, Remote: s.remote, Encap: s.udp()},
		In:   esp.Half{SPI: in, Keymat: key(in)},
		Out:  esp.Half{SPI: out, Keymat: key(out)},
	}
	if c.Suite != policy.SM4CBCHMACSM3 { // the others have one length
		c.ICVBits = 128
	}
	if !c.Path.Encap {
		c.Path.Local = netip.AddrPortFrom(s.local.Addr(), 0)
		c.Path.Remote = netip.AddrPortFrom(s.remote.Addr(), 0)
	}
	c.mark, c.origin = s.mark, s.origin()
	c.Limits = limits(t, pick.x.life, c.ours)
	x.theirLife = seconds(pick.x.life.seconds)
}

// limits are the lower of ours and the peer's; the end that started the child
// renews it first, so that both rarely do at once.
func limits(t policy.Tunnel, peer lifetimes, ours bool) esp.Limits {
	hard := t.Lifetime
	if l := seconds(peer.seconds); l > 0 && l < hard {
		hard = l
	}
	bytes := t.Bytes
	if b := peer.kilobytes * 1024; b > 0 && (bytes == 0 || b < bytes) {
		bytes = b
	}
	l := esp.Limits{HardTime: hard, HardBytes: bytes, HardPackets: t.Packets}
	part := uint64(90)
	if ours {
		part = 85
	}
	l.SoftTime = hard / 100 * time.Duration(part)
	l.SoftBytes = percent(bytes, part)
	l.SoftPackets = percent(t.Packets, part)
	return l
}

// percent is part hundredths of v, for small and for large v.
func percent(v, part uint64) uint64 { return v/100*part + v%100*part/100 }

// install lets the child receive.
func (c *child) install() {
	e := c.e
	c.installed = e.now
	e.children[c.ID] = c
	c.t.children = slices.Insert(c.t.children, 0, c)
	e.effect(Install{Child: c.Child})
	e.clock.set(&c.hard, e.now.Add(c.Limits.HardTime), func() { c.end(Expired, tellPeer) })
	e.clock.set(&c.soft, e.now.Add(e.jitter(c.Limits.SoftTime)), c.rekey)
}

// confirm is the responder's proof that the peer is ready: QM3, or a packet.
func (c *child) confirm() {
	x := c.exchange
	c.use()
	if x == nil {
		return
	}
	x.settle()
	if x.role == Responder && x.theirLife > c.Limits.HardTime {
		x.s.notify(wire.Notification{DOI: doiIPsec, Protocol: wire.ProtoESP, Type: wire.ResponderLifetime,
			SPI: spiBytes(c.In.SPI), Data: wire.AppendAttributes(nil, []wire.Attribute{
				wire.Short(attrSALifeType, lifeSeconds),
				number(attrSALifetime, uint64(c.Limits.HardTime/time.Second))})})
	}
}

// useOnceReady makes an initiator that has just sent QM3 use the child. A Yumen
// receives on it since it sent QM2; others do so only once they have read QM3, which
// a busy one does later than the packet behind it. So while there is another child to
// send on they get a moment, unless they send on the new one before.
func (c *child) useOnceReady(x *exchange) {
	e, wait := c.e, time.Duration(0)
	switch old := c.t.current; {
	case x.waits:
		wait = firstResend
	case old != nil && !x.s.knows.yumen:
		wait = max(0, min(peerReady, old.hard.at.Sub(e.now)/2))
	}
	e.clock.set(&c.useSoon, e.now.Add(wait), c.use)
}

// use makes the child the one that its tunnel sends on.
func (c *child) use() {
	e := c.e
	e.clock.stop(&c.useSoon)
	if c.up || c.gone {
		return
	}
	t := c.t
	for _, o := range slices.Clone(t.children) { // those that began before come before
		if o.ID < c.ID && o.useSoon.pending() && o.exchange != nil && !o.exchange.waits {
			o.use()
		}
	}
	c.up, c.upAt = true, e.now
	t.failures, t.peer.leaves = 0, 0
	e.clock.stop(&t.retry)
	t.note("", "")
	kind := ChildUp
	if t.current != nil {
		kind = ChildRekeyed
	}
	up := c.event(kind, "", "")
	up.Took = e.now.Sub(c.started)
	e.tell(up)
	t.settle(c)
	t.resume()
	t.widen()
}

func (c *child) event(kind EventKind, reason Reason, detail string) Event {
	v := Event{Kind: kind, Reason: reason, Detail: detail, Peer: c.t.entry.Peer, Tunnel: c.t.entry.Name,
		Child: c.ID, InSPI: c.In.SPI, OutSPI: c.Out.SPI, Local: c.Path.Local, Remote: c.Path.Remote}
	if !c.ours {
		v.Role = Responder
	}
	return v
}

// firstPacket is the first authentic packet on the child's inbound SA. The peer
// sends on it, so it is alive there.
func (c *child) firstPacket() {
	c.heard = true
	if !c.up && (c.exchange == nil || c.exchange.role == Responder || c.useSoon.pending()) {
		c.confirm()
	}
	c.t.hasten()
}

// rekey starts a quick mode to replace a child that nears its limit.
func (c *child) rekey() {
	t := c.t
	if c.gone || t.current != c || t.stopped || c.e.ending {
		return
	}
	// Whatever is under way may come to nothing, and limits are told once.
	c.e.clock.set(&c.soft, c.e.now.Add(rekeyRetry), c.rekey)
	if t.quick != nil || t.queued {
		return
	}
	if s := t.peer.session(); s != nil {
		s.enqueue(t)
	} else {
		t.peer.connect()
	}
}

// end removes the child. Another living one takes over at once; with none left
// the tunnel starts over if it is to be up.
func (c *child) end(reason Reason, tell bool) {
	e, t := c.e, c.t
	if c.gone {
		return
	}
	c.gone = true
	for _, a := range []*alarm{&c.useSoon, &c.soft, &c.hard, &c.overlap} {
		e.clock.stop(a)
	}
	delete(e.children, c.ID)
	if e.spis[c.In.SPI] == c.ID {
		delete(e.spis, c.In.SPI)
	}
	t.children = slices.DeleteFunc(t.children, func(o *child) bool { return o == c })
	t.forgetICV()
	if x := c.exchange; x != nil {
		if e.spis[x.spi] == c.ID {
			delete(e.spis, x.spi)
		}
		c.exchange = nil
		x.child = nil
		if !c.up {
			x.close()
		}
	}
	if t.current == c {
		t.replace()
	}
	if !c.installed.IsZero() {
		e.effect(Remove{Child: c.ID})
		e.tell(c.event(ChildDown, reason, ""))
	}
	c.In.Keymat.Wipe()
	c.Out.Keymat.Wipe()
	if s := t.peer.session(); tell && s != nil && s.state == established && !c.installed.IsZero() {
		s.sendDelete(c.In.SPI)
	}
	switch {
	case !c.up || !t.lacking() || reason == InstallFailed: // childFailed waits before the next
	case reason == PeerDeleted: // not at once: the peer may mean it
		t.failed(reason, "the peer deleted the tunnel")
	default:
		t.ensure()
	}
	t.resume()
}

// replace makes the newest child that is up the current one, or one that only waited
// for the peer to be ready.
func (t *tunnel) replace() {
	t.current = nil
	for _, c := range t.children {
		if !c.gone && c.useSoon.pending() {
			c.use()
			return
		}
	}
	for _, c := range t.children {
		if c.up && !c.gone && !c.left {
			t.current = c
			c.recall()
			t.e.effect(Use{Child: c.ID})
			return
		}
	}
}

// sendDelete tells the peer that our inbound SA is gone.
func (s *session) sendDelete(spi esp.SPI) {
	s.inform(wire.Payload{Type: wire.TypeDelete, Body: wire.Delete{DOI: doiIPsec, Protocol: wire.ProtoESP,
		SPISize: 4, SPIs: [][]byte{spiBytes(spi)}}.Append(nil)})
}

// deleted acts on an authentic delete: the SPIs are those that the peer receives
// on, so the children that we send to them on are gone.
func (s *session) deleted(body []byte) {
	d, err := wire.ParseDelete(body)
	if err != nil {
		s.drop(Malformed, err.Error())
		return
	}
	switch d.Protocol {
	case wire.ProtoESP:
		for _, b := range d.SPIs {
			s.deletedSPI(b)
		}
	case wire.ProtoISAKMP:
		for _, b := range d.SPIs {
			s.deletedSession(b)
		}
	}
}

func (s *session) deletedSPI(b []byte) {
	if len(b) != 4 {
		s.drop(Malformed, fmt.Sprintf("delete with an SPI of %d bytes", len(b)))
		return
	}
	spi := esp.SPI(binary.BigEndian.Uint32(b))
	for _, t := range s.e.tunnels {
		if t.peer != s.peer {
			continue
		}
		for _, c := range slices.Clone(t.children) {
			if c.Out.SPI == spi {
				c.end(PeerDeleted, quietly)
			}
		}
	}
}

// childFailed takes back a child that the data plane refused to install, use or
// move. An install that failed left nothing to be removed.
func (e *Engine) childFailed(id esp.ChildID, undone bool, detail string) {
	c := e.children[id]
	if c == nil {
		return
	}
	e.tell(c.event(PlaneFailed, InstallFailed, detail))
	t, x := c.t, c.exchange
	if undone {
		c.installed = time.Time{}
	}
	s := t.peer.session()
	spi := c.In.SPI
	c.end(InstallFailed, quietly)
	if s != nil && s.state == established {
		if undone && x != nil && x.role == Responder {
			s.notify(wire.Notification{DOI: doiIPsec, Protocol: wire.ProtoESP, SPI: make([]byte, 4), Type: wire.NoProposalChosen})
		} else {
			s.sendDelete(spi)
		}
	}
	t.failed(InstallFailed, detail)
	if s != nil {
		s.nextQuick()
	}
}
