package doctor

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"yumen/policy"
)

// nftDoc puts chains and rules into what nft writes.
func nftDoc(members ...string) string {
	return `{"nftables": [{"metainfo": {"json_schema_version": 1}}, ` + strings.Join(members, ", ") + `]}`
}

func chainJSON(family, table, name, kind, hook, policy string, priority int) string {
	return fmt.Sprintf(`{"chain": {"family": %q, "table": %q, "name": %q, "handle": 1, "type": %q, "hook": %q, "prio": %d, "policy": %q}}`,
		family, table, name, kind, hook, priority, policy)
}

func ruleJSON(family, table, chain, expr string) string {
	return fmt.Sprintf(`{"rule": {"family": %q, "table": %q, "chain": %q, "handle": 2, "expr": [%s]}}`, family, table, chain, expr)
}

const (
	fromLocal  = `{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.1.0.0", "len": 16}}}}`
	someLocal  = `{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.1.7.0", "len": 24}}}}`
	toRemote   = `{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": {"set": [{"prefix": {"addr": "10.2.0.0", "len": 16}}, "192.168.9.9"]}}}`
	notRemote  = `{"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}}`
	byEth0     = `{"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "eth0"}}`
	notLAN     = `{"match": {"op": "!=", "left": {"meta": {"key": "oifname"}}, "right": {"set": ["lan*"]}}}`
	fromLAN    = `{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lan0"}}`
	masquerade = `{"counter": {"packets": 0, "bytes": 0}}, {"masquerade": null}`
	accept     = `{"accept": null}`
)

func parsed(t *testing.T, members ...string) *Ruleset {
	t.Helper()
	r, err := ParseNFT([]byte(nftDoc(members...)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// only returns the findings of one check that are no praise.
func only(f *Facts, check string) (out []Finding) {
	for _, one := range Examine(f).Findings {
		if one.Check == check && one.Level != OK {
			out = append(out, one)
		}
	}
	return out
}

func TestMasqueradeOfProtectedTrafficIsFound(t *testing.T) {
	nat := chainJSON("ip", "nat", "post", "nat", "postrouting", "accept", 100)
	rule := func(expr ...string) string { return ruleJSON("ip", "nat", "post", strings.Join(expr, ", ")) }
	tests := []struct {
		name  string
		rules []string
		want  string // levels
	}{
		{"all that comes from the site", []string{rule(fromLocal, masquerade)}, "fail"},
		{"a part of it", []string{rule(someLocal, masquerade)}, "fail"},
		{"what does not stay inside", []string{rule(notLAN, masquerade)}, "fail"},
		{"everything", []string{rule(masquerade)}, "fail"},
		{"what leaves by the outer interface", []string{rule(byEth0, masquerade)}, "warn"}, // the kernel plane's way
		{"what comes from an interface of the site", []string{rule(fromLAN, masquerade)}, "warn"},
		{"exempted before", []string{rule(fromLocal, toRemote, accept), rule(masquerade)}, ""},
		{"exempted by its end", []string{rule(toRemote, `{"return": null}`), rule(masquerade)}, ""},
		{"exempted too late", []string{rule(masquerade), rule(fromLocal, toRemote, accept)}, "fail"},
		{"exempted in part", []string{rule(someLocal, toRemote, accept), rule(masquerade)}, "fail"},
		{"only to others", []string{rule(fromLocal, notRemote, masquerade)}, ""},
		{"a limit", []string{rule(`{"limit": {"rate": 10}}`, masquerade)}, "warn"},
		{"an unnamed target", []string{rule(`{"xt": null}`)}, "warn"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := healthy(t)
			f.Firewall = parsed(t, append([]string{nat}, test.rules...)...)
			var levels []string
			for _, one := range only(f, "snat") {
				levels = append(levels, one.Level.String())
				if want := "nft insert rule ip nat post ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16 accept"; one.Fix != want {
					t.Errorf("fix %q, want %q", one.Fix, want)
				}
			}
			if got := strings.Join(levels, " "); got != test.want {
				t.Errorf("found %q, want %q: %+v", got, test.want, only(f, "snat"))
			}
		})
	}
}

func TestOuterMasqueradeIsNoFaultWhereTheKernelPlaneIsImpossible(t *testing.T) {
	f := healthy(t)
	f.Kernel.Major = 4
	f.Firewall = parsed(t, chainJSON("inet", "nat", "post", "nat", "postrouting", "accept", 100),
		ruleJSON("inet", "nat", "post", byEth0+", "+masquerade))
	if found := only(f, "snat"); found != nil {
		t.Errorf("found %+v", found)
	}
}

func TestOpeningsAreAskedForBothWays(t *testing.T) {
	in := chainJSON("inet", "fw", "in", "filter", "input", "drop", 0)
	out := chainJSON("inet", "fw", "out", "filter", "output", "drop", 0)
	set := `{"set": {"family": "inet", "name": "peers", "table": "fw", "type": "ipv4_addr", "elem": ["192.0.2.2", {"prefix": {"addr": "198.51.100.0", "len": 24}}]}}`
	rule := func(chain, expr string) string { return ruleJSON("inet", "fw", chain, expr) }
	port := func(right string) string {
		return `{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": ` + right + `}}`
	}
	const (
		known = `{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@peers"}}`
		esp   = `{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "esp"}}`
		frag  = `{"match": {"op": "!=", "left": {"&": [{"payload": {"protocol": "ip", "field": "frag-off"}}, 8191]}, "right": 0}}`
		ours  = `{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", {"accept": null}], ["invalid", {"drop": null}]]}}}`
		loose = `{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": ["udp", "esp"]}}}`
	)
	tests := []struct {
		name    string
		members []string
		want    []string // beginnings of the lines
		none    bool
	}{
		{"all closed inwards", []string{in}, []string{"UDP 500 from", "UDP 4500 from", "ESP (protocol 50) from", "fragments of UDP from"}, false},
		{"all closed outwards", []string{out}, []string{"UDP 500 to", "UDP 4500 to", "ESP (protocol 50) to"}, false},
		{"all open", []string{in, set, rule("in", known+", "+port(`{"set": [500, 4500]}`)+", "+accept), rule("in", esp+", "+accept), rule("in", frag+", "+accept)}, nil, true},
		{"tracking puts fragments together", []string{in, rule("in", ours), rule("in", port(`{"range": [500, 4500]}`)+", "+accept), rule("in", esp+", "+accept)}, nil, true},
		{"without tracking they are lost", []string{in, rule("in", port(`{"range": [500, 4500]}`)+", "+accept), rule("in", esp+", "+accept)}, []string{"fragments of UDP from"}, false},
		{"by protocol", []string{in, rule("in", loose+", "+accept)}, nil, true},
		{"NAT traversal forgotten", []string{in, rule("in", ours), rule("in", port("500")+", "+accept), rule("in", esp+", "+accept)}, []string{"UDP 4500 from"}, false},
		{"a jump that accepts", []string{in, `{"chain": {"family": "inet", "table": "fw", "name": "sub", "handle": 9}}`, rule("sub", loose+", "+accept),
			rule("in", `{"jump": {"target": "sub"}}`)}, nil, true},
		{"a second chain that drops", []string{in, rule("in", accept), chainJSON("ip", "late", "in2", "filter", "input", "accept", 10),
			ruleJSON("ip", "late", "in2", esp+`, {"drop": null}`)}, []string{"ESP (protocol 50) from peer b is dropped by nft ip late in2"}, false},
		{"our own guard", []string{chainJSON("inet", "yumen_guard_yumen0", "input", "filter", "input", "drop", 300)}, nil, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := healthy(t)
			f.Firewall = parsed(t, test.members...)
			found := only(f, "openings")
			if test.none != (found == nil) {
				t.Errorf("found %+v", found)
			}
			for _, want := range test.want {
				hit := false
				for _, one := range found {
					hit = hit || one.Level == Fail && strings.HasPrefix(one.Text, want) && strings.HasPrefix(one.Fix, "nft insert rule ")
				}
				if !hit {
					t.Errorf("no %q in %+v", want, found)
				}
			}
			if len(found) != len(test.want) {
				t.Errorf("%d findings, want %d: %+v", len(found), len(test.want), found)
			}
		})
	}
}

func TestUncertainRulesAreANote(t *testing.T) {
	f := healthy(t)
	f.Firewall = parsed(t, chainJSON("inet", "fw", "in", "filter", "input", "drop", 0), ruleJSON("inet", "fw", "in", `{"xt": null}`))
	found := only(f, "openings")
	if len(found) == 0 {
		t.Fatal("nothing is said")
	}
	for _, one := range found {
		if one.Level != Note || !strings.Contains(one.Text, "cannot be told") {
			t.Errorf("%+v", one)
		}
	}
}

const docker = `# Generated by iptables-save v1.8.9 (nf_tables)
*nat
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 10.0.0.0/8 ! -d 192.168.0.0/16 -m comment --comment "to the world -j ACCEPT" -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p udp -m multiport --dports 500,4500 -j LOG --log-prefix "ike "
-A INPUT -p udp -m multiport --dports 500,4500 -j ACCEPT
-A INPUT ! -s 192.0.2.0/24 -p esp -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
`

func TestIPTablesOfDockerIsRead(t *testing.T) {
	f := healthy(t)
	f.Firewall = Merge(nil, false, ParseIPTables(docker, "ip"))
	for _, want := range []struct{ check, text, fix string }{
		{"snat", "iptables -t nat POSTROUTING", "iptables -t nat -I POSTROUTING 1 -s 10.1.0.0/16 -d 10.2.0.0/16 -j ACCEPT"},
		{"openings", "ESP (protocol 50) from peer b", "iptables -t filter -I INPUT 1 -s 192.0.2.2/32 -p esp -j ACCEPT"},
		{"forward", "out of it", "iptables -t filter -I DOCKER-USER 1 -s 10.2.0.0/16 -d 10.1.0.0/16 -j ACCEPT"},
		{"containers", "DOCKER", "doctor after each start"},
	} {
		found := false
		for _, one := range only(f, want.check) {
			found = found || strings.Contains(one.Text, want.text) && strings.Contains(one.Fix, want.fix)
		}
		if !found {
			t.Errorf("no %s with %q and %q in %+v", want.check, want.text, want.fix, only(f, want.check))
		}
	}
	if n := len(only(f, "openings")); n != 1 {
		t.Errorf("%d openings are missing, want 1: %+v", n, only(f, "openings"))
	}
}

func TestTablesOfIPTablesOnNFTAreNotToldTwice(t *testing.T) {
	native := parsed(t, chainJSON("ip", "nat", "POSTROUTING", "nat", "postrouting", "accept", 100),
		ruleJSON("ip", "nat", "POSTROUTING", fromLocal+", "+masquerade))
	opaque := parsed(t, chainJSON("ip", "nat", "POSTROUTING", "nat", "postrouting", "accept", 100),
		ruleJSON("ip", "nat", "POSTROUTING", `{"xt": {"type": "target", "name": "MASQUERADE"}}`))
	for name, nft := range map[string]*Ruleset{"nft": native, "iptables": opaque} {
		f := healthy(t)
		f.Firewall = Merge(nft, true, ParseIPTables(docker, "ip"))
		found := only(f, "snat")
		if len(found) != 1 || found[0].Level != Fail || !strings.HasPrefix(found[0].Fix, name) {
			t.Errorf("want one finding told by %s: %+v", name, found)
		}
	}
}

func TestWholeFamilyNeedsNoCondition(t *testing.T) {
	wide, _ := policy.ParseNet("0.0.0.0/0")
	span, _ := policy.ParseNet("10.1.0.1-10.1.0.20")
	if got := addresses(span, wide); got != "ip saddr 10.1.0.1-10.1.0.20 " {
		t.Errorf("addresses: %q", got)
	}
}

// In the kernel plane packets of a tunnel go through the interface towards the peer, or
// through the XFRM interface, and never through the TUN.
func TestForwardingIsAskedByTheWaysOfThePlanes(t *testing.T) {
	chain := chainJSON("inet", "fw", "fwd", "filter", "forward", "drop", 0)
	by := func(device string) string {
		return `{"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "` + device + `"}}, ` + fromLocal + ", " + accept
	}
	fromRemote := strings.ReplaceAll(fromLocal, "10.1.0.0", "10.2.0.0")
	back := func(device string) string {
		return `{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "` + device + `"}}, ` + fromRemote + ", " + accept
	}
	for _, c := range []struct {
		name, dataplane, device string
		open                    []string
		want                    []string // level and a part of the text
	}{
		{"auto, TUN open", "auto", "", []string{"yumen0"}, []string{"warn into it by eth0", "warn out of it by eth0"}},
		{"auto, both open", "auto", "", []string{"yumen0", "eth0"}, nil},
		{"auto, the path open", "auto", "", []string{"eth0"}, []string{"fail into it is", "fail out of it is"}},
		{"user", "user", "", []string{"yumen0"}, nil},
		{"kernel, TUN open", "kernel", "", []string{"yumen0"}, []string{"fail into it by eth0", "fail out of it by eth0"}},
		{"kernel, the path open", "kernel", "", []string{"eth0"}, nil},
		{"kernel by an interface", "kernel", "ipsec0", []string{"eth0"}, []string{"fail into it by ipsec0", "fail out of it by ipsec0"}},
		{"that is open", "kernel", "ipsec0", []string{"ipsec0"}, nil},
	} {
		f := healthy(t)
		f.Settings.Dataplane, f.Settings.XFRMInterface = c.dataplane, c.device
		members := []string{chain}
		for _, d := range c.open {
			members = append(members, ruleJSON("inet", "fw", "fwd", by(d)), ruleJSON("inet", "fw", "fwd", back(d)))
		}
		f.Firewall = parsed(t, members...)
		found := only(f, "forward")
		if len(found) != len(c.want) {
			t.Errorf("%s: %+v", c.name, found)
			continue
		}
		for i, want := range c.want {
			level, text, _ := strings.Cut(want, " ")
			if found[i].Level != map[string]Level{"fail": Fail, "warn": Warn}[level] || !strings.Contains(found[i].Text, text) {
				t.Errorf("%s: %+v, want %s", c.name, found[i], want)
			}
		}
	}
}

func TestOpeningsAreAskedForInBothFamilies(t *testing.T) {
	in := chainJSON("ip6", "fw", "in", "filter", "input", "drop", 0)
	rule := func(expr string) string { return ruleJSON("ip6", "fw", "in", expr) }
	udp := `{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": {"set": [500, 4500]}}}, ` + accept
	esp := `{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "esp"}}, ` + accept
	frag := `{"match": {"op": "==", "left": {"exthdr": {"name": "frag"}}, "right": true}}, ` + accept
	whole := `{"match": {"op": "==", "left": {"exthdr": {"name": "frag"}}, "right": false}}, ` + accept
	for _, c := range []struct {
		name    string
		members []string
		want    []string
	}{
		{"all closed", []string{in}, []string{"UDP 500 from", "UDP 4500 from", "ESP (protocol 50) from", "fragments of UDP from"}},
		{"but for fragments", []string{in, rule(udp), rule(esp)}, []string{"fragments of UDP from"}},
		{"what is whole passes", []string{in, rule(whole)}, []string{"fragments of UDP from"}},
		{"all open", []string{in, rule(udp), rule(esp), rule(frag)}, nil},
	} {
		for _, any := range []bool{false, true} {
			f := healthy(t)
			name := "peer six"
			f.Firewall = parsed(t, c.members...)
			if any {
				f.Policy.Peers[0].Remote, f.Paths, name = policy.Remote{Any: true}, nil, "peers of any IPv6 address"
				if found := only(f, "openings"); found != nil {
					t.Errorf("%s: a machine without IPv6: %+v", c.name, found)
				}
				f.Links = append(f.Links, Link{Name: "eth1", Nets: []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}})
			} else {
				f.Paths = append(f.Paths, Path{Peer: "six", Addr: netip.MustParseAddr("2001:db8::2"), Interface: "eth0", MTU: 1500})
			}
			found := only(f, "openings")
			if len(found) != len(c.want) {
				t.Errorf("%s: %+v", c.name, found)
				continue
			}
			for i, want := range c.want {
				if found[i].Level != Fail || !strings.HasPrefix(found[i].Text, want+" "+name) {
					t.Errorf("%s: %+v, want %s", c.name, found[i], want)
				}
			}
		}
	}
}
