package doctor

import (
	"fmt"
	"net/netip"
	"strings"
)

func addrPort(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }

// checkPorts finds other IKE daemons.
func checkPorts(f *Facts) []Finding {
	var out []Finding
	for _, s := range f.Sockets {
		if s.Program == "yumen" {
			continue
		}
		who := "another program (its process is hidden from us)"
		fix := "find it: ss -ulnp sport = " + fmt.Sprint(s.Port)
		if s.PID != 0 {
			who = fmt.Sprintf("%s (process %d)", s.Program, s.PID)
			fix = fmt.Sprintf("stop it and keep it from starting: systemctl disable --now %s", unitOf(s.Program))
		}
		out = append(out, Finding{"ports", Fail, fmt.Sprintf("UDP port %d on %s is held by %s", s.Port, s.Addr, who), fix})
	}
	if out == nil {
		return one("ports", OK, fmt.Sprintf("no other program holds UDP %d or %d", f.Settings.IKEPort, f.Settings.NATPort), "")
	}
	return out
}

// unitOf is the unit of the daemons one meets.
func unitOf(program string) string {
	switch program {
	case "charon", "starter":
		return "strongswan-starter"
	case "charon-systemd":
		return "strongswan"
	case "pluto":
		return "ipsec"
	}
	return program
}

// checkXFRM finds IPsec of others in the kernel.
func checkXFRM(f *Facts) []Finding {
	var out []Finding
	if n := len(f.XFRM.ForeignStates); n > 0 {
		out = append(out, Finding{"xfrm", Warn, fmt.Sprintf("the kernel holds %d IPsec states that are not ours: %s", n, some(f.XFRM.ForeignStates)),
			"stop what made them, then: ip xfrm state (deleteall removes all)"})
	}
	if n := len(f.XFRM.ForeignPolicies); n > 0 {
		out = append(out, Finding{"xfrm", Warn, fmt.Sprintf("the kernel holds %d IPsec policies that are not ours and stand before ours: %s", n, some(f.XFRM.ForeignPolicies)),
			"stop what made them, then: ip xfrm policy (delete by selector and direction)"})
	}
	return out
}

// some shows the first few.
func some(list []string) string {
	if len(list) > 3 {
		return strings.Join(list[:3], ", ") + ", ..."
	}
	return strings.Join(list, ", ")
}

// ruleSpan is how many priorities our ip rules take.
const ruleSpan = 2000

// checkRules finds ip rules and routes in the places of ours.
func checkRules(f *Facts) []Finding {
	var out []Finding
	first, seen := f.Settings.RulePriority, map[string]bool{}
	for _, r := range f.Rules {
		family := map[bool]string{false: "-4", true: "-6"}[r.V6]
		switch {
		case r.Ours:
		case r.Priority >= first && r.Priority < first+ruleSpan:
			text := fmt.Sprintf("ip rule %d (ip %s rule) stands among ours (%d to %d)", r.Priority, family, first, first+ruleSpan-1)
			out = append(out, Finding{"rules", Fail, text, "another rule_priority in the configuration, or move that rule"})
		case r.Priority > 0 && r.Priority < first && r.Bare:
			text := fmt.Sprintf("ip rule %d (ip %s rule) sends every packet to table %d before our rules are asked", r.Priority, family, r.Table)
			if !seen[text] {
				out = append(out, Finding{"rules", Warn, text, fmt.Sprintf("rule_priority below %d in the configuration, or move that rule", r.Priority)})
			}
			seen[text] = true
		}
	}
	if len(f.TableUsers) > 0 {
		out = append(out, Finding{"rules", Fail, fmt.Sprintf("routing table %d is used by others: %s", f.Settings.Table, some(f.TableUsers)),
			"another table in the configuration"})
	}
	return out
}

const (
	soonCertificate = 30 // days
	soonCRL         = 2
)

// checkCertificates counts days.
func checkCertificates(f *Facts) []Finding {
	var out []Finding
	for _, c := range f.Files {
		out = append(out, f.certificate(c))
	}
	return out
}

func (f *Facts) certificate(c File) Finding {
	name := fmt.Sprintf("%s (%s)", c.What, c.Path)
	fix, soon := "get a new one: yumen pki", soonCertificate
	if c.CRL {
		fix, soon = "fetch the newest list of that CA", soonCRL
	}
	if c.Fault != "" {
		return Finding{"certificate", Fail, name + ": " + c.Fault, "yumen check"}
	}
	days := int(c.NotAfter.Sub(f.Now).Hours() / 24)
	until := c.NotAfter.UTC().Format("2006-01-02")
	switch {
	case c.NotAfter.IsZero():
		return Finding{"certificate", Fail, name + " says not until when it holds: a gateway refuses it", fix}
	case f.Now.After(c.NotAfter):
		return Finding{"certificate", Fail, name + " is past its time since " + until, fix}
	case f.Now.Before(c.NotBefore):
		return Finding{"certificate", Fail, name + " is valid only from " + c.NotBefore.UTC().Format("2006-01-02") + " on", "set the clock, or wait"}
	case days < soon:
		return Finding{"certificate", Warn, fmt.Sprintf("%s ends in %d days, on %s", name, days, until), fix}
	}
	return Finding{"certificate", OK, fmt.Sprintf("%s: %d days left, until %s", name, days, until), ""}
}
