package decode

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := &printer{w: w}
	t.line("%s", r.Notice)
	var start time.Time
	for i, m := range r.Messages {
		if i == 0 {
			start = m.Time
			t.line("\ncapture begins %s", start.Format("2006-01-02 15:04:05.000000 MST"))
		}
		t.message(m, m.Time.Sub(start))
	}
	for _, s := range r.Sessions {
		t.session(s)
	}
	if len(r.Flows) > 0 {
		t.line("\nESP")
	}
	for _, f := range r.Flows {
		t.line("  SPI %s  %s -> %s  %d packets, %d bytes, sequence %d to %d", f.SPI, f.From, f.To, f.Packets, f.Bytes, f.First, f.Last)
		if f.Opened > 0 || f.Failed > 0 {
			t.line("    %d opened, %d failed, ICV %d bits", f.Opened, f.Failed, f.ICVBits)
		}
		if f.Repeated > 0 {
			t.line("    %d repeated sequence numbers", f.Repeated)
		}
		if hidden := f.Packets - f.listed; hidden > 0 {
			t.line("    %d of them were checked and counted, not listed", hidden)
		}
	}
	t.line("")
	for _, p := range r.Problems {
		t.line("problem: %s", p)
	}
	t.line("%d frames (%d of other protocols), %d sessions: %d checks verified, %d FAILED, %d could not be made",
		r.Frames, r.Ignored, len(r.Sessions), r.Verified, r.Failed, r.Unverified)
	return t.err
}

// printer keeps the first error of its writer.
type printer struct {
	w   io.Writer
	err error
}

// line writes one line; control characters that a capture brought are escaped.
func (t *printer) line(format string, args ...any) {
	if t.err != nil {
		return
	}
	text := strings.TrimRight(strings.Map(printable, fmt.Sprintf(format, args...)), " ")
	_, t.err = io.WriteString(t.w, text+"\n")
}

func printable(r rune) rune {
	if r != '\n' && (r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069) {
		return '.'
	}
	return r
}

func (t *printer) message(m *Message, since time.Duration) {
	head := fmt.Sprintf("frame %d  +%.6f", m.Frame, since.Seconds())
	if m.From != "" {
		head += fmt.Sprintf("  %s -> %s", m.From, m.To)
	}
	head += "  " + m.Name
	if m.Session != 0 {
		head += fmt.Sprintf("  session %d", m.Session)
	}
	t.line("\n%s  (%d bytes)", head, m.Bytes)
	for _, f := range m.Fields {
		sep := ": "
		if f.Value == "" {
			sep = ""
		}
		t.line("    %s%s%s%s", strings.Repeat("  ", f.Depth), f.Name, sep, oneLine(f.Value))
	}
	for _, c := range m.Checks {
		t.line("  %s %s: %s", map[Verdict]string{Verified: "[ok]", Failed: "[FAILED]", Unverified: "[not verified]"}[c.Verdict], c.Name, oneLine(c.Detail))
	}
	for _, n := range m.Notes {
		t.line("  note: %s", oneLine(n))
	}
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

func (t *printer) session(s *Session) {
	t.line("\nsession %d  %s|%s", s.Number, s.CookieI, s.CookieR)
	if s.Initiator != "" {
		t.line("  initiator %s  %s", s.Initiator, oneLine(s.IDi))
		t.line("  responder %s  %s", s.Responder, oneLine(s.IDr))
	}
	if s.NonGM != "" {
		t.line("  %s (%s)", notGM, s.NonGM)
		t.line("  not opened: %s", sealedByDH)
	}
	t.line("  %s", s.State)
	for _, d := range s.Deviates {
		t.line("  deviation: %s", oneLine(d))
	}
	for _, c := range s.Children {
		esn := ""
		if c.ESN {
			esn = ", ESN"
		}
		t.line("  quick mode %s  %s%s  %s <-> %s  SPI %s to the initiator, %s to the responder",
			c.MessageID, c.Suite, esn, oneLine(c.Initiator), oneLine(c.Responder), c.SPIi, c.SPIr)
	}
}
