package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/control"
)

// newStatusCommand is `yumen status`.
func newStatusCommand(at *place) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show sessions, tunnels, counters and certificates of the running gateway",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := at.client().Status(c.Context())
			if err != nil {
				return err
			}
			if !asJSON {
				return control.WriteText(c.OutOrStdout(), s)
			}
			e := json.NewEncoder(c.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(s)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for machines")
	return c
}
