package foreign

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"yumen/policy"
)

// flow is one rule of an access list that an IPsec policy protects, as our policy
// sees it: what is a source there is remote here.
type flow struct {
	selector policy.Selector
	line     *line
}

// flows reads the access list that a `security acl` line names.
func (d *dump) flows(by *line) []flow {
	v := d.accessList(by)
	if v == nil {
		by.leave("the access list that it names is not in the dump")
		return nil
	}
	v.open.take()
	by.take()
	var out []flow
	for _, l := range v.lines {
		if !l.has("rule") {
			l.leave("a matter of that box: it selects no traffic")
			continue
		}
		s, err := readRule(l.words[1:])
		if err != nil {
			l.leave(err.Error())
			continue
		}
		out = append(out, flow{s, l.take()})
	}
	return out
}

// accessList finds `acl number N`, `acl advanced N`, `acl N`, `acl name X`, `acl
// ipv6 ...` for `security acl [ipv6] N|name X`.
func (d *dump) accessList(by *line) *view {
	want, six := "", false
	for _, w := range by.words[2:] {
		switch {
		case oneOf(w, "ipv6"):
			six = true
		case oneOf(w, "name", "number"):
		case want == "":
			want = w
		}
	}
	for _, v := range d.all("acl") {
		isSix, hit := false, false
		for _, w := range v.open.words[1:] {
			isSix = isSix || oneOf(w, "ipv6")
			hit = hit || w == want
		}
		if hit && want != "" && isSix == six {
			return v
		}
	}
	return nil
}

// ruleReader reads the words of a rule.
type ruleReader struct {
	words []string
	six   bool
}

func (r *ruleReader) next() string {
	if len(r.words) == 0 {
		return ""
	}
	w := r.words[0]
	r.words = r.words[1:]
	return strings.ToLower(w)
}

// readRule reads what stands behind `rule`.
func readRule(words []string) (policy.Selector, error) {
	r := &ruleReader{words: words}
	w := r.next()
	if _, err := strconv.Atoi(w); err == nil {
		w = r.next()
	}
	switch w {
	case "permit":
	case "deny":
		return policy.Selector{}, fmt.Errorf("it takes traffic out of the tunnel; write a rule with action: bypass or drop that says the same")
	default:
		return policy.Selector{}, fmt.Errorf("it selects no traffic")
	}
	s := policy.Selector{}
	if err := r.protocol(&s, r.next()); err != nil {
		return s, err
	}
	for len(r.words) > 0 {
		if err := r.part(&s); err != nil {
			return s, err
		}
	}
	whole := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if r.six || s.Local.First.Is6() || s.Remote.First.Is6() {
		whole = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	for _, n := range []*policy.Net{&s.Local, &s.Remote} {
		if !n.First.IsValid() {
			*n = policy.NetOf(whole)
		}
	}
	return s, nil
}

func (r *ruleReader) protocol(s *policy.Selector, w string) error {
	switch w {
	case "ip":
	case "ipv6":
		r.six = true
	case "tcp":
		s.Protocol = 6
	case "udp":
		s.Protocol = 17
	case "icmp":
		s.Protocol = 1
	case "icmpv6":
		s.Protocol, r.six = 58, true
	case "gre":
		s.Protocol = 47
	case "ospf":
		s.Protocol = 89
	default:
		n, err := strconv.ParseUint(w, 10, 8)
		if err != nil {
			return fmt.Errorf("protocol %q is not known here", w)
		}
		s.Protocol = uint8(n)
	}
	return nil
}

// part reads one clause. What narrows the rule in a way that a selector cannot say
// is an error: a wider tunnel would be another one.
func (r *ruleReader) part(s *policy.Selector) error {
	switch w := r.next(); w {
	case "source":
		return r.net(&s.Remote)
	case "destination":
		return r.net(&s.Local)
	case "source-port":
		return r.port(&s.RemotePort)
	case "destination-port":
		return r.port(&s.LocalPort)
	case "counting", "logging", "description", "comment":
		if w == "description" || w == "comment" {
			r.words = nil
		}
		return nil
	case "vpn-instance":
		r.next()
		return nil
	default:
		return fmt.Errorf("%q has no counterpart in a selector; write local, remote, protocol and ports by hand", w)
	}
}

func (r *ruleReader) net(dst *policy.Net) error {
	w := r.next()
	if w == "any" {
		return nil
	}
	if p, err := netip.ParsePrefix(w); err == nil {
		*dst = policy.NetOf(p)
		return nil
	}
	a, err := netip.ParseAddr(w)
	if err != nil || a.Zone() != "" {
		return fmt.Errorf("%q is no address; groups of addresses must be written out", w)
	}
	host, err := hostBits(a, r.next())
	if err != nil {
		return err
	}
	*dst = policy.NetOf(netip.PrefixFrom(a, a.BitLen()-host))
	return nil
}

// hostBits reads a wildcard mask: ones where the address does not matter; or the
// length of a prefix for IPv6.
func hostBits(a netip.Addr, w string) (int, error) {
	if w == "0" && a.Is4() {
		return 0, nil
	}
	if a.Is6() {
		n, err := strconv.Atoi(w)
		if err != nil || n < 0 || n > 128 {
			return 0, fmt.Errorf("%q is no length of a prefix", w)
		}
		return 128 - n, nil
	}
	mask, err := netip.ParseAddr(w)
	if err != nil || !mask.Is4() {
		return 0, fmt.Errorf("%q is no wildcard mask", w)
	}
	b := mask.As4()
	v := binary.BigEndian.Uint32(b[:])
	if v&(v+1) != 0 {
		return 0, fmt.Errorf("wildcard %s has gaps; write each network", w)
	}
	return bits.Len32(v), nil
}

func (r *ruleReader) port(dst *uint16) error {
	how, w := r.next(), r.next()
	if how != "eq" {
		return fmt.Errorf("a selector takes one port or any, not %s %s", how, w)
	}
	if n := portNumber(w); n != 0 {
		*dst = n
		return nil
	}
	return fmt.Errorf("port %q is not known here; write its number", w)
}

func portNumber(w string) uint16 {
	switch w {
	case "ftp-data":
		return 20
	case "ftp":
		return 21
	case "telnet":
		return 23
	case "smtp":
		return 25
	case "domain", "dns":
		return 53
	case "www", "http":
		return 80
	case "pop3":
		return 110
	case "ntp":
		return 123
	case "snmp":
		return 161
	case "bgp":
		return 179
	case "https":
		return 443
	case "syslog":
		return 514
	}
	n, err := strconv.ParseUint(w, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}
