package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newUpCommand is `yumen up`.
func newUpCommand(at *place) *cobra.Command {
	return &cobra.Command{
		Use:   "up TUNNEL",
		Short: "Bring a tunnel up, whatever its start mode",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := at.client().Up(c.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: negotiation asked for; see yumen status\n", args[0])
			return nil
		},
	}
}

// newDownCommand is `yumen down`.
func newDownCommand(at *place) *cobra.Command {
	return &cobra.Command{
		Use:   "down TUNNEL",
		Short: "Take a tunnel down and keep it down until up",
		Long: `Take a tunnel down and keep it down until up, or until the gateway starts anew.
Its traffic is dropped meanwhile: it never leaves in clear.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := at.client().Down(c.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: down; its traffic is dropped\n", args[0])
			return nil
		},
	}
}
