package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/daemon"
)

// newCheckCommand is `yumen check`.
func newCheckCommand(at *place) *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check everything that run would refuse, without touching the machine",
		Long: `Read configuration, policy, keys, certificates and revocation lists, run the
self-test, and tell every fault that run would refuse, each with its place. Nothing
is changed. Exit status 1 if there is any fault.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := at.load(c)
			if err != nil {
				return fmt.Errorf("not fit to run:\n%w", err)
			}
			plan, err := daemon.Prepare(cfg, at.build)
			if err != nil {
				return fmt.Errorf("not fit to run:\n%w", err)
			}
			printPlan(c, plan)
			return nil
		},
	}
	addSettings(c)
	return c
}

func printPlan(c *cobra.Command, p *daemon.Plan) {
	out := func(format string, args ...any) { fmt.Fprintf(c.OutOrStdout(), format+"\n", args...) }
	out("%s: fit to run", p.Config.File)
	if p.Clock != "" {
		out("  CLOCK IMPLAUSIBLE: %s", p.Clock)
	}
	out("  policy %s: %d peers, %d tunnels, %d rules", p.Config.Policy, len(p.Policy.Peers), len(p.Policy.Tunnels), len(p.Policy.Rules))
	for _, g := range p.Policy.Groups {
		var paths []string
		for _, m := range g.Members {
			paths = append(paths, m.Tunnel)
		}
		out("  group %s: %s, by %s", g.Name, g.Mode, strings.Join(paths, ", "))
	}
	if !p.Policy.NeedsCertificates() {
		out("  no certificates: no peer needs them")
	} else {
		out("  sign   '%s', until %s", p.Own.Sign.Name, p.Own.Sign.NotAfter.UTC().Format("2006-01-02 15:04 UTC"))
		out("  enc    '%s', until %s", p.Own.Enc.Name, p.Own.Enc.NotAfter.UTC().Format("2006-01-02 15:04 UTC"))
	}
	if p.Dialects != nil {
		out("  warning: %v", p.Dialects)
	}
	for _, line := range p.Outdated(time.Now()) {
		out("  WARNING: %s", line)
	}
	for _, line := range p.NonGM() {
		out("  WARNING: %s", line)
	}
	var names []string
	for _, t := range p.Selftests {
		names = append(names, t.Name)
	}
	out("  self-test passed: %s", strings.Join(names, ", "))
}
