package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
)

// newHandoverCommand is `yumen handover`.
func newHandoverCommand(at *place) *cobra.Command {
	unit := ""
	c := &cobra.Command{
		Use:   "handover",
		Short: "End the gateway so that the next one goes on with its tunnels",
		Long: `End the gateway for a restart or an upgrade. What the kernel's data plane carries
goes on meanwhile, peers hear nothing, and the next start takes it back and renews
its keys. What the userspace data plane carries ends as by a stop, and comes back with
the next start. If none comes, each tunnel ends at the limit of its keys, and what is
protected is then dropped.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if unit != "" {
				restarting, err := restarts(c.Context(), unit)
				if err != nil {
					return err
				}
				if !restarting {
					fmt.Fprintf(c.OutOrStdout(), "%s is not restarted: nothing is handed over\n", unit)
					return nil
				}
			}
			if err := at.client().Handover(c.Context()); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "handed over: what the kernel carries goes on until the gateway runs again")
			return nil
		},
	}
	c.Flags().StringVar(&unit, "when-restarting", "", "only if systemd is restarting this unit, and else do nothing")
	return c
}

// restarts reports whether systemd's job for a unit is a restart. While the old
// process stops that is the only place where a restart differs from a stop.
func restarts(ctx context.Context, unit string) (bool, error) {
	command := exec.CommandContext(ctx, "systemctl", "list-jobs", "--no-legend", "--no-pager")
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		return false, fmt.Errorf("ask systemd for its jobs: %w: %s", err, strings.TrimSpace(said.String()))
	}
	for line := range strings.Lines(string(out)) {
		// 123 yumen.service restart running
		if f := strings.Fields(line); len(f) >= 3 && f[1] == unit && f[2] == "restart" {
			return true, nil
		}
	}
	return false, nil
}
