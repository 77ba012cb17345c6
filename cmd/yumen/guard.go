package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/config"
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
	c.AddCommand(
		guardCommand(at, "set", "Set the guard before the gateway runs, at boot for instance", daemon.SetGuard,
			"the guard is set: traffic of the tunnels is dropped until the gateway runs"),
		guardCommand(at, "remove", "Remove the guard: protected traffic may then leave in clear", daemon.RemoveGuard,
			"the guard is removed: traffic of the tunnels may now leave in clear"),
	)
	return c
}

func guardCommand(at *place, name, short string, do func(*config.Config) error, done string) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := at.load(c)
			if err != nil {
				return err
			}
			if _, err := at.client().Status(c.Context()); !errors.Is(err, control.ErrNotRunning) {
				return errors.New("the gateway is running and keeps its own guard: stop it first")
			}
			if err := do(cfg); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), done)
			return nil
		},
	}
}
