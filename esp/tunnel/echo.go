package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"yumen/esp"
	"yumen/policy"
)

const (
	echoQueue = 1024

	// Answers of one child: so many at once, then one in each gap. Who probes every
	// 20 ms, the most that a policy allows, is far below.
	answerGap   = time.Millisecond
	answerBurst = 200

	noteMost = ip6Header + 8 + esp.PingLen // a ping
)

var errNotGrouped = errors.New("the tunnel is in no group")

// courier sends single packets that no host sent. One goroutine.
type courier struct {
	plane *Plane
	by    [kinds]*sender
	note  []byte // what is sealed
	buf   []byte // and where
}

func newCourier(p *Plane) courier {
	c := courier{plane: p, note: make([]byte, 0, noteMost), buf: make([]byte, outerMost+espBefore+noteMost+espBehind)}
	for k := range kinds {
		s := p.sockets[k]
		if !k.v6() {
			s = p.asker // the header is ours, see openSender
		}
		if s != nil {
			c.by[k] = newHastySender(s)
		}
	}
	return c
}

// echo sends e by x. Nothing is said about packets that a muted tunnel loses.
func (c *courier) echo(x *pair, e esp.Echo) error {
	c.note = esp.AppendEcho(c.note[:0], e)
	return c.send(x, true)
}

// ping sends e by x to an address behind the far end.
func (c *courier) ping(x *pair, m member, e esp.Echo) error {
	var data [esp.PingLen]byte
	c.note = esp.AppendPing(c.note[:0], m.from, m.target, uint16(e.Seq), esp.AppendPingData(data[:0], c.plane.token, m.tag, e))
	return c.send(x, false)
}

// send seals the note and sends it, in turn with whoever else sends by x.
func (c *courier) send(x *pair, dummy bool) (err error) {
	if x.muted {
		c.plane.counts.add(dropMuted)
		return nil
	}
	x.last.sealing.take()
	defer x.last.sealing.release()
	room, b := outerRoom(x.kind), []byte(nil)
	if dummy {
		b, err = x.out.SealDummy(c.buf[:room], c.note)
	} else {
		b, err = x.out.Seal(c.buf[:room], c.note)
	}
	if x.out.TookSoftLimit() {
		c.plane.emit(x.event(esp.SoftLimit))
	}
	if err != nil {
		if x.out.TookHardLimit() {
			c.plane.emit(x.event(esp.HardLimit))
		}
		c.plane.counts.add(dropSeal)
		return err
	}
	path := x.child.Path
	if x.kind.udp() && path.Local.Port() == 0 {
		path.Local = netip.AddrPortFrom(path.Local.Addr(), c.plane.cfg.NATPort)
	}
	to := envelope{local: path.Local, remote: path.Remote, tos: esp.OuterTOS(x.child.Outer, 0), hopLimit: esp.OuterTTL}
	if x.kind.v6() {
		b = b[room:]
	} else {
		putOuter4(b, x.kind, path, outerLook{tos: to.tos, df: x.child.Outer.DF != policy.DFClear})
	}
	if err = c.by[x.kind].send(b, to); err != nil {
		c.plane.counts.add(dropSend)
		return err
	}
	c.plane.counts.add(echoSent)
	return nil
}

// prober is who asks. Its mutex is its own, because the plane's may be held for long.
type prober struct {
	worker
	mu     sync.Mutex // guards what follows
	closed bool
	courier
}

// startProbes makes what probes need. It is called before the workers start.
func (p *Plane) startProbes() error {
	var seed [8]byte
	for _, b := range [][]byte{seed[:], p.token[:]} {
		if _, err := io.ReadFull(p.cfg.Rand, b); err != nil {
			return fmt.Errorf("read random bytes: %w", err)
		}
	}
	p.flowSeed = binary.BigEndian.Uint64(seed[:])
	p.echoes = make(chan esp.Echo, echoQueue)
	p.probe.courier = newCourier(p)
	p.workers = append(p.workers, &p.probe.worker)
	return nil
}

// Echo asks the far end of a tunnel in a group for a sign of life: by the child that
// the tunnel sends by, whether or not the group's traffic goes there. It is a packet
// of next header 59, or, where the group has a target, an ICMP echo request to it. seq
// and stamp come back in the answer, if there is one, by Echoes. Echo counts as no
// traffic: no tunnel is negotiated for it. Errors: no child (esp.ErrNoChild), a tunnel in
// no group, the host did not send it, or no address of ours may talk to the target.
func (p *Plane) Echo(tunnel string, seq uint64, stamp int64) error {
	return p.ask(tunnel, func(s *snapshot) (*pair, member, error) {
		m, ok := s.members[tunnel]
		if !ok {
			return nil, m, errNotGrouped
		}
		return s.sending(tunnel), m, nil
	}, esp.Echo{Seq: seq, Stamp: stamp})
}

// EchoGroup asks like Echo, but the request leaves as the group's traffic does, and so
// does the answer at the far end. Where flows are spread the numbers take turns.
func (p *Plane) EchoGroup(name string, seq uint64, stamp int64) error {
	return p.ask(name, func(s *snapshot) (*pair, member, error) {
		head, ok := s.heads[name]
		if !ok {
			return nil, member{}, errors.New("the policy has no such group")
		}
		m := s.members[s.tunnels[head].name]
		m.tag = tagOf("")
		return s.ways[head].turn(seq), m, nil
	}, esp.Echo{Group: true, Seq: seq, Stamp: stamp})
}

func (p *Plane) ask(name string, by func(s *snapshot) (*pair, member, error), e esp.Echo) error {
	p.probe.mu.Lock()
	defer p.probe.mu.Unlock()
	if p.probe.closed {
		return errClosed
	}
	p.probe.begin()
	defer p.probe.end()
	x, m, err := by(p.snap.Load())
	switch {
	case err != nil:
	case x == nil:
		err = esp.ErrNoChild
	case !m.target.IsValid():
		err = p.probe.echo(x, e)
	case !m.from.IsValid():
		err = fmt.Errorf("no address of this host lies in its local selector, so that nobody can ask %s; give the gateway one", m.target)
	default:
		err = p.probe.ping(x, m, e)
	}
	if err != nil {
		return fmt.Errorf("probe %s: %w", name, err)
	}
	return nil
}

// Echoes are the answers, as they come. Who does not read them in time loses some. It
// is closed by Close.
func (p *Plane) Echoes() <-chan esp.Echo { return p.echoes }

// hand passes an answer on and waits for nobody.
func (p *Plane) handEcho(e esp.Echo) {
	select {
	case p.echoes <- e:
		p.counts.add(echoReceived)
	default:
		p.counts.add(lostEcho)
	}
}

// echo deals with an authentic echo that came by x.
func (w *inWorker) echo(s *snapshot, x *pair, payload []byte) {
	e, err := esp.ParseEcho(payload)
	m, grouped := s.members[x.child.Tunnel]
	if err != nil || e.Answer && !grouped {
		w.plane.counts.add(dropDummy)
		return
	}
	now := w.plane.cfg.Now()
	if e.Answer {
		e.Tunnel, e.At = x.child.Tunnel, now
		w.plane.handEcho(e)
		return
	}
	x.last.asked++
	if !x.last.mayAnswer(now.UnixNano()) {
		w.plane.counts.add(dropEcho)
		return
	}
	// Whoever is in no group answers too: where each path of the far end leads to a
	// gateway of its own, none of them has a group, and a policy changes at one end first.
	by := s.sending(x.child.Tunnel)
	if e.Group && grouped {
		by = s.ways[m.head].turn(e.Seq)
	}
	if by == nil {
		w.plane.counts.add(dropEcho)
		return
	}
	e.Answer, e.Far, e.Received = true, now.UnixNano(), x.last.asked
	if w.courier.echo(by, e) == nil {
		w.plane.counts.add(echoAnswered)
	}
}

// mayAnswer keeps answers to their rate. Only who opens by the child now asks.
func (r *readings) mayAnswer(now int64) bool {
	r.answers = max(r.answers, now)
	if r.answers-now >= answerBurst*int64(answerGap) {
		return false
	}
	r.answers += int64(answerGap)
	return true
}

// ping answers the ping of another data plane to an address of this host, by the tunnel
// that it came by: the host's own answer would go by the group's choice, and a path be
// taken for dead because the other one is. False: it is for somebody else, or about the
// group as a whole.
func (w *inWorker) ping(s *snapshot, x *pair, inner []byte, p *esp.Packet) bool {
	e, ours := esp.PingOf(inner, p)
	if !ours || e.Group || !slices.Contains(s.own, p.Dst) {
		return false
	}
	by := s.sending(x.child.Tunnel)
	switch {
	case by == nil:
		return false
	case !x.last.mayAnswer(w.plane.cfg.Now().UnixNano()):
		w.plane.counts.add(dropEcho)
		return true
	}
	esp.TurnPing(inner, p)
	w.courier.note = append(w.courier.note[:0], inner...)
	if w.courier.send(by, false) == nil {
		w.plane.counts.add(echoAnswered)
	}
	return true
}

// pong takes the answer to a ping of ours that came by x. False: it is somebody else's
// packet.
func (w *inWorker) pong(s *snapshot, x *pair, inner []byte, p *esp.Packet) bool {
	tag, e, ok := esp.ParsePingData(esp.Pong(inner, p), w.plane.token)
	if !ok {
		return false
	}
	e.At, e.Tunnel = w.plane.cfg.Now(), x.child.Tunnel
	for name, m := range s.members {
		if m.tag == tag && m.target == p.Src {
			e.Tunnel = name
			w.plane.handEcho(e)
			return true
		}
	}
	if e.Group {
		w.plane.handEcho(e)
	}
	return e.Group
}
