package xfrm

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"yumen/esp"
	"yumen/esp/ours"
	"yumen/policy"
)

// groupPolicy is a group of the tunnels a, b and c, and a tunnel beside it.
func groupPolicy(target string) *policy.Policy {
	p := &policy.Policy{Groups: []policy.Group{{Name: "dr"}}}
	p.Tunnels = append(p.Tunnels, policy.Tunnel{Name: "alone", Selector: sel("10.1.0.0/16", "10.9.0.0/16"), Start: policy.StartTrap})
	for _, name := range []string{"a", "b", "c"} {
		p.Peers = append(p.Peers, policy.Peer{Name: name, Remote: policy.Remote{Addr: netip.AddrFrom4([4]byte{198, 51, 100, name[0]})}})
		p.Tunnels = append(p.Tunnels, policy.Tunnel{Name: name, Peer: name, Selector: sel("10.1.0.0/16", "10.2.0.0/16")})
		p.Groups[0].Members = append(p.Groups[0].Members, policy.Member{Tunnel: name, Priority: len(p.Peers), Weight: 1})
	}
	if target != "" {
		p.Groups[0].Probe.Target = netip.MustParseAddr(target)
	}
	return p
}

func TestTunnelsOfAGroupHaveOneReqidThatFollowsFromItsName(t *testing.T) {
	pol := groupPolicy("")
	reqids, numbers := numbersOf(pol, groupsOf(pol, nil), nil)
	if reqids["a"] != reqids["b"] || reqids["b"] != reqids["c"] || reqids["a"] == reqids["alone"] || !ours.IsReqid(reqids["a"]) {
		t.Errorf("%x", reqids)
	}
	alone, _ := numbersOf(&policy.Policy{Tunnels: pol.Tunnels}, nil, nil)
	if alone["alone"] != reqids["alone"] || alone["a"] == reqids["a"] || alone["a"] == alone["b"] {
		t.Errorf("without the group: %x", alone)
	}
	// Another head does not change it, nor what was numbered before.
	slices.Reverse(pol.Groups[0].Members)
	if again, _ := numbersOf(pol, groupsOf(pol, nil), numbers); again["a"] != reqids["a"] {
		t.Error("with another head it has another reqid")
	}
}

// onPaper is a plane that never spoke to a kernel, with children of these tunnels.
func onPaper(pol *policy.Policy, tunnels ...string) *Plane {
	p := &Plane{policy: pol, pairs: map[esp.ChildID]*pair{}, adopted: map[string]template{}, muted: map[string]bool{}}
	p.groups = groupsOf(pol, nil)
	p.reqids, p.numbers = numbersOf(pol, p.groups, nil)
	for i, name := range tunnels {
		p.pairs[esp.ChildID(i+1)] = pairOn(p, i+1, name)
	}
	return p
}

func pairOn(p *Plane, n int, tunnel string) *pair {
	c := child()
	c.ID, c.Tunnel, c.Out.SPI = esp.ChildID(n), tunnel, esp.SPI(0x2000+n)
	out := state{src: netip.MustParseAddr("192.0.2.1"), dst: netip.AddrFrom4([4]byte{198, 51, 100, tunnel[0] - 'a' + 1}), spi: c.Out.SPI, reqid: p.reqids[tunnel]}
	in := state{src: out.dst, dst: out.src, spi: c.In.SPI, reqid: out.reqid, outputMark: p.marks[tunnel]}
	return &pair{child: c, in: in, out: out, turn: uint64(n)}
}

func TestTheKernelSendsByOneMemberOfAGroup(t *testing.T) {
	w := func(list ...any) (to []esp.Weight) {
		for i := 0; i < len(list); i += 2 {
			to = append(to, esp.Weight{Tunnel: list[i].(string), Weight: list[i+1].(int)})
		}
		return to
	}
	for _, c := range []struct {
		name     string
		to       []esp.Weight
		children []string
		want     string // the member; empty: none
	}{
		{"no word", nil, []string{"c", "b", "a"}, "a"},
		{"no word, the first has none", nil, []string{"c", "b"}, "b"},
		{"as said", w("c", 1), []string{"a", "b", "c"}, "c"},
		{"the largest share", w("a", 1, "b", 3, "c", 2), []string{"a", "b", "c"}, "b"},
		{"equal shares", w("c", 1, "b", 1), []string{"a", "b", "c"}, "c"},
		{"whoever was named and has a child", w("c", 9, "b", 1), []string{"a", "b"}, "b"},
		{"nobody who was named has one", w("c", 1), []string{"b"}, "b"},
		{"nobody has one", w("c", 1), nil, ""},
	} {
		p := onPaper(groupPolicy(""), c.children...)
		p.groups[0].to = c.to
		got := p.carrying("a")
		if c.want == "" {
			if !got.isIdle() || got.reqid != p.reqids["a"] {
				t.Errorf("%s: sends by %+v", c.name, got)
			}
			continue
		}
		if x := p.latest(c.want, 0); got != templateOf(x.out) {
			t.Errorf("%s: sends by %+v, want %s", c.name, got, c.want)
		}
	}
}

func TestAChildThatComesOrGoesTurnsTheGroupOnlyIfItCarries(t *testing.T) {
	pol := groupPolicy("10.2.0.1")
	p := onPaper(pol, "a", "b")
	p.groups[0].from = netip.MustParseAddr("10.1.0.1")
	p.entries = append(planProbes(p.groups, 0), planGuard(mustPolicy(t, []policy.Selector{sel("10.1.0.0/16", "10.2.0.0/16")}), surroundings{})...)
	for i := range p.entries {
		if p.entries[i].kind == protect && p.entries[i].mark == 0 {
			p.entries[i].tunnel = "a" // its head, as the SPD has it
		}
	}
	a, b := p.pairs[1], p.pairs[2]
	gone := idle(p.reqids["a"], 1)
	for _, c := range []struct {
		name   string
		tunnel string
		from   template
		to     template
		steps  int
	}{
		{"the one that carries goes", "a", templateOf(a.out), gone, 2}, // its probes and the group
		{"another goes", "b", templateOf(b.out), gone, 1},              // its probes alone
		{"another comes", "c", gone, template{spi: 9, dst: a.out.dst}, 1},
		{"a tunnel beside it", "alone", gone, template{spi: 9}, 0}, // has no policy here
	} {
		if steps := p.switchTo(c.tunnel, c.from, c.to); len(steps) != c.steps {
			t.Errorf("%s: %d steps, want %d", c.name, len(steps), c.steps)
		}
	}
}

func TestProbesOfAMemberHaveAPolicyOfTheirOwn(t *testing.T) {
	for target, from := range map[string]string{"10.2.0.1": "10.1.0.7", "fd02::1": "fd01::7"} {
		pol := groupPolicy(target)
		groups := groupsOf(pol, nil)
		if len(planProbes(groups, 0)) != 0 {
			t.Error("probes without an address of ours")
		}
		groups[0].from = netip.MustParseAddr(from)
		list := planProbes(groups, 5)
		seen := map[uint32]bool{}
		for i, e := range list {
			bits := e.src.Addr().BitLen()
			wide := priorityOf(0, netip.PrefixFrom(e.dst.Addr(), bits), netip.PrefixFrom(e.src.Addr(), bits), 3, controlAllow)
			if e.dir != dirOut || e.tunnel != []string{"a", "b", "c"}[i] || e.src.String() != from+"/"+suffix(bits) || e.dst.String() != target+"/"+suffix(bits) ||
				e.mark == 0 || seen[e.mark] || e.ifID != 5 || e.priority > wide || !ours.InKernelBand(e.priority) {
				t.Errorf("%+v", e)
			}
			seen[e.mark] = true
			if e.mark>>24 != markBase>>24 {
				t.Errorf("mark %x", e.mark)
			}
			// What the message says is read again.
			m := policyMessage(e, nil)
			p, ok := parsePolicy(m.body())
			if !ok || p.selector != e.selector() {
				t.Errorf("%+v is read as %+v", e.selector(), p.selector)
			}
		}
		if len(list) != 3 {
			t.Errorf("%d policies", len(list))
		}
	}
}

func suffix(bits int) string {
	if bits == 32 {
		return "32"
	}
	return "128"
}

func TestSteeringIsOneMessageAndProbesKeepTheirMember(t *testing.T) {
	private(t, func() error {
		p, err := New(Config{NATPort: 45000})
		if err != nil {
			return err
		}
		defer p.Close()
		pol := groupPolicy("10.2.0.1")
		if err := addressOnLoopback(p.host, "10.1.0.7/32"); err != nil {
			return err
		}
		if err := p.SetPolicy(pol); err != nil {
			return err
		}
		// This kernel need not have SM4: what policies name is not looked up.
		for i, name := range []string{"a", "b"} {
			x := pairOn(p, i+1, name)
			x.ended = true // until it is said to be in use
			p.pairs[esp.ChildID(i+1)] = x
		}
		put := func(n esp.ChildID) error {
			p.pairs[n].ended, p.pairs[n].turn = false, 0
			return p.Use(n)
		}
		if err := errors.Join(put(1), put(2)); err != nil {
			return err
		}
		check := func(what string, want map[uint32]esp.SPI) {
			t.Helper()
			have, err := p.conn.policies()
			if err != nil {
				t.Error(err)
				return
			}
			got := map[uint32]esp.SPI{}
			for _, h := range have {
				if h.dir == dirOut && h.template != nil && h.dst.Addr().String()[:4] == "10.2" {
					got[h.mark] = h.template.spi
				}
			}
			for mark, spi := range want {
				if got[mark] != spi {
					t.Errorf("%s: mark %x sends by %x, want %x", what, mark, got[mark], spi)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s: %d policies", what, len(got))
			}
		}
		a, b, none := p.marks["a"], p.marks["b"], p.marks["c"]
		check("before the first word", map[uint32]esp.SPI{0: 0x2001, a: 0x2001, b: 0x2002, none: 0})
		for _, c := range []struct {
			to   string
			want esp.SPI
		}{{"b", 0x2002}, {"c", 0x2001}, {"a", 0x2001}, {"b", 0x2002}} {
			if err := p.Steer("dr", []esp.Weight{{Tunnel: c.to, Weight: 1}}); err != nil {
				return err
			}
			check("steered to "+c.to, map[uint32]esp.SPI{0: c.want, a: 0x2001, b: 0x2002, none: 0})
		}
		// The same policy again writes nothing else.
		if err := p.SetPolicy(pol); err != nil {
			return err
		}
		check("the policy again", map[uint32]esp.SPI{0: 0x2002, a: 0x2001, b: 0x2002, none: 0})
		for want, err := range map[string]error{
			"no such group": p.Steer("x", nil), "is not in it": p.Steer("dr", []esp.Weight{{Tunnel: "alone", Weight: 1}}),
			"no such child": p.Echo("c", 1, 1), "in no group": p.Echo("alone", 1, 1), "such tunnel": p.Mute("x", true),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want one about %q", err, want)
			}
		}
		if err := p.Echo("c", 1, 1); !errors.Is(err, esp.ErrNoChild) {
			t.Errorf("a member without a child cannot be told from one that fails: %v", err)
		}
		if rest, err := afterRemoval(p); err != nil || len(rest) != 0 {
			t.Errorf("%d policies outlived RemoveGuard: %v", len(rest), err)
		}
		return nil
	})
}

func addressOnLoopback(h *host, addr string) error {
	lo, err := h.route.LinkByName("lo")
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	return errors.Join(h.route.LinkSetUp(lo), h.route.AddrAdd(lo, a))
}
