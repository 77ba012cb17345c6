package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/pki"
	"yumen/esp/tunnel"
)

func TestASiteThatIsFitToRunIsPreparedAndNothingIsTouched(t *testing.T) {
	f := newFolder(t)
	before, err := os.ReadDir(f.path)
	f.must(err)
	p, err := Prepare(f.config(), Build{Version: "1"})
	f.must(err)
	if len(p.Policy.Tunnels) != 1 || p.Own.Sign.Name == "" || p.Clock != "" || len(p.Selftests) < 8 {
		t.Errorf("prepared %+v", p)
	}
	after, err := os.ReadDir(f.path)
	f.must(err)
	if len(after) != len(before) {
		t.Errorf("%d files became %d", len(before), len(after))
	}
	digest := make([]byte, 32)
	if der, err := p.keys.Sign(digest); err != nil || len(der) < 60 {
		t.Errorf("signing gave %x, %v", der, err)
	}
	if _, _, err := p.keys.Open([]byte{0x30, 0}); err == nil {
		t.Error("an empty envelope was opened")
	}
}

func TestEveryFaultOfASiteIsToldAtOnce(t *testing.T) {
	f := newFolder(t)
	f.write("policy.yaml", strings.Replace(strings.Replace(onePeer, "ca: ca.crt", "ca: none.crt\n    crl: none.crl", 1), "CN=gw-b,C=CN", "XX=foo", 1))
	f.must(os.Remove(filepath.Join(f.path, "enc.crt")))
	f.must(os.Chmod(filepath.Join(f.path, "sign.key"), 0o644))
	f.write("state", "a file")
	_, err := Prepare(f.config(), Build{})
	if err == nil {
		t.Fatal("fit to run")
	}
	for _, want := range []string{"state_dir", "none.crt", "chmod 600", `peer "b"`,
		"policy.yaml:5: peers[0].ca: ", "policy.yaml:6: peers[0].crl: ", "none.crl", "policy.yaml:7: peers[0].subject: ", "enc.crt"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
}

// Whoever has only peers of profile rfc2409-psk needs no certificates, and whoever
// has another one too needs them.
func TestAGatewayWithPreSharedKeysAloneNeedsNoCertificates(t *testing.T) {
	f := newFolder(t)
	for _, name := range []string{"sign.crt", "sign.key", "enc.crt", "enc.key"} {
		f.must(os.Remove(filepath.Join(f.path, name)))
	}
	f.write("b.psk", "a key of some length\n")
	entry := "    profile: rfc2409-psk\n    allow_non_gm: true\n    psk_file: b.psk\n"
	plain := strings.Replace(onePeer, "    ca: ca.crt\n    subject: \"CN=gw-b,C=CN\"\n", entry, 1)
	f.write("policy.yaml", plain)
	p, err := Prepare(f.config(), Build{})
	f.must(err)
	if n := len(ownCertificates(p.Own)); n != 0 {
		t.Errorf("status shows %d certificates", n)
	}
	if s := p.remark("net"); !strings.Contains(s, "NOT GB/T 36968 (rfc2409-psk)") || p.remark("none") != "" || p.profile("net") != "rfc2409-psk" {
		t.Errorf("an order about its tunnel is answered %q", s)
	}
	if _, err := p.keys.Sign(make([]byte, 32)); err == nil {
		t.Error("it signs")
	}
	if _, _, err := p.keys.Open([]byte{0x30, 0}); err == nil {
		t.Error("it opens envelopes")
	}
	f.write("policy.yaml", strings.Replace(plain, "tunnels:", "  - {name: c, remote: 192.0.2.3, ca: ca.crt, subject: \"CN=gw-c,C=CN\"}\ntunnels:", 1))
	if _, err := Prepare(f.config(), Build{}); err == nil || !strings.Contains(err.Error(), "sign.crt") {
		t.Errorf("with a peer of the standard beside it: %v", err)
	}
}

// withKey adds a line to the entry of the peer.
func withKey(line string) func(folder) {
	return func(f folder) {
		f.write("policy.yaml", strings.Replace(onePeer, "ca: ca.crt", "ca: ca.crt\n    "+line, 1))
	}
}

func TestFilesOfAPeerEntryReachTheEngine(t *testing.T) {
	f := newFolder(t)
	withKey("send_chain: ca.crt")(f)
	p, err := Prepare(f.config(), Build{})
	f.must(err)
	if files := p.engineConfig().Files["b"]; len(files.Chain) != 1 || files.Sign != nil {
		t.Errorf("%+v", files)
	}
}

func TestFaultsOfOneKindEach(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(folder)
		want  string
	}{
		"expired":      {func(f folder) { f.issue("sign", pki.Signing, time.Now().Add(-time.Hour)) }, "expired"},
		"swapped":      {func(f folder) { f.issue("sign", pki.Encryption, time.Now().Add(time.Hour)) }, "certificate-key-usage"},
		"foreign key":  {func(f folder) { f.key("enc.key") }, "does not belong"},
		"no policy":    {func(f folder) { f.must(os.Remove(filepath.Join(f.path, "policy.yaml"))) }, "policy.yaml"},
		"wrong policy": {func(f folder) { f.write("policy.yaml", onePeer+"surprise: 1\n") }, "policy.yaml:9"},
		"ca is no ca":  {func(f folder) { f.write("ca.crt", "x") }, `peer "b"`},
		"missing crl": {func(f folder) {
			f.write("policy.yaml", strings.Replace(onePeer, "ca: ca.crt", "ca: ca.crt\n    crl: gone.crl", 1))
		}, "gone.crl"},
		"crl is no crl": {func(f folder) {
			f.write("x.crl", "x")
			f.write("policy.yaml", strings.Replace(onePeer, "ca: ca.crt", "ca: ca.crt\n    crl: x.crl", 1))
		}, "x.crl"},
		"gone peer_certs":    {withKey("peer_certs: {sign: gone.crt, enc: gone.crt}"), "gone.crt"},
		"foreign peer_certs": {withKey("peer_certs: {sign: sign.crt, enc: enc.crt}"), "peer_certs"},
		"gone chain":         {withKey("send_chain: gone.crt"), "send_chain"},
		"chain is no chain":  {withKey("send_chain: sign.crt"), "is not a CA certificate"},
		"no passphrase":      {func(f folder) { f.write("gateway.yaml", "passphrase_file: pass\n") }, "pass"},
		"huge authority":     {func(f folder) { f.write("ca.crt", strings.Repeat("x", maxTrustFile+1)) }, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			c.spoil(f)
			if _, err := Prepare(f.config(), Build{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestAnImplausibleClockIsReported(t *testing.T) {
	f := newFolder(t)
	p, err := Prepare(f.config(), Build{Time: time.Now().Add(time.Hour)})
	f.must(err)
	if !strings.Contains(p.Clock, "when this program was made") {
		t.Errorf("the clock is %q", p.Clock)
	}
}

func TestUnknownTunnelsAreNamedBesideTheKnown(t *testing.T) {
	f := newFolder(t)
	p, err := Prepare(f.config(), Build{})
	f.must(err)
	if err := hasTunnel(p.Policy, "net"); err != nil {
		t.Error(err)
	}
	if err := hasTunnel(p.Policy, "nett"); err == nil || !strings.Contains(err.Error(), "it has: net") {
		t.Error(err)
	}
}

func TestTheDataPlaneGetsItsSettings(t *testing.T) {
	c := planeConfig(&config.Config{Tun: "t", MTU: 1, Mark: 2, Table: 3, RulePriority: 4, NATPort: 5, ManageSysctl: true, Without: tunnel.OffloadSend})
	if c.Name != "t" || c.MTU != 1 || c.Mark != 2 || c.Table != 3 || c.RulePriority != 4 || c.NATPort != 5 || !c.ManageSysctl || c.Without != tunnel.OffloadSend {
		t.Errorf("%+v", c)
	}
}

func TestTheKernelAloneIsNotPreparedForAnUnknownICVLength(t *testing.T) {
	f := newFolder(t)
	withKey("profile: auto")(f)
	c := f.config()
	for plane, refused := range map[string]bool{"user": false, "auto": false, "kernel": true} {
		c.Dataplane = plane
		_, err := Prepare(c, Build{})
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), "icv_bits: 96, 128 or 256 in the tunnel") {
			t.Errorf("dataplane: %s: %v", plane, err)
		}
	}
}

// check passes nothing that run, or the next reload, refuses.
func TestTheKernelAloneIsNotPreparedForWhatNoKernelCarries(t *testing.T) {
	const two = `site: a
peers:
  - {name: b, remote: 192.0.2.2, ca: ca.crt, subject: "CN=gw-b,C=CN"}
  - {name: c, remote: 192.0.2.3, ca: ca.crt, subject: "CN=gw-b,C=CN"}
tunnels:
  - {name: one, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0/16}
  - {name: two, peer: c, local: 10.1.0.0/16, remote: 10.2.0.0/16}
`
	const group = "groups:\n  - {name: dr, members: [{tunnel: one}, {tunnel: two}]"
	for name, c := range map[string]struct{ policy, why string }{
		"tunnel":         {strings.Replace(onePeer, "remote: 10.2.0.0/16", "remote: 10.2.0.0/16, suites: [sm4gcm128]", 1), "policy.yaml: tunnels[0]: tunnel net: no kernel has SM4-GCM"},
		"without target": {two + group + "}\n", "policy.yaml: groups[0]: group dr has no probe.target"},
		"load-share":     {two + group + ", mode: load-share, probe: {target: 10.2.0.1}}\n", "policy.yaml: groups[0]: group dr shares its load"},
		"one path":       {strings.Replace(two, "name: two", "children: 2, name: two", 1) + group + ", probe: {target: 10.2.0.1}}\n", "policy.yaml: groups[0]: a path of group dr needs it (two: children: 2"},
		"fit":            {two + group + ", probe: {target: 10.2.0.1}}\n", ""},
	} {
		f := newFolder(t)
		f.write("policy.yaml", c.policy)
		for _, plane := range []string{"user", "auto", "kernel"} {
			cfg := f.config()
			cfg.Dataplane = plane
			_, err := Prepare(cfg, Build{})
			switch refused := plane == "kernel" && c.why != ""; {
			case (err != nil) != refused:
				t.Errorf("%s, dataplane: %s: %v", name, plane, err)
			case refused && (!strings.Contains(err.Error(), c.why) || strings.Count(err.Error(), "policy.yaml") != 1):
				t.Errorf("%s: %v, want %q", name, err, c.why)
			}
		}
	}
}

func TestIPv6InUserspaceIsNotPreparedWithoutNft(t *testing.T) {
	f := newFolder(t)
	f.write("policy.yaml", strings.Replace(onePeer, "local: 10.1.0.0/16, remote: 10.2.0.0/16", `local: "fd01::/64", remote: "fd02::/64"`, 1))
	t.Setenv("PATH", t.TempDir())
	c := f.config()
	for plane, refused := range map[string]bool{"user": true, "auto": false, "kernel": false} {
		c.Dataplane = plane
		_, err := Prepare(c, Build{})
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), "policy.yaml: tunnel net is IPv6") {
			t.Errorf("dataplane: %s: %v", plane, err)
		}
	}
}
