package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/control"
)

// newReadyCommand is `yumen ready`.
func newReadyCommand(at *place) *cobra.Command {
	var asJSON, local bool
	limit := time.Second
	c := &cobra.Command{
		Use:   "ready",
		Short: "Exit 0 if traffic may be sent to this gateway, else 1: for health checks",
		Long: `Say in one line whether this gateway is fit: it answers, its self-tests passed, the
policy is applied, its certificates are valid, each tunnel with start: start is up, and
the traffic of each group is on a path that works. With --local only what this machine
needs to take over: nothing that hangs on the far end, so that a gateway that stands by
is ready.

Exit status 0: ready; 1: not, also when no gateway answers.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), limit)
			defer cancel()
			var r control.Readiness
			if s, err := at.client().Status(ctx); err != nil {
				r = control.NotAnswering(err, local)
			} else {
				r = s.Readiness(local)
			}
			if asJSON {
				if err := json.NewEncoder(c.OutOrStdout()).Encode(r); err != nil {
					return err
				}
			} else if r.Ready {
				fmt.Fprintln(c.OutOrStdout(), r.Says)
			}
			if !r.Ready {
				return errors.New(r.Says)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for machines")
	c.Flags().BoolVar(&local, "local", false, "only what this machine needs to take over (VRRP)")
	c.Flags().DurationVar(&limit, "timeout", limit, "how long to wait for the gateway")
	return c
}
