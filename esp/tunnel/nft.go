package tunnel

import (
	"fmt"
	"strings"

	"yumen/esp/nft"
)

// nftGuard is where a guard in nftables stands.
type nftGuard struct {
	tun    string
	mark   uint32 // of our own packets
	beside bool   // a kernel plane: what its SAs opened or are about to seal passes
}

// carriedMark is that of ICMP errors about packets from a tunnel, which go back by it
// whoever sent them: the next to that of our own packets, and never 0, which is any.
func carriedMark(own uint32) uint32 { return max(own+1, 1) }

// table is the name of our table.
func (g nftGuard) table() string { return "yumen_guard_" + strings.Map(nftName, g.tun) }

// script writes the guard as an nftables table of our own, replacing what was there
// in one transaction. Rules stand in order of precedence, the first match decides. plan
// is the whole guard, by which ICMP errors are judged, and list what of it XFRM has not.
func (g nftGuard) script(list, plan []guardEntry) string {
	var b strings.Builder
	table := g.table()
	fmt.Fprintf(&b, "add table inet %s\ndelete table inet %s\n", table, table)
	if len(plan) == 0 {
		return b.String()
	}
	errors := judged(plan)
	fmt.Fprintf(&b, "table inet %s {\n%s%s", table, nft.Quoted("quoted", errors, "drop"),
		nft.Quoted("carried", errors, fmt.Sprintf("meta mark set %#x return", carriedMark(g.mark))))
	// Into the tunnel, by a rule for that mark: there they are judged in the same way.
	fmt.Fprintf(&b, "\tchain prerouting {\n\t\ttype filter hook prerouting priority -150; policy accept;\n"+
		"\t\tiifname { \"lo\", \"%s\" } accept\n%s\t}\n", g.tun, nft.Jump("carried"))
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
		if guardDir(dir) == guardOut {
			b.WriteString(nft.Jump("quoted"))
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

// judged is what the guard says of packets to those behind us.
func judged(plan []guardEntry) (list []nft.Judged) {
	for _, e := range plan {
		if e.dir == guardFwd && e.kind != tunAllow {
			list = append(list, nft.Judged{Src: e.src, Dst: e.dst, Protocol: e.protocol, SrcPort: e.srcPort, DstPort: e.dstPort,
				Allow: e.kind.allows()})
		}
	}
	return list
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
