package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"yumen/esp/tunnel"
	"yumen/xfrm"
)

// machine is gateway A under a real systemd with our units as they are shipped. It is
// the first process of its own PID and mount namespaces and lives in A's network.
type machine struct {
	*daemons
	units string // folder
	init  *exec.Cmd
	pid   int
}

const etc = "/etc/yumen" // the guest's own: its root forgets

// systemd lays out units, binary and configuration; boot starts it.
func (w *world) systemd(t *testing.T) *machine {
	t.Helper()
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("SKIP units under systemd: it is not installed")
	}
	m := &machine{daemons: w.daemons(t), units: t.TempDir()}
	m.configure(cbcLines, "auto", "auto", "")
	check(t, os.MkdirAll(filepath.Join(etc, "keys"), 0o700))
	for _, name := range []string{"policy.yaml", "ca.crt", "sign.crt", "sign.key", "enc.crt", "enc.key"} {
		m.copyFile(filepath.Join(m.a.Dir, name), filepath.Join(etc, name), 0o600)
	}
	check(t, os.WriteFile(filepath.Join(etc, "gateway.yaml"), []byte(`policy: policy.yaml
dataplane: auto
manage_sysctl: true
sign_cert: sign.crt
sign_key: sign.key
enc_cert: enc.crt
enc_key: enc.key
`), 0o600))
	m.copyFile(os.Getenv("YUMEN_BIN"), "/usr/bin/yumen", 0o755)
	source := os.Getenv("YUMEN_CONFIGS")
	for unit, wanted := range map[string]string{"yumen.service": "multi-user.target", "yumen-guard.service": "sysinit.target"} {
		m.copyFile(filepath.Join(source, unit), filepath.Join(m.units, unit), 0o644)
		m.unit(unit+".d/log.conf", "[Service]\nStandardError=append:"+filepath.Join(m.units, "log")+"\n")
		wants := filepath.Join(m.units, wanted+".wants")
		check(t, errors.Join(os.MkdirAll(wants, 0o755), os.Symlink("../"+unit, filepath.Join(wants, unit))))
	}
	// Whoever brings the network up comes after network-pre.target: so what it sees
	// is what holds when the first packet can leave.
	m.unit("bring-up.service", `[Unit]
DefaultDependencies=no
After=network-pre.target
Before=network.target
Wants=network.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'cd `+m.units+` && ip xfrm policy list > seeing && mv seeing seen'
`)
	check(t, os.Symlink("../bring-up.service", filepath.Join(m.units, "multi-user.target.wants", "bring-up.service")))
	for _, target := range []string{"sysinit", "basic", "multi-user", "network-pre", "network", "network-online", "local-fs", "local-fs-pre", "shutdown", "umount"} {
		check(t, os.Symlink("/lib/systemd/system/"+target+".target", filepath.Join(m.units, target+".target")))
	}
	t.Cleanup(func() {
		m.powerOff()
		if log, _ := os.ReadFile(filepath.Join(m.units, "log")); t.Failed() {
			t.Logf("the units of a:\n%s", log)
		}
	})
	return m
}

func (m *machine) unit(name, text string) {
	m.Helper()
	file := filepath.Join(m.units, name)
	check(m, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)))
}

func (m *machine) copyFile(from, to string, mode os.FileMode) {
	m.Helper()
	in, err := os.Open(from)
	check(m, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	check(m, err)
	_, err = io.Copy(out, in)
	check(m, errors.Join(err, out.Close()))
}

// boot starts systemd in the gateway's namespace and waits until it can be asked.
func (m *machine) boot() {
	m.Helper()
	script := filepath.Join(os.Getenv("YUMEN_CONFIGS"), "../test/vm/boot.sh")
	m.init = exec.Command("ip", "netns", "exec", m.w.ga.Name, "unshare", "--fork", "--pid", "--mount", "--mount-proc",
		"--ipc", "--uts", "--kill-child", script, m.units)
	console, err := os.OpenFile(filepath.Join(m.units, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(m, err)
	defer console.Close()
	m.init.Stdout, m.init.Stderr = console, console
	check(m, m.init.Start())
	eventually(m.T, "systemd runs", func() error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", m.init.Process.Pid))
		if err == nil {
			m.pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		if err == nil {
			_, err = m.inside("systemctl", "list-units", "--no-pager")
		}
		return err
	})
}

// powerOff ends it at once, as a loss of power would.
func (m *machine) powerOff() {
	if m.init == nil {
		return
	}
	_ = syscall.Kill(m.pid, syscall.SIGKILL) // with it goes all of its PID namespace
	_ = m.init.Wait()
	m.init = nil
	if console, _ := os.ReadFile(filepath.Join(m.units, "console")); m.Failed() {
		m.Logf("the console of a:\n%s", console)
	}
}

// inside runs a command as an administrator of the machine.
func (m *machine) inside(args ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(m.pid), "-m", "-p", "-n", "-i", "-u", "--"}, args...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return string(out), nil
}

func (m *machine) must(args ...string) string {
	m.Helper()
	out, err := m.inside(args...)
	check(m, err)
	return out
}

// is waits until a unit is in a state.
func (m *machine) is(unit, state string) {
	m.Helper()
	eventually(m.T, unit+" is "+state, func() error {
		out, _ := m.inside("systemctl", "is-active", unit)
		if strings.TrimSpace(out) != state {
			return errors.New(out)
		}
		return nil
	})
}

// up waits until both tunnels are up in the kernel and carry.
func (m *machine) carries() {
	m.Helper()
	eventually(m.T, "a says that all is up in the kernel", func() error {
		out, err := m.inside("yumen", "status", "--json")
		if n := strings.Count(out, `"plane": "kernel"`); err == nil && n < 4 {
			err = fmt.Errorf("%d times in the kernel: %s", n, out)
		}
		return err
	})
	m.w.everyWay(m.T, 1)
}

// The units as they are shipped, under systemd: the sandbox leaves the gateway what it
// needs, the kernel plane among it; a restart, a reload and a crash lose nothing; and at
// the next boot the guard stands before the network does, though the policy is broken.
func TestTheUnitsUnderSystemd(t *testing.T) {
	w := inside(t)
	m := w.systemd(t)
	m.start(m.b)
	m.boot()
	m.is("yumen.service", "active")
	m.is("yumen-guard.service", "active")
	m.up(m.b)
	m.carries()

	streams := []*stream{w.stream(t, w.ha, hostB4, streamGap), w.stream(t, w.hb, hostA4, streamGap), w.stream(t, w.hb, hostA6, streamGap)}
	first := m.mainPID()
	m.must("systemctl", "restart", "yumen.service")
	m.carries()
	m.must("systemctl", "reload", "yumen.service")
	time.Sleep(2 * time.Second) // what is killed remembers a second late
	second := m.mainPID()
	m.must("systemctl", "kill", "-s", "KILL", "yumen.service")
	eventually(t, "systemd starts it again", func() error {
		if now := m.mainPID(); now == second || now == "0" {
			return fmt.Errorf("main process %s", now)
		}
		return nil
	})
	m.is("yumen.service", "active")
	m.carries()
	for _, s := range streams {
		if sent, lost, repeated := w.end(s); sent < 50 || lost != 0 || repeated != 0 {
			t.Errorf("restart and crash: to %s: sent %d, lost %d, repeated %d; the first lost at %s", s.to, sent, lost, repeated, w.firstLost(s))
		}
	}
	if first == second {
		t.Error("the restart was none")
	}

	m.must("systemctl", "stop", "yumen.service")
	w.noWay(t)
	m.powerOff()
	check(t, w.ga.Do(func() error { return errors.Join(xfrm.RemoveGuard(), tunnel.RemoveGuard(tunnel.Config{})) }))
	policy := filepath.Join(etc, "policy.yaml")
	check(t, os.Rename(policy, policy+".good"))
	check(t, os.WriteFile(policy, []byte("site: [\n"), 0o600))
	seen := filepath.Join(m.units, "seen")
	check(t, os.Remove(seen)) // of the boot before
	m.boot()
	m.is("yumen-guard.service", "active")
	eventually(t, "the network comes up", func() error {
		_, err := os.Stat(seen)
		return err
	})
	if list, err := os.ReadFile(seen); err != nil || strings.Count(string(list), "action block") < 4 {
		t.Errorf("when the network came up there were only these policies: %v\n%s", err, list)
	}
	w.noWay(t)
	check(t, os.Rename(policy+".good", policy))
	_, _ = m.inside("systemctl", "reset-failed", "yumen.service")
	m.must("systemctl", "restart", "yumen.service")
	m.up(m.b)
	m.carries()
	m.must("systemctl", "stop", "yumen-guard.service", "yumen.service")
	w.noWay(t) // stopping is not removing
	if out := m.must("yumen", "guard", "remove"); out == "" {
		t.Error("guard remove says nothing")
	}
}

func (m *machine) mainPID() string {
	m.Helper()
	return strings.TrimSpace(m.must("systemctl", "show", "-p", "MainPID", "--value", "yumen.service"))
}
