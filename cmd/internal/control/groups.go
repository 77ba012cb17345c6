package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Groups is what may be asked of groups of paths. Errors wrap ErrUnknownGroup for a
// group, or a path of it, that the policy does not have.
type Groups interface {
	// FailPath has a path seem dead to both ends: all ESP of it is dropped here. It is
	// restored after limit, if nobody does so before; limit is above 0 and at most
	// MaxFailure. Again for a path that has failed, it sets the limit anew.
	FailPath(ctx context.Context, group, tunnel string, limit time.Duration) error
	// CutPath is FailPath without a word to the group at this end: it has to find out by
	// its probes, as the far end does. For exercises.
	CutPath(ctx context.Context, group, tunnel string, limit time.Duration) error
	// RestorePath ends that. A path that has not failed is no error.
	RestorePath(ctx context.Context, group, tunnel string) error
	// Trace has a numbered probe sent as the group's traffic goes, every so often, for
	// a time; 0 for ends it. A trace under way is replaced.
	Trace(ctx context.Context, group string, every, last time.Duration) error
	// Samples are those probes of the last trace whose number is from or above, in
	// order, and at most MaxSamples of them.
	Samples(ctx context.Context, group string, from uint64) (Samples, error)
}

// Bounds of what may be asked.
const (
	MaxFailure = time.Hour
	MinTrace   = 2 * time.Millisecond // between two probes of a trace
	MaxTrace   = time.Hour            // how long one lasts
	MaxSamples = 20_000               // in one answer
)

// ErrUnknownGroup says that the policy has no such group or path.
var ErrUnknownGroup = errors.New("the policy has no such group or path")

// Group is several tunnels that are paths of the same traffic.
type Group struct {
	Name    string            `json:"name"`
	Mode    string            `json:"mode"` // active-standby, load-share
	Carries []string          `json:"carries"`
	Works   bool              `json:"works"`           // some path that carries is not down
	Last    *Flip             `json:"last,omitempty"`  // flip
	Flips   map[string]uint64 `json:"flips,omitempty"` // by reason, since the gateway started
	Probe   Probe             `json:"probe"`
	Paths   []Path            `json:"paths"` // in the order of the policy
}

// Probe is how the paths of a group are tried.
type Probe struct {
	Interval float64 `json:"interval_ms"` // between two probes of one path
	Lost     int     `json:"lost"`        // in a row, after which a path is down
	Recover  int     `json:"recover"`     // answers in a row, after which it is good again
}

// Within is how long a path is silent, at most and give or take an answer, before it
// is left.
func (p Probe) Within() time.Duration { return p.times(p.Lost) }

// Again is how long a path must answer before it is good again.
func (p Probe) Again() time.Duration { return p.times(p.Recover) }

func (p Probe) times(n int) time.Duration {
	return time.Duration(float64(n) * p.Interval * float64(time.Millisecond))
}

// Flip is a change of who carries a group's traffic.
type Flip struct {
	At     time.Time `json:"at"`
	From   []string  `json:"from,omitempty"`
	To     []string  `json:"to"`
	Reason string    `json:"reason"` // start, probe-lost, loss, delay, link-down, no-child, drill, preempt, recovered
	Cause  string    `json:"cause"`  // the tunnel whose change led to it
}

// Path is one member of a group.
type Path struct {
	Tunnel   string     `json:"tunnel"`
	State    string     `json:"state"`         // good, bad, untried, unanswered, recovering, down
	Why      string     `json:"why,omitempty"` // of a state that is not good: a word of Flip.Reason
	Since    *time.Time `json:"since,omitempty"`
	Carries  bool       `json:"carries"`
	Priority int        `json:"priority"`
	Weight   int        `json:"weight"`
	Loss     int        `json:"loss_percent"` // of the last 50 probes
	RTT      float64    `json:"rtt_ms"`       // median; 0: no answer yet
	Jitter   float64    `json:"jitter_ms"`
	Probes   uint64     `json:"probes"`                // whose end is known
	Lost     uint64     `json:"probes_lost"`           // of those
	Unsent   string     `json:"probe_error,omitempty"` // why its probes do not leave
	Failed   *time.Time `json:"failed_until,omitempty"`
}

// Samples are probes of a trace.
type Samples struct {
	Running bool     `json:"running"`
	Next    uint64   `json:"next"` // from where to go on asking
	Probes  []Sample `json:"probes"`
}

// Sample is one probe that travelled as the group's traffic does. Times are in
// nanoseconds, those of our clock since Unix time 0.
type Sample struct {
	Seq      uint64 `json:"seq"` // 1 is the first
	Sent     int64  `json:"sent"`
	Answered int64  `json:"answered,omitempty"` // 0: not, or not yet
	Far      int64  `json:"far,omitempty"`      // when the far end answered, by its clock; 0: it does not say
	By       string `json:"by,omitempty"`       // tunnel by which the answer came
	Failed   string `json:"failed,omitempty"`   // why it was not even sent
}

// order of a group.
type groupRequest struct {
	Seconds float64 `json:"seconds,omitempty"`
	EveryMS float64 `json:"every_ms,omitempty"`
}

const groupsPath = "/v1/groups/"

func groupRoutes(mux *http.ServeMux, g Groups) {
	for word, do := range map[string]func(ctx context.Context, group, tunnel string, limit time.Duration) error{"fail": g.FailPath, "cut": g.CutPath} {
		mux.HandleFunc("POST "+groupsPath+"{group}/paths/{tunnel}/"+word, groupOrder(func(r *http.Request, in groupRequest) error {
			limit, err := seconds(in.Seconds, MaxFailure)
			if err != nil {
				return err
			}
			if limit == 0 {
				return errBad("seconds: say after how long the path shall be restored by itself")
			}
			return do(r.Context(), r.PathValue("group"), r.PathValue("tunnel"), limit)
		}))
	}
	mux.HandleFunc("POST "+groupsPath+"{group}/paths/{tunnel}/restore", groupOrder(func(r *http.Request, in groupRequest) error {
		return g.RestorePath(r.Context(), r.PathValue("group"), r.PathValue("tunnel"))
	}))
	mux.HandleFunc("POST "+groupsPath+"{group}/trace", groupOrder(func(r *http.Request, in groupRequest) error {
		last, err := seconds(in.Seconds, MaxTrace)
		if err != nil {
			return err
		}
		every := time.Duration(in.EveryMS * float64(time.Millisecond))
		if last > 0 && (every < MinTrace || every > time.Second) {
			return errBad(fmt.Sprintf("every_ms: must be %d to 1000", MinTrace.Milliseconds()))
		}
		return g.Trace(r.Context(), r.PathValue("group"), every, last)
	}))
	mux.HandleFunc("GET "+groupsPath+"{group}/trace", func(w http.ResponseWriter, r *http.Request) {
		from, err := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
		if err != nil {
			refuse(w, http.StatusBadRequest, errors.New("from: say the number of the first probe"))
			return
		}
		s, err := g.Samples(r.Context(), r.PathValue("group"), from)
		if err != nil {
			refuse(w, codeOf(err), err)
			return
		}
		answer(w, http.StatusOK, s)
	})
}

// errBad is a request that cannot be meant.
type errBad string

func (e errBad) Error() string { return string(e) }

func seconds(s float64, most time.Duration) (time.Duration, error) {
	if !(s >= 0 && s <= most.Seconds()) {
		return 0, errBad(fmt.Sprintf("seconds: must be 0 to %.0f", most.Seconds()))
	}
	return time.Duration(s * float64(time.Second)), nil
}

func codeOf(err error) int {
	var bad errBad
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest
	case errors.Is(err, ErrUnknownGroup), errors.Is(err, ErrUnknownTunnel):
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}

func groupOrder(do func(r *http.Request, in groupRequest) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in groupRequest
		if err := readOne(w, r, &in); err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		if err := do(r, in); err != nil {
			refuse(w, codeOf(err), err)
			return
		}
		answer(w, http.StatusOK, struct{}{})
	}
}

func groupPath(group string, more ...string) string {
	out := groupsPath + url.PathEscape(group)
	for _, m := range more {
		out += "/" + url.PathEscape(m)
	}
	return out
}

// FailPath has a path of a group seem dead until RestorePath, or for limit.
func (c *Client) FailPath(ctx context.Context, group, tunnel string, limit time.Duration) error {
	return c.ask(ctx, http.MethodPost, groupPath(group, "paths", tunnel, "fail"), groupRequest{Seconds: limit.Seconds()}, nil)
}

// CutPath is FailPath without a word to the group, which has to find out.
func (c *Client) CutPath(ctx context.Context, group, tunnel string, limit time.Duration) error {
	return c.ask(ctx, http.MethodPost, groupPath(group, "paths", tunnel, "cut"), groupRequest{Seconds: limit.Seconds()}, nil)
}

// RestorePath ends that.
func (c *Client) RestorePath(ctx context.Context, group, tunnel string) error {
	return c.ask(ctx, http.MethodPost, groupPath(group, "paths", tunnel, "restore"), groupRequest{}, nil)
}

// Trace has numbered probes sent as the group's traffic goes.
func (c *Client) Trace(ctx context.Context, group string, every, last time.Duration) error {
	in := groupRequest{Seconds: last.Seconds(), EveryMS: float64(every) / float64(time.Millisecond)}
	return c.ask(ctx, http.MethodPost, groupPath(group, "trace"), in, nil)
}

// Samples reads probes of the last trace.
func (c *Client) Samples(ctx context.Context, group string, from uint64) (s Samples, err error) {
	return s, c.ask(ctx, http.MethodGet, groupPath(group, "trace")+"?from="+strconv.FormatUint(from, 10), nil, &s)
}

// group writes a group for people.
func (p *page) group(g Group) {
	line := fmt.Sprintf("group %s: %s, ", g.Name, g.Mode)
	switch {
	case len(g.Carries) == 0:
		line += "no path carries yet"
	case !g.Works:
		line += "NO PATH WORKS, waiting on " + strings.Join(g.Carries, ", ")
	default:
		line += "by " + strings.Join(g.Carries, ", ")
	}
	p.line("%s", line)
	if f := g.Last; f != nil {
		from := "nothing"
		if len(f.From) > 0 {
			from = strings.Join(f.From, ", ")
		}
		p.line("  last flip %s ago: %s > %s, %s of %s", p.since(f.At), from, strings.Join(f.To, ", "), f.Reason, f.Cause)
	}
	for _, x := range g.Paths {
		p.path(x)
	}
}

func (p *page) path(x Path) {
	line := fmt.Sprintf("  %s: %s", x.Tunnel, strings.ToUpper(x.State))
	if x.Why != "" {
		line += " (" + x.Why + ")"
	}
	if x.Since != nil {
		line += " for " + p.since(*x.Since)
	}
	if x.Carries {
		line += ", carries"
	}
	line += fmt.Sprintf(", priority %d, loss %d%%", x.Priority, x.Loss)
	if x.RTT > 0 {
		line += fmt.Sprintf(", rtt %.1f ms, jitter %.1f ms", x.RTT, x.Jitter)
	}
	if x.Unsent != "" {
		line += ", NO PROBE LEAVES: " + x.Unsent
	}
	if x.Failed != nil {
		line += ", failed by an operator, restored " + p.until(*x.Failed)
	}
	p.line("%s", line)
}
