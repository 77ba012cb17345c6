package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"yumen/esp"
	"yumen/esp/warm"
	"yumen/policy"
)

const (
	// waitingAnswers is how many answers may wait for a runner: more than a second's.
	waitingAnswers = 1024
	waitingOrders  = 64
	// steerAgain is how soon a plane that refused to steer is asked again.
	steerAgain = 200 * time.Millisecond
)

// runner keeps one group: it sends probes by the clock, has answers judged and carries
// out what is decided. Only its goroutine steps the machine.
type runner struct {
	all     *groups
	policy  policy.Group
	answers chan answer
	orders  chan order
	ended   chan struct{}
	cancel  context.CancelFunc

	seq      uint64
	probeAt  time.Time
	unsteery time.Time // when to steer again, after the plane refused; zero: it did not
	wakeAt   time.Time // when the clock was to strike, at the latest
	works    bool      // as told last

	mu     sync.Mutex // guards what follows
	group  *warm.Group
	has    []bool   // members that have a child
	unsent []string // by member: why its probes do not leave; empty: they do
	trace  trace
}

type answer struct {
	member int
	echo   esp.Echo
}

// order is an input, and who waits until it was carried out; nil: nobody.
type order struct {
	in   warm.Input
	done chan struct{}
}

func newRunner(all *groups, p policy.Group) *runner {
	return &runner{all: all, policy: p, answers: make(chan answer, waitingAnswers), orders: make(chan order, waitingOrders),
		ended: make(chan struct{}), group: warm.New(p), has: make([]bool, len(p.Members)), unsent: make([]string, len(p.Members)), works: true}
}

// start begins. Numbers of probes go on from those of an earlier process, so that no
// answer to one of its probes is taken for ours.
func (r *runner) start(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(ctx)
	r.seq = uint64(time.Now().UnixNano())
	go func() {
		defer close(r.ended)
		r.run(ctx)
	}()
}

// stop ends the runner and waits for that.
func (r *runner) stop() {
	r.cancel()
	<-r.ended
}

// echo takes an answer. One that does not fit in is one that comes too late anyway.
func (r *runner) echo(member int, e esp.Echo) {
	select {
	case r.answers <- answer{member, e}:
	default:
	}
}

// order has an input taken in soon.
func (r *runner) order(in warm.Input) {
	select {
	case r.orders <- order{in: in}:
	case <-r.ended:
	}
}

// orderNow has an input taken in and what follows carried out.
func (r *runner) orderNow(in warm.Input) {
	done := make(chan struct{})
	select {
	case r.orders <- order{in, done}:
	case <-r.ended:
		return
	}
	select {
	case <-done:
	case <-r.ended:
	}
}

func (r *runner) run(ctx context.Context) {
	if to := r.group.Steer(); to != nil { // inherited
		r.steer(to)
	}
	r.probeAt = time.Now()
	r.wakeAt = r.probeAt
	clock := time.NewTimer(0)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-r.answers:
			r.wake()
			r.answered(a)
		case o := <-r.orders:
			r.wake()
			r.carryOut(o)
		case <-clock.C:
			r.wake()
			r.beat()
		}
		r.wakeAt = r.due()
		clock.Reset(time.Until(r.wakeAt))
	}
}

// wake notes when the runner comes much too late, whatever it wakes for: what has
// arrived meanwhile may still be on its way through this machine.
func (r *runner) wake() {
	if late := time.Since(r.wakeAt); late > r.policy.Probe.Interval/2 {
		r.all.log.Debug("late", "group", r.policy.Name, "by", late.String())
		r.step(warm.Late{})
	}
}

// due is when the clock has something to do.
func (r *runner) due() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := r.probeAt
	for _, t := range []time.Time{r.group.Next(time.Now()), r.trace.due(), r.unsteery} {
		if !t.IsZero() && t.Before(due) {
			due = t
		}
	}
	return due
}

// beat does what the clock asks for. What has arrived is taken in first, so that a
// machine that was busy does not take its own slowness for a lost probe.
func (r *runner) beat() {
	for waiting := true; waiting; {
		select {
		case a := <-r.answers:
			r.answered(a)
		default:
			waiting = false
		}
	}
	now := time.Now()
	r.step(warm.Tick{})
	if !r.unsteery.IsZero() && !now.Before(r.unsteery) {
		r.steer(r.group.Steer())
	}
	if !now.Before(r.probeAt) {
		r.probe()
		r.probeAt = r.probeAt.Add(r.policy.Probe.Interval)
		if r.probeAt.Before(now) {
			r.probeAt = now.Add(r.policy.Probe.Interval) // what was missed is not made up for
		}
	}
	r.traceOne(now)
}

// probe sends one probe by each member that has a child.
func (r *runner) probe() {
	r.seq++
	for i, m := range r.policy.Members {
		if !r.has[i] {
			continue
		}
		at := time.Now()
		err := r.all.plane.Echo(m.Tunnel, r.seq, at.UnixNano())
		if errors.Is(err, esp.ErrNoChild) {
			r.all.childrenChanged()
			continue
		}
		r.left(i, err)
		r.stepAt(at, warm.Sent{Member: i, Seq: r.seq})
	}
}

// left notes whether a probe left. One that did not is lost, as far as the path is
// concerned, and the first of a row is told: it may be our own configuration.
func (r *runner) left(member int, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	r.mu.Lock()
	before := r.unsent[member]
	r.unsent[member] = why
	r.mu.Unlock()
	if err == nil {
		return
	}
	level := slog.LevelDebug
	if before == "" {
		level = slog.LevelWarn
	}
	r.all.log.Log(context.Background(), level, "probe", "group", r.policy.Name, "tunnel", r.policy.Members[member].Tunnel, "error", err)
}

func (r *runner) answered(a answer) {
	if a.echo.Group {
		r.mu.Lock()
		r.trace.answered(a.echo)
		r.mu.Unlock()
		return
	}
	r.step(warm.Answered{Member: a.member, Seq: a.echo.Seq, At: a.echo.At})
}

func (r *runner) carryOut(o order) {
	if c, ok := o.in.(warm.Child); ok {
		r.has[c.Member] = c.Up
	}
	r.step(o.in)
	if o.done != nil {
		close(o.done)
	}
}

func (r *runner) step(in warm.Input) { r.stepAt(time.Now(), in) }

// stepAt takes one input in and carries out what comes of it. Traffic moves first;
// telling of it comes after.
func (r *runner) stepAt(now time.Time, in warm.Input) {
	r.mu.Lock()
	out := r.group.Step(now, in)
	r.mu.Unlock()
	if out.Steer != nil {
		r.steer(out.Steer)
	}
	if out.Flip != nil || out.Changes != nil {
		r.tell(out)
	}
}

func (r *runner) steer(to []esp.Weight) {
	r.unsteery = time.Time{}
	if err := r.all.plane.Steer(r.policy.Name, to); err != nil {
		// It was told a policy that does not have the group yet, or no longer.
		r.unsteery = time.Now().Add(steerAgain)
		r.all.log.Warn("steer", "group", r.policy.Name, "error", err)
	}
}
