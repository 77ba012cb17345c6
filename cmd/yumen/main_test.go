package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/control"
)

// yumen runs one command line in this process.
func yumen(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(args, &out, &errs)
	return status, out.String(), errs.String()
}

// newSite makes a folder that is fit to run, with the product's own commands.
func newSite(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"pki", "root", "--subject", "CN=Root,C=CN", "--days", "2", "--out", dir + "/ca"},
		{"pki", "pair", "--ca", dir + "/ca/ca.crt", "--ca-key", dir + "/ca/ca.key", "--subject", "CN=gw-a,C=CN", "--days", "1", "--out", dir},
	} {
		if status, _, stderr := yumen(args...); status != 0 {
			t.Fatalf("yumen %v: %s", args, stderr)
		}
	}
	write(t, dir+"/gateway.yaml", "state_dir: state\ncontrol_socket: c.sock\n")
	write(t, dir+"/policy.yaml", `site: a
peers:
  - {name: b, remote: 192.0.2.2, ca: ca/ca.crt, subject: "CN=gw-b,C=CN"}
tunnels:
  - {name: net, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0/16}
`)
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheExitStatusTellsWhatWentWrong(t *testing.T) {
	dir := t.TempDir()
	nowhere := filepath.Join(dir, "none.sock")
	for name, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"help":                {[]string{"help"}, 0, ""},
		"version":             {[]string{"version"}, 0, ""},
		"unknown command":     {[]string{"negotiate"}, exitUsage, "yumen help"},
		"unknown flag":        {[]string{"status", "--yaml"}, exitUsage, "--yaml"},
		"missing tunnel":      {[]string{"up"}, exitUsage, "yumen help"},
		"too many words":      {[]string{"check", "everything"}, exitUsage, "yumen help"},
		"no gateway":          {[]string{"status", "--socket", nowhere}, exitNotRunning, "yumen run"},
		"up, no gateway":      {[]string{"up", "net", "--socket", nowhere}, exitNotRunning, nowhere},
		"down, no gateway":    {[]string{"down", "net", "--socket", nowhere}, exitNotRunning, nowhere},
		"no configuration":    {[]string{"check", "--config", dir + "/none.yaml"}, exitFailed, "--config"},
		"run without one":     {[]string{"run", "--config", dir + "/none.yaml"}, exitFailed, "none.yaml"},
		"guard without one":   {[]string{"guard", "remove", "--config", dir + "/none.yaml"}, exitFailed, "none.yaml"},
		"capture not there":   {[]string{"decode", dir + "/none.pcap"}, exitFailed, "none.pcap"},
		"certificate missing": {[]string{"pki", "show", dir + "/none.crt"}, exitFailed, "none.crt"},
	} {
		status, _, stderr := yumen(c.args...)
		if status != c.status || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit status %d, %q; want %d and %q", name, status, stderr, c.status, c.says)
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestAnAnswerThatCannotBeWrittenIsAFailure(t *testing.T) {
	dir := newSite(t)
	for _, args := range [][]string{{"version"}, {"help"}, {"check", "--config", dir + "/gateway.yaml"}, {"pki", "show", dir + "/sign.crt"}} {
		var errs bytes.Buffer
		if status := run(args, full{}, &errs); status != exitFailed || !strings.Contains(errs.String(), "no space left on device") {
			t.Errorf("%v: exit status %d, %q", args, status, errs.String())
		}
	}
}

func TestCheckTellsWhatIsFitAndEveryFaultOfWhatIsNot(t *testing.T) {
	dir := newSite(t)
	status, stdout, stderr := yumen("check", "--config", dir+"/gateway.yaml")
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	for _, want := range []string{"fit to run", "1 peers, 1 tunnels", "CN=gw-a,C=CN", "sm3"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not told:\n%s", want, stdout)
		}
	}
	write(t, dir+"/policy.yaml", "site: a\nsurprise: 1\npeers: 3\n")
	if err := os.Remove(dir + "/enc.key"); err != nil {
		t.Fatal(err)
	}
	status, _, stderr = yumen("check", "--config", dir+"/gateway.yaml")
	for _, want := range []string{"not fit to run", "policy.yaml:2", "policy.yaml:3", "enc.key"} {
		if status != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("exit status %d, %q is not told:\n%s", status, want, stderr)
		}
	}
	if status, _, stderr := yumen("run", "--config", dir+"/gateway.yaml"); status != exitFailed || !strings.Contains(stderr, "surprise") {
		t.Errorf("run: exit status %d: %s", status, stderr)
	}
}

func TestFlagsOverrideTheConfigurationAndAreNamedInFaults(t *testing.T) {
	dir := newSite(t)
	status, _, stderr := yumen("check", "--config", dir+"/gateway.yaml", "--log-level", "loud", "--policy", dir+"/other.yaml")
	if status != exitFailed || !strings.Contains(stderr, "--log-level: log.level") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	status, _, stderr = yumen("check", "--config", dir+"/gateway.yaml", "--policy", dir+"/other.yaml")
	if status != exitFailed || !strings.Contains(stderr, "other.yaml") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
}

// gateway answers as a running one does.
type gateway struct {
	control.Groups // not asked here
	asked          []string
	remark         string
}

func (g *gateway) Status(context.Context) (control.Status, error) {
	return control.Status{Version: "test", Site: "hq", Plane: "userspace", Peers: []string{"b"},
		Tunnels: []control.Tunnel{{Name: "net", Peer: "b", State: "down", Local: "10.1.0.0/16", Remote: "10.2.0.0/16"}}}, nil
}
func (g *gateway) Up(_ context.Context, t string) error {
	g.asked = append(g.asked, "up "+t)
	return nil
}
func (g *gateway) Down(_ context.Context, t string) error {
	g.asked = append(g.asked, "down "+t)
	return nil
}
func (g *gateway) Rekey(_ context.Context, t string) error {
	g.asked = append(g.asked, "rekey "+t)
	return nil
}
func (g *gateway) Remark(t string) string { return g.remark }
func (g *gateway) Handover(context.Context) error {
	g.asked = append(g.asked, "handover")
	return nil
}

func (g *gateway) RekeyIKE(_ context.Context, t string) error {
	g.asked = append(g.asked, "rekey-ike "+t)
	return nil
}
func (g *gateway) Move(_ context.Context, t, plane string) error {
	g.asked = append(g.asked, "move "+t+" "+plane)
	return nil
}

func TestCommandsSpeakWithTheGatewayOfTheirConfiguration(t *testing.T) {
	dir := newSite(t)
	l, err := control.Listen(dir + "/c.sock")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- control.Serve(ctx, l, g) }()
	defer func() { cancel(); <-ended }()

	if status, out, stderr := yumen("status", "--config", dir+"/gateway.yaml"); status != 0 || !strings.Contains(out, "net: DOWN") {
		t.Errorf("status %d: %s%s", status, out, stderr)
	}
	_, out, _ := yumen("status", "--json", "--socket", dir+"/c.sock")
	var s control.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil || len(s.Tunnels) != 1 {
		t.Errorf("%v: %s", err, out)
	}
	for _, word := range []string{"up", "down"} {
		if status, out, stderr := yumen(word, "net", "--config", dir+"/gateway.yaml"); status != 0 || !strings.HasPrefix(out, "net: ") {
			t.Errorf("%s: %d: %s%s", word, status, out, stderr)
		}
	}
	if got := strings.Join(g.asked, ", "); got != "up net, down net" {
		t.Errorf("asked for %s", got)
	}
	g.remark = "peer b is NOT GB/T 36968"
	for _, words := range [][]string{{"up", "net"}, {"down", "net"}, {"rekey", "net"}, {"rekey", "net", "--ike"}} {
		if status, out, stderr := yumen(append(words, "--config", dir+"/gateway.yaml")...); status != 0 || !strings.Contains(out, g.remark) {
			t.Errorf("%q: %d: %s%s", words, status, out, stderr)
		}
	}
	handovers(t, dir, g)
	for _, word := range []string{"set", "remove"} {
		if status, _, stderr := yumen("guard", word, "--config", dir+"/gateway.yaml"); status != exitFailed || !strings.Contains(stderr, "stop it first") {
			t.Errorf("guard %s beside a running gateway: %d: %s", word, status, stderr)
		}
	}
}

// handovers are asked for at once, or if systemd says that a restart is under way.
func handovers(t *testing.T, dir string, g *gateway) {
	t.Helper()
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for jobs, want := range map[string]int{
		"  7 yumen.service restart running\n":                                 1,
		"  7 yumen.service stop running\n":                                    0,
		"  7 other.service restart running\n  8 yumen.service stop waiting\n": 0,
		"": 0,
	} {
		script := "#!/bin/sh\n[ \"$1\" = list-jobs ] || exit 1\ncat <<'END'\n" + jobs + "END\n"
		if err := os.WriteFile(bin+"/systemctl", []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		g.asked = nil
		status, out, stderr := yumen("handover", "--when-restarting", "yumen.service", "--config", dir+"/gateway.yaml")
		if status != 0 || len(g.asked) != want {
			t.Errorf("%q: %d: %s%s, asked %v", jobs, status, out, stderr, g.asked)
		}
	}
	g.asked = nil
	if status, _, stderr := yumen("handover", "--config", dir+"/gateway.yaml"); status != 0 || len(g.asked) != 1 {
		t.Errorf("handover: %d: %s", status, stderr)
	}
	if err := os.WriteFile(bin+"/systemctl", []byte("#!/bin/sh\necho no bus >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := yumen("handover", "--when-restarting", "yumen.service", "--config", dir+"/gateway.yaml"); status != exitFailed || !strings.Contains(stderr, "no bus") {
		t.Errorf("without systemd: %d: %s", status, stderr)
	}
}

func TestEveryCommandSaysWhatItDoes(t *testing.T) {
	root, _ := newRootCommand()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s says nothing", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	for _, name := range []string{"run", "check", "status", "up", "down", "dataplane", "pki", "decode", "version"} {
		if c, _, err := root.Find([]string{name}); err != nil || c.Name() != name {
			t.Errorf("%s is missing", name)
		}
	}
}
