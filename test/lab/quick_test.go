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
