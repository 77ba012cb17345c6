package bench

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"yumen/ike"
	"yumen/ike/gm"
	"yumen/policy"
	"yumen/policy/trust"
)

const (
	ikePort  = 500
	callTime = 10 * time.Second // for one attempt, retransmissions included
	callMost = 3                // attempts
)

// caller is a peer that negotiates one tunnel and then is silent: an engine with a
// socket and keys, and no data plane. It is measured against, not measured.
type caller struct {
	name      string
	at, inner netip.Addr
	from      *space
	id        *identity
	config    ike.Config
}

func newCaller(ca *authority, from *space, i int) (*caller, error) {
	c := &caller{name: fmt.Sprintf("peer%d", i+1), at: callerAddr("198.18.0.0", i), inner: callerAddr("100.64.0.0", i), from: from}
	var err error
	if c.id, err = ca.identity(c.name); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("site: %s\npeers:\n  - {name: gw, remote: %s, ca: ca.crt, subject: %q, path_probe: off}\n"+
		"tunnels:\n  - {name: t, peer: gw, local: %s/32, remote: 10.255.0.0/16, suites: [%s], start: respond}\n",
		c.name, gatewayAt, subject("gw"), c.inner, suiteWord)
	p, err := policy.Parse(c.name, []byte(text))
	if err != nil {
		return nil, err
	}
	v, err := trust.NewVerifier(p.Peers[0], ca.pem, nil)
	c.config = ike.Config{Policy: p, Own: c.id.pair, Verifiers: map[string]*trust.Verifier{"gw": v}, Rand: rand.Reader, PathMTU: linkMTU}
	return c, err
}

// callPatiently is call, begun anew where an attempt comes to nothing, as on a machine
// that is overloaded; repeats says how often.
func (c *caller) callPatiently(ctx context.Context) (repeats int, err error) {
	for ; ; repeats++ {
		if err = c.call(ctx); err == nil || ctx.Err() != nil || repeats == callMost-1 {
			return repeats, err
		}
	}
}

// conversation is a call under way.
type conversation struct {
	*caller
	engine *ike.Engine
	socket *net.UDPConn
	wake   time.Time
	done   bool // the tunnel sends
}

// call negotiates the tunnel: a main mode and a quick mode.
func (c *caller) call(ctx context.Context) error {
	engine, err := ike.NewEngine(c.config)
	if err != nil {
		return err
	}
	socket, err := c.from.udp(netip.AddrPortFrom(c.at, ikePort), addrNone)
	if err != nil {
		return err
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { socket.Close() })()
	v := &conversation{caller: c, engine: engine, socket: socket}
	if err := v.feed(ike.Start{Tunnel: "t"}); err != nil {
		return err
	}
	buf := make([]byte, 65536)
	for end := time.Now().Add(callTime); !v.done; {
		now := time.Now()
		if now.After(end) {
			return fmt.Errorf("no tunnel within %v", callTime)
		}
		until := end
		if !v.wake.IsZero() && v.wake.Before(until) {
			until = v.wake
		}
		_ = socket.SetReadDeadline(until)
		n, from, err := socket.ReadFromUDPAddrPort(buf)
		var timeout net.Error
		var in ike.Input = ike.Tick{}
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		default:
			in = ike.Datagram{Local: netip.AddrPortFrom(c.at, ikePort), Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), Data: buf[:n]}
		}
		if err := v.feed(in); err != nil {
			return err
		}
	}
	return nil
}

// feed gives the engine an input and carries out what follows, answers included.
func (v *conversation) feed(in ike.Input) error {
	for queue := []ike.Input{in}; len(queue) > 0; queue = queue[1:] {
		out := v.engine.Step(time.Now(), queue[0])
		v.wake = out.Wake
		for _, f := range out.Effects {
			switch f := f.(type) {
			case ike.Resolve:
				queue = append(queue, ike.Resolved{Peer: f.Peer, Attempt: f.Attempt, Local: v.at, Remote: []netip.Addr{netip.MustParseAddr(gatewayAt)}})
			case ike.PrivateOp:
				queue = append(queue, v.private(f))
			case ike.Install:
				f.Child.Wipe() // there is no data plane that it would go to
			case ike.Use:
				v.done = true
			}
		}
		for _, d := range out.Packets {
			if d.Remote.Port() != ikePort {
				return fmt.Errorf("the negotiation goes to %v: there is no NAT here", d.Remote)
			}
			if _, err := v.socket.WriteToUDPAddrPort(d.Data, d.Remote); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *conversation) private(f ike.PrivateOp) ike.Input {
	done := ike.PrivateDone{ID: f.ID}
	switch open, ok := v.id.enc.(crypto.Decrypter); {
	case f.Digest != nil:
		done.Signed, done.Err = gm.SignDigest(rand.Reader, v.id.sign, f.Digest)
	case f.Envelope != nil && ok:
		done.Opened, done.Form, done.Err = gm.OpenEnvelopeForm(open, f.Envelope)
	default:
		done.Err = errors.New("no key for this operation")
	}
	return done
}
