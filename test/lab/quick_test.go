package lab

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// An answer without IDs means the addresses of the two gateways (5.1). Where other
// networks were offered nothing is installed for them; where just these were, it is
// what was offered.
func TestAnswerWithoutIDsMeansTheTwoGateways(t *testing.T) {
	for _, hosts := range []bool{false, true} {
		i, r := members().Pair()
		if hosts {
			net := func(a netip.Addr) policy.Net { return policy.Net{First: a, Last: a} }
			i.Tunnel().Selector = policy.Selector{Local: net(i.Addr), Remote: net(r.Addr)}
			r.Tunnel().Selector = i.Tunnel().Selector.Reverse()
		}
		l := New(31, i, r)
		m := &meddler{t: t, l: l, two: without(wire.TypeID)}
		l.Hook = m.hook
		var reasons []ike.Reason
		a := l.Gateway("i")
		a.Told = func(v ike.Event) { reasons = append(reasons, v.Reason) }
		up := l.RunUntil(time.Second, func() bool { return carries(a) })
		if up != hosts || len(a.Plane.Installed()) > 0 != hosts || slices.Contains(reasons, ike.Narrowed) == hosts {
			t.Errorf("between the gateways themselves %v: up %v, reasons %q", hosts, up, reasons)
		}
		if hosts && !l.RunUntil(time.Second, func() bool { return carries(l.Gateway("r")) }) {
			t.Error("the responder does not come up")
		}
	}
}

// noting adds notifications; spi is that of the sender of the message.
func noting(t *testing.T, notes func(spi []byte) []wire.Notification) func([]wire.Payload) []wire.Payload {
	return func(ps []wire.Payload) []wire.Payload {
		sa, err := wire.ParseSA(bodyOf(ps, wire.TypeSA))
		if err != nil {
			t.Fatal(err)
		}
		ps = slices.Clone(ps)
		for _, n := range notes(sa.Proposals[0].SPI) {
			ps = append(ps, wire.Payload{Type: wire.TypeNotify, Body: n.Append(nil)})
		}
		return ps
	}
}

// tenMinutes is a RESPONDER-LIFETIME of 600 seconds, and beside it what is heeded
// nowhere.
func tenMinutes(spi []byte) []wire.Notification {
	return []wire.Notification{
		{DOI: 1, Protocol: wire.ProtoESP, SPI: spi, Type: wire.ResponderLifetime,
			Data: wire.AppendAttributes(nil, []wire.Attribute{wire.Short(1, 1), wire.Short(2, 600)})},
		{DOI: 1, Protocol: wire.ProtoESP, SPI: spi, Type: 40000},
		{DOI: 1, Protocol: wire.ProtoESP, SPI: spi, Type: wire.NoProposalChosen},
	}
}

// A peer may tell the lifetime that it keeps in its quick mode message itself (RFC
// 2407 4.6.3.1). It counts where the HASH covers it; what else stands there is told.
func TestLifetimeToldInQuickModeIsKept(t *testing.T) {
	for _, form := range []policy.HashForm{policy.HashRFC2409, policy.HashStdFull, policy.HashStdBody} {
		for _, by := range []string{"i", "r"} {
			i, r := members().Pair()
			i.Peer().Dialect.QMHash, r.Peer().Dialect.QMHash = form, form
			l := New(32, i, r)
			m := &meddler{t: t, l: l, form: form, two: noting(t, tenMinutes)}
			if by == "r" {
				m.one, m.two = m.two, nil
			}
			l.Hook = m.hook
			g, told := l.Gateway(by), map[string]int{}
			g.Told = func(v ike.Event) {
				if v.Kind == ike.Deviation || v.Kind == ike.NotifyIn && v.Notify == wire.ResponderLifetime {
					told[KindName(v.Kind)]++
				}
			}
			if !l.RunUntil(time.Second, func() bool { return carries(l.Gateway("i")) && carries(l.Gateway("r")) }) {
				t.Errorf("form %v at %s: the tunnel does not come up", form, by)
				continue
			}
			st := g.Engine.Status().Tunnels[0]
			life, want := st.Expires[0].Sub(st.Installed[0]), 10*time.Minute
			skipped, heard := 2, 1
			if form != policy.HashRFC2409 {
				want, skipped, heard = time.Hour, 3, 0
			}
			if life != want || told["deviation"] != skipped || told["notify-in"] != heard {
				t.Errorf("form %v at %s: the child lives %v, want %v; told %v", form, by, life, want, told)
			}
			if len(l.Faults) > 0 {
				t.Error(l.Faults)
			}
		}
	}
}

// INITIAL-CONTACT in QM1 ends what stood before, and not the child that the same
// message makes.
func TestInitialContactInQuickModeSparesItsOwnChild(t *testing.T) {
	i, r := members().Pair()
	l := New(33, i, r)
	g := l.Gateway("r")
	contact := func([]byte) []wire.Notification {
		return []wire.Notification{{DOI: 1, Protocol: wire.ProtoISAKMP, SPI: make([]byte, 16), Type: wire.InitialContact}}
	}
	m := &meddler{t: t, l: l, one: noting(t, contact)}
	l.Hook = m.hook
	heard := 0
	g.Told = func(v ike.Event) {
		if v.Kind == ike.NotifyIn && v.Notify == wire.InitialContact {
			heard++
		}
	}
	l.RunUntil(5*time.Second, func() bool { return carries(g) })
	if told := heard; !carries(g) || told < 2 {
		t.Errorf("up %v, INITIAL-CONTACT heard %d times, want that of the session and that of quick mode", carries(g), told)
	}
	l.Run(time.Minute)
	if n := len(g.Plane.Installed()); n != 1 || !carries(g) {
		t.Errorf("%d children, up %v", n, carries(g))
	}
}

// An initiator that cannot take an answer says so, and the responder does not repeat
// it for a minute: the error names the SPI that the responder drew.
func TestRefusedAnswerEndsTheQuickModeAtBothEnds(t *testing.T) {
	for name, c := range map[string]struct {
		two  func([]wire.Payload) []wire.Payload
		want wire.NotifyType
	}{
		"selectors of the two gateways": {without(wire.TypeID), wire.InvalidIDInformation},
		"transport mode": {func(ps []wire.Payload) []wire.Payload {
			sa, err := wire.ParseSA(bodyOf(ps, wire.TypeSA))
			if err != nil {
				t.Fatal(err)
			}
			sa.Proposals[0].Transforms[0].Attributes[1] = wire.Short(4, 2)
			ps = slices.Clone(ps)
			for n := range ps {
				if ps[n].Type == wire.TypeSA {
					ps[n].Body = sa.Append(nil)
				}
			}
			return ps
		}, wire.NoProposalChosen},
	} {
		t.Run(name, func(t *testing.T) {
			i, r := members().Pair()
			r.Tunnel().Start = policy.StartNone
			l := New(33, i, r)
			l.Hook = (&meddler{t: t, l: l, two: c.two}).hook
			b, told, ended := l.Gateway("r"), false, false
			b.Told = func(v ike.Event) {
				told = told || v.Kind == ike.NotifyIn && v.Notify == c.want
				ended = ended || v.Kind == ike.ChildDown && v.Reason == ike.PeerRefused
			}
			if !l.RunUntil(time.Second, func() bool { return ended }) || !told || len(b.Plane.Installed()) > 0 {
				t.Errorf("told %v, ended %v, installed %v\n%s", told, ended, b.Plane.Installed(), l.Story.String())
			}
		})
	}
}
