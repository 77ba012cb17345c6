package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yumen/cmd/internal/control"
	"yumen/cmd/internal/guard"
)

const inside = "YUMEN_TEST_INSIDE"

// alone runs the calling test again in a process with a network of its own, which
// the kernel takes away with the process, and reports whether this is that process.
func alone(t *testing.T) bool {
	if os.Getenv(inside) != "" {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: a network namespace cannot be made")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip(err)
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// waitFor reads the log until a line holds text.
func waitFor(t *testing.T, lines <-chan string, text string) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case line := <-lines:
			t.Log(strings.TrimSpace(line))
			if strings.Contains(line, text) {
				return
			}
		case <-limit:
			t.Fatalf("%q was never logged", text)
		}
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func TestAGatewayRunsReloadsAndStops(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFolder(t)
	p, err := Prepare(f.config(), Build{Version: "test"})
	f.must(err)
	log, lines := logged()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, p, log) }()
	waitFor(t, lines, "msg=running")

	client := control.NewClient(p.Config.ControlSocket)
	s, err := client.Status(ctx)
	f.must(err)
	if s.Version != "test" || len(s.Tunnels) != 1 || s.Tunnels[0].Local != "10.1.0.0/16" || len(s.Certificates) != 2 {
		t.Errorf("status %+v", s)
	}
	_, err = client.Down(ctx, "net")
	f.must(err)
	if s, err = client.Status(ctx); err != nil || s.Tunnels[0].State != "stopped" {
		t.Errorf("after down: %+v, %v", s.Tunnels, err)
	}
	_, err = client.Up(ctx, "net")
	f.must(err)
	if _, err := client.Up(ctx, "nett"); err == nil || !strings.Contains(err.Error(), "it has: net") {
		t.Errorf("an unknown tunnel: %v", err)
	}
	if err := Run(ctx, p, quiet()); !errors.Is(err, control.ErrInUse) {
		t.Errorf("a second gateway: %v", err)
	}
	answer, err := http.Get("http://127.0.0.1:9808/metrics")
	f.must(err)
	page, err := io.ReadAll(answer.Body)
	f.must(err)
	answer.Body.Close()
	for _, want := range []string{"ipsec_up 1", `ipsec_child_sa_state{peer="b",state="up",tunnel="net"} 0`, `ipsec_selftest_ok{test="sm3"} 1`} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
	if v, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || v != 0 {
		t.Errorf("the process can be dumped: %d, %v", v, err)
	}
	reloads(t, f, lines, client)

	cancel()
	select {
	case err := <-ended:
		f.must(err)
	case <-time.After(5 * time.Second):
		t.Fatal("it does not stop")
	}
	if lastTime(p.Config.StateDir).IsZero() {
		t.Error("the time was not saved")
	}
	if _, err := client.Status(context.Background()); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("after the stop: %v", err)
	}
}

// reloads: a policy with a fault changes nothing, a good one is taken over.
func reloads(t *testing.T, f folder, lines <-chan string, client *control.Client) {
	t.Helper()
	hup := func() { f.must(syscall.Kill(os.Getpid(), syscall.SIGHUP)) }
	f.write("policy.yaml", "site: [\n")
	hup()
	waitFor(t, lines, "reload refused")
	if s, err := client.Status(t.Context()); err != nil || len(s.Tunnels) != 1 {
		t.Errorf("after a refused reload: %+v, %v", s.Tunnels, err)
	}
	f.write("policy.yaml", onePeer+"  - {name: more, peer: b, local: 10.1.0.0/16, remote: 10.3.0.0/16}\n")
	hup()
	waitFor(t, lines, "msg=reloaded")
	if s, err := client.Status(t.Context()); err != nil || len(s.Tunnels) != 2 {
		t.Errorf("after a reload: %+v, %v", s.Tunnels, err)
	}
}

// TestTheGuardStandsWithoutAGatewayUntilItIsRemoved sets it, sees the blackhole
// route and the rule, and removes it.
func TestTheGuardStandsWithoutAGatewayUntilItIsRemoved(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFolder(t)
	cfg := f.config()
	f.must(CompileGuard(cfg))
	f.write("policy.yaml", "site: [\n") // from here on nobody reads it
	g, err := guard.Load(filepath.Join(cfg.StateDir, guard.FileName))
	f.must(err)
	set := func() error {
		carrying, err := g.Set()
		if carrying {
			t.Error("nothing can carry here")
		}
		return err
	}
	f.must(set())
	if routes := command(t, "ip", "route", "show", "table", "4950"); !strings.Contains(routes, "blackhole 10.2.0.0/16") {
		t.Errorf("routes: %s", routes)
	}
	if links := command(t, "ip", "-br", "link"); strings.Contains(links, "yumen0") {
		t.Errorf("the TUN device stayed: %s", links)
	}
	policies := command(t, "ip", "xfrm", "policy")
	for _, dir := range []string{"out", "fwd", "in"} {
		if strings.Count(policies, "dir "+dir+" action block") != 1 {
			t.Errorf("nothing blocks %s:\n%s", dir, policies)
		}
	}
	f.must(set()) // again: nothing changes
	if again := command(t, "ip", "xfrm", "policy"); len(again) != len(policies) {
		t.Errorf("set twice:\n%s\nonce:\n%s", again, policies)
	}
	f.must(g.Remove())
	if left := command(t, "ip", "xfrm", "policy"); left != "" {
		t.Errorf("policies stay: %s", left)
	}
	if routes, _ := exec.Command("ip", "route", "show", "table", "4950").CombinedOutput(); strings.Contains(string(routes), "blackhole") {
		t.Errorf("routes: %s", routes)
	}
}

func TestAGatewayThatCannotBeBuiltLeavesNothingOpen(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFolder(t)
	p, err := Prepare(f.config(), Build{})
	f.must(err)
	p.Config.MetricsListen = "192.0.2.99:1" // not an address of this host
	if err := Run(t.Context(), p, quiet()); err == nil || !strings.Contains(err.Error(), "metrics_listen") {
		t.Fatalf("ran: %v", err)
	}
	p.Config.MetricsListen = ""
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := Run(ctx, p, quiet()); err != nil {
		t.Errorf("the first attempt left something open: %v", err)
	}
}
