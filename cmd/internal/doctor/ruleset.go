package doctor

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"yumen/policy"
)

// Ruleset is a firewall as far as it concerns us: nftables and iptables alike.
type Ruleset struct {
	Chains []Chain
	Sets   map[string][]string // "family table name" -> elements
	Track  bool                // connection tracking is in use: fragments are put together first
}

// Chain is one chain. Hook is empty for those that are only jumped to.
type Chain struct {
	Family, Table, Name string
	Type, Hook          string // filter, nat, route; input, output, forward, prerouting, postrouting
	Priority            int
	Drops               bool // its policy
	IPTables            bool // to be changed with iptables, not nft
	Rules               []FilterRule
}

// FilterRule is what must match, and what then happens.
type FilterRule struct {
	Matches []Match
	Verdict Verdict
	Target  string // of Jump and Goto
}

// Verdict is what a rule does. None: it only counts or logs.
type Verdict uint8

const (
	None Verdict = iota
	Accept
	Refuse // drop or reject
	Translate
	Return
	Jump
	Goto
)

// Match is one condition. A field that is not known here makes the rule uncertain.
type Match struct {
	Field  string // as in nft: "ip saddr", "udp dport", "meta iifname"
	Not    bool
	Values []string // address, prefix, first-last, number, name; name* for interfaces
	Set    string   // or of a named set: its key
}

// flow is a kind of packets that we ask about.
type flow struct {
	src, dst     policy.Net
	protocol     uint8 // 0: any
	sport, dport uint16
	in, out      string // interfaces; empty: not known
	fragment     bool   // not the first: no ports
}

// sure is how certain a match is. The order matters: of several conditions the
// least certain decides.
type sure uint8

const (
	no sure = iota
	perhaps
	partly // certainly for some packets of the flow
	yes
)

// opinion is what a chain, or all chains of a hook, do to a flow.
type opinion struct {
	verdict Verdict // Accept, Refuse or Translate
	chain   *Chain  // that said so
	doubt   bool    // an uncertain rule before it might have said otherwise
}

// hook asks the chains of a hook of one type in their order. Each must let the
// flow pass; the first that does not decides.
func (r *Ruleset) hook(kind, hook string, f flow) opinion {
	doubt := false
	for _, c := range r.base(kind, hook, f) {
		o := r.ask(c, f)
		if o.verdict != Accept {
			o.doubt = o.doubt || doubt
			return o
		}
		doubt = doubt || o.doubt
	}
	return opinion{verdict: Accept, doubt: doubt}
}

// base are the base chains that see a flow, first to last.
func (r *Ruleset) base(kind, hook string, f flow) []*Chain {
	var out []*Chain
	for i := range r.Chains {
		c := &r.Chains[i]
		// A table of our own guard drops what is protected and in clear: on purpose.
		if c.Hook == hook && c.Type == kind && c.sees(f) && !strings.HasPrefix(c.Table, "yumen_guard") {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b *Chain) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

func (c *Chain) sees(f flow) bool {
	switch c.Family {
	case "ip":
		return f.src.Is4()
	case "ip6":
		return !f.src.Is4()
	}
	return c.Family == "inet"
}

// ask walks one base chain.
func (r *Ruleset) ask(c *Chain, f flow) opinion {
	w := walk{rules: r, flow: f, base: c}
	v := w.chain(c, 0)
	if v == None || v == Return {
		v = Accept
		if c.Drops {
			v = Refuse
		}
	}
	return opinion{verdict: v, chain: c, doubt: w.doubts(v)}
}

// walk is the state of one question.
type walk struct {
	rules    *Ruleset
	flow     flow
	base     *Chain
	possible [Goto + 1]bool // verdicts of uncertain rules
}

func (w *walk) doubts(v Verdict) bool {
	for _, other := range []Verdict{Accept, Refuse, Translate, Return} {
		if other != v && w.possible[other] {
			return true
		}
	}
	return false
}

// maxDepth is nft's own limit of jumps.
const maxDepth = 16

// chain returns what is certain: None when nothing in it decides.
func (w *walk) chain(c *Chain, depth int) Verdict {
	if c == nil || depth > maxDepth {
		w.possible[Accept], w.possible[Refuse] = true, true
		return None
	}
	for _, rule := range c.Rules {
		s := w.matches(c, rule)
		if s == no || rule.Verdict == None {
			continue
		}
		// What refuses or lets pass only some of the packets decides nothing for the
		// others; what translates some is what we look for.
		certain := s == yes || s == partly && rule.Verdict == Translate
		if rule.Verdict != Jump && rule.Verdict != Goto {
			if certain {
				return rule.Verdict
			}
			if s == perhaps {
				w.possible[rule.Verdict] = true
			}
			continue
		}
		v := w.jump(c, rule.Target, depth, certain, s)
		if v != None || certain && rule.Verdict == Goto {
			return v
		}
	}
	return None
}

// jump enters a chain; what it says counts only as far as the jump is certain.
func (w *walk) jump(from *Chain, target string, depth int, certain bool, s sure) Verdict {
	v := w.chain(w.rules.find(from, target), depth+1)
	switch {
	case v == Return || v == None:
		return None
	case certain || s == partly && v == Translate:
		return v
	case s == perhaps:
		w.possible[v] = true
	}
	return None
}

func (r *Ruleset) find(from *Chain, name string) *Chain {
	for i := range r.Chains {
		c := &r.Chains[i]
		if c.Family == from.Family && c.Table == from.Table && c.Name == name && c.IPTables == from.IPTables {
			return c
		}
	}
	return nil
}

func (w *walk) matches(c *Chain, rule FilterRule) sure {
	s := yes
	for _, m := range rule.Matches {
		if m.Set != "" {
			values, known := w.rules.Sets[c.Family+" "+c.Table+" "+m.Set]
			if !known {
				s = min(s, perhaps)
				continue
			}
			m.Values = values
		}
		if s = min(s, w.flow.match(m)); s == no {
			return no
		}
	}
	return s
}

// match judges one condition.
func (f flow) match(m Match) sure {
	proto, field, two := strings.Cut(m.Field, " ")
	if !two {
		return perhaps
	}
	switch field {
	case "saddr", "daddr":
		return f.matchAddr(proto, field, m)
	case "sport", "dport":
		return f.matchPort(proto, field, m)
	}
	switch m.Field {
	case "meta iifname":
		return matchName(f.in, m)
	case "meta oifname":
		return matchName(f.out, m)
	case "meta l4proto", "ip protocol", "ip6 nexthdr":
		if proto == "ip" && !f.src.Is4() || proto == "ip6" && f.src.Is4() {
			return no
		}
		if f.protocol == 0 {
			return perhaps
		}
		return m.word(protocolWords(f.protocol)...)
	case "meta nfproto":
		return m.word(map[bool]string{true: "ipv4", false: "ipv6"}[f.src.Is4()])
	case "ct state": // the first packet of a conversation is what matters
		if f.fragment {
			return perhaps
		}
		return m.word("new", "untracked")
	case "ip frag", "ip6 frag":
		if (proto == "ip") != f.src.Is4() {
			return no
		}
		return m.word(map[bool]string{true: "later", false: "whole"}[f.fragment])
	}
	return perhaps
}

// word judges a match of exact words, one of which the flow has.
func (m Match) word(have ...string) sure {
	hit := slices.ContainsFunc(have, func(s string) bool { return slices.Contains(m.Values, s) })
	if hit != m.Not {
		return yes
	}
	return no
}

func matchName(name string, m Match) sure {
	if name == "" {
		// Of loopback at least it is known that nothing of ours comes by it.
		if slices.Equal(m.Values, []string{"lo"}) {
			if m.Not {
				return yes
			}
			return no
		}
		return perhaps
	}
	hit := slices.ContainsFunc(m.Values, func(v string) bool {
		if start, wild := strings.CutSuffix(v, "*"); wild {
			return strings.HasPrefix(name, start)
		}
		return v == name
	})
	if hit != m.Not {
		return yes
	}
	return no
}

func (f flow) matchAddr(proto, field string, m Match) sure {
	n := f.src
	if field == "daddr" {
		n = f.dst
	}
	if (proto == "ip") != n.Is4() {
		return no
	}
	whole, some := false, false
	for _, v := range m.Values {
		o, err := netOf(v)
		if err != nil {
			return perhaps
		}
		if o.Is4() != n.Is4() {
			continue
		}
		whole = whole || o.ContainsNet(n)
		some = some || o.Overlaps(n)
	}
	switch {
	case whole != m.Not && (whole || !some):
		return yes
	case some && !whole:
		return partly
	}
	return no
}

// netOf reads an address, a prefix with or without host bits, or a range.
func netOf(s string) (policy.Net, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return policy.NetOf(p), nil
	}
	return policy.ParseNet(s)
}
