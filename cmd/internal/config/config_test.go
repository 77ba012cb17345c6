package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/esp/tunnel"
)

// file writes a configuration and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnEmptyFileGivesTheDefaults(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n"} {
		path := file(t, text)
		c, err := Load(path, nil)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		here := filepath.Dir(path)
		want := Config{File: path, Policy: here + "/policy.yaml", StateDir: "/var/lib/yumen",
			ControlSocket: "/run/yumen/control.sock", SignCert: here + "/sign.crt", SignKey: here + "/sign.key",
			EncCert: here + "/enc.crt", EncKey: here + "/enc.key", KeyDeadline: 10 * time.Second,
			Dataplane: "auto", Tun: "yumen0", Mark: 0x59756d65, Table: 4950, RulePriority: 4950, MTU: 1500, IKEPort: 500, NATPort: 4500, XFRMID: 89}
		if *c != want {
			t.Errorf("%q gave\n%+v, want\n%+v", text, *c, want)
		}
	}
}

func TestEverySettingOfTheFileArrives(t *testing.T) {
	path := file(t, `
policy: p/other.yaml
state_dir: state
control_socket: /tmp/c.sock
sign_cert: s.crt
sign_key: /keys/s.key
enc_cert: e.crt
enc_key: e.key
passphrase_file: pass
key_deadline: 3s
log: {format: json, level: debug}
metrics_listen: "[::1]:9808"
manage_sysctl: true
dataplane: kernel
xfrm_interface: ipsec7
xfrm_if_id: 0x2a
tun: tun7
mark: 0x10
table: 300
rule_priority: 7
mtu: 1400
offloads_without: udp-segment, tun-uso
ike_port: 5500
nat_port: 5501
`)
	here := filepath.Dir(path)
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{File: path, Policy: here + "/p/other.yaml", StateDir: here + "/state", ControlSocket: "/tmp/c.sock",
		SignCert: here + "/s.crt", SignKey: "/keys/s.key", EncCert: here + "/e.crt", EncKey: here + "/e.key",
		PassphraseFile: here + "/pass", KeyDeadline: 3 * time.Second, LogJSON: true, LogLevel: slog.LevelDebug,
		MetricsListen: "[::1]:9808", ManageSysctl: true, Dataplane: "kernel", Tun: "tun7", Mark: 16, Table: 300, RulePriority: 7, MTU: 1400,
		Without: tunnel.OffloadSend | tunnel.OffloadUSO, IKEPort: 5500, NATPort: 5501, XFRMInterface: "ipsec7", XFRMID: 42}
	if *c != want {
		t.Errorf("got\n%+v, want\n%+v", *c, want)
	}
}

func TestFlagsWinOverTheEnvironmentAndThatOverTheFile(t *testing.T) {
	path := file(t, "tun: file0\nlog: {level: error}\npolicy: file.yaml\n")
	t.Setenv("YUMEN_TUN", "env0")
	t.Setenv("YUMEN_LOG_LEVEL", "warn")
	t.Setenv("YUMEN_POLICY", "env.yaml")
	c, err := Load(path, Flags{"log.level": "debug"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Tun != "env0" || c.LogLevel != slog.LevelDebug || c.Policy != "env.yaml" {
		t.Errorf("tun %q, level %v, policy %q", c.Tun, c.LogLevel, c.Policy)
	}
}

func TestEveryFaultIsToldAtOnceWithItsPlace(t *testing.T) {
	t.Setenv("YUMEN_MTU", "900")
	path := file(t, `policy: ""
control_socket: `+strings.Repeat("x", 200)+`
key_deadline: soon
log:
  format: xml
  level: loud
metrics_listen: 0.0.0.0:9808
manage_sysctl: "yes"
tun: this-name-is-far-too-long
mark: 0
table: 254
rule_priority: 32000
offloads_without: udp-segment udp_gro
ike_port: 70000
`)
	_, err := Load(path, Flags{"nat_port": "zero"})
	if err == nil {
		t.Fatal("taken")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{":1: policy: must not", ":2: control_socket: ", ":3: key_deadline: ", ":5: log.format: ",
		":6: log.level: ", ":8: manage_sysctl: ", ":9: tun: ", ":10: mark: ", ":11: table: ", ":12: rule_priority: ",
		"YUMEN_MTU: mtu: ", ":13: offloads_without: ", ":14: ike_port: ", "--nat-port: nat_port: ", ":7: metrics_listen: "}
	if len(got) != len(want) {
		t.Errorf("%d faults, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		place := strings.TrimPrefix(got[i], path)
		if !strings.HasPrefix(place, want[i]) {
			t.Errorf("fault %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestWhatTheFileMustNotHold(t *testing.T) {
	for text, want := range map[string]string{
		"polcy: x\n":                        ":1: polcy: unknown key; did you mean policy?",
		"\nwhatever: x\n":                   ":2: whatever: unknown key; known keys: ",
		"log:\n  colour: red\n":             ":2: log.colour: unknown key; did you mean log.",
		"policy: [a, b]\n":                  ":1: policy: one value belongs here",
		"policy: {a: b}\n":                  ":1: policy: one value belongs here",
		"log: json\n":                       ":1: keys and values belong here",
		"- a\n- b\n":                        ":1: keys and values belong here",
		"tun: &x a\npolicy: *x\n":           ":2: policy: one value belongs here",
		"tun: a\ntun: b\n":                  ":2: tun: given a second time",
		"tun: a\n---\ntun: b\n":             "a second document",
		"tun: [\n":                          "yaml",
		"nat_port: 500\n":                   ":1: nat_port: 500 is ike_port already",
		"metrics_listen: here\n":            "no address and port",
		"metrics_listen: host.example:80\n": "give an IP address",
		"metrics_listen: 127.0.0.1:http\n":  "no number from 0 to 65535",
		"metrics_allow_remote: maybe\n":     "neither true nor false",
		"Policy: x\n":                       ":1: Policy: unknown key",
	} {
		_, err := Load(file(t, text), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want %q", text, err, want)
		}
	}
}

func TestMetricsMayBeRemoteOnlyWhenSaidSo(t *testing.T) {
	if _, err := Load(file(t, "metrics_listen: 10.0.0.1:9808\nmetrics_allow_remote: true\n"), nil); err != nil {
		t.Error(err)
	}
	if _, err := Load(file(t, "metrics_listen: localhost:9808\n"), nil); err != nil {
		t.Error(err)
	}
}

func TestAFileThatIsMissingOrNoFileIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := Load(missing, nil); err == nil || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "--config") {
		t.Errorf("missing: %v", err)
	}
	if _, err := Load(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "not a configuration") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Load(file(t, "# "+strings.Repeat("x", maxFile)), nil); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a large file: %v", err)
	}
}

func TestTheSocketIsFoundWithoutAWholeConfiguration(t *testing.T) {
	path := file(t, "control_socket: mine.sock\n")
	if got := Socket(path, ""); got != filepath.Dir(path)+"/mine.sock" {
		t.Errorf("of the file: %s", got)
	}
	if got := Socket("/nowhere.yaml", ""); got != "/run/yumen/control.sock" {
		t.Errorf("the default: %s", got)
	}
	t.Setenv("YUMEN_CONTROL_SOCKET", "/env.sock")
	if got := Socket(path, ""); got != "/env.sock" {
		t.Errorf("of the environment: %s", got)
	}
	if got := Socket(path, "/flag.sock"); got != "/flag.sock" {
		t.Errorf("of the flag: %s", got)
	}
}
