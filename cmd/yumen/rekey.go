package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newRekeyCommand is `yumen rekey`.
func newRekeyCommand(at *place) *cobra.Command {
	var session bool
	c := &cobra.Command{
		Use:   "rekey TUNNEL",
		Short: "Renew the session keys of a tunnel now, make before break",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			renew := at.client().Rekey
			if session {
				renew = at.client().RekeyIKE
			}
			if err := renew(c.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: new keys asked for; see yumen status\n", args[0])
			return nil
		},
	}
	c.Flags().BoolVar(&session, "ike", false, "renew the working keys with the peer (a new main mode) instead")
	return c
}
