package foreign

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"yumen/policy"
)

// draft writes the policy. What policy.Parse refuses is taken out again, with the
// reason it gave; where no tunnel is left a placeholder stands for one.
func (im *importer) draft(name string) (*Draft, error) {
	im.uniqueTunnels()
	for range len(im.peers) + len(im.tunnels) + 2 {
		text := im.render(name)
		_, err := policy.Parse("draft", text)
		if err == nil {
			return &Draft{Policy: text, Peers: len(im.peers), Tunnels: len(im.tunnels)}, nil
		}
		if !im.drop(err) {
			return nil, fmt.Errorf("%w: %w", errNoDraft, err)
		}
	}
	return nil, errNoDraft
}

// What a draft holds at most: an editor's work, and a file that policy.Parse reads.
const (
	maxPeers   = 100
	maxTunnels = 300
	maxRemarks = 400
)

var entryPath = regexp.MustCompile(`^(peers|tunnels)\[(\d+)\](?:\.(\w+))?`)

// drop takes out what the first fault of err is about, and reports whether it could.
// A tunnel goes whole, for a part of it would be another tunnel; of a peer the key.
func (im *importer) drop(err error) bool {
	var all policy.Errors
	if !errors.As(err, &all) {
		return false
	}
	for _, fault := range all {
		m := entryPath.FindStringSubmatch(fault.Path)
		if m == nil {
			continue
		}
		n, _ := strconv.Atoi(m[2])
		if m[1] == "tunnels" && n < len(im.tunnels) {
			im.unwanted(im.tunnels[n].values, fault.Problem)
			im.tunnels = slices.Delete(im.tunnels, n, n+1)
			return true
		}
		if m[1] == "peers" && n < len(im.peers) && im.peers[n].dropKey(im, m[3], fault.Problem) {
			return true
		}
	}
	if len(im.tunnels) > 0 { // a conflict of two, which names neither by its place
		last := len(im.tunnels) - 1
		im.unwanted(im.tunnels[last].values, all[0].Problem)
		im.tunnels = im.tunnels[:last]
		return true
	}
	return false
}

func (im *importer) unwanted(list []value, why string) {
	for _, v := range list {
		if v.from != nil && v.key == "local" {
			v.from.conflict("no tunnel of ours can say it: " + why)
		}
	}
}

// dropKey replaces or removes a value that was refused.
func (i *item) dropKey(im *importer, key, why string) bool {
	if key == "dialect" && len(i.knobs) > 0 {
		for _, k := range i.knobs {
			k.from.conflict("our policy cannot say it: " + why)
		}
		i.knobs = nil
		return true
	}
	for n, v := range i.values {
		if v.key != key {
			continue
		}
		if v.from != nil {
			v.from.conflict("our policy cannot say it: " + why)
		}
		switch {
		case key == "subject" && v.from != nil:
			i.values[n] = value{key: key, text: "CN=" + policy.Placeholder}
		case key == "remote" && v.from != nil:
			i.values[n] = value{key: key, text: "fill-in.invalid"}
		default:
			i.values = slices.Delete(i.values, n, n+1)
		}
		return true
	}
	return false
}

func (im *importer) uniqueTunnels() {
	seen := map[string]bool{}
	for n, t := range im.tunnels {
		base := t.name
		if base == "" {
			base = "tunnel"
		}
		t.name = base
		for k := 2; seen[t.name]; k++ {
			t.name = fmt.Sprintf("%s-%d", base[:min(len(base), 56)], k)
		}
		seen[t.name] = true
		im.tunnels[n] = t
	}
}

func (im *importer) render(name string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Draft of our side, made from %s", oneLine(name))
	if s := im.dump.sysname(); s != "" {
		fmt.Fprintf(&b, ", the configuration of %s (%v)", oneLine(s), im.vendor)
	}
	fmt.Fprintf(&b, ".\n# Behind each value: the line of the dump it comes from. Replace each %s, read the end of\n"+
		"# this file, then run `yumen check`, which names what is still missing.\n", policy.Placeholder)
	if len(im.peers) > 1 {
		b.WriteString("# The box has tunnels to more than one gateway: keep the peers whose local is this one.\n")
	}
	b.WriteString("site: here   # a name for people\n\npeers:\n")
	for _, p := range im.peers {
		fmt.Fprintf(&b, "  - name: %s\n", quote(p.name))
		for _, v := range p.values {
			v.write(&b, "    ")
		}
		if len(p.knobs) > 0 {
			b.WriteString("    dialect:\n")
		}
		for _, k := range p.knobs {
			k.write(&b, "      ")
		}
	}
	b.WriteString("\ntunnels:\n")
	for _, t := range im.tunnels {
		fmt.Fprintf(&b, "  - name: %s\n", quote(t.name))
		for _, v := range t.values {
			v.write(&b, "    ")
		}
	}
	if len(im.tunnels) == 0 {
		fmt.Fprintf(&b, "  - name: %s-tunnel   # nothing in the dump says what is protected\n    peer: %s\n"+
			"    local: 192.0.2.0/24      # behind us\n    remote: 198.51.100.0/24  # behind them\n", policy.Placeholder, quote(im.peers[0].name))
	}
	return []byte(b.String())
}

func (v value) write(b *strings.Builder, indent string) {
	text := v.text
	if v.key != "dpd" && !strings.HasPrefix(text, `"`) && text != "true" && !digits(text) {
		text = quote(text)
	}
	left := fmt.Sprintf("%s%s: %s", indent, v.key, text)
	var remark []string
	if v.from != nil {
		remark = append(remark, fmt.Sprintf("line %d: %s", v.from.number, oneLine(v.from.shown())))
	}
	if v.note != "" {
		remark = append(remark, oneLine(v.note))
	}
	if len(remark) == 0 {
		b.WriteString(left + "\n")
		return
	}
	fmt.Fprintf(b, "%-40s # %s\n", left, strings.Join(remark, "; "))
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/-]*$|^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+(/[0-9]+)?$|^[0-9]+(s|KiB)$`)

// quote writes s as YAML takes it.
func quote(s string) string {
	if plain.MatchString(s) && !oneOf(s, "true", "false", "yes", "no", "on", "off", "null", "y", "n") {
		return s
	}
	return strconv.Quote(s)
}

// oneLine keeps what a dump brought from ending a comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// findings lists every line that matters to IPsec and is not in the draft.
func (im *importer) findings() []Finding {
	out := slices.Clone(im.extra)
	look := func(l *line) {
		if l.used {
			return
		}
		reason := l.reason
		if reason == "" {
			reason = "not known here; ask what it does if the tunnel does not come up"
		}
		out = append(out, Finding{l.number, l.shown(), reason, l.clash})
	}
	for _, v := range im.dump.views {
		all, some := concerns(v)
		if all || some && concernsLine(v.open) {
			look(v.open)
		}
		for _, l := range v.lines {
			if all || some && concernsLine(l) {
				look(l)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return a.Line - b.Line })
	return out
}

// concerns reports whether all lines of a view matter, or those that say so.
func concerns(v *view) (all, some bool) {
	switch {
	case v.open.has("ike"), v.open.has("ikev2"), v.open.has("ipsec"), v.open.has("pki"):
		return true, true
	case v.open.has("acl"):
		return v.open.used, true
	}
	return false, true
}

func concernsLine(l *line) bool {
	return l.reason != "" || oneOf(l.at(0), "ike", "ikev2", "ipsec", "pki") || l.has("undo") && oneOf(l.at(1), "ike", "ipsec", "pki") ||
		l.has("tunnel", "protection", "ipsec") || l.has("tunnel-protocol", "ipsec")
}

// remarks writes findings as the end of a draft.
func remarks(list []Finding) []byte {
	if len(list) == 0 {
		return []byte("\n# Every line that concerns IPsec is in this draft.\n")
	}
	var b strings.Builder
	b.WriteString("\n# Not in this draft. CHANGE: the far end must change it, or there will be no tunnel.\n")
	for n, f := range list {
		if n == maxRemarks {
			fmt.Fprintf(&b, "#   and %d more\n", len(list)-n)
			break
		}
		mark := ""
		if f.Change {
			mark = "CHANGE "
		}
		fmt.Fprintf(&b, "#   %sline %d: %s\n#     %s\n", mark, f.Line, oneLine(f.Text), oneLine(f.Reason))
	}
	return []byte(b.String())
}
