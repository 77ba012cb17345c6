package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"yumen/test/site"
)

// groupText is the policy of a gateway of two paths, to or from the two addresses of B.
func groupText(b bool) string {
	us, them, local, remote, target := "a", "b", "10.1.0.0/24", "10.2.0.0/24", "10.2.0.1"
	if b {
		us, them, local, remote, target = them, us, remote, local, "10.1.0.1"
	}
	text := fmt.Sprintf("site: %s\npeers:\n", us)
	for i, far := range []string{gateB4, gateC4} {
		ends := "remote: " + far
		if b { // one far gateway at one address: only our own tells the paths apart
			ends = fmt.Sprintf("remote: %s, local: %s", gateA4, far)
		}
		text += fmt.Sprintf("  - {name: %s%d, %s, ca: ca.crt, subject: %q}\n", them, i, ends, site.Subject(them))
	}
	text += "tunnels:\n"
	for i := range 2 {
		text += fmt.Sprintf("  - {name: path%d, peer: %s%d, local: %s, remote: %s}\n", i, them, i, local, remote)
	}
	return text + fmt.Sprintf("groups:\n  - {name: dr, members: [{tunnel: path0}, {tunnel: path1}], preempt_delay: 2s, "+
		"probe: {interval: 200ms, lost: 6, recover: 3, target: %s}}\n", target)
}

// goesBy waits until the group of each gateway is carried by that path.
func (d *daemons) goesBy(tunnel string, list ...*site.Gateway) {
	d.Helper()
	for _, g := range list {
		said := ""
		for end := time.Now().Add(patience); said != tunnel; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				d.Fatalf("%s sends by %q, want %s", g.Dir, said, tunnel)
			}
			var st struct{ Groups []struct{ Carries []string } }
			if out, err := g.Command("status", "--json"); err == nil && json.Unmarshal([]byte(out), &st) == nil && len(st.Groups) == 1 {
				said = strings.Join(st.Groups[0].Carries, ",")
			}
		}
	}
}

func (d *daemons) order(g *site.Gateway, path, body string) {
	d.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var to net.Dialer
		return to.DialContext(ctx, "unix", filepath.Join(g.Dir, "control.sock"))
	}
	c := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 30 * time.Second}
	r, err := c.Post("http://gateway/v1/groups/"+path, "application/json", strings.NewReader(body))
	check(d, err)
	defer r.Body.Close()
	if text, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusOK {
		d.Fatalf("%s: %s", path, text)
	}
}

// passes waits until something comes back from there.
func (d *daemons) passes(addr string) {
	d.Helper()
	for end := time.Now().Add(patience); d.w.exchange(d.w.ha, addr, 1) != 1; {
		if time.Now().After(end) {
			d.Fatalf("nothing comes back from %s", addr)
		}
	}
}

// A group whose members are all in the kernel: an operator fails a path at one end, the
// other end finds out by its own pings, and traffic goes on by the other path until it
// returns.
func TestAGroupInTheKernelFollowsItsProbes(t *testing.T) {
	w := inside(t)
	d := w.daemons(t)
	check(t, d.a.Configure(groupText(false), "dataplane: auto", "manage_sysctl: true"))
	check(t, d.b.Configure(groupText(true), "dataplane: auto", "manage_sysctl: true"))
	d.start(d.b, d.a)
	d.up(d.a, d.b)
	where := map[string]string{"path0": "kernel", "path1": "kernel"}
	d.in(d.a, where)
	d.in(d.b, where)
	d.goesBy("path0", d.a, d.b)
	d.answers(2, hostB4)
	toB, toA := w.stream(t, w.ha, hostB4, streamGap), w.stream(t, w.hb, hostA4, streamGap)
	d.order(d.a, "dr/paths/path0/fail", `{"seconds": 60}`)
	d.goesBy("path1", d.a, d.b)
	d.answers(2, hostB4)
	d.order(d.a, "dr/paths/path0/restore", "{}")
	d.goesBy("path0", d.a, d.b)
	d.answers(2, hostB4)
	for _, s := range []*stream{toB, toA} {
		sent, lost, repeated := w.end(s)
		t.Logf("to %s: %d sent, %d lost", s.to, sent, lost)
		if sent < 20 || lost > sent/2 || repeated != 0 {
			t.Errorf("to %s: sent %d, lost %d, repeated %d", s.to, sent, lost, repeated)
		}
	}
}

// A reload takes the target of the group away, so that it belongs into userspace, and then
// gives it back: the paths move while traffic goes on, and both ends' probes with them.
func TestAGroupMovesToTheOtherPlaneWithItsPolicy(t *testing.T) {
	w := inside(t)
	d := w.daemons(t)
	gates := []*site.Gateway{d.a, d.b}
	configure := func(target bool) {
		for i, g := range gates {
			text := groupText(i == 1)
			if !target {
				at := strings.LastIndex(text, ", target: ")
				text = text[:at] + "}}\n"
			}
			check(t, g.Configure(text, "dataplane: auto", "manage_sysctl: true"))
		}
	}
	settled := func(plane string) {
		where := map[string]string{"path0": plane, "path1": plane}
		for _, g := range gates {
			err := d.lives(g, where)
			for end := time.Now().Add(patience); err != nil && time.Now().Before(end); err = d.lives(g, where) {
				time.Sleep(100 * time.Millisecond)
			}
			check(t, err)
		}
		d.goesBy("path0", gates...)
		d.passes(hostB4)
	}
	configure(true)
	d.start(d.b, d.a)
	d.up(gates...)
	settled("kernel")
	toB, toA := w.stream(t, w.ha, hostB4, streamGap), w.stream(t, w.hb, hostA4, streamGap)
	for _, plane := range []string{"userspace", "kernel"} {
		configure(plane == "kernel")
		for _, g := range gates {
			check(t, syscall.Kill(g.Daemon().Pid(), syscall.SIGHUP))
		}
		settled(plane)
		d.order(d.a, "dr/paths/path0/fail", `{"seconds": 60}`)
		d.goesBy("path1", gates...)
		d.passes(hostB4)
		d.order(d.a, "dr/paths/path0/restore", "{}")
		d.goesBy("path0", gates...)
	}
	for _, s := range []*stream{toB, toA} {
		sent, lost, repeated := w.end(s)
		t.Logf("to %s: %d sent, %d lost", s.to, sent, lost)
		if sent < 20 || lost > sent/2 || repeated != 0 {
			t.Errorf("to %s: sent %d, lost %d, repeated %d", s.to, sent, lost, repeated)
		}
	}
}
