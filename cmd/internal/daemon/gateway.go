package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/control"
	"yumen/esp/tunnel"
	"yumen/ike"
	"yumen/ike/server"
	"yumen/policy"
)

// gateway is a running gateway as its operators see it.
type gateway struct {
	plan     atomic.Pointer[Plan] // in force
	server   *server.Server
	plane    plane
	lives    residence // of children
	because  string    // why that plane was chosen
	log      *slog.Logger
	metrics  *metrics
	started  time.Time
	found    chan ike.Event       // the length of an ICV was: the tunnel may move
	learned  chan struct{}        // something was: to be written down
	narrow   chan struct{}        // paths may have become too small for the kernel
	narrowAt map[string]time.Time // by tunnel: when that was done about; of serve

	changed chan struct{} // children changed
	handed  atomic.Bool   // what the kernel carries is the next process's

	refusals refusals
	groups   *groups
	home     homeWatch
}

// Bypass takes our own sockets out of the reach of our own rules.
func Bypass(mark uint32) server.Bypass {
	return func(c syscall.RawConn) error { return tunnel.Bypass(c, mark) }
}

func planeConfig(c *config.Config) tunnel.Config {
	return tunnel.Config{Name: c.Tun, MTU: c.MTU, Mark: c.Mark, Table: int(c.Table), RulePriority: c.RulePriority,
		NATPort: c.NATPort, ManageSysctl: c.ManageSysctl, Without: c.Without}
}

// natWire is UDP 4500, which the data plane owns.
type natWire struct{ plane plane }

func (w natWire) ReadIKE(buf []byte) (int, netip.AddrPort, netip.AddrPort, error) {
	data, local, remote, err := w.plane.ReadIKE()
	if err != nil {
		// The plane ends this only when it is closed.
		return 0, local, remote, errors.Join(net.ErrClosed, err)
	}
	return copy(buf, data), local, remote, nil
}

// PushIKE: the door is asked before anything waits.
func (w natWire) PushIKE(to func(data []byte, local, remote netip.AddrPort)) { w.plane.PushIKE(to) }

func (w natWire) WriteIKE(data []byte, local, remote netip.AddrPort) error {
	return w.plane.WriteIKE(data, local, remote)
}

// read asks engine and data plane.
func (g *gateway) read(ctx context.Context) (reading, error) {
	p := g.plan.Load()
	s, err := g.server.Status(ctx)
	if err != nil {
		return reading{}, err
	}
	c := g.server.Counters()
	return reading{
		lives: g.lives, policy: p.Policy, own: p.Own, verifiers: p.verifiers, selftest: p.Selftests, started: g.started, engine: s.Engine, usage: s.Usage, spent: s.Spent,
		clock: implausible(time.Now(), p.build.Time, lastTime(p.Config.StateDir)),
		plane: g.plane.Counters(), userspace: userspaceOf(g.plane), groups: g.groups.status(),
		server: map[string]uint64{"received": c.Received, "refused": c.Refused, "queue-dropped": c.QueueDropped,
			"read-failed": c.ReadFailed, "send-failed": c.SendFailed},
	}, nil
}

// tell takes each event of the engine.
func (g *gateway) tell(e ike.Event) {
	narrator{g.log, g.metrics}.tell(e)
	g.remember(e)
	g.groups.tell(e)
	if e.Kind == ike.DialectLearned {
		select {
		case g.learned <- struct{}{}:
		default: // it will be written anyway
		}
	}
	if e.Kind == ike.ICVFound {
		select {
		case g.found <- e:
		default: // many at once: the next renewal moves this one
		}
	}
	g.refusals.note(e, g.plan.Load().Policy, time.Now())
}

// Status answers `yumen status`.
func (g *gateway) Status(ctx context.Context) (control.Status, error) {
	r, err := g.read(ctx)
	if err != nil {
		return control.Status{}, err
	}
	s := describe(r, g.plan.Load().build.Version, time.Now())
	s.Refusals = g.refusals.list(g.plan.Load().Policy)
	s.Warnings = append(append(s.Warnings, g.plan.Load().NonGM()...), g.plan.Load().Outdated(time.Now())...)
	s.Warnings = append(s.Warnings, g.plane.Warnings()...)
	if err := g.plane.Trouble(); err != nil {
		s.Trouble = err.Error()
		s.Warnings = append(s.Warnings, s.Trouble)
	}
	return s, nil
}

// Up answers `yumen up`.
func (g *gateway) Up(ctx context.Context, name string) error {
	return g.order(ctx, name, ike.Start{Tunnel: name})
}

// Down answers `yumen down`.
func (g *gateway) Down(ctx context.Context, name string) error {
	return g.order(ctx, name, ike.Stop{Tunnel: name})
}

// Rekey answers `yumen rekey`.
func (g *gateway) Rekey(ctx context.Context, name string) error {
	return g.order(ctx, name, ike.Rekey{Tunnel: name})
}

// RekeyIKE answers `yumen rekey --ike`.
func (g *gateway) RekeyIKE(ctx context.Context, name string) error {
	return g.order(ctx, name, ike.Rekey{Tunnel: name, Session: true})
}

// Remark says of a tunnel whose peer is not GB/T 36968 that it is not.
func (g *gateway) Remark(name string) string { return g.plan.Load().remark(name) }

func (g *gateway) order(ctx context.Context, name string, in ike.Input) error {
	if err := hasTunnel(g.plan.Load().Policy, name); err != nil {
		return err
	}
	args := []any{"order", strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", in), "ike.")), "tunnel", name}
	for _, word := range nonGM(g.plan.Load().profile(name)) {
		args = append(args, word)
	}
	g.log.Info("operator", args...)
	return g.server.Do(ctx, in)
}

func hasTunnel(p *policy.Policy, name string) error {
	var have []string
	for _, t := range p.Tunnels {
		if t.Name == name {
			return nil
		}
		have = append(have, t.Name)
	}
	return fmt.Errorf("%w: %q; it has: %s", control.ErrUnknownTunnel, name, strings.Join(have, ", "))
}

// reload reads policy, certificates and revocation lists anew. On any fault the
// gateway goes on with what it has.
func (g *gateway) reload(ctx context.Context) error {
	old := g.plan.Load()
	p, err := Prepare(old.Config, old.build)
	if err != nil {
		return err
	}
	if err := saveGuard(p.Config, p.Policy); err != nil {
		p.wipe()
		return err
	}
	if err := g.server.Reload(ctx, p.engineConfig(), g.metrics.timed(p.keys)); err != nil {
		return errors.Join(err, saveGuard(old.Config, old.Policy))
	}
	g.metrics.from(p.Policy)
	g.plan.Store(p)
	g.groups.apply(p.Policy)
	g.gather(ctx)
	g.home.follow(p.Policy)
	old.wipe()
	g.warnOfPeers()
	return nil
}

// warnOfPeers says which peers leave the standard, and which cannot be believed now.
func (g *gateway) warnOfPeers() {
	p := g.plan.Load()
	for _, line := range p.NonGM() {
		g.log.Warn("non-gm", "detail", line)
	}
	for _, line := range p.Outdated(time.Now()) {
		g.log.Warn("outdated", "detail", line)
	}
}

// keepAlive holds open the mappings of NAT devices on our side (RFC 3948 4): one
// byte to each peer behind ours, every 20 seconds, unless told otherwise.
func (g *gateway) keepAlive(ctx context.Context) {
	status, err := g.server.Snapshot(ctx)
	if err != nil {
		return
	}
	for _, s := range status.Sessions {
		if s.State == "established" && behindNAT(s.NAT) {
			if err := g.plane.WriteKeepalive(s.Local, s.Remote); err != nil {
				g.log.Debug("keepalive", "peer", s.Peer, "error", err)
			}
		}
	}
}

// behindNAT: with a forced encapsulation nobody knows what lies between.
func behindNAT(nat string) bool { return nat == "local" || nat == "both" || nat == "forced" }
