package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"yumen/policy"
)

// checkSNAT finds address translation of what belongs into a tunnel: it would no
// longer match its selector, the oldest fault of all gateways that also masquerade.
func checkSNAT(f *Facts) []Finding {
	if f.Firewall == nil {
		return nil
	}
	var out []Finding
	for _, t := range f.tunnels() {
		out = append(out, f.snat(t)...)
	}
	if len(out) == 0 && len(f.tunnels()) > 0 {
		return one("snat", OK, "no address translation hits protected traffic", "")
	}
	return out
}

// snat asks about one tunnel, and each chain in turn, as though the chains before
// it had been exempted: each needs its own rule.
func (f *Facts) snat(t policy.Tunnel) []Finding {
	var out []Finding
	seen := map[*Chain]bool{}
	for _, way := range f.ways(t) {
		packet := flow{src: t.Selector.Local, dst: t.Selector.Remote, protocol: t.Selector.Protocol, out: way.device}
		for _, c := range f.Firewall.base("nat", "postrouting", packet) {
			o := f.Firewall.ask(c, packet)
			if seen[c] || o.verdict != Translate && !(o.doubt && mayTranslate(f.Firewall, c, packet)) {
				continue
			}
			seen[c] = true
			one := Finding{"snat", Fail, fmt.Sprintf("tunnel %s: %s translates the addresses of protected traffic (%s)",
				t.Name, c.label(), t.Selector), c.exempt(t.Selector)}
			switch {
			case o.verdict != Translate || o.doubt:
				one.Level, one.Text = Warn, one.Text+", perhaps: the rule depends on what cannot be told here"
			case way.perhaps:
				one.Level, one.Text = Warn, one.Text+" once the kernel plane carries it"
			}
			out = append(out, one)
		}
	}
	return out
}

// way is an interface by which packets of a tunnel leave and come back, as the firewall
// sees them.
type way struct {
	device  string
	perhaps bool // by the plane that dataplane: auto may choose
	kernel  bool
}

// ways are those of a tunnel: the TUN of the userspace plane; in the kernel plane, which
// has no interface of its own, that towards the peer, or the XFRM interface.
func (f *Facts) ways(t policy.Tunnel) (list []way) {
	if f.Settings.Dataplane != dataplaneKernel && f.Settings.Tun != "" {
		list = append(list, way{device: f.Settings.Tun})
	}
	device := f.outer(t.Peer)
	if f.Settings.XFRMInterface != "" {
		device = f.Settings.XFRMInterface
	}
	only := f.Settings.Dataplane == dataplaneKernel
	if device != "" && (only || kernelPossible(f)) {
		list = append(list, way{device: device, perhaps: !only, kernel: true})
	}
	return list
}

func mayTranslate(r *Ruleset, c *Chain, packet flow) bool {
	w := walk{rules: r, flow: packet, base: c}
	w.chain(c, 0)
	return w.possible[Translate]
}

func (c *Chain) label() string {
	kind := "nft"
	if c.IPTables {
		kind = map[string]string{"ip": "iptables", "ip6": "ip6tables"}[c.Family]
		return kind + " -t " + c.Table + " " + c.Name
	}
	return fmt.Sprintf("%s %s %s %s", kind, c.Family, c.Table, c.Name)
}

// exempt is the rule that lets a selector pass a chain untouched.
func (c *Chain) exempt(s policy.Selector) string {
	if !c.IPTables {
		return c.insert(addresses(s.Local, s.Remote) + "accept")
	}
	var all []string
	for _, l := range s.Local.Prefixes() {
		for _, r := range s.Remote.Prefixes() {
			all = append(all, fmt.Sprintf("%s -t %s -I %s 1 -s %s -d %s -j ACCEPT",
				map[string]string{"ip": "iptables", "ip6": "ip6tables"}[c.Family], c.Table, c.Name, l, r))
		}
	}
	return strings.Join(all, "; ")
}

// insert puts a rule first in a chain. The braces of sets need the quotes.
func (c *Chain) insert(rule string) string {
	if strings.ContainsAny(rule, "{}") {
		return fmt.Sprintf("nft 'insert rule %s %s %s %s'", c.Family, c.Table, c.Name, rule)
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s", c.Family, c.Table, c.Name, rule)
}

// addresses writes a pair of nets as nft conditions, and a blank; a whole family
// needs none for that side.
func addresses(src, dst policy.Net) string {
	family, out := "ip", ""
	if !src.Is4() {
		family = "ip6"
	}
	for _, side := range []struct {
		word string
		net  policy.Net
	}{{"saddr", src}, {"daddr", dst}} {
		if p, ok := side.net.Prefix(); ok && p.Bits() == 0 {
			continue
		}
		out += family + " " + side.word + " " + side.net.String() + " "
	}
	return out
}

// opening is one kind of packets that must pass.
type opening struct {
	name, rule string // for people, and as nft condition after the addresses
	iptables   string
	flow       flow
	fragment   bool
}

// checkOpenings asks whether IKE and ESP may come and go.
func checkOpenings(f *Facts) []Finding {
	if f.Firewall == nil {
		return nil
	}
	var out []Finding
	for _, p := range f.openingPeers() {
		for _, o := range f.openings(p) {
			for _, hook := range []string{"prerouting", "input", "output", "postrouting"} {
				out = append(out, f.opening(p, o, hook)...)
			}
		}
	}
	if len(out) == 0 {
		return one("openings", OK, fmt.Sprintf("UDP %d and %d and protocol 50 pass both ways, fragments too", f.Settings.IKEPort, f.Settings.NATPort), "")
	}
	return out
}

// anyone stands for peers whose address is not known.
type endpoint struct {
	name string
	net  policy.Net
	out  string
}

func (f *Facts) openingPeers() []endpoint {
	var out []endpoint
	unknown := f.Policy == nil
	if f.Policy != nil {
		for _, p := range f.Policy.Peers {
			unknown = unknown || p.Remote.Any
		}
	}
	for _, p := range f.Paths {
		if p.Addr.IsValid() {
			out = append(out, endpoint{"peer " + p.Peer, policy.Net{First: p.Addr, Last: p.Addr}, p.Interface})
		}
	}
	if unknown {
		all, _ := netOf("0.0.0.0/0")
		out = append(out, endpoint{name: "peers of any address", net: all})
		if f.reachable6() {
			all, _ = netOf("::/0")
			out = append(out, endpoint{name: "peers of any IPv6 address", net: all})
		}
	}
	return out
}

// reachable6 reports whether this machine has an IPv6 address that a peer could call.
func (f *Facts) reachable6() bool {
	return slices.ContainsFunc(f.Links, func(l Link) bool {
		return slices.ContainsFunc(l.Nets, func(n netip.Prefix) bool { return n.Addr().Is6() && n.Addr().IsGlobalUnicast() })
	})
}

func (f *Facts) openings(p endpoint) []opening {
	here := "0.0.0.0/0"
	if !p.net.Is4() {
		here = "::/0"
	}
	all, _ := netOf(here)
	var out []opening
	for _, port := range []uint16{f.Settings.IKEPort, f.Settings.NATPort} {
		n := fmt.Sprint(port)
		out = append(out, opening{"UDP " + n, "udp dport " + n, "-p udp --dport " + n,
			flow{src: p.net, dst: all, protocol: 17, sport: port, dport: port}, false})
	}
	out = append(out,
		opening{"ESP (protocol 50)", "meta l4proto esp", "-p esp", flow{src: p.net, dst: all, protocol: 50}, false})
	// A fragment has no ports, and first messages with two certificates are cut.
	rule, iptables := "ip frag-off & 0x1fff != 0", "-f"
	if !p.net.Is4() {
		rule, iptables = "exthdr frag exists", "-m ipv6header --header frag --soft"
	}
	return append(out, opening{"fragments of UDP", rule, iptables, flow{src: p.net, dst: all, protocol: 17, fragment: true}, true})
}

// opening asks one hook. The certain answer counts; where a rule depends on what
// cannot be told it is a note.
func (f *Facts) opening(p endpoint, o opening, hook string) []Finding {
	packet := o.flow
	inbound := hook == "prerouting" || hook == "input"
	if inbound {
		packet.in = p.out
	} else {
		packet.src, packet.dst, packet.out = packet.dst, packet.src, p.out
		if o.fragment {
			return nil // output and postrouting see packets before they are cut
		}
	}
	if o.fragment && f.Firewall.Track {
		return nil // put together before the first chain but those below -400
	}
	v := f.Firewall.hook("filter", hook, packet)
	if v.verdict != Refuse {
		return nil
	}
	way := map[bool]string{true: "from", false: "to"}[inbound]
	one := Finding{"openings", Fail, fmt.Sprintf("%s %s %s is dropped by %s", o.name, way, p.name, v.chain.label()), ""}
	if v.doubt {
		one.Level, one.Text = Note, fmt.Sprintf("%s %s %s: %s may drop it, depending on what cannot be told here", o.name, way, p.name, v.chain.label())
	}
	one.Fix = v.chain.insert(addresses(packet.src, packet.dst) + o.rule + " accept")
	if v.chain.IPTables {
		one.Fix = fmt.Sprintf("%s -t %s -I %s 1%s %s -j ACCEPT", map[string]string{"ip": "iptables", "ip6": "ip6tables"}[v.chain.Family],
			v.chain.Table, v.chain.Name, sides(packet), o.iptables)
	}
	return []Finding{one}
}

// sides writes the addresses of a packet for iptables.
func sides(p flow) string {
	out := ""
	if x, ok := p.src.Prefix(); ok && x.Bits() > 0 {
		out += " -s " + x.String()
	}
	if x, ok := p.dst.Prefix(); ok && x.Bits() > 0 {
		out += " -d " + x.String()
	}
	return out
}

// checkForwarded asks whether what goes through a tunnel may be forwarded: Docker
// and others set the policy of the forward chain to drop.
func checkForwarded(f *Facts) []Finding {
	if f.Firewall == nil {
		return nil
	}
	var out []Finding
	for _, t := range f.tunnels() {
		for _, w := range f.ways(t) {
			out = append(out, f.forwarded(t, w)...)
		}
	}
	return out
}

// forwarded asks both directions of one way through a tunnel.
func (f *Facts) forwarded(t policy.Tunnel, w way) (out []Finding) {
	s := t.Selector
	for i, packet := range []flow{
		{src: s.Local, dst: s.Remote, protocol: s.Protocol, out: w.device},
		{src: s.Remote, dst: s.Local, protocol: s.Protocol, in: w.device},
	} {
		v := f.Firewall.hook("filter", "forward", packet)
		if v.verdict != Refuse {
			continue
		}
		side := []string{"into", "out of"}[i] + " it"
		if w.kernel {
			side += " by " + w.device
		}
		one := Finding{"forward", Fail, fmt.Sprintf("tunnel %s: what goes %s is dropped by %s", t.Name, side, v.chain.label()), ""}
		switch {
		case v.doubt:
			one.Level, one.Text = Note, fmt.Sprintf("tunnel %s: %s may drop what goes %s, depending on what cannot be told here",
				t.Name, v.chain.label(), side)
		case w.perhaps:
			one.Level, one.Text = Warn, one.Text+" once the kernel plane carries it"
		}
		target := v.chain
		if user := f.Firewall.find(v.chain, "DOCKER-USER"); user != nil {
			target = user // the chain that Docker leaves to its user
		}
		one.Fix = target.exempt(policy.Selector{Local: packet.src, Remote: packet.dst})
		out = append(out, one)
	}
	return out
}

// checkContainers says that chains of a container network are there, which are
// written anew whenever it starts.
func checkContainers(f *Facts) []Finding {
	if f.Firewall == nil {
		return nil
	}
	seen := map[string]bool{}
	var names []string
	for _, c := range f.Firewall.Chains {
		for _, p := range []string{"DOCKER", "CNI-", "KUBE-", "cali-", "FLANNEL", "CILIUM", "NETAVARK", "PODMAN"} {
			if strings.HasPrefix(c.Name, p) && !seen[p] {
				seen[p] = true
				names = append(names, c.Name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return one("containers", Note, "a container network keeps rules of its own here ("+strings.Join(names, ", ")+") and writes them anew when it starts",
		"run yumen doctor after each start of it; keep exemptions in DOCKER-USER or in an nft table of your own")
}
