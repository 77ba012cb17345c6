package main

import (
	"context"
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
			return ordered(c, args[0], at.client().Up, "negotiation asked for; see yumen status")
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
			return ordered(c, args[0], at.client().Down, "down; its traffic is dropped")
		},
	}
}

// ordered gives an order about a tunnel, and says that it was taken and what the
// gateway remarks on it.
func ordered(c *cobra.Command, tunnel string, order func(ctx context.Context, tunnel string) (string, error), taken string) error {
	remark, err := order(c.Context(), tunnel)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", tunnel, taken)
	if remark != "" {
		fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", tunnel, remark)
	}
	return nil
}
