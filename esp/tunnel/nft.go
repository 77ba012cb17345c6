package tunnel

import (
	"fmt"
	"strings"
)

// nftScript writes the guard as an nftables table of our own, replacing what was
// there in one transaction. Rules stand in order of precedence, the first match
// decides.
func nftScript(list []guardEntry, table, tun string, mark uint32) string {
	var b strings.Builder
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
			fmt.Fprintf(&b, "\t\tmeta mark %#x accept\n", mark)
		} else if guardDir(dir) == guardIn {
			// Packets of the tunnel itself, before they are opened.
			fmt.Fprint(&b, "\t\tmeta l4proto esp accept\n\t\tudp dport { 500, 4500 } accept\n")
		}
		fmt.Fprintf(&b, "\t\t%s { \"lo\", \"%s\" } accept\n", side, tun)
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
