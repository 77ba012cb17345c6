package lab

import (
	"net/netip"
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// A peer that took its leave is called soon, and often enough that nobody waits
// long for one that comes back.
func TestAResponderThatRestartsCleanlyIsCalledWithinTwoSeconds(t *testing.T) {
	for _, away := range []time.Duration{100 * time.Millisecond, 2500 * time.Millisecond, 4200 * time.Millisecond, 9 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			i, r0 := members().Pair()
			l := New(1, i, r0)
			if !l.RunUntil(30*time.Second, l.bothUp) {
				t.Fatal("the tunnel did not come up")
			}
			r := l.Gateway("r")
			r.Stop("")
			l.Run(away) // a gateway that is stopping answers nothing
			r.Restart()
			begin := l.Now()
			if !l.RunUntil(time.Minute, l.bothUp) {
				t.Fatal("the tunnel did not come back")
			}
			took := l.Now().Sub(begin)
			if limit := max(2*time.Second-away, time.Second) + 200*time.Millisecond; took > limit {
				t.Errorf("up %v after the restart, want %v at most", took, limit)
			}
		})
	}
}

// deletes makes r delete its session, a moment after a quick 1, unless it has taken
// that: a changed entry takes the place of the one that the session hangs on. A mute
// one does nothing else.
func (l *Lab) deletes(mute bool) {
	l.Story.Off = true
	r := l.Gateway("r")
	l.Hook = func(p Packet) []Packet {
		if p.Label != "quick 1" || p.From != "i" {
			return []Packet{p}
		}
		l.After(time.Millisecond, func() {
			if len(r.Plane.Installed()) == 0 {
				r.Peer().IKELifetime -= time.Second
				r.Feed(ike.Reload{Config: r.Config()})
			}
		})
		if mute {
			return nil
		}
		return []Packet{p}
	}
}

// A peer that deletes the session at quick mode says no, whether or not it says why
// before. It is asked again, and each time later, however many tunnels wait.
func TestAPeerThatDeletesTheSessionAtQuickModeIsCalledLessAndLessOften(t *testing.T) {
	for _, mute := range []bool{true, false} {
		for _, tunnels := range []int{1, 3} {
			i, r := members().Pair()
			r.Tunnel().Suites = []policy.Suite{policy.SM4GCM128}
			for n := range tunnels - 1 {
				more := *i.Tunnel()
				more.Name = []string{"lab", "store"}[n]
				more.Selector.Local = policy.NetOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(3 + n), 0, 0}), 16))
				i.Policy.Tunnels = append(i.Policy.Tunnels, more)
			}
			l := New(1, i, r)
			l.deletes(mute)
			x := l.tries("i")
			l.Run(time.Minute)
			if n := len(x.at); n < 4 || n > 7 {
				t.Errorf("mute %v, %d tunnels: %d main modes in a minute: %v", mute, tunnels, n, x.at)
			}
			if st := l.Gateway("i").Engine.Status().Tunnels[0]; st.LastFailure != ike.PeerDeleted {
				t.Errorf("mute %v, %d tunnels: the status says %q %q", mute, tunnels, st.LastFailure, st.LastDetail)
			}
			l.Hook = nil // somebody puts it right
			l.Gateway("r").Tunnel().Suites = i.Tunnel().Suites
			l.Gateway("r").Feed(ike.Reload{Config: l.Gateway("r").Config()})
			if !l.RunUntil(130*time.Second, l.bothUp) {
				t.Errorf("mute %v, %d tunnels: not up once the peer takes it", mute, tunnels)
			}
		}
	}
}

// That a quick mode was not understood may be said by a delete too.
func TestAutoFindsTheFormOfAPeerThatAnswersQuickModeWithADelete(t *testing.T) {
	for want, turn := range found {
		if i, r := members().Pair(); want == "{qm_hash: std-full}" || want == "{qm_hash: std-body}" {
			as(&i, policy.Auto)
			exactly(&r, turn)
			l := New(1, i, r)
			l.deletes(false)
			x := l.tries("i")
			if !l.RunUntil(10*time.Minute, l.bothUp) {
				t.Fatalf("%s: not up: %q", want, x.dialect)
			}
			if got := l.Gateway("i").Engine.Status().Learned; len(got) != 1 || got[0].Dialect != want || len(x.at) > 6 {
				t.Errorf("%s: learned %v after %d main modes", want, got, len(x.at))
			}
		}
	}
}
