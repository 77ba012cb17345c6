package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/control"
	"yumen/cmd/internal/daemon"
	"yumen/cmd/internal/probe"
	"yumen/ike"
	"yumen/ike/server"
	"yumen/policy"
)

// deskFlags are those of probe and conform alike.
type deskFlags struct {
	listen bool
	peer   string
	users  []string
	wait   time.Duration
}

// add gives a command these flags; words say what listen and peer mean there.
func (f *deskFlags) add(c *cobra.Command, listen, peer string) {
	fl := c.Flags()
	fl.BoolVar(&f.listen, "listen", false, listen)
	fl.StringVar(&f.peer, "peer", "", peer)
	fl.StringArrayVar(&f.users, "user-id", nil, "user ID of SM2 signatures to try besides the default one; may be repeated")
	fl.DurationVar(&f.wait, "wait", 0, "how long to go on once a session stands (default 35s)")
	addSettings(c)
}

type probeFlags struct {
	deskFlags
	exhaustive bool
}

// newProbeCommand is `yumen probe`.
func newProbeCommand(at *place) *cobra.Command {
	var f probeFlags
	c := &cobra.Command{
		Use:   "probe [ADDRESS]",
		Short: "Find out how a far end speaks, and write the peer entry for it",
		Long: `Find out in which of the known ways a far end deviates. Each knob of a policy is
reported as seen, as accepted, or as "cannot be told" with the reason. At the end
stands a peer entry that is ready for the policy.

  yumen probe --listen --peer NAME   waits until the far end dials once. Its message 3
                                     is for our key, so this tells the most.
  yumen probe ADDRESS                sends first messages that ask for nothing but an
                                     answer; no certificate is needed.
  yumen probe ADDRESS --peer NAME    then tries handshakes with our certificates, the
                                     likeliest form first, 12 at most unless --exhaustive.
                                     Each wrong guess is a failed message 3 in the log there.

NAME is an entry of the policy, whose address may be any for --listen. Nothing is
protected or installed here; what comes up at the far end is deleted again. UDP 500
and 4500 must be free: stop the gateway of this host first (systemctl stop yumen). With
--peer no other gateway may be up with the same certificates: the far end would take
the probe's tunnel for that one's next, and send into it until it is deleted.`,
		Example: "  yumen probe 198.51.100.1\n  yumen probe --listen --peer branch\n  yumen probe 198.51.100.1 --peer branch --exhaustive",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return f.run(c, at, args) },
	}
	f.add(c, "wait for the far end to dial", "entry of the policy for the far end")
	c.Flags().BoolVar(&f.exhaustive, "exhaustive", false, "try every form, not only the likeliest 12")
	return c
}

func (f *probeFlags) run(c *cobra.Command, at *place, args []string) error {
	remote, err := farEnd(f.listen, args)
	if err != nil {
		return err
	}
	if f.listen && f.peer == "" {
		return errors.New("--listen needs --peer NAME: whose certificates are believed, and ours shown")
	}
	if err := alone(c.Context(), at); err != nil {
		return err
	}
	d := f.desk(remote)
	d.cfg.Exhaustive = f.exhaustive
	if f.peer != "" {
		err = d.credentials(c, at, f.peer)
	} else {
		d.stranger(c, at)
	}
	if err != nil {
		return err
	}
	if f.listen {
		m, err := probe.NewListener(d.cfg)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.ErrOrStderr(), "waiting for the far end to dial; interrupt to end\n")
		return d.report(c, m, m.Report())
	}
	m := probe.NewDialer(d.cfg)
	return d.report(c, m, m.Report())
}

// farEnd reads the address; with listen it may be left out.
func farEnd(listen bool, args []string) (netip.Addr, error) {
	if len(args) == 0 {
		if !listen {
			return netip.Addr{}, errors.New("give the address of the far end, or --listen")
		}
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(args[0])
	if err != nil || a.IsUnspecified() || a.IsMulticast() {
		return netip.Addr{}, fmt.Errorf("%q is no address of a host", args[0])
	}
	return a.Unmap(), nil
}

// alone refuses to take the ports of a gateway that runs.
func alone(ctx context.Context, at *place) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := at.client().Status(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return nil
	case err != nil:
		return fmt.Errorf("whether a gateway runs here cannot be told: %w", err)
	}
	return errors.New("a gateway runs here and has UDP 500: stop it first (systemctl stop yumen), or probe from another host; " +
		"what it has seen of its peers `yumen status` tells")
}

// desk is what a probe or a conformance peer runs with.
type desk struct {
	cfg    probe.Config
	keys   server.PrivateKeys
	bypass server.Bypass
}

func (f *deskFlags) desk(remote netip.Addr) desk {
	return desk{cfg: probe.Config{Remote: remote, UserIDs: f.users, Wait: f.wait}}
}

// credentials takes certificates, keys and the entry of the peer from the
// configuration.
func (d *desk) credentials(c *cobra.Command, at *place, name string) error {
	cfg, err := at.load(c)
	if err != nil {
		return err
	}
	plan, err := daemon.Prepare(cfg, buildInfo())
	if err != nil {
		return err
	}
	entry, ok := plan.Policy.Peer(name)
	switch {
	case !ok:
		return fmt.Errorf("%s: no peer is called %q", cfg.Policy, name)
	case entry.NonGM() != "":
		return fmt.Errorf("peer %q has the profile %s: there is nothing to find out about it", name, entry.NonGM())
	}
	e := plan.EngineConfig()
	e.Policy = &policy.Policy{Site: plan.Policy.Site, Peers: []policy.Peer{entry}}
	e.Policy.Tunnels = slices.DeleteFunc(slices.Clone(plan.Policy.Tunnels), func(t policy.Tunnel) bool { return t.Peer != name })
	d.cfg.Engine, d.cfg.Credentials = e, true
	d.keys, d.bypass = plan.PrivateKeys(), daemon.Bypass(cfg.Mark)
	return nil
}

// stranger is a probe without credentials. A configuration, if there is one, only
// says how our sockets pass our own guard.
func (d *desk) stranger(c *cobra.Command, at *place) {
	entry := policy.UsualPeer()
	entry.Name, entry.Remote, entry.CA = "far-end", policy.Remote{Addr: d.cfg.Remote}, policy.Placeholder
	entry.Identity.Subject = "CN=" + policy.Placeholder
	d.cfg.Engine = ike.Config{Policy: &policy.Policy{Peers: []policy.Peer{entry}}, Rand: rand.Reader}
	if cfg, err := at.load(c); err == nil {
		d.bypass = daemon.Bypass(cfg.Mark)
	} else if cfg, err := config.Load(config.DefaultFile, nil); err == nil {
		d.bypass = daemon.Bypass(cfg.Mark)
	}
}

// drive runs a machine until it is done or the operator interrupts.
func (d *desk) drive(c *cobra.Command, m probe.Machine) error {
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p := *d.cfg.Engine.Policy
	if d.cfg.Remote.IsValid() {
		p.Peers = slices.Clone(p.Peers)
		p.Peers[0].Remote = policy.Remote{Addr: d.cfg.Remote}
	}
	return probe.Run(ctx, m, &p, d.keys, d.bypass)
}

// report drives a probe and prints what it found out.
func (d *desk) report(c *cobra.Command, m probe.Machine, r *probe.Report) error {
	if err := d.drive(c, m); err != nil {
		return err
	}
	if err := r.Write(c.OutOrStdout()); err != nil {
		return err
	}
	if r.Block == "" {
		return errors.New("nothing was found out")
	}
	return nil
}
