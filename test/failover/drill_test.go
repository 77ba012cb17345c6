package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// drillReport is what tests read of a report.
type drillReport struct {
	Passed bool   `json:"passed"`
	Why    string `json:"why"`
	Paths  []struct {
		Path    string `json:"path"`
		Carried bool   `json:"carried"`
		Failure struct {
			Sent, Lost  int
			Gap         float64 `json:"gap_ms"`
			There, Back struct {
				Lost      int
				Recovered float64 `json:"recovered_ms"`
			}
		} `json:"failure"`
		Return struct{ Lost int } `json:"return"`
	} `json:"paths"`
}

func TestDrillFailsEachPathAndRestores(t *testing.T) {
	s := newSites(t, "two paths")
	out := filepath.Join(s.dir, "reports")
	need(t, os.Mkdir(out, 0o755))
	a := s.gate[endA]
	flips, err := s.flips()
	need(t, err)

	said, err := a.Command("drill", groupOf(false), "--window", "2m", "--yes", "--hold", "2s", "--out", out)
	t.Logf("%s", said)
	need(t, err)
	r := onlyReport(t, out)
	if !r.Passed || len(r.Paths) != 2 || !r.Paths[0].Carried {
		t.Errorf("the report: %+v", r)
	}
	carried := r.Paths[0].Failure
	if carried.Lost == 0 || carried.Gap > float64((byProbes+busy).Milliseconds()) || carried.There.Recovered < 100 {
		t.Errorf("the path that carried: %+v: both ends have to find out by three probes", carried)
	}
	if now, err := s.flips(); err != nil || now[0] == flips[0] || now[1] == flips[1] {
		t.Errorf("an end did not flip: %v after %v, %v", now, flips, err)
	}
	need(t, s.settled(20*time.Second))

	s.interrupted(t, syscall.SIGINT, 2*time.Second)

	s.wires[1].fwd.Set(drop(true, true))
	eventually(t, 5*time.Second, func() error {
		said, err := a.Command("drill", groupOf(false), "--window", "2m", "--yes", "--out", s.dir)
		if err == nil || !strings.Contains(said, "no healthy alternative") {
			return fmt.Errorf("without an alternative: %s, %v", said, err)
		}
		return nil
	})
	if s.clear() > 0 {
		t.Errorf("%d frames in clear", s.clear())
	}
}

// interrupted begins a drill and ends its process while a path has failed; the path
// is restored within limit.
func (s *sites) interrupted(t *testing.T, by syscall.Signal, limit time.Duration) {
	t.Helper()
	g := s.gate[endA]
	p, err := g.Space.Start(filepath.Join(s.dir, "drill.log"), g.Yumen, "drill", groupOf(false), "--config", filepath.Join(g.Dir, "gateway.yaml"),
		"--window", "2m", "--yes", "--hold", "3s", "--out", s.dir)
	need(t, err)
	failed := func(want bool) func() error {
		return func() error {
			st, err := g.Status()
			if err != nil {
				return err
			}
			for _, x := range st.Groups {
				if x.Name == groupOf(false) && (x.Paths[0].Failed != "") == want {
					return nil
				}
			}
			return fmt.Errorf("the path has failed: not %v", want)
		}
	}
	eventually(t, 10*time.Second, failed(true))
	need(t, syscall.Kill(p.Pid(), by))
	eventually(t, limit, failed(false))
	need(t, s.settled(20*time.Second))
}

func onlyReport(t *testing.T, dir string) (r drillReport) {
	t.Helper()
	for _, ending := range []string{"txt", "json", "html"} {
		list, err := filepath.Glob(filepath.Join(dir, "drill-*."+ending))
		if err != nil || len(list) != 1 {
			t.Fatalf("reports %v, %v", list, err)
		}
		b, err := os.ReadFile(list[0])
		need(t, err)
		if ending == "json" {
			need(t, json.Unmarshal(b, &r))
		}
		if ending == "html" && !strings.Contains(string(b), "<svg ") {
			t.Error("the page has no plot")
		}
	}
	return r
}

func eventually(t *testing.T, limit time.Duration, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	t.Fatalf("not after %v: %v", limit, err)
}
