package config

import (
	"os"
	"path/filepath"
	"reflect"
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
