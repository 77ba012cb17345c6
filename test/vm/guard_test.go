package vm

import (
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/policy"
	"yumen/test/site"
	"yumen/xfrm"
)

// rules are what the compiled guard of one side holds.
func rules(t *testing.T, b bool) []policy.Rule {
	t.Helper()
	spd, err := policy.Compile(twoTunnels(b))
	check(t, err)
	return spd.Rules()
}

// The guard of a boot drops by itself, makes way for a plane without a gap, and
// leaves alone what an earlier process left in good order.
func TestTheGuardOfABootMakesWayForAPlane(t *testing.T) {
	w := inside(t)
	set := func(s *site.Space, b, want bool) {
		t.Helper()
		check(t, s.Do(func() error {
			carrying, err := xfrm.SetGuard(rules(t, b))
			if err == nil && carrying != want {
				t.Errorf("SAs carry: %t", carrying)
			}
			return err
		}))
	}
	for range 2 { // the second changes nothing
		set(w.ga, false, false)
		set(w.gb, true, false)
		w.noWay(t)
	}
	a, b := w.open(t, false, kernel), w.open(t, true, kernel)
	w.noWay(t)
	install(t, 0, form{icv: 96}, a, b)
	w.everyWay(t, 2)
	check(t, a.Close())
	set(w.ga, false, true)
	w.everyWay(t, 2)
	// A tunnel that the policy got meanwhile is guarded beside those that carry.
	more := append(rules(t, false), policy.Rule{Action: policy.Protect, Tunnel: "t9", Selector: policy.Selector{
		Local: policy.NetOf(netip.MustParsePrefix("10.1.0.0/24")), Remote: policy.NetOf(netip.MustParsePrefix("10.2.9.0/24"))}})
	if got := w.exchange(w.ha, hostC4, 1); got != 1 || grows(&w.clear, 2) == 0 {
		t.Fatalf("what nobody protects: %d answers", got)
	}
	w.clear.Store(0)
	check(t, w.ga.Do(func() error { _, err := xfrm.SetGuard(more); return err }))
	if got := w.exchangeWithin(w.ha, hostC4, 1, 300*time.Millisecond); got != 0 {
		t.Error("the new tunnel's traffic is answered in clear")
	}
	w.everyWay(t, 2)
	ip(t, w.ga, "xfrm", "state", "flush")
	set(w.ga, false, false)
	w.noWay(t)
}

// SAs whose process is gone end by themselves, and then nothing passes.
func TestExpiryWithoutADaemonLeavesNothingInClear(t *testing.T) {
	w := inside(t)
	a, b := w.open(t, false, kernel), w.open(t, true, kernel)
	f := form{icv: 96}
	for i := range nets {
		limited := child(false, i, 0, f)
		limited.Limits = esp.Limits{HardPackets: 3, HardTime: time.Second}
		check(t, a.Install(limited, esp.State{}))
		check(t, a.Use(limited.ID))
		check(t, b.Install(child(true, i, 0, f), esp.State{}))
		check(t, b.Use(child(true, i, 0, f).ID))
	}
	check(t, a.Close())
	if got := w.exchangeWithin(w.ha, hostB4, 5, 300*time.Millisecond); got != 3 {
		t.Errorf("%d came back by the SA with a limit of packets, 3 are allowed", got)
	}
	w.exchangeWithin(w.ha, hostB6, 1, 300*time.Millisecond)
	time.Sleep(7 * time.Second) // a second, and what is left to the engine
	w.noWay(t)
}
