package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"yumen/cmd/internal/control"
)

const (
	callers   = 4 // that negotiate at a time
	parts     = 5 // of all tunnels: the rate is the median over them
	gatewayAt = "192.0.2.1"
	callersAt = "192.0.2.2"
	tick      = 10.0 // ms of one unit of CPU time in /proc: USER_HZ is 100 everywhere
)

// measureTunnels starts one gateway and has many peers, each with an identity and an
// address of its own, negotiate a tunnel with it.
func (o Options) measureTunnels(ctx context.Context, w *world, plane string) (Tunnels, error) {
	gate, err := w.space(true)
	if err != nil {
		return Tunnels{}, err
	}
	peers, err := w.space(false)
	if err != nil {
		return Tunnels{}, err
	}
	err = link(end{at: gate, name: "out", addrs: []string{gatewayAt + "/24"}}, end{at: peers, name: "eth0", addrs: []string{callersAt + "/24"}})
	if err == nil {
		err = errors.Join(gate.route("198.18.0.0/15", callersAt), peers.route("198.18.0.0/15", ""), gate.route("100.64.0.0/10", callersAt))
	}
	if err != nil {
		return Tunnels{}, err
	}
	ca, err := newAuthority()
	if err != nil {
		return Tunnels{}, err
	}
	list := make([]*caller, o.Tunnels)
	for i := range list {
		if list[i], err = newCaller(ca, peers, i); err != nil {
			return Tunnels{}, err
		}
	}
	g, err := gate.gateway(ca, o.Program, setup{"gw", plane, policyFor(list), linkMTU})
	if err != nil {
		return Tunnels{}, err
	}
	if err := g.wait(ctx, "the gateway", func(control.Status) bool { return true }); err != nil {
		return Tunnels{}, err
	}
	return o.callAll(ctx, g, list, plane)
}

// policyFor is the policy of a gateway that answers all callers.
func policyFor(list []*caller) string {
	var peers, tunnels strings.Builder
	for _, c := range list {
		fmt.Fprintf(&peers, "  - {name: %s, remote: %s, ca: ca.crt, subject: %q, path_probe: off, dpd: {interval: 1h}}\n",
			c.name, c.at, subject(c.name))
		fmt.Fprintf(&tunnels, "  - {name: %s, peer: %s, local: 10.255.0.0/16, remote: %s/32, suites: [%s], start: respond}\n",
			c.name, c.name, c.inner, suiteWord)
	}
	return "site: gw\npeers:\n" + peers.String() + "tunnels:\n" + tunnels.String()
}

func (o Options) callAll(ctx context.Context, g *gateway, list []*caller, plane string) (Tunnels, error) {
	idle, err := g.usage()
	if err != nil {
		return Tunnels{}, err
	}
	var rates []float64
	repeated := 0
	for i := range parts {
		part := list[i*len(list)/parts : (i+1)*len(list)/parts]
		begin := time.Now()
		repeats, err := callParallel(ctx, part)
		if repeated += repeats; err != nil {
			return Tunnels{}, fmt.Errorf("%w; the log of the gateway: %s", err, g.log())
		}
		rates = append(rates, float64(len(part))/time.Since(begin).Seconds())
	}
	if err := g.wait(ctx, "all tunnels at the gateway", func(st control.Status) bool { return up(st) == len(list) }); err != nil {
		return Tunnels{}, err
	}
	busy, err := g.usage()
	if err != nil {
		return Tunnels{}, err
	}
	n := float64(len(list))
	t := Tunnels{Plane: plane, PerSecond: milli(median(rates)), GatewayCPU: milli((busy.cpu - idle.cpu) / n), Concurrent: len(list), Repeated: repeated,
		Memory: milli(max(0, busy.memory-idle.memory) / n), Resident: milli(busy.memory / 1024)}
	if t.GatewayCPU > 0 {
		t.PerCore = milli(1000 / t.GatewayCPU)
	}
	return t, nil
}

// callParallel has all of them negotiate, a few at a time. The first failure ends it.
func callParallel(ctx context.Context, list []*caller) (repeated int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan *caller, len(list))
	for _, c := range list {
		queue <- c
	}
	close(queue)
	var all sync.WaitGroup
	var count atomic.Int64
	for range callers {
		all.Go(func() {
			for c := range queue {
				repeats, err := c.callPatiently(ctx)
				count.Add(int64(repeats))
				if err != nil {
					cancel(fmt.Errorf("%s: %w", c.name, err))
					return
				}
			}
		})
	}
	all.Wait()
	return int(count.Load()), context.Cause(ctx)
}

// usage is what a process has used.
type usage struct {
	cpu    float64 // ms
	memory float64 // KiB resident
}

func (g *gateway) usage() (u usage, err error) {
	proc := filepath.Join("/proc", fmt.Sprint(g.process.cmd.Process.Pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return u, err
	}
	// Behind the name, which may hold anything, stands the state, field 3.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return u, fmt.Errorf("%s/stat: %q is not understood", proc, stat)
	}
	for _, f := range fields[11:13] { // utime, stime
		var ticks float64
		if _, err := fmt.Sscan(f, &ticks); err != nil {
			return u, fmt.Errorf("%s/stat: %w", proc, err)
		}
		u.cpu += ticks * tick
	}
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, err := fmt.Sscan(text, &u.memory)
			return u, err
		}
	}
	return u, fmt.Errorf("%s/status: no VmRSS", proc)
}

// places of a caller, by its number: of at most 5000.
func callerAddr(base string, i int) netip.Addr {
	b := netip.MustParseAddr(base).As4()
	b[2], b[3] = byte((i+1)>>8), byte(i+1)
	return netip.AddrFrom4(b)
}
