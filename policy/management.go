package policy

import "fmt"

// management reads one exemption: a prefix, or a mapping that narrows it to a
// protocol, a port of ours and an address of ours.
func (r *reader) management(n *node, path string) Selector {
	var s Selector
	from := field{r: r, node: n, path: path, line: n.line, here: true}
	switch n.kind {
	case kindBad:
		return s
	case kindNull:
		from.fault("is empty; write a prefix, or from: with protocol, port and to")
		return s
	case kindMap:
	default:
		from.net(&s.Remote)
		s.Local = ours(s.Remote)
		return s
	}
	o := r.object(n, path)
	o.need("from", "write whom you administer from, as 203.0.113.0/24").net(&s.Remote)
	s.Local = ours(s.Remote)
	to := o.get("to")
	to.net(&s.Local)
	o.get("protocol").protocol(&s.Protocol)
	port := o.get("port")
	port.port(&s.LocalPort)
	if s.LocalPort != 0 && s.Protocol == 0 {
		s.Protocol = protocolTCP
	}
	if s.LocalPort != 0 && !hasPorts(s.Protocol) {
		port.fault("protocol %s has no ports; remove one of the two", ProtocolName(s.Protocol))
		s.LocalPort = 0
	}
	if s.Remote.First.IsValid() && s.Local.First.IsValid() && s.Remote.Is4() != s.Local.Is4() {
		to.fault("is of another family than from; use one family, and a second entry for the other")
	}
	o.done()
	return s
}

// ours is every address of the family of n.
func ours(n Net) Net {
	if !n.First.IsValid() {
		return Net{}
	}
	return everything(n.Is4())
}

// swallowed finds exemptions that would leave nothing of a tunnel to protect.
func (p *Policy) swallowed() Errors {
	var errs Errors
	for i, m := range p.Management {
		for _, t := range p.Tunnels {
			if t.Selector.Within(m) {
				errs = append(errs, &Error{File: p.source.file, Line: at(p.source.management, i), Path: fmt.Sprintf("management[%d]", i),
					Problem: fmt.Sprintf("takes all traffic of tunnel %s, which would then be in clear; name fewer addresses, or a port", t.Name)})
				break
			}
		}
	}
	return errs
}

// Operators are the prefixes from which Management lets clear text in, each with
// what it is narrowed to, for people.
func (p *Policy) Operators() []string {
	var out []string
	for _, m := range p.Management {
		text := m.Remote.String()
		if m.Local != everything(m.Local.Is4()) {
			text += " to " + m.Local.String()
		}
		if m.Protocol != 0 {
			text += " " + ProtocolName(m.Protocol)
		}
		if m.LocalPort != 0 {
			text += fmt.Sprintf(" port %d", m.LocalPort)
		}
		out = append(out, text)
	}
	return out
}
