package daemon

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"yumen/esp"
	"yumen/policy"
)

func (h *fakeSide) Steer(g string, to []esp.Weight) error       { return h.do("steer %s %v", g, to) }
func (h *fakeSide) Echo(name string, _ uint64, _ int64) error   { return h.do("echo %s", name) }
func (h *fakeSide) EchoGroup(g string, _ uint64, _ int64) error { return h.do("echo group %s", g) }
func (h *fakeSide) Mute(name string, on bool) error             { return h.do("mute %s %v", name, on) }
func (h *fakeSide) Echoes() <-chan esp.Echo                     { return h.echoes }

// parseGroup is a policy of a group of two paths, a and b, and a tunnel c beside it.
func parseGroup(t *testing.T, group string, keysOfB string) *policy.Policy {
	t.Helper()
	text := `site: a
peers:
  - {name: p, remote: 192.0.2.2, ca: ca.crt, subject: CN=p}
  - {name: q, remote: 192.0.2.3, ca: ca.crt, subject: CN=p}
tunnels:
  - {name: a, peer: p, local: 10.1.0.0/16, remote: 10.2.0.0/16}
  - {name: b, peer: q, local: 10.1.0.0/16, remote: 10.2.0.0/16` + keysOfB + `}
  - {name: c, peer: q, local: 10.1.0.0/16, remote: 10.9.0.0/16}
groups:
  - name: dr
    members: [{tunnel: a}, {tunnel: b}]
` + group
	p, err := policy.Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAllPathsOfAGroupLiveOnOnePlane(t *testing.T) {
	const target, share = "    probe: {target: 10.2.0.1}\n", "    mode: load-share\n"
	for _, c := range []struct{ group, keysOfB, why string }{
		{"", "", "no probe.target"},
		{target, "", ""},
		{target, ", suites: [sm4gcm128]", "SM4-GCM"},
		{target, ", suites: [sm4cbc-hmacsm3, sm4gcm128]", "SM4-GCM"},
		{target, ", icv_bits: auto", "ICV length"},
		{target + share, "", "one at a time"},
	} {
		plane := userspace
		if c.why == "" {
			plane = kernel
		}
		of := homes(parseGroup(t, c.group, c.keysOfB))
		for _, name := range []string{"a", "b"} {
			if of[name].plane != plane || (of[name].why == "") != (c.why == "") || !strings.Contains(of[name].why, c.why) {
				t.Errorf("%s: %s is at home in %+v", c.keysOfB, name, of[name])
			}
		}
		if of["c"].plane != kernel {
			t.Errorf("the tunnel beside it is at home in %+v", of["c"])
		}
		if err := kernelUnfit(parseGroup(t, c.group, c.keysOfB)); (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("the kernel alone: %v", err)
		}
	}
}

func TestAGroupIsSteeredAndProbedWhereItLives(t *testing.T) {
	x := newPair(t, parseGroup(t, "", ""))
	x.did(t, "kernel policy", "user open", "user policy", "user carry [a b]", "kernel beside [a b] of [a b]")
	for _, err := range []error{
		x.Steer("dr", []esp.Weight{{Tunnel: "b", Weight: 1}}), x.Echo("b", 1, 2), x.EchoGroup("dr", 1, 2), x.Mute("a", true), x.Mute("c", false),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	x.did(t, "kernel steer dr [{b 1}]", "user steer dr [{b 1}]", "user echo b", "user echo group dr",
		"kernel mute a true", "user mute a true", "kernel mute c false", "user mute c false")
	if err := x.Steer("x", nil); err == nil || !strings.Contains(err.Error(), "no such group") {
		t.Error(err)
	}
	if err := x.Choose("a", kernel); err == nil || !strings.Contains(err.Error(), "group dr") {
		t.Errorf("a path moves alone: %v", err)
	}
	y := newPair(t, parseGroup(t, "    probe: {target: 10.2.0.1}\n", ""))
	if err := y.Steer("dr", nil); err != nil {
		t.Error(err)
	}
	y.did(t, "kernel policy", "kernel steer dr []")
	x.user.echoes <- esp.Echo{Seq: 5}
	select {
	case e := <-x.Echoes():
		if e.Seq != 5 {
			t.Errorf("%+v", e)
		}
	case <-time.After(5 * time.Second):
		t.Error("an answer is lost")
	}
}

// A reload gives a group another home while its children stand.
func TestAGroupThatMovesWorksWhereItsChildrenAre(t *testing.T) {
	const target = "    probe: {target: 10.2.0.1}\n"
	x := newPair(t, parseGroup(t, target, ""))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	use := func(id esp.ChildID, name string) {
		t.Helper()
		must(x.Install(childOf(id, name, cbc, false), esp.State{}))
		must(x.Use(id))
	}
	strays := func(want map[string]string) {
		t.Helper()
		if got := x.Strays(); !maps.Equal(got, want) {
			t.Errorf("not at home are %v, want %v", got, want)
		}
	}
	toB := []esp.Weight{{Tunnel: "b", Weight: 1}}
	use(1, "a")
	use(2, "b")
	must(x.Steer("dr", toB))
	must(x.Mute("a", true))
	strays(map[string]string{})
	x.diary = nil

	// To userspace: what was said of the group the new plane knows, and until a child
	// goes there nothing else changes.
	must(x.SetPolicy(parseGroup(t, "", "")))
	x.did(t, "kernel policy", "user open", "user policy", "user steer dr [{b 1}]", "user mute a true")
	strays(map[string]string{"a": userspace, "b": userspace})
	must(errors.Join(x.Echo("b", 1, 2), x.EchoGroup("dr", 1, 2)))
	x.did(t, "kernel echo b", "kernel echo group dr")

	// The traffic goes with the child of the path that carries; the other path may be
	// dead and stay for long.
	use(3, "b")
	x.did(t, "user carry [a b]", "kernel beside [] of [a b]", "user install 3", "user use 3", "kernel beside [a b] of [a b]")
	strays(map[string]string{"a": userspace})
	must(errors.Join(x.Echo("a", 1, 2), x.Echo("b", 1, 2), x.EchoGroup("dr", 1, 2)))
	x.did(t, "kernel echo a", "user echo b", "user echo group dr")
	must(x.Steer("dr", []esp.Weight{{Tunnel: "a", Weight: 1}}))
	x.did(t, "kernel steer dr [{a 1}]", "user steer dr [{a 1}]", "kernel beside [] of [a b]")
	must(x.Steer("dr", toB))
	x.did(t, "kernel steer dr [{b 1}]", "user steer dr [{b 1}]", "kernel beside [a b] of [a b]")
	must(x.Steer("dr", toB))
	x.did(t, "kernel steer dr [{b 1}]", "user steer dr [{b 1}]")
	use(4, "a")
	strays(map[string]string{})

	// And back.
	must(x.SetPolicy(parseGroup(t, target, "")))
	strays(map[string]string{"a": kernel, "b": kernel})
	x.diary = nil
	must(x.EchoGroup("dr", 1, 2))
	x.did(t, "user echo group dr")
}

func TestATunnelThatIsGroupedForgetsWhereItWasMovedAlone(t *testing.T) {
	const target = "    probe: {target: 10.2.0.1}\n"
	alone := parseGroup(t, target, "")
	alone.Groups = nil
	alone.Tunnels = slices.DeleteFunc(alone.Tunnels, func(t policy.Tunnel) bool { return t.Name == "b" })
	x := newPair(t, alone)
	if err := errors.Join(x.Choose("a", userspace), x.SetPolicy(parseGroup(t, target, ""))); err != nil {
		t.Fatal(err)
	}
	if x.Current("a") != kernel || x.Current("b") != kernel {
		t.Errorf("a goes to %s, b to %s", x.Current("a"), x.Current("b"))
	}
}

func TestAPathIsNotMutedByHalf(t *testing.T) {
	x := newPair(t, parseGroup(t, "", ""))
	x.user.refuse, x.diary = "user mute a true", nil
	if err := x.Mute("a", true); err == nil {
		t.Error("a plane refused, and nobody was told")
	}
	x.did(t, "kernel mute a true", "kernel mute a false", "user mute a false")
}
