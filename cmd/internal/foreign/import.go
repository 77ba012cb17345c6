package foreign

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Finding is a line that has no place in the draft.
type Finding struct {
	Line   int    // in the dump, 1 is the first
	Text   string // without secrets
	Reason string
	Change bool // the far end must change it, or there will be no tunnel
}

// Draft is what Import made of a dump.
type Draft struct {
	Policy   []byte    // YAML with comments; policy.Parse reads it
	Findings []Finding // by line
	Peers    int       // in Policy
	Tunnels  int       // in Policy, without placeholders
}

// Import drafts our policy from a dump of the configuration of a box of v at the far
// end; name says where it was read. What only people know is a placeholder
// (policy.Placeholder). A dump without any IPsec policy is an error.
func Import(v Vendor, name string, b []byte) (*Draft, error) {
	if v != H3C && v != Huawei {
		return nil, fmt.Errorf("configurations of %v are not read; h3c and huawei are", v)
	}
	if len(b) > MaxDump {
		return nil, fmt.Errorf("%s: is larger than %d MiB; cut out what concerns ike, ipsec, acl, pki and interfaces", name, MaxDump>>20)
	}
	im := &importer{vendor: v, dump: read(b)}
	for _, p := range im.dump.views {
		if policyView(p.open) {
			im.entry(p)
		}
	}
	im.routeBased()
	if len(im.peers) == 0 {
		return nil, fmt.Errorf("%s: no IPsec policy of a %v box is in it; give it the output of display current-configuration", name, v)
	}
	if v == Huawei {
		im.switches()
	}
	im.explain()
	draft, err := im.draft(name)
	if err != nil {
		return nil, err
	}
	draft.Findings = im.findings()
	draft.Policy = append(draft.Policy, remarks(draft.Findings)...)
	return draft, nil
}

// importer builds a draft. What it made of a line is marked on the line.
type importer struct {
	vendor  Vendor
	dump    *dump
	peers   []*item
	tunnels []*item
	extra   []Finding // what is missing, rather than wrong
}

// item is one entry of a list of the draft.
type item struct {
	name   string
	key    string // of a peer: what tells it from others
	values []value
	knobs  []value // of dialect:
}

// value is one line of the draft and where it comes from.
type value struct {
	key, text string
	from      *line  // nil: from nowhere
	note      string // what people must know of it
}

func (i *item) set(key, text string, from *line, note string) {
	if from != nil {
		from.take()
	}
	i.values = append(i.values, value{key, text, from, note})
}

func (i *item) knob(key, text string, from *line) {
	i.knobs = append(i.knobs, value{key: key, text: text, from: from.take()})
}

// missing notes what a view should have.
func (im *importer) missing(v *view, format string, args ...any) {
	f := Finding{Line: v.open.number, Text: v.open.shown(), Reason: fmt.Sprintf(format, args...), Change: true}
	if !slices.Contains(im.extra, f) {
		im.extra = append(im.extra, f)
	}
}

// entry reads one IPsec policy: its far end is a peer, each rule of its access list
// a tunnel.
func (im *importer) entry(p *view) {
	p.open.take()
	if p.open.after("template") != "" && !strings.HasSuffix(strings.ToLower(p.open.at(1)), "template") {
		return // the template is an entry of its own
	}
	if oneOf(p.open.at(4), "manual", "gdoi") {
		p.open.conflict("its keys are not negotiated by IKE; make it isakmp")
		return
	}
	peer := im.peer(p)
	if peer == nil {
		p.open.conflict(fmt.Sprintf("a draft holds %d peers; cut the dump", maxPeers))
		return
	}
	transforms := im.transforms(p)
	acl := p.find("security", "acl")
	if acl == nil {
		im.missing(p, "it has no security acl, so what it protects is not known; write the tunnels by hand")
	} else {
		im.tunnelsOf(p, peer, transforms, acl)
	}
}

func (im *importer) tunnelsOf(p *view, peer *item, transforms []*view, acl *line) {
	flows := im.dump.flows(acl)
	base := entryName(p)
	for n, f := range flows {
		if len(im.tunnels) == maxTunnels {
			f.line.conflict(fmt.Sprintf("a draft holds %d tunnels; cut the dump", maxTunnels))
			continue
		}
		t := &item{name: base}
		if len(flows) > 1 {
			t.name = fmt.Sprintf("%s-%d", base, n+1)
		}
		t.set("peer", peer.name, nil, "")
		t.set("local", f.selector.Local.String(), f.line, "destination there")
		t.set("remote", f.selector.Remote.String(), f.line, "source there")
		if f.selector.Protocol != 0 {
			t.set("protocol", fmt.Sprint(f.selector.Protocol), f.line, "")
		}
		if f.selector.LocalPort != 0 {
			t.set("local_port", fmt.Sprint(f.selector.LocalPort), f.line, "")
		}
		if f.selector.RemotePort != 0 {
			t.set("remote_port", fmt.Sprint(f.selector.RemotePort), f.line, "")
		}
		im.lifetimes(p, t)
		for _, x := range transforms {
			if l := x.find("esn", "enable"); l != nil {
				t.set("esn", "true", l, "")
				break
			}
		}
		im.tunnels = append(im.tunnels, t)
	}
}

// entryName is what the engineer there called it, or the policy with its number.
func entryName(p *view) string {
	for _, key := range []string{"description", "alias"} {
		if l := p.find(key); l != nil && len(l.words) == 2 && cleanName(l.words[1]) == l.words[1] {
			return l.take().words[1]
		}
	}
	return cleanName(p.open.at(2) + "-" + p.open.at(3))
}

// cleanName makes a name of the policy from one of a box.
func cleanName(s string) string {
	s = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c) {
			return c
		}
		return '-'
	}, s)
	s = strings.Trim(s, "-")
	return s[:min(len(s), 56)]
}

// lifetimes reads the life of session keys, of the entry or of the whole box.
func (im *importer) lifetimes(p *view, t *item) {
	seconds, amount := p.find("sa", "duration", "time-based"), p.find("sa", "duration", "traffic-based")
	for _, g := range im.dump.all("ipsec", "sa", "global-duration") {
		if seconds == nil && g.open.at(3) == "time-based" {
			seconds = g.open
		}
		if amount == nil && g.open.at(3) == "traffic-based" {
			amount = g.open
		}
	}
	if seconds != nil {
		text, note := span(seconds.words[len(seconds.words)-1], 3600)
		t.set("lifetime", text, seconds, note)
	}
	if amount != nil {
		if kb := number(amount.words[len(amount.words)-1]); kb > 0 && kb < 1<<40 {
			t.set("bytes", fmt.Sprintf("%dKiB", kb), amount, "")
		} else {
			amount.leave("no limit of traffic")
		}
	}
}

// span writes seconds as a duration of our policy, at most limit seconds.
func span(text string, limit uint64) (string, string) {
	switch n := number(text); {
	case n == 0:
		return fmt.Sprintf("%ds", limit), "not read as a number: the limit is written"
	case n > limit:
		return fmt.Sprintf("%ds", limit), fmt.Sprintf("%d there; the standard allows %d, and the lower one counts", n, limit)
	case n < 60:
		return "60s", fmt.Sprintf("%d there; the lower one counts", n)
	default:
		return fmt.Sprintf("%ds", n), ""
	}
}

func number(s string) (n uint64) {
	for _, c := range s {
		if c < '0' || c > '9' || n > 1<<50 {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// transforms finds the ESP proposals of an entry and says what must change in them.
func (im *importer) transforms(p *view) []*view {
	key, kind := "transform-set", "transform-set"
	if im.vendor == Huawei {
		key, kind = "proposal", "proposal"
	}
	ref := p.find(key)
	if ref == nil {
		im.missing(p, "it names no %s; ESP must be SM4 with SM3", kind)
		return nil
	}
	ref.take()
	var out []*view
	for _, name := range ref.words[1:] {
		x := im.dump.find("ipsec", kind, name)
		if x == nil {
			ref.conflict(fmt.Sprintf("ipsec %s %s is not in the dump; it must be ESP with SM4 and SM3", kind, name))
			continue
		}
		x.open.take()
		im.transform(x)
		out = append(out, x)
	}
	return out
}

func (im *importer) transform(x *view) {
	im.must(x, []string{"esp", "encryption-algorithm"}, "sm4", "sm4-cbc")
	im.must(x, []string{"esp", "authentication-algorithm"}, "sm3")
	for _, key := range []string{"protocol", "transform"} {
		if l := x.find(key); l != nil {
			expect(l, l.at(1), "esp")
		}
	}
	if l := x.find("encapsulation-mode"); l != nil {
		expect(l, l.at(1), "tunnel", "auto")
	}
	for _, l := range x.all("ah") {
		l.conflict("AH is not spoken here; use protocol esp alone")
	}
	im.noPFS(x)
}

func (im *importer) noPFS(v *view) {
	for _, l := range v.all("pfs") {
		l.conflict("the standard has no Diffie-Hellman, so no PFS: undo pfs")
	}
}

// expect marks a line as right or as to be changed.
func expect(l *line, got string, want ...string) {
	if oneOf(got, want...) {
		l.take()
		return
	}
	l.conflict(fmt.Sprintf("must be %s for GB/T 36968", strings.Join(want, " or ")))
}

// must looks for a line whose last words must be among want; the first of want that
// the vendor writes is named when it is missing.
func (im *importer) must(v *view, key []string, want ...string) {
	l := v.find(key...)
	word := want[0]
	if im.vendor == H3C && len(want) > 1 {
		word = want[1]
	}
	switch {
	case l == nil:
		im.missing(v, "%s is not there, and its default is not ours; set %s", strings.Join(key, " "), word)
	case !slices.ContainsFunc(l.words[len(key):], func(w string) bool { return oneOf(w, want...) }):
		l.conflict(fmt.Sprintf("must be %s for GB/T 36968", word))
	default:
		l.take()
		if len(l.words) > len(key)+1 {
			l.conflict(fmt.Sprintf("offers others beside %s; leave %s alone", word, word))
		}
	}
}

// proposal reads phase 1 and gives the line of its lifetime.
func (im *importer) proposal(v *view) *line {
	if v == nil {
		return nil
	}
	v.open.take()
	if im.vendor == H3C {
		im.must(v, []string{"authentication-method"}, "sm2-de", "sm2-de")
	} else {
		im.must(v, []string{"authentication-method"}, "digital-envelope", "digital-envelope-v2")
		if l := v.find("authentication-method", "hss-de"); l != nil {
			l.conflict("an envelope of Huawei's own, not that of GB/T 36968: choose digital-envelope, or digital-envelope-v2 where that is offered")
		}
	}
	im.must(v, []string{"encryption-algorithm"}, "sm4", "sm4-cbc")
	im.must(v, []string{"authentication-algorithm"}, "sm3")
	for _, l := range v.all("dh") {
		l.leave("there is no Diffie-Hellman in GB/T 36968; a box that sends the group anyway is understood")
	}
	for _, key := range []string{"prf", "integrity-algorithm"} {
		for _, l := range v.all(key) {
			l.leave("of IKEv2 only")
		}
	}
	return v.find("sa", "duration")
}

// applied is the address of the interface where a policy is applied.
func (im *importer) applied(policyName string) (netip.Addr, *line) {
	for _, v := range im.dump.all("interface") {
		for _, l := range v.lines {
			ours := l.has("ipsec", "apply") && l.at(3) == policyName || l.has("ipsec", "policy") && l.at(2) == policyName ||
				l.has("ipsec", "ipv6-policy") && l.at(2) == policyName
			if !ours {
				continue
			}
			l.take()
			v.open.take()
			for _, at := range append(v.all("ip", "address"), v.all("ipv6", "address")...) {
				text, _, _ := strings.Cut(at.at(2), "/")
				if a, err := netip.ParseAddr(text); err == nil && usable(a) {
					return a, at
				}
			}
		}
	}
	return netip.Addr{}, nil
}

// usable reports whether a gateway can have the address.
func usable(a netip.Addr) bool {
	return a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// routeBased says why tunnels of interfaces are not drafted: what they protect is
// in routes.
func (im *importer) routeBased() {
	for _, v := range im.dump.all("ipsec", "profile") {
		v.open.conflict("a tunnel interface protects whatever is routed into it; GB/T 36968 needs networks: use an ipsec policy with an acl")
	}
}

var errNoDraft = errors.New("the draft does not read as a policy")
