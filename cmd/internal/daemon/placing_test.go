package daemon

import (
	"strings"
	"testing"

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

func TestThePortBelongsToUserspaceOnlyWhereUDPMayNeedIt(t *testing.T) {
	for _, c := range []struct{ peer, tunnel, want string }{
		{"", "name: a, remote: 10.2.0.0/16", ""},
		{"", "name: a, remote: 10.2.0.0/16, suites: [sm4gcm128]", "a"},
		{", encap: off", "name: a, remote: 10.2.0.0/16, suites: [sm4gcm128]", ""},
		{", encap: force", "name: a, remote: 10.2.0.0/16, suites: [sm4cbc-hmacsm3, sm4gcm128]", "a"},
	} {
		p := parseTunnels(t, c.peer, c.tunnel)
		if got, _ := userPort(p, homes(p)); got != c.want {
			t.Errorf("%s %s: tunnel %q takes the port, want %q", c.peer, c.tunnel, got, c.want)
		}
	}
}
