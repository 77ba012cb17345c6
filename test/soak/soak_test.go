package main

import (
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// TestTwoHundredRekeysLoseNothing is the soak of every day: half of the rekeys by
// soft limits, a tenth and more by both ends at once.
func TestTwoHundredRekeysLoseNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		loss float64
	}{{"on a perfect wire", 0}, {"on a wire that drops 2 of 100, repeats 1 and delays 2", 0.02}} {
		t.Run(c.name, func(t *testing.T) {
			w, dir := site.Begin(t)
			r, err := short(200, c.loss).start(w, yumen, dir, 1)
			need(t, err, r.waitUp(30*time.Second), r.play())
			var report strings.Builder
			err = r.verdict(&report)
			t.Log("\n" + report.String())
			need(t, err)
			esp, ike := r.sites.fwd.Totals()
			if c.loss > 0 && (esp.Dropped == 0 || esp.Repeated == 0 || esp.Delayed == 0 || ike.Dropped == 0) {
				t.Errorf("the wire did nothing: esp %+v, ike %+v", esp, ike)
			}
		})
	}
}

// TestSoakSeesWhatIsLost plays foul: a wire that drops without writing it down
// must show as loss, one that shows the marker as clear text.
func TestSoakSeesWhatIsLost(t *testing.T) {
	w, dir := site.Begin(t)
	s := &scenario{rekeys: 0, pairs: 1, limit: time.Minute}
	s.ordered(byOne, 2, 5*time.Second)
	r, err := s.start(w, yumen, dir, 1)
	need(t, err, r.waitUp(30*time.Second))
	t0, err := r.tally()
	need(t, err)
	if t0.lost != 0 || t0.extra != 0 {
		t.Fatalf("before any traffic: %+v", t0)
	}
	r.traffic.Flows[0][endA].Sent.Add(3) // as if three had been sent and were nowhere
	r.traffic.Flows[1][endB].Take(7, time.Now())
	r.traffic.Flows[1][endB].Take(7, time.Now())
	r.traffic.Flows[1][endB].Sent.Add(1)
	// A datagram around the tunnels, on the wire itself.
	need(t, r.sites.gate[endA].Do(func() error { return shout(r.traffic.Marker[:], outer(endB, 0, false)) }))
	eventually(t, "the marker is seen on the wire", 5*time.Second, func() error {
		if r.sites.fwd.Clear() == 0 {
			return errNothing
		}
		return nil
	})
	t1, err := r.tally()
	need(t, err)
	if t1.lost != 3 || t1.twice != 1 || t1.clear == 0 {
		t.Errorf("lost %d, duplicated %d, clear %d; expected 3, 1 and some", t1.lost, t1.twice, t1.clear)
	}
	var report strings.Builder
	if r.verdict(&report) == nil || !strings.Contains(report.String(), "lost=3 duplicated=1 clear=") {
		t.Errorf("the verdict is good:\n%s", report.String())
	}
}
