package policy_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"yumen/policy"
)

func TestManagementIsReadInEveryForm(t *testing.T) {
	p := parse(t, base+`management:
  - 203.0.113.0/24
  - 2001:db8:5::7
  - {from: 198.18.0.0/15, port: 22}
  - {from: 192.0.2.5, to: 10.1.0.1, protocol: udp, port: 161}
  - {from: 192.0.2.6, to: 10.1.0.1, protocol: icmp}
`)
	want := []string{"203.0.113.0/24", "2001:db8:5::7", "198.18.0.0/15 tcp port 22", "192.0.2.5 to 10.1.0.1 udp port 161", "192.0.2.6 to 10.1.0.1 icmp"}
	if got := p.Operators(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestManagementFaultsAreNamed(t *testing.T) {
	for item, want := range map[string]string{
		"203.0.113.9/24":                     `51: management[0]: "203.0.113.9/24" has host bits set`,
		"":                                   "51: management[0]: is empty",
		"{port: 22}":                         "51: management[0].from: is missing",
		"{from: 203.0.113.9, from_port: 22}": "51: management[0].from_port: unknown key; known here: from, to, protocol, port",
		"{from: 203.0.113.9, protocol: 50, port: 1}": "51: management[0].port: protocol 50 has no ports",
		"{from: 203.0.113.9, to: 'fd01::1'}":         "51: management[0].to: is of another family",
		"{from: 203.0.113.9, protocol: icmpv6}":      "51: management[0]: icmpv6 does not run over IPv4",
		"10.0.0.0/8":                                 "51: management[0]: takes all traffic of tunnel office",
		"10.2.0.0/16":                                "51: management[0]: takes all traffic of tunnel office",
		"0.0.0.0/0":                                  "51: management[0]: takes all traffic of tunnel office",
		"{from: 0.0.0.0/0, port: 22}":                "",
		"{from: 10.2.0.0/16, to: 10.1.0.1}":          "",
		"10.2.0.9\n  - 10.2.0.9":                     "52: management[1]: takes the same packets as management[0] (line 51)",
	} {
		_, err := policy.Parse("policy.yaml", []byte(base+"management:\n  - "+item+"\n"))
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", item, err)
			}
			continue
		}
		if err == nil || !hasLine(err.Error(), "policy.yaml:"+want) {
			t.Errorf("%q:\ngot  %v\nwant policy.yaml:%s", item, err, want)
		}
	}
}

// Whatever else the policy says of the same packets, in both directions.
func TestManagementStandsAboveEverything(t *testing.T) {
	p := parse(t, `site: a
peers: [{name: b, remote: 198.51.100.7, ca: ca.crt, subject: CN=b}]
tunnels: [{name: all, peer: b, local: 0.0.0.0/0, remote: 0.0.0.0/0}]
rules: [{name: no, action: drop, local: 0.0.0.0/0, remote: 203.0.113.9, priority: 1000000}]
management: [{from: 203.0.113.0/24, port: 22}]
`)
	spd, err := policy.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	flow := func(remote string, port uint16) policy.Action {
		return spd.Match(policy.Flow{Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr(remote),
			Protocol: 6, LocalPort: port, RemotePort: 50000, HasPorts: true}).Action
	}
	if flow("203.0.113.9", 22) != policy.Bypass || flow("203.0.113.8", 22) != policy.Bypass {
		t.Error("the operator is locked out")
	}
	if flow("203.0.113.9", 23) != policy.Drop || flow("203.0.113.8", 443) != policy.Protect || flow("203.0.114.8", 22) != policy.Protect {
		t.Error("the exemption is wider than written")
	}
	rules, err := p.BypassRules()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rules, func(r policy.RouteRule) bool { return r.Name == "management" })
	if i < 0 || rules[i].Action != policy.Bypass || rules[i].SrcPort != 22 || rules[i].Dst.String() != "203.0.113.0/24" {
		t.Fatalf("routing rules: %+v", rules)
	}
	for _, r := range rules[:i] {
		if r.Name != "link" && !strings.HasPrefix(r.Name, "link") {
			t.Errorf("%+v stands above", r)
		}
	}
}
