package daemon

import (
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
	x.did(t, "user steer dr [{b 1}]", "user echo b", "user echo group dr", "user mute a true", "kernel mute c false")
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
