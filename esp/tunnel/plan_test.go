package tunnel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"yumen/esp/ours"
	"yumen/policy"
)

func rulesFor(t *testing.T, lines ...string) []policy.Rule {
	t.Helper()
	var out []policy.Rule
	for _, l := range lines {
		f := strings.Fields(l)
		local, err := policy.ParseNet(f[1])
		if err != nil {
			t.Fatal(err)
		}
		remote, err := policy.ParseNet(f[2])
		if err != nil {
			t.Fatal(err)
		}
		r := policy.Rule{Selector: policy.Selector{Local: local, Remote: remote}}
		r.Action = map[string]policy.Action{"protect": policy.Protect, "bypass": policy.Bypass, "drop": policy.Drop}[f[0]]
		if len(f) > 3 {
			r.Selector.Protocol = 6
			fmt.Sscan(f[3], &r.Selector.RemotePort)
		}
		if len(f) > 4 {
			fmt.Sscan(f[4], &r.Priority)
		}
		out = append(out, r)
	}
	return out
}

func host(connected []string, own ...string) surroundings {
	var s surroundings
	for _, c := range connected {
		s.connected = append(s.connected, netip.MustParsePrefix(c))
	}
	for _, o := range own {
		s.own = append(s.own, netip.MustParseAddr(o))
	}
	return s
}

func TestRoutesLeadToTheTunAboveABlackhole(t *testing.T) {
	around := host([]string{"10.1.0.0/24", "192.0.2.0/24", "10.0.0.0/7"}, "10.1.0.1", "192.0.2.1")
	for _, c := range []struct{ name, rule, want string }{
		{"subnet", "protect 10.1.0.0/24 10.2.0.0/24", "tun 10.2.0.0/24 src 10.1.0.1; blackhole 10.2.0.0/24"},
		{"a wider connected subnet does not win", "protect 192.0.2.0/24 10.8.0.0/16",
			"tun 10.8.0.0/16 src 192.0.2.1; blackhole 10.8.0.0/16"},
		{"no address of ours inside", "protect 172.16.0.0/16 10.2.0.0/24", "tun 10.2.0.0/24; blackhole 10.2.0.0/24"},
		{"everything", "protect 10.1.0.0/24 0.0.0.0/0",
			"tun 0.0.0.0/0 src 10.1.0.1; blackhole 0.0.0.0/0; throw 10.0.0.0/7; throw 10.1.0.0/24; throw 127.0.0.0/8; " +
				"throw 169.254.0.0/16; throw 192.0.2.0/24; throw 224.0.0.0/4; throw 255.255.255.255/32"},
		{"a named group", "protect 10.1.0.0/24 239.1.0.0/16", "tun 239.1.0.0/16 src 10.1.0.1; blackhole 239.1.0.0/16"},
		{"bypass alone needs no route", "bypass 10.1.0.0/24 10.2.0.0/24", ""},
	} {
		var got []string
		for _, r := range planRoutes(zonesOf(rulesFor(t, c.rule)), around, func(zone) int { return 0 }) {
			s := map[routeKind]string{throwRoute: "throw ", tunRoute: "tun ", blackholeRoute: "blackhole "}[r.kind] + r.dst.String()
			if r.src.IsValid() {
				s += " src " + r.src.String()
			}
			got = append(got, s)
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, s, c.want)
		}
	}
}

func TestOurOwnPacketsNeverLookUpOurTable(t *testing.T) {
	zones := zonesOf(rulesFor(t, "protect 10.1.0.0/24 0.0.0.0/0", "protect fd01::/64 ::/0"))
	around := host(nil, "10.1.0.1", "192.0.2.1", "fd01::1", "2001:db8::1")
	rules, err := planRules(zones, nil, around, Config{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	for _, v6 := range []bool{false, true} {
		list := slices.DeleteFunc(slices.Clone(rules), func(r rule) bool { return r.v6 != v6 })
		if list[0].kind != skipRule || list[0].mark == 0 {
			t.Errorf("v6 %t: the first rule is %+v, not that for marked packets", v6, list[0])
		}
		if last := list[len(list)-1]; last.kind != endRule || last.priority != 4950+ruleSpan-1 {
			t.Errorf("v6 %t: the last rule is %+v", v6, last)
		}
		outside := netip.MustParsePrefix("192.0.2.1/32")
		if v6 {
			outside = netip.MustParsePrefix("2001:db8::1/128")
		}
		if !slices.ContainsFunc(list, func(r rule) bool { return r.kind == skipRule && r.from == outside }) {
			t.Errorf("v6 %t: packets from our outside address are led into the tunnel", v6)
		}
	}
}

// decide is how the kernel uses the plan: best priority first.
func decide(plan []guardEntry, dir guardDir, src, dst string, port uint16, tun bool) string {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	for _, e := range plan {
		if e.dir != dir || !e.src.Contains(s) || !e.dst.Contains(d) || e.kind == tunAllow && !tun {
			continue
		}
		if e.protocol != 0 && e.protocol != 6 || e.dstPort != 0 && e.dstPort != port || e.srcPort != 0 {
			continue
		}
		if e.kind.allows() {
			return "allow"
		}
		return "block"
	}
	return "none"
}

func TestGuardDecidesAsThePolicyDoes(t *testing.T) {
	around := host([]string{"10.1.0.0/24", "192.0.2.0/24", "fd01::/64"}, "10.1.0.1", "fd01::1")
	for _, c := range []struct {
		rules    string
		dir      guardDir
		src, dst string
		port     uint16
		tun      bool
		want     string
	}{
		{"protect 10.1.0.0/24 10.2.0.0/24", guardOut, "10.1.0.2", "10.2.0.2", 80, false, "block"},
		{"protect 10.1.0.0/24 10.2.0.0/24", guardOut, "10.1.0.2", "10.2.0.2", 80, true, "allow"},
		{"protect 10.1.0.0/24 10.2.0.0/24", guardIn, "10.2.0.2", "10.1.0.1", 80, false, "block"},
		{"protect 10.1.0.0/24 10.2.0.0/24", guardFwd, "10.2.0.2", "10.1.0.2", 80, false, "block"},
		{"protect 10.1.0.0/24 10.2.0.0/24", guardFwd, "10.1.0.2", "10.2.0.2", 80, false, "none"},
		{"protect 10.1.0.0/24 10.2.0.0/24 443", guardOut, "10.1.0.2", "10.2.0.2", 80, false, "block"},
		{"protect 10.1.0.0/24 10.2.0.0/24;bypass 10.1.0.0/24 10.2.0.0/24 80", guardOut, "10.1.0.2", "10.2.0.2", 80, false, "allow"},
		{"protect 10.1.0.0/24 10.2.0.0/24;bypass 10.1.0.0/24 10.2.0.0/24 80", guardOut, "10.1.0.2", "10.2.0.2", 81, false, "block"},
		{"protect 10.1.0.0/24 10.2.0.0/24;bypass 10.1.0.0/24 10.0.0.0/8 80", guardOut, "10.1.0.2", "10.2.0.2", 80, false, "block"},
		{"protect 10.1.0.0/24 10.2.0.0/24;bypass 10.1.0.0/24 10.0.0.0/8 80 5", guardOut, "10.1.0.2", "10.2.0.2", 80, false, "allow"},
		{"protect 10.1.0.0/24 0.0.0.0/0", guardOut, "10.1.0.2", "8.8.8.8", 80, false, "block"},
		{"protect 10.1.0.0/24 0.0.0.0/0", guardOut, "10.1.0.1", "10.1.0.2", 80, false, "allow"},
		{"protect 10.1.0.0/24 0.0.0.0/0", guardIn, "10.1.0.2", "10.1.0.1", 80, false, "allow"},
		{"protect 10.1.0.0/24 0.0.0.0/0", guardOut, "10.1.0.1", "224.0.0.5", 80, false, "allow"},
		{"protect 10.1.0.0/24 0.0.0.0/0;protect 10.1.0.0/24 192.0.2.128/25", guardOut, "10.1.0.2", "192.0.2.200", 80, false, "block"},
		{"protect 10.1.0.0/24 0.0.0.0/0;protect 10.1.0.0/24 192.0.2.128/25", guardOut, "10.1.0.2", "192.0.2.5", 80, false, "allow"},
		{"protect fd01::/64 ::/0", guardOut, "fd01::2", "2001:db8::5", 80, false, "block"},
		{"protect fd01::/64 ::/0", guardOut, "fd01::1", "fe80::5", 80, false, "allow"},
		{"protect fd01::/64 ::/0;drop fd01::/64 2001:db8::/32 80", guardOut, "fd01::2", "2001:db8::5", 80, true, "block"},
	} {
		// Compile orders by explicit priority; nothing here depends on more.
		plan := planGuard(zonesOf(rulesFor(t, strings.Split(c.rules, ";")...)), around)
		if got := decide(plan, c.dir, c.src, c.dst, c.port, c.tun); got != c.want {
			t.Errorf("%s: dir %d %s to %s port %d tun %t: %s, want %s", c.rules, c.dir, c.src, c.dst, c.port, c.tun, got, c.want)
		}
	}
}

func TestGuardNeverListsASelectorTwiceAndStaysInItsBand(t *testing.T) {
	rules := rulesFor(t, "bypass 10.1.0.0/24 10.2.0.0/24", "protect 10.1.0.0/24 10.2.0.0/24", "protect 10.1.0.0/24 0.0.0.0/0",
		"drop 0.0.0.0/0 0.0.0.0/0 80 9", "protect 0.0.0.0/0 10.1.0.0/24", "protect fd01::/64 ::/0")
	plan := planGuard(zonesOf(rules), host([]string{"10.1.0.0/24", "fd01::/64"}, "10.1.0.1", "fd01::1"))
	seen := map[guardEntry]bool{}
	for i, e := range plan {
		if !ours.InGuardBand(e.priority) {
			t.Errorf("priority %#x is outside our band", e.priority)
		}
		if s := selectorOf(e); seen[s] {
			t.Errorf("twice: %+v", e)
		} else {
			seen[s] = true
		}
		if i > 0 && plan[i-1].priority > e.priority {
			t.Error("not in order")
		}
	}
	for _, e := range guardXFRM(plan) {
		if e.dir != guardOut && e.src.Addr().Is6() {
			t.Errorf("xfrm would stop the tunnel's own packets: %+v", e)
		}
	}
	for _, e := range guardGap(plan) {
		if e.kind == ownAllow || e.src.Addr().Is4() {
			t.Errorf("not for nftables: %+v", e)
		}
	}
}

func TestErrorsAboutPacketsOfATunnelLookUpOurTableWhoeverTheyAreFrom(t *testing.T) {
	cfg := Config{}.withDefaults()
	zones := zonesOf(rulesFor(t, "protect 10.1.0.0/24 10.2.0.0/24", "protect fd01::/64 fd02::/64", "bypass 10.1.0.0/24 10.2.0.9/32 80"))
	rules, err := planRules(zones, nil, host(nil, "192.0.2.1"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, v6 := range []bool{false, true} {
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.v6 == v6 && r.kind == lookupRule && r.mark == carriedMark(cfg.Mark) }) {
			t.Errorf("v6 %t: no rule for them in %+v", v6, rules)
		}
	}
	plan := planGuard(zones, host(nil))
	text := nftGuard{tun: "yumen0", mark: cfg.Mark}.script(guardGap(plan), plan)
	quoted, carried := strings.Index(text, "chain quoted"), strings.Index(text, "chain carried")
	for _, part := range []string{text[quoted:carried], text[carried:]} {
		exempt, block := strings.Index(part, " 80 return"), strings.Index(part, "& 0xffffff00 == 0x0a020000")
		if exempt < 0 || block < exempt {
			t.Errorf("what the policy exempts is not exempt in\n%s", part)
		}
	}
}

func TestIPv6IsNotTakenWithoutNft(t *testing.T) {
	v4, v6 := rulesFor(t, "protect 10.1.0.0/24 10.2.0.0/24"), rulesFor(t, "protect 10.1.0.0/24 10.2.0.0/24", "protect fd01::/64 fd02::/64")
	t.Setenv("PATH", t.TempDir())
	if err := Guardable(v4); err != nil {
		t.Errorf("IPv4: %v", err)
	}
	if err := Guardable(v6); err == nil || !strings.Contains(err.Error(), "install nftables") {
		t.Errorf("IPv6: %v", err)
	}
	p := &Plane{cfg: Config{Beside: true}.withDefaults()}
	if err := guardable(p.shared(zonesOf(v6))); err != nil {
		t.Errorf("tunnels that the kernel carries: %v", err)
	}
	// Refused before anything of the host is touched.
	d := newDry(t)
	pol := &policy.Policy{Peers: []policy.Peer{{Name: "peer"}}, Tunnels: []policy.Tunnel{{Name: "t", Peer: "peer", Selector: v6[1].Selector}}}
	if err := d.SetPolicy(pol); err == nil || !strings.Contains(err.Error(), "install nftables") || d.policy != nil {
		t.Errorf("set policy: %v", err)
	}
}
