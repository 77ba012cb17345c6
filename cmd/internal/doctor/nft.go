package doctor

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// object is one member of what `nft -j list ruleset` writes (libnftables-json(5)).
type object struct {
	Chain *struct {
		Family, Table, Name, Type, Hook, Policy string
		Prio                                    json.RawMessage
	}
	Rule *struct {
		Family, Table, Chain string
		Expr                 []map[string]json.RawMessage
	}
	Set *struct {
		Family, Table, Name string
		Elem                []json.RawMessage
	}
}

// ParseNFT reads the JSON of nft. What it does not understand makes a rule
// uncertain and is no error.
func ParseNFT(b []byte) (*Ruleset, error) {
	var doc struct{ Nftables []object }
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("nft -j list ruleset: %w", err)
	}
	r := &Ruleset{Sets: map[string][]string{}}
	for _, o := range doc.Nftables {
		switch {
		case o.Chain != nil:
			c := o.Chain
			priority, _ := strconv.Atoi(strings.Trim(string(c.Prio), `"`)) // absent: no base chain
			r.Chains = append(r.Chains, Chain{Family: c.Family, Table: c.Table, Name: c.Name,
				Type: c.Type, Hook: c.Hook, Priority: priority, Drops: c.Policy == "drop"})
			r.Track = r.Track || c.Type == "nat"
		case o.Set != nil:
			var values []string
			known := true
			for _, e := range o.Set.Elem {
				v, ok := elements(e)
				values, known = append(values, v...), known && ok
			}
			if known {
				r.Sets[o.Set.Family+" "+o.Set.Table+" "+o.Set.Name] = values
			}
		case o.Rule != nil:
			at := &Chain{Family: o.Rule.Family, Table: o.Rule.Table}
			if c := r.find(at, o.Rule.Chain); c != nil {
				c.Rules = append(c.Rules, r.expand(o.Rule.Expr)...)
			}
		}
	}
	return r, nil
}

// expand turns a rule into ours: one, or one for each element of a verdict map.
func (r *Ruleset) expand(list []map[string]json.RawMessage) []FilterRule {
	out := FilterRule{}
	for _, statement := range list {
		for name, body := range statement {
			switch name {
			case "counter", "log", "mangle", "notrack", "secmark", "comment":
			case "match":
				out.Matches = append(out.Matches, r.condition(body))
			case "vmap":
				return r.verdicts(out.Matches, body)
			default:
				v, target := verdictOf(name, body)
				if v == None { // limit, xt, quota, queue and what is yet to come
					out.Matches = append(out.Matches, Match{Field: name})
					continue
				}
				out.Verdict, out.Target = v, target
			}
		}
	}
	if opaque(out) {
		return doubtful(out.Matches)
	}
	return []FilterRule{out}
}

// opaque: the verdict hides in what is not understood (xt target, named map).
func opaque(f FilterRule) bool {
	if f.Verdict != None || len(f.Matches) == 0 {
		return false
	}
	last := f.Matches[len(f.Matches)-1].Field
	return last == "xt" || last == "queue"
}

// doubtful is a rule that may do anything.
func doubtful(m []Match) []FilterRule {
	m = append(m[:len(m):len(m)], Match{Field: "unknown"})
	return []FilterRule{{Matches: m, Verdict: Accept}, {Matches: m, Verdict: Refuse}, {Matches: m, Verdict: Translate}}
}

func verdictOf(name string, body json.RawMessage) (Verdict, string) {
	switch name {
	case "accept":
		return Accept, ""
	case "drop", "reject":
		return Refuse, ""
	case "return":
		return Return, ""
	case "masquerade", "snat":
		return Translate, ""
	case "jump", "goto":
		var to struct{ Target string }
		if json.Unmarshal(body, &to) != nil {
			return None, ""
		}
		if name == "goto" {
			return Goto, to.Target
		}
		return Jump, to.Target
	}
	return None, ""
}

// verdicts expands {"key": ..., "data": {"set": [[value, {verdict}], ...]}}.
func (r *Ruleset) verdicts(before []Match, body json.RawMessage) []FilterRule {
	var m struct {
		Key  json.RawMessage
		Data struct{ Set [][2]json.RawMessage }
	}
	if json.Unmarshal(body, &m) != nil || len(m.Data.Set) == 0 {
		return doubtful(before)
	}
	field := r.field(m.Key)
	var out []FilterRule
	for _, pair := range m.Data.Set {
		var verdict map[string]json.RawMessage
		values, ok := elements(pair[0])
		if !ok || json.Unmarshal(pair[1], &verdict) != nil {
			return doubtful(before)
		}
		for name, body := range verdict {
			v, target := verdictOf(name, body)
			out = append(out, FilterRule{
				Matches: append(before[:len(before):len(before)], Match{Field: field, Values: values}),
				Verdict: v, Target: target})
		}
	}
	return out
}

// condition reads {"op": "==", "left": ..., "right": ...}.
func (r *Ruleset) condition(body json.RawMessage) Match {
	var m struct {
		Op          string
		Left, Right json.RawMessage
	}
	if json.Unmarshal(body, &m) != nil {
		return Match{Field: "unknown"}
	}
	out := Match{Field: r.field(m.Left), Not: m.Op == "!="}
	if m.Op != "==" && m.Op != "!=" && m.Op != "in" {
		return Match{Field: "unknown"}
	}
	if out.Field == "ip frag" { // frag-off & 0x1fff compared with 0
		out.Values = []string{"whole"}
		if string(m.Right) != "0" {
			return Match{Field: "unknown"}
		}
		return out
	}
	if out.Field == "ip6 frag" { // exthdr frag exists, or missing
		there, known := map[string]bool{"true": true, "false": false}[string(m.Right)]
		if !known {
			return Match{Field: "unknown"}
		}
		out.Values, out.Not = []string{"later"}, out.Not == there
		return out
	}
	var set string
	if json.Unmarshal(m.Right, &set) == nil && strings.HasPrefix(set, "@") {
		out.Set = set[1:]
		return out
	}
	values, ok := elements(m.Right)
	if !ok {
		return Match{Field: "unknown"}
	}
	out.Values = values
	return out
}

// field names the left side as nft writes it.
func (r *Ruleset) field(raw json.RawMessage) string {
	var e struct {
		Payload *struct{ Protocol, Field string }
		Meta    *struct{ Key string }
		CT      *struct{ Key string }
		Exthdr  *struct{ Name, Field string }
		And     []json.RawMessage `json:"&"`
	}
	if json.Unmarshal(raw, &e) != nil {
		return "unknown"
	}
	switch {
	case e.Payload != nil:
		return e.Payload.Protocol + " " + e.Payload.Field
	case e.Meta != nil && (e.Meta.Key == "iif" || e.Meta.Key == "oif"):
		return "meta " + e.Meta.Key + "name"
	case e.Meta != nil:
		return "meta " + e.Meta.Key
	case e.CT != nil:
		r.Track = true
		return "ct " + e.CT.Key
	case e.Exthdr != nil && e.Exthdr.Name == "frag" && e.Exthdr.Field == "":
		return "ip6 frag"
	case len(e.And) == 2 && string(e.And[1]) == "8191" && r.field(e.And[0]) == "ip frag-off":
		return "ip frag"
	}
	return "unknown"
}

// elements reads one value or a set of them.
func elements(raw json.RawMessage) ([]string, bool) {
	var text string
	var number int64
	var list []json.RawMessage
	var e struct {
		Set    []json.RawMessage
		Prefix *struct {
			Addr string
			Len  int
		}
		Range []json.RawMessage
		Elem  *struct{ Val json.RawMessage }
	}
	switch {
	case json.Unmarshal(raw, &text) == nil:
		return []string{text}, !strings.HasPrefix(text, "@")
	case json.Unmarshal(raw, &number) == nil:
		return []string{strconv.FormatInt(number, 10)}, true
	case json.Unmarshal(raw, &list) == nil:
		return several(list)
	case json.Unmarshal(raw, &e) != nil:
		return nil, false
	case e.Prefix != nil:
		return []string{fmt.Sprintf("%s/%d", e.Prefix.Addr, e.Prefix.Len)}, true
	case len(e.Range) == 2:
		ends, ok := several(e.Range)
		if !ok || len(ends) != 2 {
			return nil, false
		}
		return []string{ends[0] + "-" + ends[1]}, true
	case e.Elem != nil:
		return elements(e.Elem.Val)
	case e.Set != nil:
		return several(e.Set)
	}
	return nil, false
}

func several(list []json.RawMessage) (out []string, ok bool) {
	for _, one := range list {
		v, ok := elements(one)
		if !ok {
			return nil, false
		}
		out = append(out, v...)
	}
	return out, true
}
