package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/drill"
)

// drillFlags are what `yumen drill` takes.
type drillFlags struct {
	drill.Options
	yes bool
	out string
}

// newDrillCommand is `yumen drill`.
func newDrillCommand(at *place) *cobra.Command {
	o := drillFlags{Options: drill.Standard()}
	c := &cobra.Command{
		Use:   "drill GROUP",
		Short: "Fail each path of a group in turn, measure it, and write a dated report",
		Long: `Fail each path of a group in turn and measure what that costs: the gateway drops all
ESP of that path both ways, so that both ends have to find out by their probes, and
numbered probes that travel as the group's traffic does tell loss and time to recover
in both directions. Then the path is restored. Traffic of users is on the other paths
meanwhile, and what a switch costs them is what the report says: agree on a window.

It refuses without a healthy alternative to each path. Ctrl-C and the end of the
window restore at once; if this command dies, the gateway restores by itself some
seconds later. The report is text, JSON and HTML with a plot, drill-GROUP-DATE.*.

Exit status 0: every path was survived within --limit; 1: not, or nothing was begun.`,
		Example: "  yumen drill dr --window 30m\n  yumen drill dr --window 10m --yes --out /var/lib/yumen-reports",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Group = args[0]
			return o.run(c, at)
		},
	}
	f := c.Flags()
	f.DurationVar(&o.Window, "window", o.Window, "agreed time; the exercise ends within it, or is not begun")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.DurationVar(&o.Hold, "hold", o.Hold, "how long each path is failed, at most 59m50s")
	f.DurationVar(&o.Every, "every", o.Every, "time between two probes, 2ms to 1s")
	f.DurationVar(&o.Limit, "limit", o.Limit, "longest time without an answer that is a pass")
	f.BoolVar(&o.Announced, "announced", false, "tell our own end first, as for planned work: only the far end has to find out")
	f.StringVar(&o.out, "out", ".", "folder for the report")
	return c
}

func (o *drillFlags) run(c *cobra.Command, at *place) error {
	if err := o.Validate(); err != nil {
		return err
	}
	client := at.client()
	s, err := client.Status(c.Context())
	if err != nil {
		return err
	}
	plan, err := drill.Check(s, o.Options)
	if err != nil {
		return err
	}
	if info, err := os.Stat(o.out); err != nil || !info.IsDir() {
		return fmt.Errorf("%w: --out %s is not a folder", drill.ErrRefused, o.out)
	}
	if !o.yes {
		if err := agreed(c, plan, o.Options); err != nil {
			return err
		}
	}
	o.Progress = c.ErrOrStderr()
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	report, err := drill.Run(ctx, client, o.Options)
	if report == nil {
		return err
	}
	if werr := o.deliver(c, report); werr != nil {
		return errors.Join(err, werr)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("the drill was stopped; everything is restored")
	case err != nil:
		return err
	case !report.Passed:
		return errors.New("the drill is not passed: " + report.Why)
	}
	return nil
}

// agreed asks for a yes.
func agreed(c *cobra.Command, p drill.Plan, o drill.Options) error {
	fmt.Fprintf(c.ErrOrStderr(), "Group %s sends by %s. %s will be failed for %v each; about %v in all, within a window of %v.\nType the name of the group to begin: ",
		o.Group, strings.Join(p.Group.Carries, ", "), strings.Join(p.Paths, ", "), o.Hold, p.Takes, o.Window)
	said, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(said) != o.Group {
		return fmt.Errorf("%w: that was not the group's name", drill.ErrRefused)
	}
	return nil
}

// deliver writes the three files and shows the text.
func (o *drillFlags) deliver(c *cobra.Command, r *drill.Report) error {
	base := filepath.Join(o.out, "drill-"+plain(o.Group)+"-"+r.Begun.Format("20060102-150405"))
	var faults []error
	for _, f := range []struct {
		ending string
		write  func(io.Writer) error
	}{{".txt", r.WriteText}, {".json", r.WriteJSON}, {".html", r.WriteHTML}} {
		var b strings.Builder
		err := f.write(&b)
		if err == nil {
			err = os.WriteFile(base+f.ending, []byte(b.String()), 0o644)
		}
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "written: %s.txt, .json, .html\n", base)
	return r.WriteText(c.OutOrStdout())
}

// plain is a name that can stand in the name of a file.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == 0 || r == '.' {
			return '_'
		}
		return r
	}, name)
}
