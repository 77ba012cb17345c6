package policy

import (
	"fmt"
	"net/netip"
	"time"
)

// Group is several tunnels with equal selectors on different paths: other
// addresses of the far gateway, another gateway there, another uplink here. All
// of them are established; traffic goes by those that work best.
type Group struct {
	Name    string
	Mode    GroupMode
	Members []Member // two to MaxMembers; the first is the head
	// PreemptDelay is how long a better path has been good before traffic returns
	// to it; NeverPreempt: it stays where it is while that works.
	PreemptDelay time.Duration
	Probe        Probe
}

// MaxMembers is the most paths of one group.
const MaxMembers = 8

// NeverPreempt is the PreemptDelay of a group whose traffic returns only when it
// must leave where it is (preempt_delay: never).
const NeverPreempt time.Duration = -1

// Member is one path of a group.
type Member struct {
	Tunnel   string
	Priority int // the lowest number among those that work carries the traffic
	Weight   int // share among members of equal priority (load-share); 1 or more
}

// GroupMode says how many members carry traffic.
type GroupMode uint8

const (
	ActiveStandby GroupMode = iota // the best one
	LoadShare                      // all good ones of the best priority, flow by flow
)

func (m GroupMode) String() string { return word("mode", uint8(m), "active-standby", "load-share") }

// Probe says how the paths of a group are tried and when one is no longer good.
type Probe struct {
	Interval time.Duration // between two probes of one path
	Lost     int           // consecutive probes without an answer after which a path is down
	Loss     int           // percent of the last ProbeWindow above which a path is bad; 0: off
	Delay    time.Duration // median round trip above which a path is bad; 0: off
	Recover  int           // good probes in a row before a path counts as good again
	// Target is an address at the far site that answers ICMP echo. The zero value
	// sends probes that only another Yumen answers.
	Target netip.Addr
}

// ProbeWindow is how many probes a percentage of loss is taken over.
const ProbeWindow = 50

// Bounds of Probe. An interval below 20 ms costs more than it finds; a path that
// is tried less than every ten seconds is not watched.
const (
	MinProbeInterval = 20 * time.Millisecond
	MaxProbeInterval = 10 * time.Second
	maxProbeLost     = 100
	maxProbeRecover  = 1000
	maxProbeDelay    = 10 * time.Second
	maxPreempt       = 24 * time.Hour
	maxWeight        = 100
	maxMemberPrio    = 100
)

// Head is the tunnel that stands for the group in an SPD. It is empty in a group
// without members, which Compile refuses.
func (g Group) Head() string {
	if len(g.Members) == 0 {
		return ""
	}
	return g.Members[0].Tunnel
}

// Group finds a group by name.
func (p *Policy) Group(name string) (Group, bool) {
	for i := range p.Groups {
		if p.Groups[i].Name == name {
			return p.Groups[i], true
		}
	}
	return Group{}, false
}

// GroupOf is the index in Groups of the group whose member a tunnel is.
func (p *Policy) GroupOf(tunnel string) (index int, ok bool) {
	for i := range p.Groups {
		for _, m := range p.Groups[i].Members {
			if m.Tunnel == tunnel {
				return i, true
			}
		}
	}
	return -1, false
}

// HeadOf is the tunnel whose index a Verdict gives for traffic of the named one:
// the head of its group, or itself.
func (p *Policy) HeadOf(tunnel string) string {
	if i, ok := p.GroupOf(tunnel); ok {
		return p.Groups[i].Head()
	}
	return tunnel
}

// groupLines remembers where a group stands in the file.
type groupLines struct {
	line, target int
	members      []int
}

// grouping finds what is wrong among groups, tunnels and peers that were each
// read well.
func (p *Policy) grouping() Errors {
	g := grouper{policy: p, seen: make(map[string]string)}
	for i := range p.Groups {
		g.group(i)
	}
	return g.errs
}

// grouper gathers faults of groups.
type grouper struct {
	policy *Policy
	errs   Errors
	seen   map[string]string // tunnel -> path of the member that has it
}

func (g *grouper) fault(line int, path, format string, args ...any) {
	g.errs = append(g.errs, &Error{File: g.policy.source.file, Line: line, Path: path, Problem: fmt.Sprintf(format, args...)})
}

func (g *grouper) group(i int) {
	one, at := g.policy.Groups[i], groupLines{}
	if i < len(g.policy.source.groups) {
		at = g.policy.source.groups[i]
	}
	path := fmt.Sprintf("groups[%d]", i)
	if n := len(one.Members); n < 2 || n > MaxMembers {
		g.fault(at.line, path+".members", "has %d members; a group has 2 to %d paths", n, MaxMembers)
	}
	if one.Mode == LoadShare && one.PreemptDelay == NeverPreempt {
		g.fault(at.line, path+".preempt_delay", "never would leave a path that once failed without its share; write a time")
	}
	for j := range one.Members {
		line := at.line
		if j < len(at.members) {
			line = at.members[j]
		}
		g.member(one, j, fault{g, line, fmt.Sprintf("%s.members[%d]", path, j)})
	}
	head, ok := g.policy.Tunnel(one.Head())
	if target := one.Probe.Target; ok && target.IsValid() && head.Selector.check() == nil {
		g.target(head.Selector, target, fault{g, at.target, path + ".probe.target"})
	}
}

// fault is the place that one fault is about.
type fault struct {
	g    *grouper
	line int
	path string
}

func (f fault) say(key, format string, args ...any) { f.g.fault(f.line, f.path+key, format, args...) }

// member checks member j of a group against the policy and those before it.
func (g *grouper) member(one Group, j int, at fault) {
	m := one.Members[j]
	if m.Tunnel == "" {
		return // said already
	}
	t, ok := g.policy.Tunnel(m.Tunnel)
	if !ok {
		at.say(".tunnel", "tunnel %q is not defined; name one of tunnels", m.Tunnel)
		return
	}
	if other, twice := g.seen[m.Tunnel]; twice {
		at.say(".tunnel", "tunnel %q is already %s; a tunnel belongs to one group, once", m.Tunnel, other)
		return
	}
	g.seen[m.Tunnel] = at.path
	if t.Start == StartTrap {
		at.say(".tunnel", "tunnel %q waits for traffic (start: trap), but paths of a group are kept warm; write start: start or respond", t.Name)
	}
	for _, before := range one.Members[:j] {
		if o, ok := g.policy.Tunnel(before.Tunnel); ok && !g.pair(one, o, t, at) {
			return
		}
	}
	for _, before := range one.Members[:j] {
		if one.Mode == ActiveStandby && before.Priority == m.Priority {
			at.say(".priority", "%d is also that of %s; in active-standby each member has its own", m.Priority, before.Tunnel)
			return
		}
	}
}

// pair reports whether two tunnels may be members of one group, and says why not.
func (g *grouper) pair(one Group, a, b Tunnel, at fault) bool {
	pa, _ := g.policy.Peer(a.Peer)
	pb, _ := g.policy.Peer(b.Peer)
	switch {
	case a.Selector != b.Selector && a.Selector.check() == nil && b.Selector.check() == nil:
		at.say(".tunnel", "tunnel %q takes %s, and %q takes %s; the tunnels of a group take the same traffic", b.Name, b.Selector, a.Name, a.Selector)
	case a.Peer == b.Peer && a.Peer != "":
		at.say(".tunnel", "tunnels %q and %q are both of peer %q; give each path of group %q a peer of its own", a.Name, b.Name, a.Peer, one.Name)
	case pa.Name != "" && pb.Name != "" && !pa.Remote.Any && pa.Remote == pb.Remote && pa.Local == pb.Local:
		at.say(".tunnel", "peers %q and %q have the same remote and local, so tunnels %q and %q would share one path; change an address", pa.Name, pb.Name, a.Name, b.Name)
	case pa.Remote.Any && pb.Remote.Any && pa.Local == pb.Local && pa.CA == pb.CA && pa.Identity == pb.Identity && pa.PreShared == pb.PreShared:
		at.say(".tunnel", "peers %q and %q may both call from anywhere, have the same certificates and call at the same address, so nothing tells their paths apart; give them addresses, or a local each", pa.Name, pb.Name)
	default:
		return true
	}
	return false
}

// target checks that echo requests to a target travel in the group's tunnels.
func (g *grouper) target(s Selector, target netip.Addr, at fault) {
	echo := uint8(protocolICMP)
	if target.Is6() {
		echo = protocolICMPv6
	}
	switch {
	case !s.Remote.Contains(target):
		at.say("", "%s is not in remote %s of the group's tunnels; name a host behind the far gateway", target, s.Remote)
	case !s.takesProtocol(echo) || s.HasPorts():
		at.say("", "the group's tunnels take only %s, so echo requests to %s would not travel in them; remove target", s, target)
	}
}

// heads maps each tunnel that is a member to the head of its group.
func (p *Policy) heads() map[string]string {
	out := make(map[string]string)
	for _, g := range p.Groups {
		for _, m := range g.Members {
			out[m.Tunnel] = g.Head()
		}
	}
	return out
}
