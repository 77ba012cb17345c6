package site_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// paths is a policy of one group of two paths, over IPv4 and over IPv6. Without the
// first there is no group.
func paths(us, them string, remote [2]string, inner [2]string, keys string, both bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "site: %s\npeers:\n", us)
	for i, r := range remote {
		fmt.Fprintf(&b, "  - {name: %s%d, remote: %q, ca: ca.crt, subject: %q}\n", them, i, r, site.Subject(them))
	}
	b.WriteString("tunnels:\n")
	for i := range remote {
		if i == 0 && !both {
			continue
		}
		fmt.Fprintf(&b, "  - {name: path%d, peer: %s%d, local: %s, remote: %s}\n", i, them, i, inner[0], inner[1])
	}
	if both {
		fmt.Fprintf(&b, "groups:\n  - {name: office, members: [{tunnel: path0}, {tunnel: path1}], %s}\n", keys)
	}
	return b.String()
}

// groupState is the part of a status that is about the group.
type groupState struct {
	Name    string            `json:"name"`
	Carries []string          `json:"carries"`
	Flips   map[string]uint64 `json:"flips"`
	Paths   []struct {
		Tunnel string `json:"tunnel"`
		State  string `json:"state"`
		Why    string `json:"why"`
	} `json:"paths"`
}

func (s *stage) group(g *site.Gateway) groupState {
	s.Helper()
	var st struct {
		Groups []groupState `json:"groups"`
	}
	out, err := g.Command("status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &st)
	}
	s.need(err)
	if len(st.Groups) == 0 {
		return groupState{}
	}
	return st.Groups[0]
}

// goesBy waits until both paths of the group at each gateway are as wanted and one
// carries.
func (s *stage) goesBy(tunnel string, states string, list ...*site.Gateway) {
	s.Helper()
	for _, g := range list {
		s.eventually(fmt.Sprintf("%s sends by %s (%s)", g.Name, tunnel, states), 15*time.Second, func() error {
			st := s.group(g)
			var are []string
			for _, p := range st.Paths {
				are = append(are, strings.TrimSuffix(p.State+" "+p.Why, " "))
			}
			if got := strings.Join(are, ", "); strings.Join(st.Carries, ",") != tunnel || got != states {
				return fmt.Errorf("it sends by %v (%s)", st.Carries, got)
			}
			return nil
		})
	}
}

// order asks a gateway for something about its group.
func order(g *site.Gateway, path, body string) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(g.Dir, "control.sock"))
	}
	c := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	r, err := c.Post("http://gateway/v1/groups/"+path, "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(string(text))
	}
	return err
}

// TestAGroupFollowsItsPathsItsPolicyAndItsOperator has one path of two die, come back,
// leave the policy and return to it, and be failed by an operator, under traffic that
// goes on.
func TestAGroupFollowsItsPathsItsPolicyAndItsOperator(t *testing.T) {
	s := newTwoSites(t)
	policy := func(g *site.Gateway, keys string, both bool) string {
		if g == s.A {
			return paths("a", "b", [2]string{site.GateB4, site.GateB6}, [2]string{"10.1.0.0/24", "10.2.0.0/24"}, keys, both)
		}
		return paths("b", "a", [2]string{site.GateA4, site.GateA6}, [2]string{"10.2.0.0/24", "10.1.0.0/24"}, keys, both)
	}
	const quick = "preempt_delay: 1s, probe: {interval: 50ms, lost: 4}"
	s.need(s.A.Configure(policy(s.A, quick, true)), s.B.Configure(policy(s.B, quick, true)), s.B.Start())
	s.answers(s.B)
	s.need(s.A.Start())
	s.answers(s.A)
	stop := s.capture(s.Router, "to-b")
	s.waitUp(s.A, s.B)
	s.goesBy("path0", "good, good", s.A, s.B)
	flows := s.Flows()[:2]
	s.pass(flows...)

	s.filter("table ip cut {\n chain f {\n  type filter hook forward priority 0\n  ip protocol { udp, esp } drop\n }\n}\n")
	s.goesBy("path1", "down probe-lost, good", s.A, s.B)
	s.pass(flows...)

	// A policy that changes the group moves nothing.
	s.reload(s.A, policy(s.A, "preempt_delay: never, probe: {interval: 100ms, lost: 3}", true), "reloaded")
	s.goesBy("path1", "down probe-lost, good", s.A)
	if f := s.group(s.A).Flips["probe-lost"]; f != 1 {
		t.Errorf("%d flips because of lost probes, want 1", f)
	}
	s.pass(flows...)

	// The path leaves the policy, and with it the group, and returns.
	for _, g := range []*site.Gateway{s.A, s.B} {
		s.reload(g, policy(g, "", false), "reloaded")
		if st := s.group(g); st.Name != "" {
			t.Errorf("%s: the group is still there: %+v", g.Name, st)
		}
	}
	s.eventually("traffic passes without the group", 15*time.Second, flows[0].Ping)
	s.pass(flows...)
	s.filter("delete table ip cut\n")
	for _, g := range []*site.Gateway{s.A, s.B} {
		s.reload(g, policy(g, quick, true), "reloaded")
	}
	s.goesBy("path0", "good, good", s.A, s.B)
	s.pass(flows...)

	// An operator fails a path: the far end finds out by itself, and both return.
	s.need(order(s.A, "office/paths/path0/fail", `{"seconds": 3}`))
	if st := s.group(s.A); strings.Join(st.Carries, ",") != "path1" {
		t.Errorf("a sends by %v right after the order", st.Carries)
	}
	s.goesBy("path1", "down probe-lost, good", s.B)
	s.goesBy("path0", "good, good", s.A, s.B)
	s.pass(flows...)
	if err := order(s.A, "office/paths/path7/fail", `{"seconds": 3}`); err == nil || !strings.Contains(err.Error(), "no such group or path") {
		t.Errorf("a path that is none: %v", err)
	}

	// Both die while their tunnels are up: the gateway is fit for nothing, and says why.
	ready := func(want string) func() error {
		return func() error {
			out, err := s.A.Command("ready")
			if (err == nil) != (want == "office (2 of 2 paths)") || !strings.Contains(out, want) {
				return fmt.Errorf("ready says %q, %v", out, err)
			}
			return nil
		}
	}
	s.need(ready("office (2 of 2 paths)")())
	s.filter("table inet cut {\n chain f {\n  type filter hook forward priority 0\n  meta l4proto { udp, esp } drop\n }\n}\n")
	s.eventually("no path works", 10*time.Second, ready("group office has no path that works: path0 is down (probe-lost), path1 is down (probe-lost)"))
	s.filter("delete table inet cut\n")
	s.eventually("both paths work", 15*time.Second, ready("office (2 of 2 paths)"))
	s.stop(s.A, s.B)
	s.hidden(stop(), flows...)
}
