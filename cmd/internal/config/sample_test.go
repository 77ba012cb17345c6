package config

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const samples = "../../../configs"

// TestTheSampleShowsEverySettingWithItsDefault: what the sample says is what
// happens without it.
func TestTheSampleShowsEverySettingWithItsDefault(t *testing.T) {
	sample, err := Load(filepath.Join(samples, "gateway.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(sample.File)
	if err != nil {
		t.Fatal(err)
	}
	v, err := collect(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	standard, faults := build(v, samples)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	standard.File = sample.File
	if !reflect.DeepEqual(sample, standard) {
		t.Errorf("the sample is\n%+v, the defaults are\n%+v", sample, standard)
	}
	lines, _ := outline("sample", raw)
	for _, s := range settings() {
		if lines[s.key] == 0 {
			t.Errorf("the sample does not show %s", s.key)
		}
	}
}

// TestSystemdKnowsEveryLineOfTheUnits has systemd judge them. What they do is tried in
// test/vm.
func TestSystemdKnowsEveryLineOfTheUnits(t *testing.T) {
	judge, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIP units: systemd-analyze is not installed")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args, dir := []string{"verify", "--man=no", "--recursive-errors=no"}, t.TempDir()
	for _, name := range []string{"yumen.service", "yumen-guard.service"} {
		raw, err := os.ReadFile(filepath.Join(samples, name))
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, filepath.Join(dir, name))
		// It looks for the program too, and here it is not installed.
		if err := os.WriteFile(args[len(args)-1], bytes.ReplaceAll(raw, []byte("/usr/bin/yumen"), []byte(self)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(judge, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

// TestTheProgramIsInstalledWhereUnitsAndScriptsCallIt: the README's line and every
// sample that names the program by its path.
func TestTheProgramIsInstalledWhereUnitsAndScriptsCallIt(t *testing.T) {
	called := map[string][]string{}
	note := func(path string, is *regexp.Regexp) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range is.FindAllSubmatch(raw, -1) {
			called[string(m[1])] = append(called[string(m[1])], filepath.Base(path))
		}
	}
	note("../../../README.md", regexp.MustCompile(`install -m 755 build/yumen (/\S*/)\s`))
	if len(called) != 1 {
		t.Fatalf("the README installs into %v", called)
	}
	for _, name := range []string{"yumen.service", "yumen-guard.service", "keepalived/yumen-check", "keepalived/yumen-notify"} {
		note(filepath.Join(samples, name), regexp.MustCompile(`(?:^|[\s=(-])(/\S*/)yumen (?:run|handover|guard|ready)\b`))
	}
	for dir, by := range called {
		if len(called) != 1 || len(by) < 5 {
			t.Errorf("it is in %s for %v", dir, by)
		}
	}
}

// TestTheUnitGrantsWhatTheGatewayNeedsAndNoMore reads the systemd unit.
func TestTheUnitGrantsWhatTheGatewayNeedsAndNoMore(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(samples, "yumen.service"))
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	for _, line := range strings.Split(string(raw), "\n") {
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			set[key] = value
		}
	}
	caps := "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_IPC_LOCK"
	for key, want := range map[string]string{
		"Type": "notify", "CapabilityBoundingSet": caps, "AmbientCapabilities": caps, "NoNewPrivileges": "yes",
		"ProtectSystem": "strict", "StateDirectory": "yumen", "StateDirectoryMode": "0700", "LimitCORE": "0",
		"RuntimeDirectory": "yumen", "ExecReload": "/bin/kill -HUP $MAINPID", "Restart": "on-failure",
	} {
		if set[key] != want {
			t.Errorf("%s is %q, want %q", key, set[key], want)
		}
	}
	if standard("state_dir") != "/var/lib/"+set["StateDirectory"] || standard("control_socket") != "/run/"+set["RuntimeDirectory"]+"/control.sock" {
		t.Error("the folders of the unit are not those of the defaults")
	}
}
