package doctor

import (
	"strings"
)

// hooksOf maps the built-in chains of iptables to hooks.
func hookOf(chain string) string {
	switch chain {
	case "INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING":
		return strings.ToLower(chain)
	}
	return ""
}

// priorityOf are where the tables of iptables stand (netfilter(7) priorities).
func priorityOf(table, hook string) int {
	switch {
	case table == "raw":
		return -300
	case table == "mangle":
		return -150
	case table == "nat" && (hook == "postrouting" || hook == "input"):
		return 100
	case table == "nat":
		return -100
	case table == "security":
		return 50
	}
	return 0
}

// ParseIPTables reads what iptables-save (ip) or ip6tables-save (ip6) writes.
// Options that it does not know make a rule uncertain.
func ParseIPTables(text, family string) *Ruleset {
	r := &Ruleset{Sets: map[string][]string{}}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
			r.Track = r.Track || table == "nat"
		case strings.HasPrefix(line, ":"):
			f := strings.Fields(line[1:])
			if len(f) < 2 {
				continue
			}
			c := Chain{Family: family, Table: table, Name: f[0], Hook: hookOf(f[0]), Drops: f[1] == "DROP", IPTables: true}
			if c.Type = "filter"; table == "nat" {
				c.Type = "nat"
			}
			c.Priority = priorityOf(table, c.Hook)
			r.Chains = append(r.Chains, c)
		case strings.HasPrefix(line, "-A "):
			words := fields(line)
			at := &Chain{Family: family, Table: table, IPTables: true}
			if c := r.find(at, words[1]); c != nil {
				p := iptablesRule{family: family}
				p.read(words[2:])
				r.Track = r.Track || p.track
				c.Rules = append(c.Rules, p.out)
			}
		}
	}
	return r
}

// fields splits at blanks outside quotes (comments).
func fields(line string) (out []string) {
	quoted, word := false, strings.Builder{}
	for _, c := range line {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			if word.Len() > 0 {
				out = append(out, word.String())
				word.Reset()
			}
		default:
			word.WriteRune(c)
		}
	}
	if word.Len() > 0 {
		out = append(out, word.String())
	}
	return out
}

// iptablesRule reads one rule.
type iptablesRule struct {
	family, proto string
	track         bool
	out           FilterRule
}

func (p *iptablesRule) read(words []string) {
	not := false
	for i := 0; i < len(words); i++ {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		switch words[i] {
		case "!":
			not = true
			continue
		case "-m": // the options of the module tell
			i++
			continue
		case "-j", "-g":
			p.target(words[i], value)
			return // what follows are options of the target
		case "-f":
			kind := "later"
			p.add(Match{Field: "ip frag", Not: not, Values: []string{kind}})
			not = false
			continue
		case "--comment":
			i++
			continue
		}
		i += p.option(words[i], value, not)
		not = false
	}
}

// option returns how many words its value takes.
func (p *iptablesRule) option(name, value string, not bool) int {
	ip := p.family + " "
	list := strings.Split(strings.ReplaceAll(value, ":", "-"), ",")
	switch name {
	case "-s":
		p.add(Match{Field: ip + "saddr", Not: not, Values: []string{value}})
	case "-d":
		p.add(Match{Field: ip + "daddr", Not: not, Values: []string{value}})
	case "-i", "-o":
		field := map[string]string{"-i": "meta iifname", "-o": "meta oifname"}[name]
		p.add(Match{Field: field, Not: not, Values: []string{strings.ReplaceAll(value, "+", "*")}})
	case "-p":
		p.proto = value
		p.add(Match{Field: "meta l4proto", Not: not, Values: []string{value}})
	case "--sport", "--sports":
		p.add(Match{Field: p.port() + "sport", Not: not, Values: list})
	case "--dport", "--dports":
		p.add(Match{Field: p.port() + "dport", Not: not, Values: list})
	case "--ctstate", "--state":
		p.track = true
		p.add(Match{Field: "ct state", Not: not, Values: strings.Split(strings.ToLower(value), ",")})
	default:
		p.add(Match{Field: name, Not: not, Values: []string{value}})
		if strings.HasPrefix(value, "-") {
			return 0
		}
	}
	return 1
}

func (p *iptablesRule) port() string {
	if p.proto == "" {
		return "th "
	}
	return p.proto + " "
}

func (p *iptablesRule) add(m Match) { p.out.Matches = append(p.out.Matches, m) }

func (p *iptablesRule) target(kind, name string) {
	switch name {
	case "ACCEPT":
		p.out.Verdict = Accept
	case "DROP", "REJECT":
		p.out.Verdict = Refuse
	case "RETURN":
		p.out.Verdict = Return
	case "MASQUERADE", "SNAT", "NETMAP":
		p.out.Verdict = Translate
	default: // LOG, MARK, TCPMSS and chains: a jump to what is no chain decides nothing
		if name == strings.ToUpper(name) && extension(name) {
			return
		}
		p.out.Verdict, p.out.Target = Jump, name
		if kind == "-g" {
			p.out.Verdict = Goto
		}
	}
}

// extension are the targets of iptables after which the next rule is asked.
func extension(name string) bool {
	switch name {
	case "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "TCPMSS", "DSCP", "TOS", "CT", "NOTRACK", "CHECKSUM",
		"CLASSIFY", "SECMARK", "CONNSECMARK", "TRACE", "SET", "AUDIT", "TTL", "HL", "DNAT", "REDIRECT", "TPROXY":
		return true
	}
	return false
}

// Merge puts what iptables tells beside what nft tells. iptables on nftables shows
// its tables in both; nft cannot name all it does, so that iptables' word holds for
// the tables where nft was at a loss, and nft's for the others.
func Merge(nft *Ruleset, onNFT bool, others ...*Ruleset) *Ruleset {
	if nft == nil {
		nft = &Ruleset{Sets: map[string][]string{}}
	}
	for _, o := range others {
		nft.Track = nft.Track || o.Track
		mine := map[string]bool{}
		for _, c := range o.Chains {
			mine[c.Family+" "+c.Table] = true
		}
		if onNFT {
			lost := nft.opaqueTables()
			for key := range mine {
				if !lost[key] && nft.has(key) {
					delete(mine, key)
				}
			}
			nft.remove(mine)
		}
		for _, c := range o.Chains {
			if mine[c.Family+" "+c.Table] {
				nft.Chains = append(nft.Chains, c)
			}
		}
	}
	return nft
}

func (r *Ruleset) has(table string) bool {
	for _, c := range r.Chains {
		if c.Family+" "+c.Table == table {
			return true
		}
	}
	return false
}

// opaqueTables hold rules that nft shows as xt, without their content.
func (r *Ruleset) opaqueTables() map[string]bool {
	out := map[string]bool{}
	for _, c := range r.Chains {
		for _, rule := range c.Rules {
			for _, m := range rule.Matches {
				if m.Field == "xt" {
					out[c.Family+" "+c.Table] = true
				}
			}
		}
	}
	return out
}

func (r *Ruleset) remove(tables map[string]bool) {
	var kept []Chain
	for _, c := range r.Chains {
		if !tables[c.Family+" "+c.Table] {
			kept = append(kept, c)
		}
	}
	r.Chains = kept
}
