package drill

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"yumen/cmd/internal/control"
)

// Report is what an exercise found out.
type Report struct {
	Version  string        `json:"version"` // of the gateway
	Site     string        `json:"site,omitempty"`
	Group    string        `json:"group"`
	Mode     string        `json:"mode"`
	Begun    time.Time     `json:"begun"`
	Ended    time.Time     `json:"ended"`
	Window   time.Duration `json:"window_ns"`
	Every    time.Duration `json:"probe_ns"`
	Limit    time.Duration `json:"limit_ns"`
	Failures string        `json:"failures"` // silent, announced
	Passed   bool          `json:"passed"`
	Why      string        `json:"why,omitempty"` // it is not a pass
	Whole    Measure       `json:"whole"`         // from the first probe to the last
	Paths    []Exercise    `json:"paths"`

	probes []control.Sample
}

// Exercise is what became of one path.
type Exercise struct {
	Path     string    `json:"path"`
	Carried  bool      `json:"carried"` // traffic, when it was failed
	Failed   time.Time `json:"failed"`
	Restored time.Time `json:"restored"`
	Good     time.Time `json:"good"` // again
	Failure  Measure   `json:"failure"`
	Return   Measure   `json:"return"` // from the restoration until the next change

	moved time.Time
}

func newReport(s control.Status, p Plan, o Options) *Report {
	how := "silent"
	if o.Announced {
		how = "announced"
	}
	return &Report{Version: s.Version, Site: s.Site, Group: o.Group, Mode: p.Group.Mode, Begun: time.Now(), Window: o.Window,
		Every: o.Every, Limit: o.Limit, Failures: how, Paths: []Exercise{}}
}

// finish measures, and says whether it is a pass.
func (r *Report) finish(probes []control.Sample, err error) {
	r.Ended, r.probes = time.Now(), probes
	stamp := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.UnixNano()
	}
	var faults []string
	if err != nil {
		faults = append(faults, err.Error())
	}
	settled := r.Ended.Add(-answers) // what was sent later may be under way
	r.Whole = measure(probes, change{at: stamp(r.Begun), end: stamp(settled)})
	for i := range r.Paths {
		x := &r.Paths[i]
		end := settled
		if i+1 < len(r.Paths) {
			end = r.Paths[i+1].Failed
		}
		x.Failure = measure(probes, change{at: stamp(x.Failed), end: stamp(x.Restored), moved: stamp(x.moved)})
		x.Return = measure(probes, change{at: stamp(x.Restored), end: stamp(end)})
		limit := float64(r.Limit) / float64(time.Millisecond)
		switch {
		case x.Failure.Sent == 0:
			faults = append(faults, fmt.Sprintf("%s: no probe was sent while it had failed", x.Path))
		case !x.Failure.Again:
			faults = append(faults, fmt.Sprintf("%s: nothing passed until it was restored", x.Path))
		case x.Failure.Gap > limit:
			faults = append(faults, fmt.Sprintf("%s: %.0f ms without an answer, more than %.0f", x.Path, x.Failure.Gap, limit))
		}
		if x.Return.Lost > 0 {
			faults = append(faults, fmt.Sprintf("%s: %d probes were lost when it came back", x.Path, x.Return.Lost))
		}
	}
	if len(r.Paths) == 0 && err == nil {
		faults = append(faults, "no path was failed")
	}
	r.Passed, r.Why = len(faults) == 0, strings.Join(faults, "; ")
}

// WriteJSON writes it for machines.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes it for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Drill of group %s (%s) at %s: %s", r.Group, r.Mode, r.site(), r.verdict())
	line("%s to %s, yumen %s, a probe every %v, failures %s", r.Begun.Format(time.RFC3339), r.Ended.Format(time.TimeOnly), r.Version, r.Every, r.Failures)
	line("")
	line("%-20s %-9s %6s %6s %8s   %-18s %-18s %s", "path", "carried", "probes", "lost", "gap ms", "there lost, ms", "back lost, ms", "lost on return")
	for _, x := range r.Paths {
		line("%-20s %-9s %6d %6d %8.0f   %-18s %-18s %d", x.Path, yes(x.Carried), x.Failure.Sent, x.Failure.Lost, x.Failure.Gap,
			x.Failure.There, x.Failure.Homeward(), x.Return.Lost)
	}
	line("")
	line("In all %d probes, %d lost, longest time without an answer %.0f ms.", r.Whole.Sent, r.Whole.Lost, r.Whole.Gap)
	if r.Why != "" {
		line("Not passed: %s", r.Why)
	}
	line("")
	for _, s := range r.legend() {
		line("%s", s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// legend says what the columns are.
func (r *Report) legend() []string {
	if r.Whole.Blind {
		return []string{
			"Probes are numbered pings to probe.target, and leave as the group's traffic does. there: what was lost on the way to the far end, and after how long probes passed again.",
			"back is not measured: the far end may answer a ping by the path that it came by, whatever path its traffic takes. Exercise the group from the far end too: its way there is this end's way back.",
		}
	}
	return []string{
		"Probes are numbered ESP packets that travel as the group's traffic does, and are answered in the same way.",
		"there, back: what was lost on the way to the far end and on the way back, and after how long probes passed again.",
		"A probe that left by the failed path was lost there; one that left by another and was not answered was lost on the way back.",
	}
}

// String is a cell of a table.
func (d Direction) String() string {
	if d.Lost == 0 {
		return "0"
	}
	if d.Recovered == 0 {
		return fmt.Sprintf("%d, not again", d.Lost)
	}
	return fmt.Sprintf("%d, %.0f ms", d.Lost, d.Recovered)
}

func (r *Report) verdict() string {
	switch {
	case r.Passed && r.Whole.Blind:
		return "PASSED on the way there, way back not measured"
	case r.Passed:
		return "PASSED"
	}
	return "NOT PASSED"
}

func (r *Report) site() string {
	if r.Site == "" {
		return "this gateway"
	}
	return r.Site
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
