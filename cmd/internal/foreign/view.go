package foreign

import (
	"strconv"
	"strings"
)

// view is a command that others belong to, and those.
type view struct {
	open  *line
	lines []*line
}

// find is the first line of v that begins with the words.
func (v *view) find(begin ...string) *line {
	if v == nil {
		return nil
	}
	for _, l := range v.lines {
		if l.has(begin...) {
			return l
		}
	}
	return nil
}

// all are the lines of v that begin with the words.
func (v *view) all(begin ...string) (out []*line) {
	if v == nil {
		return nil
	}
	for _, l := range v.lines {
		if l.has(begin...) {
			out = append(out, l)
		}
	}
	return out
}

// dump is a configuration as views; a command at the top that nothing belongs to is
// a view without lines.
type dump struct {
	views []*view
}

// read sorts the lines of a dump into views. Views are told by indentation, and
// where that was lost, or commands were typed, by the commands that open them.
func read(text []byte) *dump {
	list := lines(text)
	indented := false
	for _, l := range list {
		indented = indented || l.indent > 0 && !l.typed && len(l.words) > 1
	}
	d := &dump{}
	var open *view
	for _, l := range list {
		switch {
		case len(l.words) == 0:
		case l.text[0] == '#' || l.text[0] == '!', l.has("return"), l.has("quit"), l.has("exit"):
			open = nil
		case l.has("display") || l.has("dis") || l.has("system-view"):
		case open != nil && open.open.has("ike", "peer") && l.has("pki", "realm"):
			open.lines = append(open.lines, l) // the one command that opens a view and is used in another
		case opens(l):
			open = d.add(l)
		case open != nil && (l.indent > open.open.indent || l.typed || !indented && !global(l)):
			open.lines = append(open.lines, l)
		case l.typed || !indented:
			d.add(l) // one command alone: what follows does not belong to it
			open = nil
		default:
			open = d.add(l)
		}
	}
	return d
}

func (d *dump) add(l *line) *view {
	v := &view{open: l}
	d.views = append(d.views, v)
	return v
}

// openers are the commands that open the views that matter here, whatever stands
// before or behind them in the file.
func openers() []string {
	return []string{"ike proposal", "ike profile", "ike peer", "ike keychain", "ikev2 proposal", "ikev2 policy",
		"ikev2 profile", "ikev2 keychain", "ipsec transform-set", "ipsec proposal", "ipsec profile", "acl", "pki domain",
		"pki entity", "pki realm", "pki certificate", "interface", "security-policy", "security-zone", "firewall zone"}
}

func opens(l *line) bool {
	if policyView(l) {
		return true
	}
	for _, o := range openers() {
		w := strings.Fields(o)
		if l.has(w...) && len(l.words) > len(w) && l.at(len(w)) != "enable" {
			return true
		}
	}
	return false
}

// policyView reports whether l opens an IPsec policy: with a sequence number. The
// same words without one apply a policy to an interface.
func policyView(l *line) bool {
	if !l.has("ipsec") || !oneOf(l.at(1), "policy", "ipv6-policy", "policy-template", "ipv6-policy-template") {
		return false
	}
	_, err := strconv.Atoi(l.at(3))
	return err == nil
}

// global reports whether a command without indentation stands at the top of the
// configuration.
func global(l *line) bool {
	return oneOf(l.at(0), "sysname", "ike", "ipsec", "pki", "version", "vlan", "ip", "line", "user-interface", "undo") &&
		!l.has("ipsec", "apply") && !l.has("ipsec", "policy") && !l.has("ip", "address") && !l.has("undo", "version") &&
		!l.has("undo", "nat") && !l.has("undo", "pfs")
}

func oneOf(s string, list ...string) bool {
	for _, w := range list {
		if strings.EqualFold(s, w) {
			return true
		}
	}
	return false
}

// find is the first view whose command begins with the words.
func (d *dump) find(begin ...string) *view {
	if begin[len(begin)-1] == "" {
		return nil
	}
	for _, v := range d.views {
		if v.open.has(begin...) {
			return v
		}
	}
	return nil
}

// all are the views whose command begins with the words.
func (d *dump) all(begin ...string) (out []*view) {
	for _, v := range d.views {
		if v.open.has(begin...) {
			out = append(out, v)
		}
	}
	return out
}

// sysname is what the box calls itself.
func (d *dump) sysname() string {
	if v := d.find("sysname"); v != nil {
		return v.open.at(1)
	}
	return ""
}
