package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"yumen/cmd/internal/control"
	"yumen/esp/tunnel"
	"yumen/ike"
	"yumen/ike/server"
)

const keepAliveEvery = 20 * time.Second

// closers undoes what was built, last first.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var faults []error
	for i := len(*c) - 1; i >= 0; i-- {
		faults = append(faults, (*c)[i]())
	}
	return errors.Join(faults...)
}

// Run carries out a plan until ctx ends or SIGTERM or SIGINT arrives, and then
// stops in good order; SIGHUP reads policy and certificates anew. When it returns,
// and also when the process dies, the guard stays: what is protected is dropped.
func Run(ctx context.Context, p *Plan, log *slog.Logger) (err error) {
	for _, fault := range harden() {
		log.Warn("hardening", "error", fault)
	}
	if p.Clock != "" {
		log.Warn("clock implausible", "detail", p.Clock)
	}
	if p.Dialects != nil {
		log.Warn("state_dir", "error", p.Dialects)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	var built closers
	defer func() { err = errors.Join(err, built.close()) }()
	g, services, err := build(p, log, &built)
	if err != nil {
		return err
	}
	ended := make(chan error, len(services))
	for _, serve := range services {
		go func() { ended <- serve(ctx) }()
	}
	log.Info("running", "version", p.build.Version, "policy", p.Config.Policy, "peers", len(p.Policy.Peers),
		"tunnels", len(p.Policy.Tunnels), "plane", g.lives.Name())
	g.warnOfPeers()
	if err := tellSystemd("READY=1"); err != nil {
		log.Warn("systemd", "error", err)
	}
	err = g.serve(ctx, hup, ended)
	if g.handed.Load() {
		signal.Ignore(syscall.SIGTERM) // systemd sends one behind a handover that is under way
	}
	stop() // whatever ended first, all end now
	log.Info("stopping")
	_ = tellSystemd("STOPPING=1") // nobody is left to be told that this failed
	for range cap(ended) - 1 {
		err = errors.Join(err, <-ended)
	}
	g.plan.Load().wipe()
	return errors.Join(err, g.forget(p.Config.StateDir), saveTime(p.Config.StateDir, time.Now()))
}

// service is something that runs until its context ends.
type service func(ctx context.Context) error

// build touches the machine for the first time: state, control socket, then the
// data plane with its guard, which stands before the first socket of IKE is open.
func build(p *Plan, log *slog.Logger, built *closers) (*gateway, []service, error) {
	if err := openState(p.Config.StateDir); err != nil {
		return nil, nil, err
	}
	desk, err := control.Listen(p.Config.ControlSocket)
	if err != nil {
		return nil, nil, err
	}
	built.add(desk.Close)
	g := &gateway{log: log, metrics: newMetrics(), started: time.Now(), changed: make(chan struct{}, 1), learned: make(chan struct{}, 1), narrow: make(chan struct{}, 1), narrowAt: map[string]time.Time{},
		found: make(chan ike.Event, mostFound)}
	g.plan.Store(p)
	g.metrics.from(p.Policy)
	if err := saveGuard(p.Config, p.Policy); err != nil {
		return nil, nil, err
	}
	var name, why string
	if g.plane, name, why, err = openChosen(p.Config, p.Policy); err != nil {
		return nil, nil, fmt.Errorf("data plane: %w", err)
	}
	built.add(g.plane.Close)
	g.lives, g.because = residenceOf(g.plane, name), why
	log.Info("data plane", "plane", g.lives.Name(), "because", why)
	if u, ok := g.plane.(*tunnel.Plane); ok {
		log.Info("userspace plane", "offloads", u.Offloads().String())
	}
	if b, ok := g.plane.(*both); ok {
		b.narrowed = func() {
			select {
			case g.narrow <- struct{}{}:
			default: // known already
			}
		}
		b.placed = func(name, plane, why string) { log.Info("placed", "tunnel", name, "plane", plane, "because", why) }
	}
	for _, warning := range g.plane.Warnings() {
		log.Warn("host", "detail", warning)
	}
	if err := errors.Join(g.openGroups(p.Config.Mark, built), g.openHome(p.Config.Mark, built)); err != nil {
		return nil, nil, err
	}
	sockets, err := server.Listen(p.Config.IKEPort, Bypass(p.Config.Mark))
	if err != nil {
		return nil, nil, err
	}
	built.add(sockets.Close)
	g.server, err = server.New(server.Config{
		Engine: p.engine, Plane: g.plane, Keys: g.metrics.timed(p.keys), Policy: p.Policy, KeyDeadline: p.Config.KeyDeadline,
		Adopted:  g.takeBack(p.Config.StateDir),
		Wires:    append(sockets.Wires(), server.Bound{Wire: natWire{g.plane}, Port: p.Config.NATPort}),
		Door:     p.engine.Door(),
		Tell:     g.tell,
		Resolver: server.SystemResolver(Bypass(p.Config.Mark)),
	})
	if err != nil {
		return nil, nil, err
	}
	g.metrics.source = g
	services := []service{g.server.Run,
		func(ctx context.Context) error { return g.groups.serve(ctx, g.plan.Load().Policy) },
		func(ctx context.Context) error { return g.home.serve(ctx, g.plan.Load().Policy) },
		func(ctx context.Context) error { return control.Serve(ctx, desk, g) }}
	if p.Config.MetricsListen != "" {
		l, err := net.Listen("tcp", p.Config.MetricsListen)
		if err != nil {
			return nil, nil, fmt.Errorf("metrics_listen: %w", err)
		}
		built.add(func() error { l.Close(); return nil }) // its server has closed it, or never began
		services = append(services, func(ctx context.Context) error { return serveMetrics(ctx, l, g.metrics.handler(log)) })
	}
	return g, services, nil
}

func serveMetrics(ctx context.Context, l net.Listener, h http.Handler) error {
	const limit = 10 * time.Second
	s := &http.Server{Handler: h, ReadTimeout: limit, WriteTimeout: limit, IdleTimeout: limit, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// serve does what comes by the clock and by signals until ctx ends or a service
// does, whose error is then returned.
func (g *gateway) serve(ctx context.Context, hup <-chan os.Signal, ended <-chan error) error {
	dir := g.plan.Load().Config.StateDir
	save, alive, narrow := time.NewTicker(saveEvery), time.NewTicker(keepAliveEvery), time.NewTicker(narrowEvery)
	defer save.Stop()
	defer alive.Stop()
	defer narrow.Stop()
	g.saveTime(dir)
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return <-ended
		case <-g.changed:
			if settled == nil {
				settled = time.After(childrenSettle)
			}
		case <-settled:
			settled = nil
			g.rememberNow(ctx)
		case err := <-ended:
			if err == nil && ctx.Err() == nil && !g.handed.Load() {
				err = errors.New("a service ended by itself")
			}
			return err
		case <-hup:
			if err := g.reload(ctx); err != nil {
				g.log.Error("reload refused: the old configuration stays in force", "error", err)
				continue
			}
			g.log.Info("reloaded", "policy", g.plan.Load().Config.Policy)
		case <-save.C:
			g.saveTime(dir)
		case e := <-g.found:
			g.settle(ctx, e)
		case <-g.learned:
			g.keepDialects(ctx)
		case <-alive.C:
			g.keepAlive(ctx)
		case now := <-narrow.C:
			g.leaveNarrow(ctx, now)
			g.gather(ctx)
		case <-g.narrow:
			g.leaveNarrow(ctx, time.Now())
		}
	}
}

// saveTime: a state that cannot be written costs a check of the clock, not the
// tunnels.
func (g *gateway) saveTime(dir string) {
	if err := saveTime(dir, time.Now()); err != nil {
		g.log.Warn("state_dir", "error", err)
	}
}
