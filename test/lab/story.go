package lab

import (
	"fmt"
	"strings"
	"time"

	"yumen/esp"
	"yumen/ike"
)

// Story is a transcript: who sent what, what became of it, what it led to.
//
//	i> main 3   SK NONCE ID CERT CERT SIG   lost
//	r! install office r1
//	i: child-up office
//	+2s
//
// Keys, nonces, signatures and numbers drawn at random do not appear, so that it
// hangs on nothing but what happened.
type Story struct {
	// Off keeps nothing: for runs that nobody reads.
	Off   bool
	lines []string
	last  time.Time
	spis  map[string]string
	count map[string]int
}

// String is the whole transcript.
func (s *Story) String() string { return strings.Join(s.lines, "\n") + "\n" }

// Note adds a line of the test's own.
func (s *Story) Note(text string) { s.lines = append(s.lines, "# "+text) }

func (s *Story) line(g *Gateway, mark, format string, args ...any) {
	if s.Off {
		return
	}
	if d := g.lab.now.Sub(s.last).Round(100 * time.Millisecond); d > 0 {
		s.lines = append(s.lines, "+"+d.String())
		s.last = g.lab.now
	}
	s.lines = append(s.lines, strings.TrimRight(g.Name+mark+" "+fmt.Sprintf(format, args...), " "))
}

func (s *Story) packet(g *Gateway, p Packet, on []Packet) {
	if s.Off {
		return
	}
	what := p.clear
	if p.Label == "esp" {
		what = s.spiOf(g.lab, p)
	}
	marks := ""
	if p.Again {
		marks = "again"
	}
	switch {
	case len(on) == 0:
		marks += " lost"
	case len(on) > 1:
		marks += " doubled"
	case on[0].Delay > p.Delay:
		marks += " late " + on[0].Delay.String()
	case string(on[0].Data) != string(p.Data):
		marks += " changed"
	}
	port := ""
	if p.Dest.Port() == 4500 || p.Source.Port() == 4500 {
		port = "4500"
	}
	s.line(g, ">", "%-8s %-34s %s", p.Label, strings.TrimSpace(what+" "+port), strings.TrimSpace(marks))
}

// spiOf names an SPI by its owner and the order in which it was installed.
func (s *Story) spiOf(l *Lab, p Packet) string {
	for _, g := range l.gateways {
		if name := s.spis[fmt.Sprint(g.Name, p.SPI)]; name != "" && g.Name != p.From {
			return name
		}
	}
	return "nobody's"
}

func (s *Story) named(g *Gateway, spi esp.SPI) string {
	if s.spis == nil {
		s.spis, s.count = map[string]string{}, map[string]int{}
	}
	key := fmt.Sprint(g.Name, spi)
	if s.spis[key] == "" {
		s.count[g.Name]++
		s.spis[key] = fmt.Sprintf("%s%d", g.Name, s.count[g.Name])
	}
	return s.spis[key]
}

func (s *Story) effect(g *Gateway, f ike.Effect) {
	if s.Off {
		return
	}
	child := func(id esp.ChildID) string {
		if h := g.Plane.installed[id]; h != nil {
			return s.named(g, h.In.SPI)
		}
		return fmt.Sprintf("child %d, not installed", id)
	}
	switch f := f.(type) {
	case ike.Install:
		s.line(g, "!", "install %s %s%s", f.Child.Tunnel, s.named(g, f.Child.In.SPI), inUDP(f.Child.Path))
	case ike.Use:
		s.line(g, "!", "use %s", child(f.Child))
	case ike.Remove:
		s.line(g, "!", "remove %s", child(f.Child))
	case ike.Rebind:
		s.line(g, "!", "rebind %s", child(f.Child))
	}
}

func inUDP(p esp.Path) string {
	if p.Encap {
		return " in UDP"
	}
	return ""
}

var kinds = [...]string{ike.IKEStarted: "ike-started", ike.IKEUp: "ike-up", ike.IKEDown: "ike-down",
	ike.IKEFailed: "ike-failed", ike.ChildUp: "child-up", ike.ChildRekeyed: "child-rekeyed",
	ike.ChildDown: "child-down", ike.ChildFailed: "child-failed", ike.Dropped: "dropped",
	ike.Refused: "refused", ike.NotifyIn: "notify-in", ike.NotifyOut: "notify-out", ike.Repeated: "repeated",
	ike.Deviation: "deviation", ike.Limited: "limited", ike.PlaneFailed: "plane-failed",
	ike.PeerDead: "peer-dead", ike.NATFound: "nat-found", ike.Retrying: "retrying", ike.KeyOpFailed: "key-failed", ike.PathChanged: "path-changed",
	ike.DialectLearned: "dialect-learned",
	ike.StandingBy:     "standing-by", ike.TakingOver: "taking-over"}

// KindName is the word of a transcript for a kind of event.
func KindName(k ike.EventKind) string {
	if int(k) < len(kinds) && kinds[k] != "" {
		return kinds[k]
	}
	return fmt.Sprintf("event %d", k)
}

func (s *Story) event(g *Gateway, v ike.Event) {
	if s.Off {
		return
	}
	words := []string{KindName(v.Kind)}
	if v.Tunnel != "" {
		words = append(words, v.Tunnel)
	}
	if v.InSPI != 0 {
		words = append(words, s.named(g, v.InSPI))
	}
	if v.Reason != "" {
		words = append(words, string(v.Reason))
	}
	if v.Detail != "" && v.Kind != ike.IKEUp {
		words = append(words, "("+v.Detail+")")
	}
	s.line(g, ":", "%s", strings.Join(words, " "))
}
