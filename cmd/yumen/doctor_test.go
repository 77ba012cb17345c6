package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctorTellsWhatIsWrongWithTheMachineAsStatusLinesAndJSON(t *testing.T) {
	dir := newSite(t)
	config := []string{"--config", filepath.Join(dir, "gateway.yaml")}
	if err := os.Remove(filepath.Join(dir, "enc.crt")); err != nil { // so that one thing surely is wrong
		t.Fatal(err)
	}
	status, stdout, stderr := yumen(append([]string{"doctor"}, config...)...)
	if status != exitFailed || !strings.Contains(stderr, "wrong") {
		t.Errorf("status %d, %q", status, stderr)
	}
	for _, want := range []string{"fail  certificate  own encryption certificate", "no such file", "fix: ", "certificate  CA of peer b"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	status, stdout, _ = yumen(append([]string{"doctor", "--json"}, config...)...)
	var report struct {
		Findings []struct{ Check, Level, Text, Fix string }
		Fails    int
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || status != exitFailed || report.Fails == 0 || len(report.Findings) < 5 {
		t.Errorf("status %d, %v: %s", status, err, stdout)
	}
}

func TestDoctorLooksAtTheMachineWithoutAConfiguration(t *testing.T) {
	status, stdout, _ := yumen("doctor", "--config", filepath.Join(t.TempDir(), "none.yaml"))
	if status != exitFailed || !strings.Contains(stdout, "fail  config") || !strings.Contains(stdout, "suite") {
		t.Errorf("status %d:\n%s", status, stdout)
	}
}
