package vm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"yumen/esp"
)

// Others flush the policies under traffic: what left in clear left in the moment before
// they were back, and then the tunnel carries on.
func TestFlushedPoliciesAreSetAgainAtOnce(t *testing.T) {
	w := inside(t)
	a, b := w.open(t, false, kernel), w.open(t, true, kernel)
	install(t, 0, form{icv: 96}, a, b)
	w.everyWay(t, 1)
	policies := func() int { return strings.Count(ip(t, w.ga, "xfrm", "policy", "list"), "\tdir ") }
	want := policies()
	s := w.stream(t, w.ha, hostB4, 2*time.Millisecond)
	time.Sleep(200 * time.Millisecond)
	ip(t, w.ga, "xfrm", "policy", "flush")
	a.await(t, esp.GuardMended, 20*time.Second)
	// What is under way is seen late.
	time.Sleep(500 * time.Millisecond)
	leaked := w.clear.Swap(0)
	if n := policies(); n != want {
		t.Errorf("%d policies, there were %d", n, want)
	}
	time.Sleep(500 * time.Millisecond)
	sent, lost, repeated := w.end(s)
	if n := w.clear.Load(); n != 0 {
		t.Errorf("%d packets in clear after the policies were back", n)
	}
	t.Logf("%d of %d packets left in clear, %d were lost, %d repeated", leaked, sent, lost, repeated)
	if leaked > int64(sent)/4 || lost > sent/4 {
		t.Errorf("of %d packets %d left in clear and %d were lost", sent, leaked, lost)
	}
	w.everyWay(t, 2)
	if warnings := fmt.Sprint(a.dataplane.(interface{ Warnings() []string }).Warnings()); !strings.Contains(warnings, "others removed policies") {
		t.Errorf("warnings %s", warnings)
	}
}

// Others flush or delete SAs: the plane tells each child's end once and drops; daemons
// negotiate anew.
func TestFlushedSAsAreNoticed(t *testing.T) {
	w := inside(t)
	a, b := w.open(t, false, kernel), w.open(t, true, kernel)
	install(t, 0, form{icv: 96}, a, b)
	w.everyWay(t, 1)
	ip(t, w.ga, "xfrm", "state", "flush")
	var ended []esp.ChildID
	for range nets {
		ended = append(ended, a.await(t, esp.HardLimit, 10*time.Second).Child)
	}
	slices.Sort(ended)
	if ended[0] == ended[1] {
		t.Errorf("ended %v", ended)
	}
	w.noWay(t)
	remove(t, 0, a, b)
	install(t, 1, form{icv: 96}, a, b)
	w.everyWay(t, 1)
	c := child(false, 0, 1, form{icv: 96})
	ip(t, w.ga, "xfrm", "state", "delete", "src", c.Path.Local.Addr().String(), "dst", c.Path.Remote.Addr().String(),
		"proto", "esp", "spi", fmt.Sprintf("%#x", uint32(c.Out.SPI)))
	if e := a.await(t, esp.HardLimit, 10*time.Second); e.Child != c.ID {
		t.Errorf("child %d ended, want %d", e.Child, c.ID)
	}
	remove(t, 1, a, b)
}

func TestDaemonsNegotiateAnewAfterAFlush(t *testing.T) {
	w := inside(t)
	a, b := w.gateways(t)
	before, err := inUse(a)
	check(t, err)
	ip(t, w.ga, "xfrm", "state", "flush")
	eventually(t, "new children", func() error {
		now, err := inUse(a)
		if err == nil && len(now) != len(before) {
			err = errors.New("a tunnel is down")
		}
		for _, spi := range before {
			if slices.Contains(now, spi) {
				err = errors.Join(err, fmt.Errorf("%s is still in use", spi))
			}
		}
		return err
	})
	w.everyWay(t, 2)
	check(t, errors.Join(a.Daemon().Stop(10*time.Second), b.Daemon().Stop(10*time.Second)))
}
