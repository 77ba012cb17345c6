package xfrm

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/esp/ours"
	"yumen/policy"
)

// These need a kernel with XFRM, as nearly all have, but no SM4: what needs that is in
// test/vm.

// private runs f in a network namespace of its own.
func private(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP kernel policies: not root")
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the namespace ends with the thread
		var err error
		defer func() { result <- err }() // though f ends the test
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	}()
	if err := <-result; errors.Is(err, errNoXFRM) {
		t.Skip("SKIP kernel policies: " + err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
}

func twoTunnels() *policy.Policy {
	p := &policy.Policy{Rules: []policy.Rule{{Name: "m", Action: policy.Bypass, Selector: sel("10.1.0.0/16", "10.2.9.0/24")}}}
	p.Tunnels = []policy.Tunnel{
		{Name: "a", Selector: sel("10.1.0.0/16", "10.2.0.0/16")},
		{Name: "b", Selector: sel("fd01::/64", "fd02::/64")},
	}
	p.Tunnels[0].Selector.Protocol = 6
	return p
}

func TestPoliciesAreWrittenReadAndTakenAway(t *testing.T) {
	private(t, func() error {
		p, err := New(Config{NATPort: 45000})
		if err != nil {
			return err
		}
		defer p.Close()
		if err := p.SetPolicy(twoTunnels()); err != nil {
			return err
		}
		first, err := p.conn.policies()
		if err != nil {
			return err
		}
		plan := planGuard(p.zones, surroundings{})
		if len(first) != len(plan) || len(first) != 12 {
			t.Errorf("%d policies in the kernel, %d planned", len(first), len(plan))
		}
		for _, e := range plan {
			if !slices.ContainsFunc(first, func(h placed) bool { return h.selector == e.selector() && h.is(e, p.template(e)) }) {
				t.Errorf("%d from %s to %s is not there", e.dir, e.src, e.dst)
			}
		}
		// Again: nothing is written, so nothing changes its number.
		if err := p.SetPolicy(twoTunnels()); err != nil {
			return err
		}
		again, err := p.conn.policies()
		if err != nil {
			return err
		}
		for i := range first {
			if first[i].index != again[i].index || *orIdle(first[i].template) != *orIdle(again[i].template) {
				t.Errorf("policy %d was written again", i)
			}
		}
		// A smaller policy takes the others away; so does RemoveGuard.
		small := twoTunnels()
		small.Tunnels, small.Rules = small.Tunnels[1:], nil
		if err := p.SetPolicy(small); err != nil {
			return err
		}
		if rest, _ := p.conn.policies(); len(rest) != 3 {
			t.Errorf("%d policies are left", len(rest))
		}
		if rest, err := afterRemoval(p); err != nil || len(rest) != 0 {
			t.Errorf("%d policies outlived RemoveGuard: %v", len(rest), err)
		}
		return nil
	})
}

// afterRemoval is what is left of a plane that is closed, since one that runs sets its
// guard again.
func afterRemoval(p *Plane) ([]placed, error) {
	if err := errors.Join(p.Close(), RemoveGuard()); err != nil {
		return nil, err
	}
	c, err := openConn()
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.policies()
}

func orIdle(t *template) *template {
	if t == nil {
		return &template{}
	}
	return t
}

func TestPolicyThatFailsHalfWayIsUndone(t *testing.T) {
	private(t, func() error {
		p, err := New(Config{NATPort: 45000})
		if err != nil {
			return err
		}
		defer p.Close()
		if err := p.SetPolicy(twoTunnels()); err != nil {
			return err
		}
		before, err := p.conn.policies()
		if err != nil {
			return err
		}
		e := entry{dir: dirOut, kind: ruleBlock, src: ours.Everything(false), dst: ours.Everything(false), priority: ours.KernelBand}
		changed := before[0].entry()
		changed.priority++
		err = carryOut([]step{
			p.placing(changed, before[0].template, before[0], true),
			p.placing(e, nil, placed{}, false),
			{do: func() error { return unix.EIO }, what: "fail"},
		})
		if !errors.Is(err, unix.EIO) || strings.Contains(err.Error(), "undoing") {
			t.Errorf("%v", err)
		}
		after, err := p.conn.policies()
		if err != nil {
			return err
		}
		prints := func(list []placed) (out []string) {
			for _, h := range list {
				out = append(out, h.src.String()+h.dst.String()+string(rune(h.dir))+string(rune(h.priority&0xffff)))
			}
			slices.Sort(out)
			return out
		}
		if !slices.Equal(prints(before), prints(after)) {
			t.Errorf("%d policies before, %d after", len(before), len(after))
		}
		return nil
	})
}

func TestKeysAreWipedFromNetlinkBuffers(t *testing.T) {
	private(t, func() error {
		c, err := openConn()
		if err != nil {
			return err
		}
		defer c.close()
		s := planned(t)
		m := stateMessage(s, 0)
		if !bytes.Contains(m.b, s.keymat.Bytes()[:16]) {
			t.Fatal("the key is not in the message")
		}
		_ = c.do(m, nil) // whether the kernel takes it or not
		if !bytes.Equal(m.b[:cap(m.b)], make([]byte, cap(m.b))) {
			t.Error("the request was not wiped")
		}
		_, _ = c.readState(s.dst, s.spi, false)
		if !bytes.Equal(c.in, make([]byte, len(c.in))) {
			t.Error("the answer was not wiped")
		}
		return nil
	})
}

func TestProbeNamesWhatIsMissing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP probe: not root")
	}
	err := Probe(policy.SM4CBCHMACSM3)
	var u *Unsupported
	if err != nil && (!errors.As(err, &u) || len(u.Missing) == 0 && !strings.Contains(u.Reason, "5.17")) {
		t.Errorf("%v", err)
	}
	t.Logf("this kernel: %v", err)
}

// What is shared with planes of this process is not shared with other daemons, though
// they be root's too.
func TestASharedPortIsRefusedToAnotherDaemon(t *testing.T) {
	private(t, func() error {
		p, err := New(Config{SharePort: true})
		if err != nil {
			return err
		}
		for _, shared := range []bool{false, true} {
			if _, err := New(Config{SharePort: shared}); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("shared %t: a second plane on the port: %v", shared, err)
			}
		}
		return p.Close()
	})
}

func TestAPlaneSaysWhatItCannotCarry(t *testing.T) {
	private(t, func() error {
		p, err := New(Config{})
		if err != nil {
			return err
		}
		if err := p.SetPolicy(twoTunnels()); err != nil {
			return err
		}
		c := child()
		c.Tunnel, c.Path.Encap, c.Path.Remote = "a", true, netip.AddrPortFrom(c.Path.Remote.Addr(), 0)
		if err := p.Install(c, esp.State{}); err == nil || !strings.Contains(err.Error(), "lacks a port") {
			t.Errorf("%v", err)
		}
		c.Tunnel = "nobody"
		if err := p.Install(c, esp.State{}); err == nil || !strings.Contains(err.Error(), "no such tunnel") {
			t.Errorf("%v", err)
		}
		if err := p.Close(); err != nil {
			return err
		}
		if err := p.SetPolicy(twoTunnels()); !errors.Is(err, errClosed) {
			t.Errorf("a closed plane: %v", err)
		}
		if _, open := <-p.Events(); open {
			t.Error("events of a closed plane")
		}
		return RemoveGuard()
	})
}

// Where something carries, what else is protected is blocked beside it, what is exempt
// passes, and nothing goes.
func TestBlocksAreAddedBesideWhatCarries(t *testing.T) {
	private(t, func() error {
		c, err := openConn()
		if err != nil {
			return err
		}
		defer c.close()
		carried := entry{dir: dirOut, kind: protect, src: netip.MustParsePrefix("10.1.0.0/16"), dst: netip.MustParsePrefix("10.2.0.0/16"),
			priority: priorityOf(0, netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("10.1.0.0/16"), 0, protect)}
		old := entry{dir: dirOut, kind: bypassAllow, src: carried.src, dst: netip.MustParsePrefix("10.3.0.0/16"), priority: ours.KernelBand + 5}
		stays := entry{dir: dirOut, kind: tunnelBlock, src: carried.src, dst: netip.MustParsePrefix("10.4.0.0/16"), priority: ours.KernelBand + 6}
		of := template{src: netip.MustParseAddr("192.0.2.1"), dst: netip.MustParseAddr("192.0.2.2"), spi: 0x1000, reqid: ours.Reqid | 1}
		if err := errors.Join(c.setPolicy(carried, &of), c.setPolicy(old, nil), c.setPolicy(stays, nil)); err != nil {
			return err
		}
		have, err := c.policies()
		if err != nil {
			return err
		}
		plan := planGuard([]zone{
			{action: policy.Protect, tunnel: "a", local: carried.src, remote: carried.dst},
			{action: policy.Protect, tunnel: "b", local: carried.src, remote: old.dst},
			{action: policy.Bypass, local: carried.src, remote: netip.MustParsePrefix("10.3.9.0/24")},
		}, surroundings{bare: true})
		if err := c.block(plan, have, true); err != nil {
			return err
		}
		if have, err = c.policies(); err != nil {
			return err
		}
		find := func(dst string) (found placed) {
			for _, h := range have {
				if h.dir == dirOut && h.dst == netip.MustParsePrefix(dst) {
					found = h
				}
			}
			return found
		}
		if h := find("10.2.0.0/16"); h.template == nil || *h.template != of {
			t.Errorf("what carries became %+v", h)
		}
		if h := find("10.3.9.0/24"); !find("10.3.0.0/16").blocks || h.priority == 0 || h.blocks || !find("10.4.0.0/16").blocks {
			t.Errorf("beside it stand %+v", have)
		}
		return nil
	})
}

// What a container hides or forbids costs the first packets, not the start.
func TestASysctlThatCannotBeSetIsAWarning(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if content != "" {
			if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return name
	}
	set := file("set", "1\n")
	for _, c := range []struct {
		file    string
		allowed bool
		want    string // empty: no warning
	}{
		{file("hidden", ""), true, "cannot be seen here"}, {file("zero", "0\n"), false, ""}, {file("one", "1\n"), false, "is 1"},
		{set, true, ""}, {set, false, ""}, {"/proc/version", true, "cannot be set"},
	} {
		got := strings.Join(prepareHost(c.file, c.allowed), "; ")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s, allowed %t: %q, want %q", c.file, c.allowed, got, c.want)
		}
	}
	if b, err := os.ReadFile(set); err != nil || string(b) != "0" {
		t.Errorf("set to %q, %v", b, err)
	}
}
