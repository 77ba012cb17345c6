package probe

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"yumen/policy"
)

// Standing is how a finding is known.
type Standing uint8

const (
	Untold   Standing = iota // cannot be told; Because says why
	Seen                     // the far end sent it so
	Accepted                 // the far end took it from us so
)

func (s Standing) String() string { return [...]string{"cannot be told", "seen", "accepted"}[s] }

// Finding is what is known of one knob of the far end, in the words of a policy
// file. Where Values has more than one the far end has one of them, and what it
// showed does not say which.
type Finding struct {
	Knob     string
	Standing Standing
	Values   []string
	Refused  []string // values that were tried and refused
	Because  string   // of Untold, or what leaves more than one value
}

// String is the finding on one line.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-16s %s", f.Knob, f.Standing)
	switch f.Standing {
	case Seen: // one of them
		b.WriteString(": " + strings.Join(f.Values, " or "))
	case Accepted: // all of them
		b.WriteString(": " + strings.Join(f.Values, ", "))
	}
	if len(f.Refused) > 0 {
		b.WriteString("; refused: " + strings.Join(f.Refused, ", "))
	}
	if f.Because != "" {
		b.WriteString(", because " + f.Because)
	}
	return b.String()
}

// Report is everything that a probe found out.
type Report struct {
	Findings   []Finding // of every knob, in the order of policy.KnobNames
	Deviations []string  // from the standard form, each with its clause
	Notes      []string  // what happened, in order
	Handshakes int       // main modes beyond message 2
	Session    bool      // an ISAKMP SA stood: M6, or M5 of the far end, was good
	Child      bool      // so did a quick mode
	Block      string    // the peer entry for a policy file; empty where too little is known
}

func newReport(because string) *Report {
	r := &Report{}
	for _, name := range policy.KnobNames() {
		r.Findings = append(r.Findings, Finding{Knob: name, Because: because})
	}
	r.untold("esp_icv_bits", "only ESP packets show it, and a probe has no data plane")
	r.untold("allow_narrowing", "it shows only where selectors differ, which no probe tries: wrong ones could take over traffic")
	r.untold("strict_lifetime", "only an offer above 24 h shows it, and only who is called can refuse one")
	r.untold("transform_id", "only a wrong one shows it, and only who is called can refuse one")
	r.untold("natd_hash", "no message had NAT-D payloads")
	r.untold("accept_zero_pad", "only a nonce padded with zeros shows it")
	r.untold("peer_id", "it is what the far end expects of us, and a certificate's name suits every peer")
	r.untold("accept", "only what is refused shows it")
	return r
}

// Of is the finding about a knob.
func (r *Report) Of(knob string) *Finding {
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Knob == knob })
	return &r.Findings[i]
}

func (r *Report) untold(knob, because string) {
	if f := r.Of(knob); f.Standing == Untold {
		f.Because = because
	}
}

// seen notes what the far end showed.
func (r *Report) seen(knob, value string) {
	f := r.Of(knob)
	f.Standing, f.Values, f.Because = Seen, []string{value}, ""
}

// oneOf notes that the far end has one of several values. Less than was known
// before changes nothing.
func (r *Report) oneOf(knob, because string, values ...string) {
	if f := r.Of(knob); f.Standing != Seen || len(f.Values) > len(values) {
		f.Standing, f.Values, f.Because = Seen, values, because
	}
}

// tried notes that the far end took a value from us, or refused it.
func (r *Report) tried(knob, value string, taken bool) {
	f := r.Of(knob)
	switch {
	case !taken:
		if !slices.Contains(f.Refused, value) {
			f.Refused = append(f.Refused, value)
		}
	case f.Standing == Untold:
		f.Standing, f.Values, f.Because = Accepted, []string{value}, ""
	case f.Standing == Accepted && !slices.Contains(f.Values, value):
		f.Values = append(f.Values, value)
	}
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// shown takes over, of the knobs named, how the far end spoke.
func (r *Report) shown(accent policy.Dialect, knobs ...string) {
	for _, k := range accent.Words() {
		if slices.Contains(knobs, k.Name) {
			r.seen(k.Name, k.Value)
		}
	}
}

// finish lists the deviations and writes the block.
func (r *Report) finish(entry policy.Peer) {
	r.Deviations = nil
	standard := policy.GBT36968.Dialect()
	for _, k := range standard.Words() {
		f := r.Of(k.Name)
		if f.Standing == Seen && len(f.Values) == 1 && f.Values[0] != k.Value && differs(k.Name) {
			r.Deviations = append(r.Deviations, fmt.Sprintf("%s: %s, the standard form is %s (%s)", k.Name, f.Values[0], k.Value, clause(k.Name)))
		}
		if f.Standing == Accepted && slices.Contains(f.Refused, k.Value) && differs(k.Name) {
			r.Deviations = append(r.Deviations, fmt.Sprintf("%s: takes %s and refuses the standard form %s (%s)", k.Name,
				strings.Join(f.Values, ", "), k.Value, clause(k.Name)))
		}
	}
	r.Block = block(entry, r)
}

// Write prints the report as people read it.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	b.WriteString("\nKnobs of the far end:\n")
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	b.WriteString("\nDeviations from GB/T 36968-2018:\n")
	for _, d := range r.Deviations {
		fmt.Fprintf(&b, "  %s\n", d)
	}
	if len(r.Deviations) == 0 {
		b.WriteString("  none was seen\n")
	}
	if r.Block != "" {
		fmt.Fprintf(&b, "\nEntry for the policy (%s):\n\n%s", r.how(), r.Block)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// how says how far the block is proven.
func (r *Report) how() string {
	switch {
	case r.Child:
		return "a session and a tunnel stood in this form, and were deleted"
	case r.Session:
		return "a session stood in this form, and was deleted; no tunnel did"
	}
	return "not proven: no session stood"
}
