package control

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestReadinessNamesWhatIsMissing(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tunnel := func(name, state, group string) Tunnel {
		return Tunnel{Name: name, Peer: "b", State: state, Start: "start", Group: group}
	}
	whole := func(ts ...Tunnel) Status {
		return Status{Now: now, Started: now.Add(-time.Minute), Tunnels: ts,
			Certificates: []Certificate{{Role: "sign", NotAfter: now.Add(time.Hour)}}}
	}
	with := func(s Status, change func(*Status)) Status { change(&s); return s }
	up := whole(tunnel("a", "up", ""))
	// judged is a group as its probes see it: a path is written "a good" or "a down probe-lost".
	judged := func(works bool, paths ...string) func(*Status) {
		return func(s *Status) {
			g := Group{Name: "dr", Works: works}
			for _, p := range paths {
				words := append(strings.Fields(p), "")
				g.Paths = append(g.Paths, Path{Tunnel: words[0], State: words[1], Why: words[2]})
			}
			s.Groups = append(s.Groups, g)
		}
	}
	two := func(b string) Status { return whole(tunnel("a", "up", "dr"), tunnel("b", b, "dr")) }
	for name, c := range map[string]struct {
		status       Status
		ready, local bool // whole, and with local
		says         string
	}{
		"up":             {up, true, true, "ready: a"},
		"connecting":     {whole(tunnel("a", "connecting", "")), false, true, "tunnel a is connecting"},
		"why":            {whole(Tunnel{Name: "a", State: "down", Start: "start", LastFailure: "timeout", LastDetail: "no answer"}), false, true, "a is down, timeout (no answer)"},
		"only responds":  {whole(Tunnel{Name: "a", State: "down", Start: "respond"}), true, true, "no tunnel is to be up"},
		"by order":       {whole(tunnel("a", "stopped", "")), false, true, "a is stopped"},
		"standby":        {whole(tunnel("a", "standby", "")), false, true, "stands by"},
		"both paths":     {with(two("up"), judged(true, "a good", "b bad loss")), true, true, "dr (2 of 2 paths)"},
		"one path":       {with(two("down"), judged(true, "a good", "b down no-child")), true, true, "dr (1 of 2 paths)"},
		"one is dead":    {with(two("up"), judged(true, "a down probe-lost", "b untried")), true, true, "dr (1 of 2 paths)"},
		"both are dead":  {with(two("up"), judged(false, "a down probe-lost", "b down link-down")), false, true, "group dr has no path that works: a is down (probe-lost), b is down (link-down)"},
		"not moved yet":  {with(two("up"), judged(false, "a down probe-lost", "b recovering probe-lost")), false, true, "b is recovering (probe-lost)"},
		"dead and gone":  {with(two("stopped"), judged(false, "a down delay", "b down no-child")), false, true, "no path that works: a is down (delay), b is stopped"},
		"not judged":     {two("down"), false, true, "no path that works: a is not judged yet"},
		"no path":        {whole(tunnel("a", "connecting", "dr"), tunnel("b", "down", "dr"), tunnel("c", "up", "")), false, true, "group dr has no path: a is connecting, b is down"},
		"group standby":  {whole(tunnel("a", "standby", "dr"), tunnel("b", "standby", "dr")), false, true, "dr has no path: a stands by"},
		"second group":   {with(whole(tunnel("a", "up", "dr"), tunnel("b", "up", "dr"), tunnel("c", "down", "y"), tunnel("d", "down", "y")), judged(true, "a good", "b good")), false, true, "not ready: group y has no path: c is down"},
		"self-test":      {with(up, func(s *Status) { s.SelfTests.Failed = []string{"sm4"} }), false, false, "self-test sm4"},
		"no policy":      {with(up, func(s *Status) { s.Trouble = "nft: no" }), false, false, "policy is not applied: nft: no"},
		"clock":          {with(up, func(s *Status) { s.Clock = "before the build" }), false, false, "clock"},
		"certificate":    {with(up, func(s *Status) { s.Now = now.Add(2 * time.Hour) }), false, false, "sign certificate expired 2026-03-01"},
		"nothing at all": {whole(), true, true, "ready"},
	} {
		full, local := c.status.Readiness(false), c.status.Readiness(true)
		if full.Ready != c.ready || local.Ready != c.local {
			t.Errorf("%s: ready %v, local %v, expected %v, %v: %s", name, full.Ready, local.Ready, c.ready, c.local, full.Says)
		}
		if !strings.Contains(full.Says, c.says) || strings.Contains(full.Says, "\n") {
			t.Errorf("%s: it says %q, expected %q", name, full.Says, c.says)
		}
		if full.Ready == strings.HasPrefix(full.Says, "not ready") || local.Ready == strings.HasPrefix(local.Says, "not ready") {
			t.Errorf("%s: %v is %q, %v is %q", name, full.Ready, full.Says, local.Ready, local.Says)
		}
	}
	if r := whole(tunnel("a", "standby", "")).Readiness(true); !r.Standby || !strings.Contains(r.Says, "ready to take over") {
		t.Errorf("a machine that stands by says %q", r.Says)
	}
	if r := NotAnswering(errors.New("gone"), true); r.Ready || !strings.Contains(r.Says, "gone") {
		t.Errorf("a gateway that does not answer: %+v", r)
	}
}
