package main

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/bench"
)

// benchFlags are what `yumen bench` takes.
type benchFlags struct {
	bench.Options
	quick      bool
	json, plot string
}

// newBenchCommand is `yumen bench`.
func newBenchCommand() *cobra.Command {
	o := benchFlags{Options: bench.Standard()}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure what GM/T 0023 asks of a gateway on this machine",
		Long: `Measure throughput without loss (both directions together, and one alone), loss and
delay at Ethernet frames of 64 and 1428 bytes (74 and 1408 for IPv6) and a mix of
lengths through a real pair of gateways, new tunnels per second, memory per tunnel,
and the crypto kernels of this processor. A data plane that this kernel
cannot carry is not measured, and why is said.

All of it happens in network namespaces of its own, with certificates of this run;
nothing of the host is touched and nothing is left. Gateways, hosts and generator
share the machine: the figures compare machines and versions, and are no line rate.
Let nothing else run meanwhile. It takes root, but for --only kernels.`,
		Example: "  yumen bench --json figures.json --plot figures\n  yumen bench --quick --only throughput,latency",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	f := c.Flags()
	f.BoolVar(&o.quick, "quick", false, "some seconds in all, to see that it works")
	f.Float64Var(&o.Seconds, "seconds", o.Seconds, "length of one trial")
	f.IntVar(&o.Tunnels, "tunnels", o.Tunnels, "concurrent tunnels, 5 to 5000")
	f.Float64Var(&o.AcceptLoss, "accept-loss", o.AcceptLoss, "percent that may be lost at the rate called throughput")
	f.StringSliceVar(&o.Only, "only", nil, "some of "+strings.Join(bench.Parts(), ", "))
	f.StringSliceVar(&o.Ways, "ways", o.Ways, "suites, and protocol 50 or UDP: some of "+strings.Join(bench.Ways(), ", "))
	f.StringVar(&o.json, "json", "", "file for the figures; - is standard output, without the table")
	f.StringVar(&o.plot, "plot", "", "folder for plots (SVG)")
	return c
}

func (o *benchFlags) run(c *cobra.Command) error {
	options := o.Options
	if o.quick {
		options = bench.Quick()
		options.Only, options.AcceptLoss, options.Ways = o.Only, o.AcceptLoss, o.Ways
		if c.Flags().Changed("seconds") {
			options.Seconds = o.Seconds
		}
		if c.Flags().Changed("tunnels") {
			options.Tunnels = o.Tunnels
		}
	}
	options.Progress = c.ErrOrStderr()
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	report, err := bench.Run(ctx, options)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return o.deliver(c, report)
}

// deliver writes table, JSON and plots.
func (o *benchFlags) deliver(c *cobra.Command, report *bench.Report) error {
	if o.json == "-" {
		if err := report.WriteJSON(c.OutOrStdout()); err != nil {
			return err
		}
	} else if err := report.WriteText(c.OutOrStdout()); err != nil {
		return err
	}
	if o.json != "" && o.json != "-" {
		var b bytes.Buffer
		if err := report.WriteJSON(&b); err != nil {
			return err
		}
		if err := os.WriteFile(o.json, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if o.plot == "" {
		return nil
	}
	files, err := report.Plots(o.plot)
	for _, f := range files {
		fmt.Fprintln(c.ErrOrStderr(), "written:", f)
	}
	return err
}
