package drill

import (
	"testing"

	"yumen/cmd/internal/control"
)

const milli = 1_000_000

// story makes a probe every 10 ms; answered tells after how many milliseconds, 0: never.
func story(n int, answered func(i int) int64) (out []control.Sample) {
	for i := range n {
		s := control.Sample{Seq: uint64(i + 1), Sent: int64(i) * 10 * milli}
		if a := answered(i); a > 0 {
			s.Answered, s.Far, s.By = s.Sent+a*milli, s.Sent+1, "dr-a"
			if i >= 20 {
				s.By = "dr-b"
			}
		}
		out = append(out, s)
	}
	return out
}

func TestLossIsToldByDirectionAndTime(t *testing.T) {
	always := func(int) int64 { return 2 }
	for name, c := range map[string]struct {
		answered func(i int) int64
		change   change
		want     Measure
	}{
		"nothing happens": {always, change{at: 100 * milli, end: 400 * milli}, Measure{Sent: 30, Gap: 10, Again: true}},
		// Failed at 200 ms, we moved at 320, the far end at 350.
		"both ends find out": {func(i int) int64 {
			if i >= 20 && i < 35 {
				return 0
			}
			return 2
		}, change{at: 200 * milli, end: 600 * milli, moved: 320 * milli},
			Measure{Sent: 40, Lost: 15, Gap: 152, There: Direction{12, 120}, Back: Direction{3, 152}, Again: true}},
		"only the way back": {func(i int) int64 {
			if i >= 20 && i < 30 {
				return 0
			}
			return 2
		}, change{at: 200 * milli, end: 600 * milli, moved: 200 * milli},
			Measure{Sent: 40, Lost: 10, Gap: 102, Back: Direction{10, 102}, Again: true}},
		"it stays down": {func(i int) int64 {
			if i >= 20 {
				return 0
			}
			return 2
		}, change{at: 200 * milli, end: 500 * milli, moved: 250 * milli},
			Measure{Sent: 30, Lost: 30, Gap: 300, There: Direction{5, 50}, Back: Direction{25, 0}}},
		"no probe": {always, change{at: 9000 * milli, end: 9100 * milli}, Measure{}},
	} {
		got := measure(story(60, c.answered), c.change)
		got.Moved = nil
		if got.Sent != c.want.Sent || got.Lost != c.want.Lost || got.Gap != c.want.Gap || got.There != c.want.There || got.Back != c.want.Back || got.Again != c.want.Again {
			t.Errorf("%s: %+v, expected %+v", name, got, c.want)
		}
	}
	m := measure(story(60, always), change{at: 100 * milli, end: 400 * milli})
	if len(m.Moved) != 2 || m.Moved[0] != "dr-a" || m.Moved[1] != "dr-b" {
		t.Errorf("it went by %v", m.Moved)
	}
}

// Pings are answered by the path that they came by, or by nobody knows which.
func TestTheWayBackOfAPingIsNotMeasured(t *testing.T) {
	probes := story(60, func(i int) int64 {
		if i >= 20 && i < 35 {
			return 0
		}
		return 2
	})
	for i := range probes {
		probes[i].Far = 0
	}
	m := measure(probes, change{at: 200 * milli, end: 600 * milli, moved: 320 * milli})
	if !m.Blind || m.Back != (Direction{}) || m.Homeward() != "not measured" || m.Lost != 15 || m.There != (Direction{12, 120}) {
		t.Errorf("%+v", m)
	}
}
