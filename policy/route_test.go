package policy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"yumen/policy"
)

// route does what the kernel does with routing rules: the first that matches
// decides; the kernel has no ports for a fragment. ok is false if none matches.
func route(rules []policy.RouteRule, f policy.Flow) (policy.Action, bool) {
	port := func(want, have uint16) bool { return want == 0 || f.HasPorts && want == have }
	for _, r := range rules {
		if r.Src.Contains(f.Local) && r.Dst.Contains(f.Remote) && (r.Protocol == 0 || r.Protocol == f.Protocol) &&
			port(r.SrcPort, f.LocalPort) && port(r.DstPort, f.RemotePort) {
			return r.Action, true
		}
	}
	return policy.Drop, false
}

// routed says whether the data plane sees f for its Remote.
func routed(p *policy.Policy, f policy.Flow) bool {
	for _, t := range p.Tunnels {
		if t.Selector.Remote.Contains(f.Remote) {
			return true
		}
	}
	return false
}

// beside says whether a rule names link traffic between the same addresses by
// other ports: that is kept from leaving in clear, for the sake of its fragments.
func beside(spd *policy.SPD, f policy.Flow) bool {
	f.HasPorts = false
	for _, r := range spd.Rules() {
		if r.Selector.HasPorts() && r.Action != policy.Bypass && takes(r.Selector, f) {
			return true
		}
	}
	return false
}

// covered says whether a tunnel's selector holds f, named or not.
func covered(p *policy.Policy, f policy.Flow) bool {
	for _, t := range p.Tunnels {
		if t.Selector.Contains(f) {
			return true
		}
	}
	return false
}

func TestRoutingRulesAgreeWithThePolicy(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(3000) {
		w := world{rand.New(rand.NewPCG(seed, 11))}
		p, spd := w.policy(t)
		rules, err := p.BypassRules()
		if err != nil {
			seen["inexpressible"]++
			continue
		}
		for range 200 {
			f := w.flow(w.IntN(3) > 0)
			if fault := disagreement(p, spd, rules, f, seen); fault != "" {
				t.Fatalf("seed %d, flow %+v: %s\nverdict %+v\nrules:\n%s\nrouting rules:\n%s",
					seed, f, fault, spd.Match(f), show(spd.Rules()), show(rules))
			}
		}
	}
	for _, kind := range []string{"bypass", "protect", "drop", "link", "fragment", "inexpressible"} {
		if seen[kind] < 50 {
			t.Errorf("the worlds were too empty: %s seen %d times", kind, seen[kind])
		}
	}
}

func disagreement(p *policy.Policy, spd *policy.SPD, rules []policy.RouteRule, f policy.Flow, seen map[string]int) string {
	v := spd.Match(f)
	got, ok := route(rules, f)
	switch {
	case v.NeedPorts:
		seen["fragment"]++
		if !ok || got != policy.Bypass {
			return ""
		}
		// A fragment that leaves in clear must be one of no protected packet.
		for _, local := range []uint16{0, 22, 67, 68, 546, 9} {
			for _, remote := range []uint16{0, 22, 67, 68, 546, 9} {
				whole := f
				whole.HasPorts, whole.LocalPort, whole.RemotePort = true, local, remote
				if u := spd.Match(whole); u.Captured && u.Action != policy.Bypass {
					return fmt.Sprintf("a fragment of a packet to %s leaves in clear", u.Action)
				}
			}
		}
	case v.Captured:
		seen[v.Action.String()]++
		switch {
		case v.Action == policy.Bypass && (!ok || got != policy.Bypass) && f.HasPorts:
			return "a bypassed packet is not routed past the tunnels"
		case v.Action != policy.Bypass && ok && got == policy.Bypass:
			return "a packet that must not leave in clear does"
		case v.Action == policy.Protect && ok && got == policy.Drop && f.HasPorts:
			return "a protected packet is dropped"
		case v.Action == policy.Drop && !ok && !routed(p, f) && f.HasPorts:
			return "nothing drops a packet that the policy drops"
		}
	case isSpecial(f) && !isDHCP(f) && !f.Discovery && !beside(spd, f):
		seen["link"]++
		if ok && got != policy.Bypass || !ok && covered(p, f) {
			return "traffic of one link is captured"
		}
	}
	return ""
}

func parse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const head = `site: a
peers: [{name: b, remote: 192.0.2.1, ca: ca.crt, subject: "CN=b"}]
`

func list(t *testing.T, text string) string {
	t.Helper()
	rules, err := parse(t, head+text).BypassRules()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range rules {
		out = append(out, fmt.Sprintf("%s %s %s > %s %d %d %d", r.Name, r.Action, r.Src, r.Dst, r.Protocol, r.SrcPort, r.DstPort))
	}
	return strings.Join(out, "\n")
}

func TestABypassByPortIsOneRoutingRule(t *testing.T) {
	got := list(t, `
tunnels: [{name: t, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0/16}]
rules: [{name: ssh, action: bypass, local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp, remote_port: 22}]
`)
	if want := "ssh bypass 10.1.0.0/16 > 10.2.0.0/16 6 0 22"; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestWhatIsMoreSpecificThanABypassComesBeforeIt(t *testing.T) {
	got := list(t, `
tunnels: [{name: t, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0/16}]
rules:
  - {name: wide, action: bypass, local: 10.0.0.0/8, remote: 10.0.0.0/8}
  - {name: not-that, action: drop, local: 10.1.0.0/16, remote: 10.9.0.0/16}
`)
	want := `not-that drop 10.1.0.0/16 > 10.9.0.0/16 0 0 0
t protect 10.1.0.0/16 > 10.2.0.0/16 0 0 0
wide bypass 10.0.0.0/8 > 10.0.0.0/8 0 0 0`
	if strings.Count(got, "\n") != 2 || !sameLines(got, want) || !strings.HasSuffix(got, want[strings.LastIndexByte(want, '\n'):]) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func sameLines(a, b string) bool {
	for _, line := range strings.Split(b, "\n") {
		if !strings.Contains(a, line) {
			return false
		}
	}
	return len(a) == len(b)
}

func TestAFullTunnelLeavesLinkTrafficAndTheWayBackOpen(t *testing.T) {
	got := list(t, `
tunnels: [{name: t, peer: b, local: 0.0.0.0/0, remote: 0.0.0.0/0}]
`)
	for _, want := range []string{
		"link bypass 0.0.0.0/0 > 224.0.0.0/4 0 0 0", "link bypass 0.0.0.0/0 > 169.254.0.0/16 0 0 0",
		"link bypass 0.0.0.0/0 > 255.255.255.255/32 0 0 0", "link bypass 0.0.0.0/0 > 0.0.0.0/0 17 68 67",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q in:\n%s", want, got)
		}
	}
	got = list(t, `
tunnels: [{name: t, peer: b, local: 10.1.0.0/16, remote: 0.0.0.0/0}]
rules: [{name: lan, action: bypass, local: 10.1.0.0/16, remote: 10.3.0.0/16}]
`)
	if !strings.HasSuffix(got, "lan bypass 10.1.0.0/16 > 10.3.0.0/16 0 0 0\nlan bypass 10.3.0.0/16 > 10.1.0.0/16 0 0 0") {
		t.Errorf("got:\n%s", got)
	}
	if strings.Contains(got, " 17 ") {
		t.Errorf("inner addresses may renew leases in clear:\n%s", got)
	}
}

func TestABypassThatRoutingRulesCannotExpressIsRefusedWithItsLine(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"fragments of a rule with ports": {`
tunnels: [{name: t, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp, remote_port: 443}]
rules:
  - {name: wide, action: bypass, local: 10.0.0.0/8, remote: 10.0.0.0/8}
`, "policy.yaml:6: rules[0]: cannot be expressed"},
		"ranges that split too far": {`
tunnels: [{name: t, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0/16}]
rules:
  - {name: odd, action: bypass, local: 10.1.0.1-10.1.255.254, remote: 10.3.0.1-10.3.255.254}
`, "policy.yaml:6: rules[0]: its ranges split into 900"},
	} {
		_, err := policy.Parse("policy.yaml", []byte(head+c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestTooManyRoutingRulesAreRefused(t *testing.T) {
	p := many(t, 2000)
	p.Rules = []policy.Rule{{Name: "wide", Action: policy.Bypass, Selector: selector(t, "0.0.0.0/0", "100.0.0.0/8")}}
	if _, err := p.BypassRules(); err == nil || !strings.Contains(err.Error(), "more than 1024 routing rules") {
		t.Errorf("%v", err)
	}
}
