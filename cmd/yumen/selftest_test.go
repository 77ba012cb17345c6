package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/daemon"
	"yumen/cmd/internal/selftest"
)

// stuck is a random source that broke.
type stuck struct{}

func (stuck) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A gateway whose self-test fails, in whatever part, neither runs nor is called fit.
func TestAFailedSelfTestRefusesToRun(t *testing.T) {
	dir := newSite(t)
	faults := map[string]func(io.Reader) []selftest.Result{
		"random source":      func(io.Reader) []selftest.Result { return selftest.Run(stuck{}) },
		"nothing was tested": func(io.Reader) []selftest.Result { return nil },
	}
	for n, r := range selftest.Run(rand.Reader) {
		faults[r.Name] = func(random io.Reader) []selftest.Result {
			results := selftest.Run(random)
			results[n].Err = errors.New("injected")
			return results
		}
	}
	if _, tested := faults["esp"]; !tested {
		t.Error("the code that seals ESP is not tested")
	}
	for name, fault := range faults {
		at := &place{config: dir + "/gateway.yaml", build: daemon.Build{Selftest: fault}}
		for _, c := range []*cobra.Command{newRunCommand(at), newCheckCommand(at)} {
			var out bytes.Buffer
			c.SetArgs([]string{})
			c.SetOut(&out)
			c.SetErr(&out)
			c.SilenceErrors, c.SilenceUsage = true, true
			if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "self-test: ") || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, fault in %q: %v%s", c.Name(), name, err, out.String())
			}
		}
	}
}
