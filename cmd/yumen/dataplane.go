package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/control"
)

// newDataplaneCommand is `yumen dataplane`.
func newDataplaneCommand(at *place) *cobra.Command {
	c := &cobra.Command{
		Use:   "dataplane",
		Short: "Where packets are encrypted: in the kernel or in userspace",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(newMoveCommand(at))
	return c
}

func newMoveCommand(at *place) *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "move TUNNEL user|kernel",
		Short: "Move a tunnel to the other data plane, make before break",
		Long: `Move a tunnel to the other data plane: one quick mode makes its new SAs there, the
old ones go as after every rekey, and no packet is lost. The choice holds until the
next move or until the gateway starts anew. It takes dataplane: auto in gateway.yaml.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			client := at.client()
			if err := client.Move(c.Context(), args[0], args[1]); err != nil {
				return err
			}
			said, err := moved(c.Context(), client, args, wait)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", args[0], said)
			return nil
		},
	}
	c.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait until the tunnel sends by the other plane")
	return c
}

// moved waits until a tunnel sends by the plane that was asked for.
func moved(ctx context.Context, client *control.Client, args []string, wait time.Duration) (said string, err error) {
	const look = 100 * time.Millisecond
	name, to := args[0], map[string]string{"user": "userspace", "kernel": "kernel"}[args[1]]
	detail := ""
	for end := time.Now().Add(wait); ; {
		s, err := client.Status(ctx)
		if err != nil {
			return "", err
		}
		sends := false
		for _, t := range s.Tunnels {
			if t.Name != name {
				continue
			}
			if detail = t.LastFailure; t.LastDetail != "" {
				detail += " (" + t.LastDetail + ")"
			}
			for _, c := range t.Children {
				sends = sends || c.InUse
				if c.InUse && c.Plane == to {
					return fmt.Sprintf("now in %s", to), nil
				}
			}
		}
		if !sends {
			return fmt.Sprintf("is not up; it will be in %s", to), nil
		}
		if !time.Now().Before(end) {
			return "", fmt.Errorf("%s has not moved after %v, and goes on as it was: %s; its next keys will be in %s", name, wait, detail, to)
		}
		time.Sleep(look)
	}
}
