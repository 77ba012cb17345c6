package lab

import (
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// untilAsked runs the lab to the step in which g asks for the addresses of its peer, whose
// answer is then under way.
func (l *Lab) untilAsked(t *testing.T, g *Gateway) {
	t.Helper()
	asked := false
	g.Refuse = func(f ike.Effect) error {
		_, resolve := f.(ike.Resolve)
		asked = asked || resolve
		return nil
	}
	if !l.RunUntil(time.Minute, func() bool { return asked }) {
		t.Fatal("it never asks")
	}
	g.Refuse = nil
}

// A gateway that only responds was restarted and hears ESP that it does not know,
// while it still looks whether its own address is there: it calls at once.
func TestStrayESPWhileTheOwnAddressIsLookedForIsNotForgotten(t *testing.T) {
	i, r := members().Pair()
	r.Peer().Local = policy.Local{Addr: r.Addr}
	l := New(1, i, r)
	if !l.RunUntil(10*time.Second, func() bool { return carries(l.Gateway("i")) && carries(l.Gateway("r")) }) {
		t.Fatal("the tunnel does not come up")
	}
	l.Run(time.Minute)
	b := l.Gateway("r")
	b.Restart()
	l.untilAsked(t, b)
	b.Feed(ike.Plane{Event: esp.Event{Kind: esp.UnknownSPI, SPI: 0x1234, Remote: netip.AddrPortFrom(i.Addr, 0)}})
	if !l.RunUntil(time.Second, func() bool { return carries(b) }) {
		t.Errorf("not up after a second\n%v", l.Story.String())
	}
}

// New working keys that the operator asks for while something else is asked of the
// resolver are made when the answer comes; and that our address was looked for in
// vain leaves nothing that would stop the next ones.
func TestRekeyWhileTheAddressesAreAskedForIsNotForgotten(t *testing.T) {
	for _, local := range []bool{false, true} {
		for _, first := range []string{"host changed", "rekey"} {
			i, r := members().Pair()
			if local {
				i.Peer().Local = policy.Local{Addr: i.Addr}
			}
			l := New(1, i, r)
			l.Run(time.Minute)
			a := l.Gateway("i")
			hostChanged(a) // and nothing did
			l.Run(time.Second)
			old := a.Engine.Status().Sessions[0].CookieI
			if first == "host changed" {
				hostChanged(a)
				a.Feed(ike.Rekey{Tunnel: "office", Session: true})
			} else {
				a.Feed(ike.Rekey{Tunnel: "office", Session: true})
				hostChanged(a)
			}
			if !l.RunUntil(time.Second, func() bool {
				for _, s := range a.Engine.Status().Sessions {
					if s.CookieI != old && s.State == "established" {
						return true
					}
				}
				return false
			}) {
				t.Errorf("local: %v, %s first: no new session\n%v", local, first, l.Story.String())
			}
		}
	}
}
