package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"yumen/ike"
)

func TestLearnedDialectsOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	if list, err := loadDialects(dir); err != nil || list != nil {
		t.Errorf("before the first start: %v, %v", list, err)
	}
	want := []ike.Learned{{Peer: "b", Fingerprint: strings.Repeat("ab", 32), Dialect: "{ike_sm4_id: 127, sk_encoding: c1c3c2}"},
		{Peer: "c", Fingerprint: strings.Repeat("cd", 32), Dialect: "{send_own_vid: false}"}}
	if err := saveDialects(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := loadDialects(dir); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(dir, dialectFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := saveDialects(dir, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := loadDialects(dir); err != nil || len(got) != 0 {
		t.Errorf("nothing learned reads %v, %v", got, err)
	}
}

// A file that is damaged, or says what no gateway can have learned, is told and
// stops nothing.
func TestBadFileOfDialectsIsToldAndLeftOut(t *testing.T) {
	for name, content := range map[string]string{
		"cut":     `{"learned": [{"peer": "b"`,
		"foreign": `{"learned": [{"peer": "b", "fingerprint": "", "dialect": "{ike_sm4_id: 127}", "key": "x"}]}`,
		"header":  `{"learned": [{"peer": "b", "fingerprint": "", "dialect": "{gm_version: 1.0}"}]}`,
		"check":   `{"learned": [{"peer": "b", "fingerprint": "", "dialect": "{transform_id: ignore}"}]}`,
		"value":   `{"learned": [{"peer": "b", "fingerprint": "", "dialect": "{ike_sm4_id: 128}"}]}`,
		"huge":    strings.Repeat(" ", maxDialects+1),
	} {
		f := newFolder(t)
		p, err := Prepare(f.config(), Build{})
		f.must(err)
		f.must(os.MkdirAll(p.Config.StateDir, 0o700))
		f.must(os.WriteFile(filepath.Join(p.Config.StateDir, dialectFile), []byte(content), 0o600))
		p, err = Prepare(f.config(), Build{})
		if err != nil || p.Dialects == nil || len(p.learned) != 0 || !strings.Contains(p.Dialects.Error(), "learned afresh") {
			t.Errorf("%s: %v, %v", name, err, p)
		}
	}
}
