package tunnel

import (
	"fmt"
	"strings"
)

// nftGuard is where a guard in nftables stands.
type nftGuard struct {
	tun    string
	mark   uint32 // of our own packets
	beside bool   // a kernel plane: what its SAs opened or are about to seal passes
}

// table is the name of our table.
func (g nftGuard) table() string { return "yumen_guard_" + strings.Map(nftName, g.tun) }

// script writes the guard as an nftables table of our own, replacing what was there
// in one transaction. Rules stand in order of precedence, the first match decides.
func (g nftGuard) script(list []guardEntry) string {
	var b strings.Builder
	table := g.table()
	fmt.Fprintf(&b, "add table inet %s\ndelete table inet %s\n", table, table)
	if len(list) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "table inet %s {\n", table)
	for dir, hook := range []string{"postrouting", "input", "forward"} {
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype filter hook %s priority 300; policy accept;\n", hook, hook)
		side := "iifname"
		if guardDir(dir) == guardOut {
			side = "oifname"
			fmt.Fprintf(&b, "\t\tmeta mark %#x accept\n", g.mark)
		} else if guardDir(dir) == guardIn {
			// Packets of the tunnel itself, before they are opened.
			fmt.Fprint(&b, "\t\tmeta l4proto esp accept\n\t\tudp dport { 500, 4500 } accept\n")
		}
		fmt.Fprintf(&b, "\t\t%s { \"lo\", \"%s\" } accept\n", side, g.tun)
		if g.beside && guardDir(dir) == guardOut {
			fmt.Fprint(&b, "\t\trt ipsec exists accept\n")
		} else if g.beside {
			fmt.Fprint(&b, "\t\tmeta ipsec exists accept\n")
		}
		for _, e := range list {
			if e.dir == guardDir(dir) && e.kind != tunAllow && e.kind != ownAllow {
				fmt.Fprintf(&b, "\t\t%s\n", nftRule(e))
			}
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func nftRule(e guardEntry) string {
	family := "ip"
	if e.src.Addr().Is6() {
		family = "ip6"
	}
	parts := []string{fmt.Sprintf("%s saddr %s %s daddr %s", family, e.src, family, e.dst)}
	switch {
	case e.protocol == 58 && e.srcPort != 0:
		parts = append(parts, fmt.Sprintf("icmpv6 type %d", e.srcPort))
	case e.protocol != 0:
		parts = append(parts, fmt.Sprintf("meta l4proto %d", e.protocol))
		if e.srcPort != 0 {
			parts = append(parts, fmt.Sprintf("th sport %d", e.srcPort))
		}
		if e.dstPort != 0 {
			parts = append(parts, fmt.Sprintf("th dport %d", e.dstPort))
		}
	}
	verdict := "drop"
	if e.kind.allows() {
		verdict = "accept"
	}
	return strings.Join(append(parts, verdict), " ")
}
