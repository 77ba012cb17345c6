package control

import (
	"fmt"
	"strings"
	"time"
)

// Readiness is the answer to a health check: may traffic be sent to this machine.
type Readiness struct {
	Ready bool `json:"ready"`
	// Standby: the address of some peer entry's `local:` is on another machine.
	Standby bool     `json:"standby"`
	Local   bool     `json:"local"` // only what this machine needs to take over was looked at
	Says    string   `json:"says"`  // one line for people
	Reasons []string `json:"reasons,omitempty"`
	Up      []string `json:"up"` // tunnels and groups that carry
}

// NotAnswering is the readiness of a gateway that could not be asked.
func NotAnswering(err error, local bool) Readiness {
	r := Readiness{Local: local, Reasons: []string{err.Error()}, Up: []string{}}
	r.Says = "not ready: " + err.Error()
	return r
}

// Readiness judges a status: the gateway answers, its self-tests passed and the
// policy is applied, its certificates are valid, and each tunnel that shall always
// be up is; of a group it takes that its traffic is on a path that works. With local
// only what a machine needs to take over counts, and nothing that hangs on the far end.
func (s Status) Readiness(local bool) Readiness {
	r := Readiness{Local: local, Up: []string{}}
	fault := func(format string, args ...any) { r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...)) }
	for _, name := range s.SelfTests.Failed {
		fault("self-test %s failed", name)
	}
	if s.Trouble != "" {
		fault("the policy is not applied: %s", s.Trouble)
	}
	if s.Clock != "" {
		fault("clock implausible: %s", s.Clock)
	}
	for _, c := range s.Certificates {
		if !c.NotAfter.After(s.Now) {
			fault("our %s certificate expired %s", c.Role, c.NotAfter.UTC().Format(time.DateOnly))
		}
	}
	for _, t := range s.alone() {
		r.tunnel(t, local, fault)
	}
	for _, g := range s.paths() {
		r.group(g, s.group(g[0].Group), local, fault)
	}
	r.Ready = len(r.Reasons) == 0
	r.Says = r.line(s)
	return r
}

// line is what stands in a log once a second: short.
func (r Readiness) line(s Status) string {
	switch {
	case !r.Ready:
		return "not ready: " + strings.Join(r.Reasons, "; ")
	case r.Standby:
		return fmt.Sprintf("ready to take over: standing by, self-tests passed, policy applied, up %s", span(s.Now.Sub(s.Started)))
	case r.Local:
		return fmt.Sprintf("ready: self-tests passed, policy applied, up %s", span(s.Now.Sub(s.Started)))
	case len(r.Up) == 0:
		return "ready: no tunnel is to be up by itself"
	case len(r.Up) > 6:
		return fmt.Sprintf("ready: %d tunnels and groups carry", len(r.Up))
	}
	return "ready: " + strings.Join(r.Up, ", ")
}

func (r *Readiness) tunnel(t Tunnel, local bool, fault func(string, ...any)) {
	switch {
	case t.State == "standby":
		r.Standby = true
		if !local {
			fault("tunnel %s stands by: our address is on another machine", t.Name)
		}
	case t.State == "up":
		r.Up = append(r.Up, t.Name)
	case local || t.Start != "start":
	case t.State == "stopped":
		fault("tunnel %s is stopped", t.Name)
	default:
		fault("tunnel %s is %s%s", t.Name, t.State, because(t))
	}
}

func because(t Tunnel) string {
	if t.LastFailure == "" {
		return ""
	}
	return ", " + withDetail(t.LastFailure, t.LastDetail)
}

// group wants one path that works and has the traffic: a tunnel that is up says nothing
// of that, for which there are the probes. local takes a group whose every path stands by.
func (r *Readiness) group(g []Tunnel, judged Group, local bool, fault func(string, ...any)) {
	var words []string
	up, alive, standby := 0, 0, 0
	for _, t := range g {
		path := judged.path(t.Name)
		switch {
		case t.State == "standby":
			standby++
			words = append(words, t.Name+" stands by")
			continue
		case t.State != "up":
			words = append(words, t.Name+" is "+t.State+because(t))
			continue
		}
		up++
		words = append(words, path.says())
		if path.State != "down" {
			alive++
		}
	}
	name, lack := g[0].Group, "no path"
	switch {
	case alive > 0 && judged.Works:
		r.Up = append(r.Up, fmt.Sprintf("%s (%d of %d paths)", name, alive, len(g)))
		return
	case up > 0:
		lack = "no path that works"
	}
	r.Standby = r.Standby || standby > 0
	if !local {
		fault("group %s has %s: %s", name, lack, strings.Join(words, ", "))
	}
}

// group is what probes know of a group.
func (s Status) group(name string) Group {
	for _, g := range s.Groups {
		if g.Name == name {
			return g
		}
	}
	return Group{}
}

func (g Group) path(tunnel string) Path {
	for _, p := range g.Paths {
		if p.Tunnel == tunnel {
			return p
		}
	}
	return Path{Tunnel: tunnel, State: "not judged yet"}
}

// says is how a path is, in a few words.
func (p Path) says() string {
	if p.Why == "" {
		return p.Tunnel + " is " + p.State
	}
	return p.Tunnel + " is " + p.State + " (" + p.Why + ")"
}

// alone are the tunnels that are in no group; paths those of each group, in the
// order of the policy.
func (s Status) alone() (out []Tunnel) {
	for _, t := range s.Tunnels {
		if t.Group == "" {
			out = append(out, t)
		}
	}
	return out
}

func (s Status) paths() (out [][]Tunnel) {
	at := map[string]int{}
	for _, t := range s.Tunnels {
		if t.Group == "" {
			continue
		}
		i, known := at[t.Group]
		if !known {
			i = len(out)
			at[t.Group], out = i, append(out, nil)
		}
		out[i] = append(out[i], t)
	}
	return out
}
