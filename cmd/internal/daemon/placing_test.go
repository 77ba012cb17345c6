package daemon

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"yumen/esp"
	"yumen/policy"
)

// parse reads a policy of tunnels with these further keys, each to a network of its
// own, or the same where the line says so.
func parseTunnels(t *testing.T, peerKeys string, tunnels ...string) *policy.Policy {
	t.Helper()
	text := "site: a\npeers:\n  - {name: p, remote: 192.0.2.2, ca: ca.crt, subject: CN=p" + peerKeys + "}\ntunnels:\n"
	for _, l := range tunnels {
		text += "  - {peer: p, local: 10.1.0.0/16, " + l + "}\n"
	}
	p, err := policy.Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEachTunnelHasItsHome(t *testing.T) {
	for _, c := range []struct {
		tunnels []string
		want    map[string]home // why: a part of it
	}{
		{[]string{"name: a, remote: 10.2.0.0/16"}, map[string]home{"a": {kernel, ""}}},
		{[]string{"name: a, remote: 10.2.0.0/16", "name: b, remote: 10.3.0.0/16, suites: [sm4gcm128]"},
			map[string]home{"a": {kernel, ""}, "b": {userspace, "SM4-GCM"}}},
		{[]string{"name: a, remote: 10.2.0.0/16, suites: [sm4cbc-hmacsm3, sm4gcm128]"}, map[string]home{"a": {kernel, "SM4-GCM"}}},
		{[]string{"name: a, remote: 10.2.0.0/16, df: set"}, map[string]home{"a": {userspace, "DF"}}},
		{[]string{"name: a, remote: 10.2.0.0/16, dscp: 46"}, map[string]home{"a": {userspace, "DSCP 46"}}},
		{[]string{"name: a, remote: 10.2.0.0/16, mss_clamp: 1200"}, map[string]home{"a": {userspace, "mss_clamp"}}},
		{[]string{"name: a, remote: 10.2.0.0/16, mss_clamp: auto"}, map[string]home{"a": {kernel, ""}}},
		// Ports tell packets apart, so they stay together.
		{[]string{"name: a, remote: 10.2.0.0/16, protocol: tcp, remote_port: 443", "name: b, remote: 10.2.0.0/16, suites: [sm4gcm128]"},
			map[string]home{"a": {userspace, "shares addresses with tunnel b"}, "b": {userspace, "SM4-GCM"}}},
		{[]string{"name: a, remote: 10.2.0.0/16, protocol: tcp", "name: b, remote: 10.2.0.0/16, suites: [sm4cbc-hmacsm3, sm4gcm128]"},
			map[string]home{"a": {userspace, "shares addresses with tunnel b"}, "b": {userspace, "SM4-GCM"}}},
		// A narrower prefix wins in both planes alike.
		{[]string{"name: a, remote: 10.2.3.0/24", "name: b, remote: 10.2.0.0/16, suites: [sm4gcm128]"},
			map[string]home{"a": {kernel, ""}, "b": {userspace, "SM4-GCM"}}},
	} {
		got := homes(parseTunnels(t, "", c.tunnels...))
		for name, want := range c.want {
			if h := got[name]; h.plane != want.plane || (h.why == "") != (want.why == "") || !strings.Contains(h.why, want.why) {
				t.Errorf("%v: %s is at home in %+v, want %+v", c.tunnels, name, h, want)
			}
		}
	}
}

func TestAnUnknownICVLengthWaitsInUserspace(t *testing.T) {
	for _, c := range []struct {
		peer, tunnel, plane string
		waits               bool
	}{
		{"", "name: a, remote: 10.2.0.0/16, icv_bits: auto", kernel, true},
		{", profile: auto", "name: a, remote: 10.2.0.0/16", kernel, true},
		{", profile: auto", "name: a, remote: 10.2.0.0/16, icv_bits: 256", kernel, false},
		{", profile: auto, dialect: {esp_icv_bits: 128}", "name: a, remote: 10.2.0.0/16", kernel, false},
		{"", "name: a, remote: 10.2.0.0/16, icv_bits: auto, df: set", userspace, false},
	} {
		p := parseTunnels(t, c.peer, c.tunnel)
		h := homes(p)["a"]
		if h.plane != c.plane || (h.why == errICV.Error()) != c.waits {
			t.Errorf("%s %s: at home in %+v", c.peer, c.tunnel, h)
		}
		if err := icvKnown(p); c.waits && (err == nil || !strings.Contains(err.Error(), "icv_bits: 96, 128 or 256")) {
			t.Errorf("%s %s: the kernel alone is let to it: %v", c.peer, c.tunnel, err)
		}
	}
	if err := icvKnown(parseTunnels(t, ", profile: auto", "name: a, remote: 10.2.0.0/16, suites: [sm4gcm128]")); err != nil {
		t.Errorf("SM4-GCM has one length: %v", err)
	}
}

// The child that found its length stays where it is; the next one, made with it, goes
// into the kernel, by the very steps of a move.
func TestATunnelMovesIntoTheKernelOnceItsICVLengthIsKnown(t *testing.T) {
	x := newPair(t, parseTunnels(t, ", encap: off", "name: a, remote: 10.2.0.0/16, icv_bits: auto"))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	unknown := childOf(1, "a", cbc, false)
	unknown.ICVBits = policy.ICVAuto
	must(x.Install(unknown, esp.State{}))
	must(x.Use(1))
	if x.PlaneOf(1) != userspace {
		t.Fatalf("an unknown length lives in %s", x.PlaneOf(1))
	}
	if err := x.Choose("a", kernel); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("moved before the length is known: %v", err)
	}
	if x.FoundICV(9, 128) || !x.FoundICV(1, 128) || x.FoundICV(1, 96) {
		t.Error("one found length of the child asks for one move")
	}
	next := childOf(2, "a", cbc, false)
	next.ICVBits = 128
	must(x.Install(next, esp.State{}))
	must(x.Use(2))
	if x.PlaneOf(2) != kernel || x.Current("a") != kernel {
		t.Errorf("the next child lives in %s, the tunnel in %s", x.PlaneOf(2), x.Current("a"))
	}
	_, err := x.Remove(1)
	must(err)
}

// What the operator put into userspace, or only userspace carries, stays there.
func TestAFoundICVLengthMovesNothingThatBelongsToUserspace(t *testing.T) {
	for _, c := range []struct {
		name, peer, tunnel string
		chosen             bool
	}{
		{"chosen", ", encap: off", "name: a, remote: 10.2.0.0/16, icv_bits: auto", true},
		{"DF", ", encap: off", "name: a, remote: 10.2.0.0/16, icv_bits: auto, df: set", false},
	} {
		p := parseTunnels(t, c.peer, c.tunnel)
		x := newPair(t, p)
		if c.chosen {
			if err := x.Choose("a", userspace); err != nil {
				t.Fatal(err)
			}
		}
		child := childOf(1, "a", cbc, true)
		child.ICVBits, child.Outer = policy.ICVAuto, p.Tunnels[0].Outer
		if err := x.Install(child, esp.State{}); err != nil {
			t.Fatal(err)
		}
		if x.FoundICV(1, 128) {
			t.Errorf("%s: moves", c.name)
		}
	}
}

// Where the path has no room for 1280 bytes of IPv6 inside, whether the kernel knows it
// or a probe said so, IPv6 goes to userspace; IPv4 over the same path does not.
func TestAPathTooSmallForIPv6IsLeftToUserspace(t *testing.T) {
	p := parseTunnels(t, ", encap: off", "name: a, remote: 10.2.0.0/16")
	v6 := p.Tunnels[0]
	v6.Name, v6.Selector.Local, v6.Selector.Remote = "b", policy.NetOf(netip.MustParsePrefix("fd01::/64")), policy.NetOf(netip.MustParsePrefix("fd02::/64"))
	p.Tunnels = append(p.Tunnels, v6)
	local, remote := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	child := func(id esp.ChildID, i int) esp.Child {
		c := childOf(id, p.Tunnels[i].Name, cbc, false)
		c.Selector = p.Tunnels[i].Selector
		c.Path = esp.Path{Local: netip.AddrPortFrom(local, 0), Remote: netip.AddrPortFrom(remote, 0)}
		return c
	}
	x := newPair(t, p)
	asked := 0
	x.narrowed = func() { asked++ }
	for i, id := range []esp.ChildID{1, 2} {
		if err := errors.Join(x.Install(child(id, i), esp.State{}), x.Use(id)); err != nil {
			t.Fatal(err)
		}
	}
	if x.PlaneOf(1) != kernel || x.PlaneOf(2) != kernel || len(x.Narrow()) != 0 {
		t.Fatalf("in %s and %s, narrow are %v", x.PlaneOf(1), x.PlaneOf(2), x.Narrow())
	}
	x.LearnPath(local, remote, 1420)
	if len(x.Narrow()) != 0 {
		t.Errorf("1420 bytes are enough, and narrow are %v", x.Narrow())
	}
	x.LearnPath(local, remote, 1300)
	if n := x.Narrow(); asked != 2 || len(n) != 1 || n["b"].why == nil || n["b"].stays != nil || !strings.Contains(n["b"].why.Error(), "1280") {
		t.Errorf("narrow are %v, asked %d times", n, asked)
	}
	for i, id := range []esp.ChildID{3, 4} {
		if err := errors.Join(x.Install(child(id, i), esp.State{}), x.Use(id)); err != nil {
			t.Fatal(err)
		}
	}
	if x.PlaneOf(3) != kernel || x.PlaneOf(4) != userspace || len(x.Narrow()) != 0 {
		t.Errorf("in %s and %s, narrow are %v", x.PlaneOf(3), x.PlaneOf(4), x.Narrow())
	}
	if err := x.Choose("b", kernel); err == nil || !strings.Contains(err.Error(), "its path takes") {
		t.Errorf("moved back by the operator: %v", err)
	}
	x.LearnPath(local, remote, 1500)
	x.kernel.pathMTU = 1300 // the kernel heard it from a router
	if err := x.Install(child(5, 1), esp.State{}); err != nil || x.PlaneOf(5) != userspace {
		t.Errorf("in %s, %v", x.PlaneOf(5), err)
	}
	x.kernel.pathMTU = 0
	if err := x.Install(child(6, 1), esp.State{}); err != nil || x.PlaneOf(6) != kernel {
		t.Errorf("the path grew, and the next child is in %s, %v", x.PlaneOf(6), err)
	}
}

func TestChildrenSideBySideAreForUserspace(t *testing.T) {
	p := &policy.Policy{Tunnels: []policy.Tunnel{
		{Name: "one", Suites: []policy.Suite{policy.SM4CBCHMACSM3}, ICVBits: 96, Children: 1},
		{Name: "four", Suites: []policy.Suite{policy.SM4CBCHMACSM3}, ICVBits: 96, Children: 4},
	}}
	where := homes(p)
	if h := where["one"]; h.plane != kernel || h.why != "" {
		t.Errorf("one child: %+v", h)
	}
	if h := where["four"]; h.plane != userspace || !strings.Contains(h.why, "children: 4") {
		t.Errorf("four: %+v", h)
	}
	if err := kernelUnfit(p); err == nil || !strings.Contains(err.Error(), "tunnel four") {
		t.Errorf("dataplane: kernel takes it: %v", err)
	}
}
