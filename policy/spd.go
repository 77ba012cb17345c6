package policy

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// Verdict is what the policy says of one packet. The zero value drops.
type Verdict struct {
	Action Action
	Tunnel int // index into Policy.Tunnels for Protect, of a group its head; else -1
	Rule   int // index into SPD.Rules, -1: none
	// Captured: some rule or tunnel named the packet. Without it the packet is
	// none of ours, and dropped all the same.
	Captured bool
	// NeedPorts: the packet's ports decide and are not in it. Action is Drop;
	// reassemble first, then ask again.
	NeedPorts bool
}

// SPD is a compiled policy. It is immutable: any number of goroutines may match.
type SPD struct {
	entries []entry // in order of precedence
	groups  [2][]group
}

// entry is one rule, explicit or implied by a tunnel.
type entry struct {
	Selector
	action   Action
	tunnel   int // index, -1: none
	priority int
	names    special // the special traffic that it names
	name     string
	via      string // name of the tunnel
	implied  bool   // the tunnel's own
	line     int
	path     string
}

// Management stands above every rule that a file can give.
const (
	mostPriority       = 1_000_000
	managementPriority = mostPriority + 1
	managementName     = "management"
)

// Compile orders the rules of p and builds the lookup. Management comes first;
// then, in this order: the higher
// Priority; then the smaller Remote; then the smaller Local; then a given
// protocol before any; then more given ports. Two rules equal in all of these
// that share a packet are an error, because nothing else could decide.
//
// The tunnels of a group take the same packets, which its head stands for.
//
// Multicast, link-local, broadcast, neighbour discovery and DHCP client traffic
// is matched only by a rule that names it: whose Remote or Local lies inside the
// multicast or link-local range, or, for DHCP, whose selector gives one of its
// ports. A selector like 0.0.0.0/0 does not.
func Compile(p *Policy) (*SPD, error) {
	entries, errs := p.entries()
	errs = append(errs, p.conflicts(entries)...)
	errs = append(errs, p.grouping()...)
	if len(errs) > 0 {
		return nil, errs
	}
	return newSPD(entries), nil
}

// newSPD indexes entries that are in order.
func newSPD(entries []entry) *SPD {
	s := &SPD{entries: entries}
	for i := range entries {
		side := &s.groups[family(entries[i].Local.Is4())]
		if n := len(*side); n == 0 || (*side)[n-1].priority != entries[i].priority {
			*side = append(*side, group{priority: entries[i].priority})
		}
		(*side)[len(*side)-1].add(int32(i), entries[i].Selector)
	}
	return s
}

// Rules is every rule in order of precedence; the implied rule of a tunnel bears
// the tunnel's name, that of a group its head's. Verdict.Rule counts in it.
func (s *SPD) Rules() []Rule {
	out := make([]Rule, len(s.entries))
	for i, e := range s.entries {
		out[i] = Rule{Name: e.name, Action: e.action, Tunnel: e.via, Selector: e.Selector, Priority: e.priority}
	}
	return out
}

// Protected is the remote Net of each tunnel, each once, in order of precedence:
// what must never leave in clear.
func (s *SPD) Protected() []Net {
	var out []Net
	seen := make(map[Net]bool)
	for _, e := range s.entries {
		if e.action == Protect && !seen[e.Remote] {
			seen[e.Remote] = true
			out = append(out, e.Remote)
		}
	}
	return out
}

// entries lists the valid rules of p in order of precedence and says what is
// wrong with the others.
func (p *Policy) entries() ([]entry, Errors) {
	var out []entry
	var errs Errors
	tunnels, heads := make(map[string]int, len(p.Tunnels)), p.heads()
	for i, t := range p.Tunnels {
		tunnels[t.Name] = i
	}
	for i, t := range p.Tunnels {
		if head, member := heads[t.Name]; member && head != t.Name {
			continue // its group has one entry, the head's
		}
		e := entry{Selector: t.Selector, action: Protect, tunnel: i, name: t.Name, via: t.Name, implied: true,
			line: at(p.source.tunnels, i), path: fmt.Sprintf("tunnels[%d]", i)}
		out, errs = p.admit(out, errs, e)
	}
	for i, r := range p.Rules {
		e := entry{Selector: r.Selector, action: r.Action, tunnel: -1, priority: r.Priority, name: r.Name,
			line: at(p.source.rules, i), path: fmt.Sprintf("rules[%d]", i)}
		if r.Action == Protect {
			t, ok := tunnels[r.Tunnel]
			if !ok {
				errs = append(errs, p.fault(e, "tunnel %q is not defined; name one of tunnels", r.Tunnel))
				continue
			}
			if whole := p.Tunnels[t].Selector; !r.Selector.Within(whole) {
				errs = append(errs, p.fault(e, "the rule's selector (%s) is not inside the tunnel's (%s); narrow the rule or choose another tunnel", r.Selector, whole))
				continue
			}
			e.tunnel, e.via = t, r.Tunnel
			if head, member := heads[r.Tunnel]; member {
				if h, ok := tunnels[head]; ok {
					e.tunnel, e.via = h, head
				}
			}
		}
		out, errs = p.admit(out, errs, e)
	}
	for i, m := range p.Management {
		out, errs = p.admit(out, errs, entry{Selector: m, action: Bypass, tunnel: -1, priority: managementPriority,
			name: managementName, line: at(p.source.management, i), path: fmt.Sprintf("management[%d]", i)})
	}
	slices.SortStableFunc(out, func(a, b entry) int {
		return cmp.Or(a.rank(b), a.place(b))
	})
	return out, errs
}

// admit appends e, or an error if its selector is unusable.
func (p *Policy) admit(out []entry, errs Errors, e entry) ([]entry, Errors) {
	if err := e.Selector.check(); err != nil {
		return out, append(errs, p.fault(e, "%v", err))
	}
	e.names = named(e.Selector)
	return append(out, e), errs
}

func (p *Policy) fault(e entry, format string, args ...any) *Error {
	return &Error{File: p.source.file, Line: e.line, Path: e.path, Problem: fmt.Sprintf(format, args...)}
}

func at(lines []int, i int) int {
	if i < len(lines) {
		return lines[i]
	}
	return 0
}

// rank compares precedence: negative if a comes before b, 0 if they are equally
// specific. Families are apart, so that equals are neighbours once sorted.
func (a entry) rank(b entry) int {
	return cmp.Or(
		cmp.Compare(b.priority, a.priority),
		a.Remote.span().compare(b.Remote.span()),
		a.Local.span().compare(b.Local.span()),
		cmp.Compare(anyFirst(b.Protocol), anyFirst(a.Protocol)),
		cmp.Compare(b.ports(), a.ports()),
		cmp.Compare(family(a.Local.Is4()), family(b.Local.Is4())),
	)
}

// place orders equals so that those which overlap stand close to each other.
func (a entry) place(b entry) int {
	return cmp.Or(a.Remote.First.Compare(b.Remote.First), a.Local.First.Compare(b.Local.First))
}

func (a number) compare(b number) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

func anyFirst(protocol uint8) int {
	if protocol == 0 {
		return 0
	}
	return 1
}

// ports counts the given ports.
func (s Selector) ports() int {
	return anyFirst(uint8(min(s.LocalPort, 1))) + anyFirst(uint8(min(s.RemotePort, 1)))
}

func family(v4 bool) int {
	if v4 {
		return 0
	}
	return 1
}

// conflicts finds pairs of equally specific rules that share a packet. Each rule
// is named with the first other that it meets: one fault is enough to mend it.
func (p *Policy) conflicts(entries []entry) Errors {
	var errs Errors
	for i := range entries {
		j, ok := rival(entries, i)
		if !ok {
			continue
		}
		a, b := entries[i], entries[j]
		if a.line > b.line {
			a, b = b, a
		}
		other := a.path
		if a.line > 0 {
			other = fmt.Sprintf("%s (line %d)", a.path, a.line)
		}
		errs = append(errs, p.fault(b, "takes the same packets as %s, and neither is more specific; narrow one, or give a rule a priority", other))
	}
	return errs
}

// rival finds an entry after i that is as specific and shares a packet.
func rival(entries []entry, i int) (int, bool) {
	e := entries[i]
	for j := i + 1; j < len(entries); {
		o := entries[j]
		if e.rank(o) != 0 || e.Remote.Last.Less(o.Remote.First) {
			return 0, false
		}
		if e.Overlaps(o.Selector) {
			return j, true
		}
		if o.Remote == e.Remote && e.Local.Last.Less(o.Local.First) {
			// The others with this Remote begin later still: skip them all.
			j += sort.Search(len(entries)-j, func(k int) bool { return entries[j+k].Remote != e.Remote || e.rank(entries[j+k]) != 0 })
			continue
		}
		j++
	}
	return 0, false
}
