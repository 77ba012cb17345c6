package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/probe"
	"yumen/policy"
)

type conformFlags struct {
	deskFlags
	profile string
	knobs   []string
}

// newConformCommand is `yumen conform`.
func newConformCommand(at *place) *cobra.Command {
	var f conformFlags
	c := &cobra.Command{
		Use:   "conform [ADDRESS]",
		Short: "Play a strict or a deviating peer, and say what another gateway does with it",
		Long: `Play a peer for another gateway to be tried against. Without knobs it is strict: it
speaks GB/T 36968-2018, takes nothing else (accept: exact) and names each deviation with
its clause. --profile and --knob make it any other peer; --knob accept=any takes what
is understood. What it saw is printed step by step, and at the end a verdict.

It waits to be called (--listen) or calls ADDRESS, deletes what came up, and protects
nothing. Because it speaks as nobody should, it refuses to run beside a gateway, or with
the state folder of one: give it a configuration of its own with an empty state_dir.

Exit status 0: the other speaks this dialect; 1: it deviates or does not connect.`,
		Example: "  yumen conform --config lab/gateway.yaml --listen --peer box\n" +
			"  yumen conform --config lab/gateway.yaml --listen --peer box --profile h3c-draft --knob sk_encoding=c1c3c2",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, at, args) },
	}
	f.add(c, "wait to be called", "entry of the policy for the gateway that is tried")
	fl := c.Flags()
	fl.StringVar(&f.profile, "profile", policy.GBT36968.String(), "dialect to play")
	fl.StringArrayVar(&f.knobs, "knob", nil, "name=value, in the words of dialect: in a policy; may be repeated")
	return c
}

func (f *conformFlags) run(c *cobra.Command, at *place, args []string) error {
	remote, err := farEnd(f.listen, args)
	if err != nil {
		return err
	}
	if f.peer == "" {
		return errors.New("--peer NAME is needed: whose certificates are believed, and which tunnels asked for")
	}
	dialect, err := f.dialect()
	if err != nil {
		return err
	}
	cfg, err := at.load(c)
	if err != nil {
		return err
	}
	if err := notProduction(cfg); err != nil {
		return err
	}
	if err := alone(c.Context(), at); err != nil {
		return err
	}
	d := f.desk(remote)
	if err := d.credentials(c, at, f.peer); err != nil {
		return err
	}
	entry := &d.cfg.Engine.Policy.Peers[0]
	if dialect.PeerID == "" {
		dialect.PeerID = entry.Dialect.PeerID
	}
	entry.Profile, entry.Dialect = policy.GBT36968, dialect
	out := c.OutOrStdout()
	m, err := probe.NewConform(d.cfg, func(now time.Time, line string) {
		fmt.Fprintf(out, "%s %s\n", now.Format("15:04:05.000"), line)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "playing %s\n", policy.Lines(dialect))
	if err := d.drive(c, m); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%v", m.Verdict())
	if !m.Verdict().Good() {
		return errors.New("it does not speak this dialect")
	}
	return nil
}

// dialect is what is to be played.
func (f *conformFlags) dialect() (policy.Dialect, error) {
	var d policy.Dialect
	known := false
	for _, p := range policy.Profiles() {
		if p != policy.Auto && p.String() == f.profile {
			d, known = p.Dialect(), true
		}
	}
	if !known {
		return d, fmt.Errorf("--profile: %q is no profile that can be played", f.profile)
	}
	d.Exact = true
	for _, text := range f.knobs {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return d, fmt.Errorf("--knob: %q is not name=value", text)
		}
		var err error
		if d, err = d.With(policy.Knob{Name: name, Value: value}); err != nil {
			return d, fmt.Errorf("--knob %s: %w (knobs: %s)", text, err, strings.Join(policy.KnobNames(), ", "))
		}
	}
	if d.FieldPad == policy.PadZeros {
		d.ZeroPad = true
		if d.Nonce != 0 {
			return d, fmt.Errorf("--knob nonce_length=%d cannot be told from zeros that pad it (field_pad=zeros)", d.Nonce)
		}
	}
	if d.IDType >= policy.IDFQDN && d.ID == "" {
		return d, fmt.Errorf("--knob id_type=%v needs --knob id=VALUE", d.IDType)
	}
	return d, nil
}

// notProduction refuses the state folder of a gateway.
func notProduction(cfg *config.Config) error {
	if filepath.Clean(cfg.StateDir) == config.StandardStateDir() {
		return fmt.Errorf("state_dir is %s, that of the gateway of this host: give conform a configuration of its own with another one", cfg.StateDir)
	}
	list, err := os.ReadDir(cfg.StateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("state_dir: %w", err)
	case len(list) > 0:
		return fmt.Errorf("state_dir %s holds %s, so it is that of a gateway: give conform a configuration of its own with an empty one",
			cfg.StateDir, list[0].Name())
	}
	return nil
}
