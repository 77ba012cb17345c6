package lab

import (
	"strings"
	"testing"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// outage loses what match says from the first such packet on, for so long.
func (l *Lab) outage(d time.Duration, match func(Packet) bool) {
	var end time.Time
	l.Hook = func(p Packet) []Packet {
		if !match(p) {
			return []Packet{p}
		}
		if end.IsZero() {
			end = l.Now().Add(d)
		}
		if l.Now().Before(end) {
			return nil
		}
		return []Packet{p}
	}
}

// The main mode that renews the working keys meets an outage and fails. It is tried
// again before the limit: there is a session at every moment.
func TestFailedRenewalOfTheWorkingKeysIsTriedAgainBeforeTheirLimit(t *testing.T) {
	i, r := members().Pair()
	for _, s := range []*Site{&i, &r} {
		s.Peer().IKELifetime = 20 * time.Minute
	}
	r.Peer().Dialect.Initiate = policy.InitiateThem
	l := New(1, i, r)
	l.Run(10 * time.Second)
	a := l.Gateway("i")
	first := a.Engine.Status().Sessions[0]
	l.outage(70*time.Second, func(p Packet) bool { return strings.HasPrefix(p.Label, "main") })
	renewed := func() bool {
		for _, s := range a.Engine.Status().Sessions {
			if s.CookieI != first.CookieI && s.State == "established" {
				return true
			}
		}
		return false
	}
	if !l.RunUntil(first.Expires.Sub(l.Now())-time.Second, renewed) {
		t.Errorf("no other session a second before the first one ends\n%v", l.Story.String())
	}
	l.Run(time.Minute)
	if n := len(a.Engine.Status().Sessions); n != 1 {
		t.Errorf("%d sessions a minute later", n)
	}
}

// A quick mode that renews a child meets an outage, and dies with its session. The
// child is renewed as soon as there is another session.
func TestRenewalThatDiesWithItsSessionIsTriedAgain(t *testing.T) {
	i, r := members().Pair()
	i.Tunnel().Lifetime = 20 * time.Minute
	r.Peer().Dialect.Initiate = policy.InitiateThem
	l := New(4, i, r)
	l.Run(10 * time.Second)
	a := l.Gateway("i")
	first, _ := a.Plane.InUse("office")
	began := false
	l.outage(80*time.Second, func(p Packet) bool { began = true; return true })
	if !l.RunUntil(first.Limits.HardTime, func() bool { return began }) {
		t.Fatal("it is not renewed")
	}
	if !l.RunUntil(100*time.Second, func() bool { c, up := a.Plane.InUse("office"); return up && c.ID != first.ID }) {
		t.Errorf("not renewed 20 seconds after the outage\n%v", l.Story.String())
	}
}

// A limit of bytes is told once, here while a quick mode is under way that comes to
// nothing: it is not forgotten.
func TestSoftLimitDuringAQuickModeThatFailsIsRemembered(t *testing.T) {
	l := plain(1)
	l.Run(10 * time.Second)
	a := l.Gateway("i")
	first, _ := a.Plane.InUse("office")
	lost := true
	l.Hook = func(p Packet) []Packet {
		if lost && strings.HasPrefix(p.Label, "quick") {
			return nil
		}
		return []Packet{p}
	}
	a.Feed(ike.Rekey{Tunnel: "office"})
	l.Run(11 * time.Second)
	a.Feed(ike.Plane{Event: esp.Event{Kind: esp.SoftLimit, Child: first.ID, Tunnel: "office"}})
	l.Run(time.Minute)
	lost = false
	renewed := func() bool { c, up := a.Plane.InUse("office"); return up && c.ID != first.ID }
	if !l.RunUntil(time.Minute, renewed) {
		t.Errorf("forgotten\n%v", l.Story.String())
	}
}
