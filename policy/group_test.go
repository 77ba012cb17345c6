package policy_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"yumen/policy"
)

// grouped is a sound policy of two paths; a case replaces some of its lines.
const grouped = `site: beijing
peers:
  - {name: a, remote: 198.51.100.7, ca: ca.crt, subject: "CN=gw-b"}
  - {name: b, remote: 198.51.100.8, ca: ca.crt, subject: "CN=gw-b"}
  - {name: c, remote: 198.51.100.9, ca: ca.crt, subject: "CN=gw-c"}
tunnels:
  - {name: dr-a, peer: a, local: 10.1.0.0/16, remote: 10.2.0.0/16}
  - {name: dr-b, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0/16}
  - {name: else, peer: c, local: 10.1.0.0/16, remote: 10.3.0.0/16}
groups:
  - name: dr
    mode: active-standby
    members:
      - {tunnel: dr-a, priority: 4}
      - {tunnel: dr-b, priority: 2}
    preempt_delay: 5s
    probe:
      interval: 50ms
      lost: 5
      loss: 10
      delay: 80ms
      recover: 7
      target: 10.2.0.1
rules:
  - {name: web, action: protect, tunnel: dr-b, local: 10.1.0.0/16, remote: 10.2.0.80, protocol: tcp}
`

func TestEveryKeyOfAGroupArrives(t *testing.T) {
	p, err := policy.Parse("p.yaml", []byte(grouped))
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Group{Name: "dr", Mode: policy.ActiveStandby, PreemptDelay: 5 * time.Second,
		Members: []policy.Member{{Tunnel: "dr-a", Priority: 4, Weight: 1}, {Tunnel: "dr-b", Priority: 2, Weight: 1}},
		Probe: policy.Probe{Interval: 50 * time.Millisecond, Lost: 5, Loss: 10, Delay: 80 * time.Millisecond, Recover: 7,
			Target: netip.MustParseAddr("10.2.0.1")}}
	if got := show(p.Groups); got != show([]policy.Group{want}) {
		t.Errorf("got  %s\nwant %s", got, show([]policy.Group{want}))
	}
}

func TestAGroupIsOneEntryOfThePolicyAndItsHeadStandsForIt(t *testing.T) {
	p, err := policy.Parse("p.yaml", []byte(grouped))
	if err != nil {
		t.Fatal(err)
	}
	spd, err := policy.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range spd.Rules() {
		names = append(names, r.Name+">"+r.Tunnel)
	}
	if got := strings.Join(names, " "); got != "web>dr-a dr-a>dr-a else>else" {
		t.Errorf("rules are %s", got)
	}
	flow := policy.Flow{Local: netip.MustParseAddr("10.1.0.9"), Remote: netip.MustParseAddr("10.2.0.80"), Protocol: 6, LocalPort: 9, RemotePort: 80, HasPorts: true}
	for _, remote := range []string{"10.2.0.80", "10.2.0.81"} {
		flow.Remote = netip.MustParseAddr(remote)
		if v := spd.Match(flow); v.Action != policy.Protect || v.Tunnel != 0 {
			t.Errorf("%s: %+v, want the head", remote, v)
		}
	}
	if i, ok := p.GroupOf("dr-b"); !ok || i != 0 || p.HeadOf("dr-b") != "dr-a" {
		t.Error("dr-b is not found in its group")
	}
	if _, ok := p.GroupOf("else"); ok || p.HeadOf("else") != "else" {
		t.Error("a tunnel without a group is found in one")
	}
	if g, ok := p.Group("dr"); !ok || g.Head() != "dr-a" {
		t.Error("the group is not found by its name")
	}
	if _, ok := p.Group("dr-a"); ok {
		t.Error("a group is found by a tunnel's name")
	}
}

func TestWhatAGroupLeavesOutIsAsTheSampleSays(t *testing.T) {
	read := func(file string) policy.Group {
		b, err := os.ReadFile("../configs/two-paths/" + file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Parse(file, b)
		if err != nil {
			t.Fatal(err)
		}
		g := p.Groups[0]
		g.Name = ""
		for i := range g.Members {
			g.Members[i].Tunnel = ""
		}
		return g
	}
	if a, b := show(read("site-a.yaml")), show(read("site-b.yaml")); a != b {
		t.Errorf("written:\n%s\ndefault:\n%s", a, b)
	}
}

func TestEveryFaultOfAGroupNamesLineAndKey(t *testing.T) {
	for _, c := range []struct {
		n          int
		text, want string
	}{
		{11, "  - nam: dr", "11: groups[0].name: is missing"},
		{11, "  - nam: dr", "11: groups[0].nam: unknown key; known here: name, mode, members, preempt_delay, probe"},
		{12, "    mode: both", `12: groups[0].mode: "both" is not one of active-standby, load-share`},
		{14, "", "11: groups[0].members: has 1 members; a group has 2 to 8 paths"},
		{14, "      - {tunnel: dr-x, priority: 4}", `14: groups[0].members[0].tunnel: tunnel "dr-x" is not defined`},
		{15, "      - {tunnel: dr-a, priority: 5}", `15: groups[0].members[1].tunnel: tunnel "dr-a" is already groups[0].members[0]`},
		{15, "      - {tunnel: dr-b, priority: 4}", "15: groups[0].members[1].priority: 4 is also that of dr-a"},
		{15, "      - {tunnel: dr-b, priority: 0}", `15: groups[0].members[1].priority: "0" is no number from 1 to 100`},
		{15, "      - {tunnel: dr-b, weight: 3}", "15: groups[0].members[1].weight: is of mode: load-share"},
		{15, "      - {tunnel: else}", `15: groups[0].members[1].tunnel: tunnel "else" takes 10.1.0.0/16 - 10.3.0.0/16`},
		{15, "      - {priority: 5}", "15: groups[0].members[1].tunnel: is missing; name one of tunnels"},
		{8, "  - {name: dr-b, peer: a, local: 10.1.0.0/16, remote: 10.2.0.0/16}", `15: groups[0].members[1].tunnel: tunnels "dr-a" and "dr-b" are both of peer "a"`},
		{8, "  - {name: dr-b, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0/16, start: trap}", `15: groups[0].members[1].tunnel: tunnel "dr-b" waits for traffic (start: trap)`},
		{4, `  - {name: b, remote: 198.51.100.7, ca: ca.crt, subject: "CN=gw-b"}`, `15: groups[0].members[1].tunnel: peers "a" and "b" have the same remote and local`},
		{16, "    preempt_delay: 5", `16: groups[0].preempt_delay: "5" is no duration`},
		{18, "      interval: 10ms", "18: groups[0].probe.interval: 10ms is out of range; write 20ms to 10s"},
		{18, "      interval: 20500us", "18: groups[0].probe.interval: 20500us is not in whole milliseconds"},
		{19, "      lost: 0", `19: groups[0].probe.lost: "0" is no number from 1 to 100`},
		{20, "      loss: 101", `20: groups[0].probe.loss: "101" is no number from 0 to 100`},
		{21, "      delay: 11s", "21: groups[0].probe.delay: 11s is out of range"},
		{22, "      recover: 0", `22: groups[0].probe.recover: "0" is no number from 1 to 1000`},
		{23, "      target: dr", `23: groups[0].probe.target: "dr" is no address`},
		{23, "      target: 10.3.0.1", "23: groups[0].probe.target: 10.3.0.1 is not in remote 10.2.0.0/16"},
		{23, "      goal: 10.2.0.1", "23: groups[0].probe.goal: unknown key"},
		{16, "    preempt_delay: never", ""},
		{21, "      delay: 0", ""},
	} {
		_, err := policy.Parse("p.yaml", []byte(edit(grouped, c.n, c.text)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !hasLine(err.Error(), "p.yaml:"+c.want)) {
			t.Errorf("%q:\ngot  %v\nwant p.yaml:%s", c.text, err, c.want)
		}
	}
}

func TestLoadShareTakesWeightsAndNeedsTheWayBack(t *testing.T) {
	text := edit(edit(edit(grouped, 12, "    mode: load-share"), 14, "      - {tunnel: dr-a, weight: 3}"), 15, "      - {tunnel: dr-b}")
	p, err := policy.Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if m := p.Groups[0].Members; m[0] != (policy.Member{Tunnel: "dr-a", Priority: 1, Weight: 3}) || m[1] != (policy.Member{Tunnel: "dr-b", Priority: 1, Weight: 1}) {
		t.Errorf("members are %+v", m)
	}
	_, err = policy.Parse("p.yaml", []byte(edit(text, 16, "    preempt_delay: never")))
	if err == nil || !hasLine(err.Error(), "p.yaml:11: groups[0].preempt_delay: never would leave") {
		t.Errorf("never: %v", err)
	}
}

func TestATunnelBelongsToOneGroupOnly(t *testing.T) {
	second := "groups:\n  - {name: other, members: [{tunnel: dr-b}, {tunnel: else}]}"
	_, err := policy.Parse("p.yaml", []byte(edit(grouped, 10, second)))
	if err == nil || !strings.Contains(err.Error(), `tunnel "dr-b" is already groups[0].members[0]; a tunnel belongs to one group`) {
		t.Errorf("got %v", err)
	}
}

func TestATargetThatTheTunnelsDoNotCarryIsRefused(t *testing.T) {
	text := strings.ReplaceAll(grouped, "remote: 10.2.0.0/16}", "remote: 10.2.0.0/16, protocol: tcp}")
	_, err := policy.Parse("p.yaml", []byte(text))
	if err == nil || !hasLine(err.Error(), "p.yaml:23: groups[0].probe.target: the group's tunnels take only") {
		t.Errorf("got %v", err)
	}
}

func TestAGroupBuiltInCodeIsCheckedWhenCompiled(t *testing.T) {
	p, err := policy.Parse("p.yaml", []byte(grouped))
	if err != nil {
		t.Fatal(err)
	}
	p.Groups = append(p.Groups, policy.Group{Name: "x", Members: []policy.Member{{Tunnel: "dr-a"}}})
	if _, err := policy.Compile(p); err == nil || !strings.Contains(err.Error(), "groups[1].members") {
		t.Errorf("got %v", err)
	}
}

// Peers that call from anywhere are told apart by certificates or by our address alone.
func TestPathsOfTheSamePeerFromAnywhereCannotBeToldApart(t *testing.T) {
	entry := func(name, subject string) string {
		return `  - {name: ` + name + `, remote: any, ca: ca.crt, subject: "CN=` + subject + `"}`
	}
	const want = `p.yaml:15: groups[0].members[1].tunnel: peers "a" and "b" may both call from anywhere`
	for subject, refused := range map[string]bool{"gw-b": true, "gw-c": false} {
		_, err := policy.Parse("p.yaml", []byte(edit(edit(grouped, 3, entry("a", "gw-b")), 4, entry("b", subject))))
		if got := err != nil && hasLine(err.Error(), want); got != refused {
			t.Errorf("%s: %v", subject, err)
		}
	}
}
