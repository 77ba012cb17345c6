package netns

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/test/site"
)

// plane runs one in this process, so that the test can give it orders.
func plane(t *testing.T, at *site.Space, pol *policy.Policy) *tunnel.Plane {
	t.Helper()
	var p *tunnel.Plane
	Check(t, at.Do(func() (err error) { p, err = tunnel.New(tunnel.Config{}); return err }))
	t.Cleanup(func() { p.Close() })
	Check(t, p.SetPolicy(pol))
	return p
}

// own is the policy of a spec and its first child.
func (s spec) own(t *testing.T) (*policy.Policy, esp.Child) {
	t.Helper()
	if s.ICV == 0 {
		s.ICV = 96
	}
	pol, err := s.policy()
	Check(t, err)
	return pol, s.child(0, pol.Tunnels[0])
}

// note is an echo reply from host A to host B: nobody answers one.
func note(text string) []byte {
	b := make([]byte, 28+len(text))
	b[0], b[8], b[9] = 0x45, 64, 1
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	from, to := netip.MustParseAddr(HostA4).As4(), netip.MustParseAddr(HostB4).As4()
	copy(b[12:], from[:])
	copy(b[16:], to[:])
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum&0xffff))
	copy(b[28:], text)
	return b
}

// mappings are sockets at several addresses and ports: what a NAT makes of one peer.
func mappings(t *testing.T, list map[*site.Space][]string) map[string]*net.UDPConn {
	t.Helper()
	out := map[string]*net.UDPConn{}
	for at, addrs := range list {
		for _, a := range addrs {
			Check(t, at.Do(func() error {
				c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(a)))
				out[a] = c
				return err
			}))
			t.Cleanup(func() { out[a].Close() })
		}
	}
	return out
}

func TestAPeerThatMovedIsToldOnceAndFollowedWhenAsked(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	s := spec{Encap: true, Children: subnets()[:1]}
	_, peer := s.own(t)
	s.B = true
	pol, child := s.own(t)
	b := plane(t, two.GatewayB, pol)
	Check(t, b.Install(child, esp.State{}))
	Check(t, b.Use(child.ID))
	const old, moved, far = OutsideA4 + ":4500", OutsideA4 + ":61000", HostA4 + ":4500"
	from := mappings(t, map[*site.Space][]string{two.GatewayA: {old, moved}, two.HostA: {far}})
	out, err := esp.NewOutbound(peer, esp.State{}, rand.Reader)
	Check(t, err)
	seal := func() []byte {
		p, err := out.Seal(nil, note("numbered"))
		Check(t, err)
		return p
	}
	target := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(OutsideB4 + ":4500"))
	send := func(by string, p []byte, counter string) {
		t.Helper()
		before := b.Counters()[counter]
		_, err := from[by].WriteToUDP(p, target)
		Check(t, err)
		limit := time.Now().Add(5 * time.Second)
		for b.Counters()[counter] == before {
			if time.Now().After(limit) {
				t.Fatalf("from %s: not counted as %s: %v", by, counter, b.Counters())
			}
			time.Sleep(time.Millisecond)
		}
	}
	told := func() (kinds []esp.EventKind, remotes []string) {
		for {
			select {
			case e := <-b.Events():
				if e.Kind == esp.Moved {
					if !e.Newest {
						t.Error("told without the word that it was the newest packet")
					}
					kinds, remotes = append(kinds, e.Kind), append(remotes, e.Remote.String())
				}
			default:
				return kinds, remotes
			}
		}
	}
	first, late, last := seal(), seal(), seal()
	send(old, first, "opened")
	send(old, last, "opened")
	send(moved, last, "replayed")
	send(far, last, "replayed")
	send(moved, late, "opened") // authentic, but not the highest
	forged := seal()
	forged[len(forged)-1] ^= 1
	send(far, forged, "bad-auth")
	if kinds, remotes := told(); len(kinds) > 0 {
		t.Fatalf("the peer moved to %v by packets that prove nothing", remotes)
	}
	send(moved, seal(), "opened")
	send(moved, seal(), "opened")
	if _, remotes := told(); len(remotes) != 1 || remotes[0] != moved {
		t.Fatalf("told %v, want %s once", remotes, moved)
	}
	// Until it is asked to, the plane goes on sending to the old place.
	reaches := func(want string) {
		t.Helper()
		_, _ = two.HostB.Run("ping", "-n", "-c", "1", "-W", "1", HostA4)
		for name, c := range from {
			Check(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			n, _, err := c.ReadFromUDP(make([]byte, 2048))
			if (err == nil) != (name == want) {
				t.Errorf("%d bytes at %s, want them at %s", n, name, want)
			}
		}
	}
	reaches(old)
	next := child.Path
	next.Remote = netip.MustParseAddrPort(moved)
	Check(t, b.Rebind(child.ID, next))
	reaches(moved)
	send(moved, seal(), "opened")
	if _, remotes := told(); len(remotes) != 0 {
		t.Errorf("told %v after the child had followed", remotes)
	}
	send(old, seal(), "opened") // and back
	if _, remotes := told(); len(remotes) != 1 || remotes[0] != old {
		t.Errorf("told %v, want %s", remotes, old)
	}
}

func TestAChildGoesOnInAnotherPlaneWhereItStopped(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	s := spec{Children: subnets()[:1]}
	pol, child := s.own(t)
	a := plane(t, two.GatewayA, pol)
	Check(t, a.Install(child, esp.State{}))
	Check(t, a.Use(child.ID))
	s.B = true
	b := start(t, two.GatewayB, s)
	flows := two.flows()[:2]
	carry(t, flows, 100_000)
	before, _ := a.Usage(child.ID)
	for last := (esp.Usage{}); before != last; before, _ = a.Usage(child.ID) { // connections may still be closing
		last = before
		time.Sleep(200 * time.Millisecond)
	}
	state, err := a.Remove(child.ID)
	Check(t, err)
	Check(t, a.Close())
	if state.OutSeq != before.Out.Packets || state.InSeq < before.In.Packets || state.In != before.In || state.Out != before.Out {
		t.Fatalf("state %+v of a child with %+v", state, before)
	}

	again := plane(t, two.GatewayA, pol)
	Check(t, again.Install(child, state))
	Check(t, again.Use(child.ID))
	carry(t, flows, 100_000)
	// What the first plane has seen stays seen.
	_, far := s.own(t)
	for _, seq := range []uint64{1, state.InSeq} {
		out, err := esp.NewOutbound(far, esp.State{OutSeq: seq - 1}, bytes.NewReader(make([]byte, 16)))
		Check(t, err)
		packet, err := out.Seal(nil, note("again"))
		Check(t, err)
		Check(t, two.GatewayB.Do(func() error {
			c, err := net.Dial("ip4:50", OutsideA4)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(packet)
			return err
		}))
	}
	limit := time.Now().Add(5 * time.Second)
	for {
		u, _ := again.Usage(child.ID)
		if u.Replayed == 2 {
			if u.In.Packets <= before.In.Packets || u.Out.Packets <= before.Out.Packets || u.BadAuth > 0 {
				t.Errorf("usage %+v does not go on from %+v", u, before)
			}
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("old packets were not refused as replayed: %+v", u)
		}
		time.Sleep(time.Millisecond)
	}
	end, err := again.Remove(child.ID)
	Check(t, err)
	if end.OutSeq <= state.OutSeq || end.InSeq <= state.InSeq {
		t.Errorf("numbers %d and %d after %d and %d", end.OutSeq, end.InSeq, state.OutSeq, state.InSeq)
	}
	if c := b.stop(t); c["replayed"] > 0 || c["bad-auth"] > 0 {
		t.Errorf("the peer refused what the second plane sent: %v", c)
	}
}

// The first packets of a tunnel wait for it, through the real device.
func TestTheFirstPingIsAnsweredOnceTheTunnelIsUp(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	s := spec{Children: subnets()[:1]}
	pol, child := s.own(t)
	pol.Tunnels[0].Start = policy.StartTrap
	a := plane(t, two.GatewayA, pol)
	s.B = true
	start(t, two.GatewayB, s)
	answered := make(chan error, 1)
	go func() {
		_, err := two.HostA.Run("ping", "-n", "-c", "1", "-W", "8", HostB4)
		answered <- err
	}()
	select {
	case e := <-a.Events():
		if e.Kind != esp.Acquire || e.Tunnel != child.Tunnel {
			t.Fatalf("event %s of %q", e.Kind, e.Tunnel)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nobody asked for the tunnel")
	}
	Check(t, a.Install(child, esp.State{}))
	Check(t, a.Use(child.ID))
	if err := <-answered; err != nil {
		t.Errorf("the packet that asked for the tunnel was lost: %v: %v", err, a.Counters())
	}
	if c := a.Counters(); c["wait-full"]+c["wait-timeout"]+c["no-sa"] > 0 {
		t.Errorf("dropped: %v", c)
	}
}
