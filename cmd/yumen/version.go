package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// newVersionCommand is `yumen version`.
func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show what this program is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b := buildInfo()
			fmt.Fprintf(c.OutOrStdout(), "yumen %s, %s, %s/%s\n", b.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			if !b.Time.IsZero() {
				fmt.Fprintf(c.OutOrStdout(), "source of %s\n", b.Time.UTC().Format("2006-01-02 15:04 UTC"))
			}
			return nil
		},
	}
}
