package main

import "github.com/spf13/cobra"

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
			return ordered(c, args[0], renew, "new keys asked for; see yumen status")
		},
	}
	c.Flags().BoolVar(&session, "ike", false, "renew the working keys with the peer (a new main mode) instead")
	return c
}
