package control

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

func (g *gateway) FailPath(_ context.Context, group, tunnel string, limit time.Duration) error {
	g.asked = append(g.asked, fmt.Sprint("fail ", group, " ", tunnel, " ", limit))
	return g.err
}
func (g *gateway) CutPath(_ context.Context, group, tunnel string, limit time.Duration) error {
	g.asked = append(g.asked, fmt.Sprint("cut ", group, " ", tunnel, " ", limit))
	return g.err
}
func (g *gateway) RestorePath(_ context.Context, group, tunnel string) error {
	g.asked = append(g.asked, "restore "+group+" "+tunnel)
	return g.err
}
func (g *gateway) Trace(_ context.Context, group string, every, last time.Duration) error {
	g.asked = append(g.asked, fmt.Sprint("trace ", group, " ", every, " ", last))
	return g.err
}
func (g *gateway) Samples(_ context.Context, group string, from uint64) (Samples, error) {
	g.asked = append(g.asked, fmt.Sprint("samples ", group, " ", from))
	return Samples{Running: true, Next: from + 1, Probes: []Sample{{Seq: from, Sent: 5, Answered: 9, By: "dr-a"}}}, g.err
}

func TestOrdersOfGroupsReachTheGateway(t *testing.T) {
	g := &gateway{}
	c := NewClient(serve(t, g))
	ctx := t.Context()
	if err := c.FailPath(ctx, "dr", "dr-a", 90*time.Second); err != nil {
		t.Error(err)
	}
	if err := c.CutPath(ctx, "dr", "dr-b", time.Second); err != nil {
		t.Error(err)
	}
	if err := c.RestorePath(ctx, "dr", "dr-a"); err != nil {
		t.Error(err)
	}
	if err := c.Trace(ctx, "dr", 10*time.Millisecond, time.Minute); err != nil {
		t.Error(err)
	}
	if err := c.Trace(ctx, "dr", 0, 0); err != nil {
		t.Error(err)
	}
	s, err := c.Samples(ctx, "dr", 7)
	if err != nil || s.Next != 8 || len(s.Probes) != 1 || s.Probes[0].By != "dr-a" {
		t.Errorf("samples %+v, %v", s, err)
	}
	if got := strings.Join(g.asked, ", "); got != "fail dr dr-a 1m30s, cut dr dr-b 1s, restore dr dr-a, trace dr 10ms 1m0s, trace dr 0s 0s, samples dr 7" {
		t.Errorf("asked for %s", got)
	}
	g.err = fmt.Errorf("%w: %q", ErrUnknownGroup, "x")
	if err := c.RestorePath(ctx, "x", "dr-a"); err == nil || !strings.Contains(err.Error(), "no such group or path") {
		t.Errorf("an unknown group gave %v", err)
	}
}

func TestOrdersOfGroupsThatCannotBeMeantAreRefused(t *testing.T) {
	g := &gateway{}
	c := NewClient(serve(t, g))
	for what, err := range map[string]error{
		"a failure without an end":        c.FailPath(t.Context(), "dr", "a", 0),
		"a cut without an end":            c.CutPath(t.Context(), "dr", "a", 0),
		"a failure of a day":              c.FailPath(t.Context(), "dr", "a", 24*time.Hour),
		"a failure in the past":           c.FailPath(t.Context(), "dr", "a", -time.Second),
		"a trace that is a flood":         c.Trace(t.Context(), "dr", time.Microsecond, time.Minute),
		"a trace that takes a day":        c.Trace(t.Context(), "dr", time.Second, 24*time.Hour),
		"a trace that measures by minute": c.Trace(t.Context(), "dr", time.Minute, time.Hour),
	} {
		if err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if len(g.asked) != 0 {
		t.Errorf("asked for %v", g.asked)
	}
}
