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
		"one path":       {whole(tunnel("a", "up", "dr"), tunnel("b", "down", "dr")), true, true, "dr (1 of 2 paths)"},
		"no path":        {whole(tunnel("a", "connecting", "dr"), tunnel("b", "down", "dr"), tunnel("c", "up", "")), false, true, "group dr has no path: a is connecting, b is down"},
		"group standby":  {whole(tunnel("a", "standby", "dr"), tunnel("b", "standby", "dr")), false, true, "dr has no path: a stands by"},
		"second group":   {whole(tunnel("a", "up", "x"), tunnel("b", "up", "x"), tunnel("c", "down", "y"), tunnel("d", "down", "y")), false, true, "group y"},
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
