package policy_test

import (
	"cmp"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"yumen/policy"
)

// The reference: every rule is asked, the best that takes the flow wins. It
// shares no code with the lookup but Net.Contains.

type candidate struct {
	rule   policy.Rule
	tunnel int
}

func candidates(p *policy.Policy) []candidate {
	var out []candidate
	index := map[string]int{}
	for i, t := range p.Tunnels {
		index[t.Name] = i
		out = append(out, candidate{policy.Rule{Name: t.Name, Action: policy.Protect, Tunnel: t.Name, Selector: t.Selector}, i})
	}
	for _, r := range p.Rules {
		at := -1
		if r.Action == policy.Protect {
			at = index[r.Tunnel]
		}
		out = append(out, candidate{r, at})
	}
	return out
}

func width(n policy.Net) *big.Int {
	a, b := n.First.As16(), n.Last.As16()
	return new(big.Int).Sub(new(big.Int).SetBytes(b[:]), new(big.Int).SetBytes(a[:]))
}

func better(a, b policy.Selector) int {
	given := func(x uint16) int { return cmp.Compare(x, 0) }
	return cmp.Or(
		width(a.Remote).Cmp(width(b.Remote)),
		width(a.Local).Cmp(width(b.Local)),
		given(uint16(b.Protocol))-given(uint16(a.Protocol)),
		given(b.LocalPort)+given(b.RemotePort)-given(a.LocalPort)-given(a.RemotePort),
	)
}

var linkPrefixes = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10"),
}

func ofLink(first, last netip.Addr) bool {
	for _, p := range linkPrefixes {
		if p.Contains(first) && p.Contains(last) {
			return true
		}
	}
	return false
}

func isDHCP(f policy.Flow) bool {
	pair := fmt.Sprint(f.LocalPort, f.RemotePort)
	known := map[bool]string{true: ",67 68,68 67,", false: ",546 547,547 546,"}[f.Local.Is4()]
	return f.Protocol == 17 && f.HasPorts && strings.Contains(known, ","+pair+",")
}

func isSpecial(f policy.Flow) bool {
	return ofLink(f.Local, f.Local) || ofLink(f.Remote, f.Remote) || isDHCP(f) || f.Discovery
}

func takes(s policy.Selector, f policy.Flow) bool {
	port := func(want, have uint16) bool { return want == 0 || !f.HasPorts || want == have }
	if !s.Local.Contains(f.Local) || !s.Remote.Contains(f.Remote) || s.Protocol != 0 && s.Protocol != f.Protocol ||
		!port(s.LocalPort, f.LocalPort) || !port(s.RemotePort, f.RemotePort) {
		return false
	}
	if !isSpecial(f) {
		return true
	}
	ports := fmt.Sprintf(",%d,%d,", s.LocalPort, s.RemotePort)
	names := map[bool][]string{true: {",67,", ",68,"}, false: {",546,", ",547,"}}[s.Local.Is4()]
	dhcpNamed := s.Protocol == 17 && (strings.Contains(ports, names[0]) || strings.Contains(ports, names[1]))
	return ofLink(f.Remote, f.Remote) && ofLink(s.Remote.First, s.Remote.Last) ||
		ofLink(f.Local, f.Local) && ofLink(s.Local.First, s.Local.Last) || isDHCP(f) && dhcpNamed
}

func reference(all []candidate, f policy.Flow) (policy.Verdict, string) {
	best := -1
	for i, c := range all {
		if !takes(c.rule.Selector, f) {
			continue
		}
		if best < 0 || c.rule.Priority > all[best].rule.Priority ||
			c.rule.Priority == all[best].rule.Priority && better(c.rule.Selector, all[best].rule.Selector) < 0 {
			best = i
		}
	}
	if best < 0 {
		return policy.Verdict{Tunnel: -1}, ""
	}
	c := all[best]
	if !f.HasPorts && (c.rule.Selector.LocalPort != 0 || c.rule.Selector.RemotePort != 0) {
		return policy.Verdict{Tunnel: -1, Captured: true, NeedPorts: true}, c.rule.Name
	}
	return policy.Verdict{Action: c.rule.Action, Tunnel: c.tunnel, Captured: true}, c.rule.Name
}

// world draws small random policies and flows, so that they often meet.
type world struct{ *rand.Rand }

func (w world) addr(v4 bool) netip.Addr {
	low := byte(w.IntN(16))
	switch kind := w.IntN(10); {
	case v4 && kind == 0:
		return netip.AddrFrom4([4]byte{224, 0, 0, low})
	case v4 && kind == 1:
		return netip.AddrFrom4([4]byte{169, 254, 0, low})
	case v4 && kind == 2:
		return netip.AddrFrom4([4]byte{255, 255, 255, 255})
	case v4:
		return netip.AddrFrom4([4]byte{10, 0, byte(w.IntN(2)), low})
	case kind == 0:
		return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: low})
	case kind == 1:
		return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: low})
	}
	return netip.AddrFrom16([16]byte{0: 0x20, 8: byte(w.IntN(2)), 15: low})
}

func (w world) net(v4 bool) policy.Net {
	a := w.addr(v4)
	switch w.IntN(6) {
	case 0:
		return policy.NetOf(netip.PrefixFrom(a, 0))
	case 1, 2, 3:
		p, _ := a.Prefix(a.BitLen() - w.IntN(5))
		return policy.NetOf(p)
	case 4:
		return policy.Net{First: a, Last: a}
	}
	b := a
	for range w.IntN(4) {
		if next := b.Next(); next.IsValid() {
			b = next
		}
	}
	return policy.Net{First: a, Last: b}
}

func (w world) selector() policy.Selector {
	v4 := w.IntN(3) > 0
	s := policy.Selector{Local: w.net(v4), Remote: w.net(v4)}
	switch w.IntN(4) {
	case 0:
		s.Protocol = 47
	case 1, 2:
		s.Protocol = []uint8{6, 17}[w.IntN(2)]
		s.LocalPort, s.RemotePort = w.port(), w.port()
	}
	return s
}

// narrow draws a selector inside s.
func (w world) narrow(s policy.Selector) policy.Selector {
	for range 20 {
		if n := w.net(s.Local.Is4()); s.Remote.ContainsNet(n) {
			s.Remote = n
			break
		}
	}
	if s.Protocol == 0 && w.IntN(2) == 0 {
		s.Protocol = 17
	}
	if s.Protocol == 17 && s.RemotePort == 0 {
		s.RemotePort = w.port()
	}
	return s
}

func (w world) port() uint16 { return []uint16{0, 0, 22, 67, 68, 546, 547}[w.IntN(7)] }

func (w world) flow(v4 bool) policy.Flow {
	f := policy.Flow{Local: w.addr(v4), Remote: w.addr(v4), Protocol: []uint8{6, 17, 47, 58}[w.IntN(4)]}
	f.Discovery = f.Protocol == 58 && w.IntN(2) == 0
	if f.Protocol < 20 && w.IntN(4) > 0 {
		f.HasPorts, f.LocalPort, f.RemotePort = true, w.port(), w.port()
	}
	return f
}

// policy draws a policy that compiles: rules that conflict are left out.
func (w world) policy(t *testing.T) (*policy.Policy, *policy.SPD) {
	t.Helper()
	p := &policy.Policy{Site: "random"}
	spd, err := policy.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1 + w.IntN(12) {
		name := fmt.Sprintf("n%d", i)
		next := *p
		switch w.IntN(3) {
		case 0:
			next.Tunnels = append(p.Tunnels[:len(p.Tunnels):len(p.Tunnels)], policy.Tunnel{Name: name, Selector: w.selector()})
		default:
			r := policy.Rule{Name: name, Action: policy.Action(w.IntN(2)), Selector: w.selector(), Priority: max(0, w.IntN(6)-3)}
			if len(p.Tunnels) > 0 && w.IntN(3) == 0 {
				t := p.Tunnels[w.IntN(len(p.Tunnels))]
				r.Action, r.Tunnel, r.Selector = policy.Protect, t.Name, w.narrow(t.Selector)
			}
			next.Rules = append(p.Rules[:len(p.Rules):len(p.Rules)], r)
		}
		if s, err := policy.Compile(&next); err == nil {
			p, spd = &next, s
		}
	}
	return p, spd
}

func TestLookupAgreesWithAskingEveryRule(t *testing.T) {
	hits, ports, links := 0, 0, 0
	for seed := range uint64(3000) {
		w := world{rand.New(rand.NewPCG(seed, 7))}
		p, spd := w.policy(t)
		rules, all := spd.Rules(), candidates(p)
		for range 200 {
			f := w.flow(w.IntN(3) > 0)
			got := spd.Match(f)
			want, name := reference(all, f)
			gotName := ""
			if got.Rule >= 0 {
				gotName = rules[got.Rule].Name
			}
			got.Rule = 0
			if got != want || gotName != name {
				t.Fatalf("seed %d, flow %+v:\ngot  %+v by %q\nwant %+v by %q\nrules:\n%s", seed, f, got, gotName, want, name, show(rules))
			}
			if got.Captured {
				hits++
				if isSpecial(f) {
					links++
				}
			}
			if got.NeedPorts {
				ports++
			}
		}
	}
	if hits < 10000 || ports < 1000 || links < 1000 {
		t.Errorf("the worlds were too empty to prove anything: %d hits, %d without ports, %d of the link", hits, ports, links)
	}
}

func compile(t testing.TB, p *policy.Policy) *policy.SPD {
	t.Helper()
	s, err := policy.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func selector(t testing.TB, local, remote string) policy.Selector {
	return policy.Selector{Local: net(t, local), Remote: net(t, remote)}
}

func flow(local, remote string, protocol uint8, ports ...uint16) policy.Flow {
	f := policy.Flow{Local: netip.MustParseAddr(local), Remote: netip.MustParseAddr(remote), Protocol: protocol}
	if len(ports) == 2 {
		f.LocalPort, f.RemotePort, f.HasPorts = ports[0], ports[1], true
	}
	return f
}

func TestRemoteOutweighsLocalAndPriorityOutweighsAll(t *testing.T) {
	p := &policy.Policy{
		Tunnels: []policy.Tunnel{
			{Name: "wide", Selector: selector(t, "10.1.0.0/24", "10.0.0.0/8")},
			{Name: "near", Selector: selector(t, "10.0.0.0/8", "10.2.0.0/16")},
		},
		Rules: []policy.Rule{{Name: "first", Action: policy.Bypass, Selector: selector(t, "0.0.0.0/0", "10.2.3.0/24"), Priority: 1}},
	}
	p.Rules[0].Selector.Protocol = 6
	spd := compile(t, p)
	if v := spd.Match(flow("10.1.0.1", "10.2.0.1", 6, 1, 2)); v.Action != policy.Protect || v.Tunnel != 1 {
		t.Errorf("the shorter Remote won: %+v", v)
	}
	if v := spd.Match(flow("10.1.0.1", "10.3.0.1", 6, 1, 2)); v.Action != policy.Protect || v.Tunnel != 0 {
		t.Errorf("%+v", v)
	}
	if v := spd.Match(flow("10.1.0.1", "10.2.3.1", 6, 1, 2)); v.Action != policy.Bypass || v.Tunnel != -1 || spd.Rules()[v.Rule].Name != "first" {
		t.Errorf("priority did not win: %+v", v)
	}
	if got := fmt.Sprint(spd.Protected()); got != "[10.2.0.0/16 10.0.0.0/8]" {
		t.Errorf("protected: %s", got)
	}
}

func TestWhatNothingNamesIsDroppedAndNotCaptured(t *testing.T) {
	spd := compile(t, &policy.Policy{Tunnels: []policy.Tunnel{
		{Name: "a", Selector: selector(t, "0.0.0.0/0", "0.0.0.0/0")}, {Name: "b", Selector: selector(t, "::/0", "::/0")},
	}})
	discovery := flow("2001:db8::1", "2001:db8::2", 58)
	discovery.Discovery = true
	mixed := flow("10.0.0.1", "2001:db8::2", 6)
	for name, f := range map[string]policy.Flow{
		"no addresses": {}, "mixed families": mixed, "neighbour discovery": discovery,
		"multicast":       flow("10.0.0.1", "224.0.0.251", 17, 5353, 5353),
		"broadcast":       flow("10.0.0.1", "255.255.255.255", 17, 1, 1),
		"DHCP":            flow("10.0.0.5", "10.0.0.1", 17, 68, 67),
		"DHCPv6":          flow("2001:db8::1", "2001:db8::2", 17, 546, 547),
		"link-local":      flow("fe80::1", "2001:db8::2", 6, 1, 1),
		"link-local IPv4": flow("10.0.0.1", "169.254.169.254", 6, 1, 80),
		"IPv6 multicast":  flow("2001:db8::1", "ff05::2", 17, 1, 1),
	} {
		if v := spd.Match(f); v != (policy.Verdict{Tunnel: -1, Rule: -1}) {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if v := spd.Match(flow("10.0.0.1", "10.0.0.2", 17, 67, 67)); v.Action != policy.Protect {
		t.Errorf("a DHCP relay's traffic is ordinary, but: %+v", v)
	}
	var none *policy.SPD
	if v := none.Match(flow("10.0.0.1", "10.0.0.2", 6)); v.Action != policy.Drop || v.Captured {
		t.Errorf("no policy: %+v", v)
	}
	if v := (policy.Verdict{}); v.Action != policy.Drop {
		t.Error("the zero verdict does not drop")
	}
}

func TestMulticastIsCapturedWhenNamed(t *testing.T) {
	spd := compile(t, &policy.Policy{Tunnels: []policy.Tunnel{
		{Name: "all", Selector: selector(t, "10.1.0.0/16", "0.0.0.0/0")},
		{Name: "video", Selector: selector(t, "10.1.0.0/16", "239.1.0.0/16")},
	}})
	if v := spd.Match(flow("10.1.0.1", "239.1.2.3", 17, 5004, 5004)); v.Tunnel != 1 {
		t.Errorf("the named group: %+v", v)
	}
	if v := spd.Match(flow("10.1.0.1", "239.2.0.1", 17, 5004, 5004)); v.Captured {
		t.Errorf("another group: %+v", v)
	}
}

func TestAFragmentWithoutPortsAsksForThem(t *testing.T) {
	p := &policy.Policy{
		Tunnels: []policy.Tunnel{{Name: "all", Selector: selector(t, "10.1.0.0/16", "10.2.0.0/16")}},
		Rules:   []policy.Rule{{Name: "ssh", Action: policy.Bypass, Selector: selector(t, "10.1.0.0/16", "10.2.0.0/16")}},
	}
	p.Rules[0].Selector.Protocol, p.Rules[0].Selector.RemotePort = 6, 22
	spd := compile(t, p)
	v := spd.Match(flow("10.1.0.1", "10.2.0.1", 6))
	if !v.NeedPorts || v.Action != policy.Drop || !v.Captured {
		t.Errorf("a fragment that may be SSH: %+v", v)
	}
	if v := spd.Match(flow("10.1.0.1", "10.2.0.1", 17)); v.NeedPorts || v.Action != policy.Protect {
		t.Errorf("a fragment that cannot be: %+v", v)
	}
	if v := spd.Match(flow("10.1.0.1", "10.2.0.1", 6, 9, 23)); v.Action != policy.Protect {
		t.Errorf("another port: %+v", v)
	}
}

func TestCompileRefusesWhatItCannotUse(t *testing.T) {
	ok := selector(t, "10.1.0.0/16", "10.2.0.0/16")
	withPort := ok
	withPort.RemotePort = 22
	for name, c := range map[string]struct {
		p    policy.Policy
		want string
	}{
		"a tunnel without addresses": {policy.Policy{Tunnels: []policy.Tunnel{{Name: "a"}}}, "tunnels[0]: local: no address"},
		"mixed families":             {policy.Policy{Tunnels: []policy.Tunnel{{Name: "a", Selector: selector(t, "10.0.0.1", "::1")}}}, "different families"},
		"a port without protocol":    {policy.Policy{Tunnels: []policy.Tunnel{{Name: "a", Selector: withPort}}}, "needs a protocol"},
		"an unknown tunnel":          {policy.Policy{Rules: []policy.Rule{{Action: policy.Protect, Tunnel: "x", Selector: ok}}}, `rules[0]: tunnel "x" is not defined`},
		"a rule beside its tunnel":   {policy.Policy{Tunnels: []policy.Tunnel{{Name: "a", Selector: ok}}, Rules: []policy.Rule{{Action: policy.Protect, Tunnel: "a", Selector: ok.Reverse()}}}, "not inside the tunnel's"},
		"twins":                      {policy.Policy{Tunnels: []policy.Tunnel{{Name: "a", Selector: ok}, {Name: "b", Selector: ok}}}, "tunnels[1]: takes the same packets as tunnels[0], and"},
	} {
		if _, err := policy.Compile(&c.p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// many is a hub with n tunnels to distinct /24 networks.
func many(t testing.TB, n int) *policy.Policy {
	p := &policy.Policy{}
	local := net(t, "10.0.0.0/8")
	for i := range n {
		a := netip.AddrFrom4([4]byte{100, byte(64 + i>>8), byte(i), 0})
		p.Tunnels = append(p.Tunnels, policy.Tunnel{
			Name:     fmt.Sprint("t", i),
			Selector: policy.Selector{Local: local, Remote: policy.NetOf(netip.PrefixFrom(a, 24))},
		})
	}
	return p
}

func TestMatchAllocatesNothing(t *testing.T) {
	spd := compile(t, many(t, 1000))
	f := flow("10.0.0.1", "100.65.3.9", 6, 1, 2)
	if n := testing.AllocsPerRun(1000, func() { spd.Match(f) }); n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
	if v := spd.Match(f); v.Tunnel != 256+3 {
		t.Errorf("%+v", v)
	}
}

func BenchmarkMatchTenThousandTunnels(b *testing.B) {
	spd := compile(b, many(b, 10000))
	flows := make([]policy.Flow, 1024)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range flows {
		n := r.IntN(10000)
		a := netip.AddrFrom4([4]byte{100, byte(64 + n>>8), byte(n), 7})
		flows[i] = policy.Flow{Local: netip.AddrFrom4([4]byte{10, 1, 2, 3}), Remote: a, Protocol: 6, LocalPort: 1, RemotePort: 2, HasPorts: true}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if spd.Match(flows[i&1023]).Action != policy.Protect {
			b.Fatal("no match")
		}
		i++
	}
}

func BenchmarkMatchOneTunnel(b *testing.B) {
	spd := compile(b, many(b, 1))
	f := flow("10.1.2.3", "100.64.0.9", 6, 1, 2)
	b.ReportAllocs()
	for b.Loop() {
		spd.Match(f)
	}
}

func BenchmarkCompileTenThousandTunnels(b *testing.B) {
	p := many(b, 10000)
	for b.Loop() {
		compile(b, p)
	}
}
