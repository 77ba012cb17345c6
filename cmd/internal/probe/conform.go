package probe

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
)

// Conform plays a peer for others to be tried against: one that takes its own
// dialect and nothing else (accept: exact), or one that deviates as it is told. It
// says step by step what it saw, and ends with a verdict.
type Conform struct {
	cfg   Config
	host  host
	entry policy.Peer
	dials bool
	say   func(now time.Time, line string)

	until    time.Time
	met      bool // a message 3 came that is to be of the other
	up       bool
	child    bool
	heard    []string // that differs from the dialect
	reasons  []string // why messages counted for nothing
	done     bool
	endState Verdict
}

// Verdict is what a Conform says at its end.
type Verdict struct {
	Session, Child bool
	Deviations     []string // from the dialect that was played, with their clauses
	Reasons        []string // of refusals and drops, in order
}

// Good reports whether everything stood and nothing deviated.
func (v Verdict) Good() bool { return v.Session && v.Child && len(v.Deviations) == 0 }

// String is the verdict as people read it.
func (v Verdict) String() string {
	var b strings.Builder
	yes := map[bool]string{true: "yes", false: "no"}
	fmt.Fprintf(&b, "session: %s, tunnel: %s\n", yes[v.Session], yes[v.Child])
	for _, d := range v.Deviations {
		fmt.Fprintf(&b, "deviates: %s\n", d)
	}
	if !v.Good() {
		for _, r := range v.Reasons {
			fmt.Fprintf(&b, "refused or dropped: %s\n", r)
		}
	}
	switch {
	case v.Good():
		b.WriteString("verdict: it speaks this dialect\n")
	case v.Session && v.Child:
		b.WriteString("verdict: it connects, and deviates\n")
	default:
		b.WriteString("verdict: it does not connect\n")
	}
	return b.String()
}

// NewConform returns a peer that plays the dialect of the first entry of the policy
// and calls, or, with an unspecified Remote, waits to be called. say is told each
// step.
func NewConform(cfg Config, say func(now time.Time, line string)) (*Conform, error) {
	c := &Conform{cfg: cfg, entry: cfg.peer(), say: say}
	c.dials, c.entry.Remote = cfg.Remote.IsValid() && !cfg.Remote.IsUnspecified(), cfg.from()
	c.entry.PathProbe = policy.ProbeOff
	if c.entry.DPD.Interval == 0 {
		c.entry.DPD = policy.DPD{Interval: cfg.wait() / 2, Tries: askTries}
	}
	e := cfg.Engine
	p := *e.Policy
	p.Peers, p.Tunnels = []policy.Peer{c.entry}, nil
	for _, t := range e.Policy.Tunnels {
		if t.Peer == c.entry.Name {
			t.Start = policy.StartNone
			if c.dials {
				t.Start = policy.StartNow
			}
			p.Tunnels = append(p.Tunnels, t)
		}
	}
	e.Policy, e.Learned, e.Hear = &p, nil, &ike.Hearing{UserIDs: cfg.UserIDs}
	return c, c.host.begin(e)
}

// Step is that of Machine.
func (c *Conform) Step(now time.Time, in ike.Input) ike.Output {
	if c.done {
		return ike.Output{}
	}
	switch x := in.(type) {
	case ike.Stop:
		return c.finish(now)
	case ike.Datagram:
		if r := c.entry.Remote; r.Addr.IsValid() && x.Remote.Addr() != r.Addr {
			return ike.Output{Wake: earlier(c.host.wake, c.until)}
		}
		c.say(now, "<- "+describe(x))
	case ike.Tick:
		if c.until.IsZero() && c.dials {
			c.until = now.Add(patience)
		}
		switch {
		case c.until.IsZero() || now.Before(c.until):
		case c.met || !c.entry.Remote.Any:
			return c.finish(now)
		default: // somebody else called
			c.until = time.Time{}
		}
	}
	out := c.host.step(now, in)
	for _, h := range out.Heard {
		c.hear(now, h)
	}
	for _, v := range out.Events {
		c.event(now, v)
	}
	for _, p := range out.Packets {
		c.say(now, "-> "+describe(p))
	}
	out.Wake = earlier(c.host.wake, c.until)
	return out
}

// describe is a datagram on one line: what stands in clear.
func describe(d ike.Datagram) string {
	h, err := wire.ParseHeader(d.Data)
	if err != nil {
		return fmt.Sprintf("%d bytes that are no ISAKMP message: %v", len(d.Data), err)
	}
	s := fmt.Sprintf("%v, %v, message ID %08x, version %s, %d bytes", d.Remote, h.Exchange, h.MessageID, versionWord(h.Version), len(d.Data))
	if h.Flags&wire.FlagEncrypted != 0 {
		return s + ", encrypted"
	}
	m, err := wire.Parse(d.Data)
	if err != nil {
		return s + ": " + err.Error()
	}
	var list []string
	for _, p := range m.Payloads {
		list = append(list, p.Type.String())
	}
	return s + ": " + strings.Join(list, ", ")
}

// shows are the knobs that a message can show.
func shows(h ike.Heard) []string {
	switch h.In {
	case ike.InFields:
		if !h.Known {
			return []string{"sk_encoding"}
		}
		return []string{"ike_sm4_id", "key_length", "cert_order", "sk_encoding", "field_pad", "id_iv", "id_cert", "sig_encoding", "sig_cert_body", "sm2_id"}
	case ike.InProof:
		if h.OneSA {
			return nil
		}
		return []string{"hashr_sa"}
	case ike.InQuick:
		return []string{"qm_hash"}
	}
	if h.Asks {
		return []string{"dpd_order", "dpd_spi"}
	}
	return []string{"dpd_order"}
}

func (c *Conform) hear(now time.Time, h ike.Heard) {
	c.met = c.met || h.In == ike.InFields
	for _, k := range h.Accent.Against(c.entry.Dialect) {
		if slices.Contains(shows(h), k.Name) {
			c.deviates(now, fmt.Sprintf("%v (%s)", k, clause(k.Name)))
		}
	}
	if h.In == ike.InFields && h.Known {
		c.say(now, fmt.Sprintf("   ID %v of %s", h.ID, h.Pair.Sign.Name))
	}
}

func (c *Conform) deviates(now time.Time, what string) {
	if !slices.Contains(c.heard, what) && len(c.heard) < maxNotes {
		c.heard = append(c.heard, what)
		c.say(now, "   deviates: "+what)
	}
}

// event follows how far the other comes.
func (c *Conform) event(now time.Time, v ike.Event) {
	switch v.Kind {
	case ike.IKEStarted:
		if c.until.IsZero() {
			c.until = now.Add(patience)
		}
		return
	case ike.IKEUp:
		if !c.up { // the first counts: one that comes again and again shall not keep us
			c.up, c.until = true, now.Add(c.cfg.wait())
		}
		c.say(now, "   session established with "+v.Detail)
	case ike.ChildUp:
		c.child = true
		c.say(now, "   tunnel "+v.Tunnel+" came up")
	case ike.Deviation: // no knob says so
		if !strings.Contains(v.Detail, ": ") { // the others are heard
			c.deviates(now, v.Detail)
		}
	case ike.Refused, ike.Dropped, ike.IKEFailed, ike.ChildFailed:
		if c.until.IsZero() && v.Kind == ike.Refused && v.Peer != "" {
			c.until = now.Add(patience)
		}
		why := fmt.Sprintf("%s: %s", v.Reason, v.Detail)
		c.say(now, "   "+why)
		if !slices.Contains(c.reasons, why) && len(c.reasons) < maxNotes {
			c.reasons = append(c.reasons, why)
		}
	case ike.NotifyIn:
		c.say(now, fmt.Sprintf("   it says %v", v.Notify))
	case ike.PeerDead:
		c.say(now, "   it does not answer whether it lives")
	}
}

// finish deletes what was built and ends.
func (c *Conform) finish(now time.Time) ike.Output {
	out := c.host.step(now, ike.Stop{})
	for _, p := range out.Packets {
		c.say(now, "-> "+describe(p))
	}
	c.done = true
	c.endState = Verdict{Session: c.up, Child: c.child, Deviations: c.heard, Reasons: c.reasons}
	return ike.Output{Packets: out.Packets, Events: out.Events}
}

// Verdict is what the other's messages came to; whole once Done.
func (c *Conform) Verdict() Verdict { return c.endState }

// Status is that of Machine.
func (c *Conform) Status() ike.Status { return c.host.status() }

// Done is that of Machine.
func (c *Conform) Done() bool { return c.done }

var _ Machine = (*Conform)(nil)
