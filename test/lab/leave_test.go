package lab

import (
	"testing"
	"time"
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
