package main

import (
	"github.com/spf13/cobra"

	"yumen/cmd/internal/daemon"
)

// newRunCommand is `yumen run`.
func newRunCommand(at *place) *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: `Run the gateway in the foreground, with its log on standard error.

Everything is read and checked before anything of the machine is touched. From
then on protected traffic leaves through a tunnel or not at all; the guard that
sees to it stays when the gateway stops or dies (see yumen guard).

Signals: SIGHUP reads policy, certificates and revocation lists anew and keeps the
old ones if there is any fault; SIGTERM and SIGINT stop in good order: peers are told
and every tunnel ends. For a restart or an upgrade without a gap see yumen handover.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := at.load(c)
			if err != nil {
				return err
			}
			plan, err := daemon.Prepare(cfg, at.build)
			if err != nil {
				return err
			}
			return daemon.Run(c.Context(), plan, daemon.NewLogger(c.ErrOrStderr(), cfg))
		},
	}
	addSettings(c)
	return c
}
