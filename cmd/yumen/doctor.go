package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/doctor"
)

// newDoctorCommand is `yumen doctor`.
func newDoctorCommand(at *place) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this machine and say what will keep tunnels from working, with a fix each",
		Long: `Look at kernel, firewall, address translation, other daemons, interfaces, clock and
certificates, and say one line and one fix each. Nothing is changed. A gateway may
be running or not, and a configuration that cannot be read only hides what depends
on it. ` + "`yumen check`" + ` looks at the configuration, this at the machine.

Exit status 0: nothing is wrong (there may be warnings); 1: something is.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, fault := at.load(c)
			runtime.LockOSThread() // all questions to one network namespace
			defer runtime.UnlockOSThread()
			report := doctor.Examine(doctor.Gather(cfg, fault, buildInfo().Time))
			var err error
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetEscapeHTML(false) // commands are to be pasted
				e.SetIndent("", "  ")
				err = e.Encode(report)
			} else {
				err = report.WriteText(c.OutOrStdout())
			}
			if err == nil && report.Fails > 0 {
				err = fmt.Errorf("doctor: %d things are wrong", report.Fails)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for machines")
	addSettings(c)
	return c
}
