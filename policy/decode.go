package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of lifetimes without allow_long_lifetime (GB/T 36968, 6.1: update
// periods of the working key and of the session key).
const (
	MaxIKELifetime = 24 * time.Hour
	MaxLifetime    = time.Hour

	// A lifetime is 32 bits of seconds on the wire; a year is more than any peer
	// needs and still far from that.
	longestLifetime = 365 * 24 * time.Hour
)

// Window sizes in packets.
const (
	MinWindow = 64
	MaxWindow = 4096
	// MaxSideBySide is how many children a tunnel uses at most at the same time.
	MaxSideBySide = 8
)

// defaults is every default of the policy file, in one literal.
func defaults() (Peer, Tunnel) {
	return Peer{
			ClockSkew:   5 * time.Minute,
			IKELifetime: MaxIKELifetime,
			Encap:       EncapAuto,
			DPD:         DPD{Interval: 10 * time.Second, Tries: 3},
			PathProbe:   ProbeAuto,
			Dialect:     Dialect{}, // each knob's zero value is the recommended one
		}, Tunnel{
			Suites:   []Suite{SM4CBCHMACSM3},
			ICVBits:  defaultICV,
			ESN:      false,
			Start:    StartNow,
			Lifetime: MaxLifetime,
			Bytes:    0,
			Packets:  0,
			Window:   1024,
			Children: 1,
			Outer:    Outer{DSCP: CopyDSCP, DF: DFCopy, Fragment: FragmentBefore, MSS: MSSAuto},
		}
}

// UsualPeer is what a peer entry has of which it says nothing.
func UsualPeer() Peer {
	p, _ := defaults()
	return p
}

// policy reads the whole file. Peers are read before tunnels and tunnels before
// rules, whatever their order in the file, because the later name the earlier.
func (r *reader) policy(root *node) *Policy {
	o := r.object(root, "")
	p := &Policy{source: source{file: r.file}}
	o.need("site", "give this site a name").name(&p.Site)
	peers := newNames()
	for i, n := range o.need("peers", "list at least one peer").list() {
		path := fmt.Sprintf("peers[%d]", i)
		p.source.peers = append(p.source.peers, n.keyLines())
		p.Peers = append(p.Peers, r.peer(n, path, peers, p.Peers))
	}
	tunnels := newNames()
	for i, n := range o.need("tunnels", "list at least one tunnel").list() {
		p.source.tunnels = append(p.source.tunnels, n.line)
		p.Tunnels = append(p.Tunnels, r.tunnel(n, fmt.Sprintf("tunnels[%d]", i), p, tunnels))
	}
	groups := newNames()
	for i, n := range o.get("groups").list() {
		g, at := r.group(n, fmt.Sprintf("groups[%d]", i), groups)
		p.source.groups = append(p.source.groups, at)
		p.Groups = append(p.Groups, g)
	}
	rules := newNames()
	for i, n := range o.get("rules").list() {
		p.source.rules = append(p.source.rules, n.line)
		p.Rules = append(p.Rules, r.rule(n, fmt.Sprintf("rules[%d]", i), p, rules))
	}
	for i, n := range o.get("management").list() {
		p.source.management = append(p.source.management, n.line)
		p.Management = append(p.Management, r.management(n, fmt.Sprintf("management[%d]", i)))
	}
	o.done()
	return p
}

// names finds names given twice.
type names struct{ lines map[string]int }

func newNames() names { return names{make(map[string]int)} }

// name reads a name: it becomes a label of metrics and an argument of commands.
func (f field) name(dst *string) {
	var s string
	f.text(&s)
	if s == "" {
		return
	}
	ok := len(s) <= 64 && s[0] != '-' && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c))
	})
	if !ok {
		f.fault("%q is no name; use up to 64 letters, digits, dots, hyphens and underscores", s)
		return
	}
	*dst = s
}

// unique reads a name that no other of its list has.
func (f field) unique(dst *string, seen names) {
	f.name(dst)
	if *dst == "" {
		return
	}
	if first, ok := seen.lines[*dst]; ok {
		f.fault("%q is already the name of another, at line %d; choose a different name", *dst, first)
		return
	}
	seen.lines[*dst] = f.line
}

func (r *reader) tunnel(n *node, path string, p *Policy, seen names) Tunnel {
	o := r.object(n, path)
	_, t := defaults()
	o.need("name", "give the tunnel a name").unique(&t.Name, seen)
	by := o.need("peer", "name one of peers")
	by.text(&t.Peer)
	peer, ok := p.Peer(t.Peer)
	if t.Peer != "" && !ok {
		by.fault("peer %q is not defined; name one of peers", t.Peer)
	}
	t.Selector = o.selector()
	o.suites(&t.Suites, suitesOf(peer))
	if peer.Dialect.ICVBits != 0 {
		t.ICVBits = peer.Dialect.ICV()
	}
	icv := o.get("icv_bits")
	if s, ok := icv.word(); ok {
		var known bool
		if t.ICVBits, known = icvOf(s); !known {
			icv.fault("%q is not one of 96, 128, 256, auto", s)
		} else if slices.Contains(t.Suites, AESCBCHMACSHA256) && t.ICVBits != 128 {
			icv.fault("%s: HMAC-SHA-256 has 128 (RFC 4868); remove it", s)
		}
	}
	o.get("esn").bool(&t.ESN)
	start := o.get("start")
	choose(start, &t.Start, StartNow, StartTrap, StartNone)
	if ok && peer.Remote.Any && t.Start != StartNone {
		start.fault("peer %q has remote: any, so its address is not known; write start: respond", t.Peer)
	}
	o.lifetime("lifetime", &t.Lifetime, MaxLifetime)
	o.get("bytes").amount(&t.Bytes, true)
	o.get("packets").amount(&t.Packets, false)
	o.get("window").int(&t.Window, MinWindow, MaxWindow)
	o.get("children").int(&t.Children, 1, MaxSideBySide)
	o.dscp(&t.Outer.DSCP)
	choose(o.get("df"), &t.Outer.DF, DFCopy, DFSet, DFClear)
	fragment := o.get("fragment")
	choose(fragment, &t.Outer.Fragment, FragmentBefore, FragmentAfter)
	if t.Outer.Fragment == FragmentAfter && t.Outer.DF == DFSet {
		fragment.fault("after needs outer packets that may be fragmented, which df: set forbids; change one")
	}
	o.get("mss_clamp").mss(&t.Outer.MSS)
	o.done()
	return t
}

// mss reads auto, off or a number of bytes.
func (f field) mss(dst *MSSClamp) {
	switch s, ok := f.word(); {
	case !ok:
	case s == MSSAuto.String():
		*dst = MSSAuto
	case s == MSSOff.String(), f.node.kind == kindBool && strings.EqualFold(s, "false"):
		*dst = MSSOff // YAML 1.1 takes a bare off for false
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n < MinMSS || n > MaxMSS {
			f.fault("%q is not auto, off or a size from %d to %d", s, MinMSS, MaxMSS)
			return
		}
		*dst = MSSClamp(n)
	}
}

// suites reads the suites of a tunnel, of those that its peer may have.
func (o *object) suites(dst *[]Suite, may []Suite) {
	f := o.get("suites")
	if !f.given() {
		*dst = may[:1:1]
		return
	}
	var out []Suite
	for i, n := range f.list() {
		one := field{r: o.r, node: n, path: fmt.Sprintf("%s[%d]", f.path, i), line: n.line}
		if n.kind == kindBad {
			continue
		}
		var s Suite
		choose(one, &s, may...)
		for _, have := range out {
			if s == have {
				one.fault("%s is given twice; keep one", s)
				s = NoSuite
			}
		}
		if s != NoSuite {
			out = append(out, s)
		}
	}
	*dst = out
}

func (o *object) dscp(dst *DSCP) {
	f := o.get("dscp")
	s, ok := f.word()
	switch {
	case !ok || s == "copy":
	case s == "zero":
		*dst = 0
	default:
		n := -1
		if _, err := fmt.Sscanf(s, "%d", &n); err != nil || fmt.Sprint(n) != s || n < 0 || n > 63 {
			f.fault("%q is not copy, zero or a code point from 0 to 63", s)
			return
		}
		*dst = DSCP(n)
	}
}

// lifetime reads a lifetime, which may pass limit only with allow_long_lifetime.
func (o *object) lifetime(key string, dst *time.Duration, limit time.Duration) {
	f := o.get(key)
	long := false
	o.get("allow_long_lifetime").bool(&long)
	var d time.Duration
	if !f.duration(&d, time.Second, longestLifetime) {
		return
	}
	if d > limit && !long {
		f.fault("%s is above the limit of %s; lower it, or add allow_long_lifetime: true", short(d), short(limit))
		return
	}
	*dst = d
}

// selector reads the five keys of a selector.
func (o *object) selector() Selector {
	var s Selector
	before := len(o.r.errs)
	local := o.need("local", "write the address, prefix or range behind this site")
	local.net(&s.Local)
	o.need("remote", "write the address, prefix or range behind the peer").net(&s.Remote)
	o.get("protocol").protocol(&s.Protocol)
	o.get("local_port").port(&s.LocalPort)
	o.get("remote_port").port(&s.RemotePort)
	if len(o.r.errs) > before || !s.Local.First.IsValid() || !s.Remote.First.IsValid() {
		return s // what is missing or wrong has been said
	}
	if err := s.check(); err != nil {
		o.r.fault(local.line, o.path, "%v", err)
	}
	return s
}

func (f field) net(dst *Net) {
	s, ok := f.word()
	if !ok {
		return
	}
	n, err := ParseNet(s)
	if err != nil {
		f.fault("%v", err)
		return
	}
	*dst = n
}

func (f field) protocol(dst *uint8) {
	s, ok := f.word()
	if !ok {
		return
	}
	for p := 0; p < 256; p++ {
		if s == ProtocolName(uint8(p)) || s == fmt.Sprint(p) {
			*dst = uint8(p)
			return
		}
	}
	f.fault("%q is no protocol; write any, tcp, udp, icmp, icmpv6 or 0 to 255", s)
}

func (r *reader) rule(n *node, path string, p *Policy, seen names) Rule {
	o := r.object(n, path)
	var out Rule
	o.need("name", "give the rule a name").unique(&out.Name, seen)
	action := o.need("action", "write protect, bypass or drop")
	choose(action, &out.Action, Protect, Bypass, Drop)
	out.Selector = o.selector()
	priority := 0
	o.get("priority").int(&priority, 1, mostPriority)
	out.Priority = priority
	by := o.get("tunnel")
	by.text(&out.Tunnel)
	t, ok := p.Tunnel(out.Tunnel)
	switch {
	case !action.given():
	case out.Action == Protect && out.Tunnel == "" && by.here: // said already
	case out.Action == Protect && out.Tunnel == "":
		by.fault("is missing; a protect rule names one of tunnels")
	case out.Action == Protect && !ok:
		by.fault("tunnel %q is not defined; name one of tunnels", out.Tunnel)
	case out.Action == Protect && out.Selector.check() == nil && t.Selector.check() == nil && !out.Selector.Within(t.Selector):
		by.fault("the rule's selector (%s) is not inside the tunnel's (%s); narrow the rule or choose another tunnel", out.Selector, t.Selector)
	case out.Action != Protect && by.here:
		by.fault("only a protect rule names a tunnel; remove it")
	}
	o.done()
	return out
}
