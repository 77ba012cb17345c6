package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/control"
	"yumen/cmd/internal/daemon"
)

// newGuardCommand is `yumen guard`.
func newGuardCommand(at *place) *cobra.Command {
	c := &cobra.Command{
		Use:   "guard",
		Short: "The guard that keeps protected traffic from leaving in clear",
		Long: `The guard (kernel policies, routing rules and blackhole routes) is set when the
gateway starts and stays when it stops or dies: what is protected is then dropped.`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(&cobra.Command{
		Use:   "remove",
		Short: "Remove the guard: protected traffic may then leave in clear",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := at.load(c)
			if err != nil {
				return err
			}
			if _, err := at.client().Status(c.Context()); !errors.Is(err, control.ErrNotRunning) {
				return errors.New("the gateway is running: stop it first")
			}
			if err := daemon.RemoveGuard(cfg); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "the guard is removed: traffic of the tunnels may now leave in clear")
			return nil
		},
	})
	return c
}
