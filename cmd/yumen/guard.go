package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/control"
	"yumen/cmd/internal/daemon"
	"yumen/cmd/internal/guard"
)

// newGuardCommand is `yumen guard`.
func newGuardCommand(at *place) *cobra.Command {
	c := &cobra.Command{
		Use:   "guard",
		Short: "The guard that keeps protected traffic from leaving in clear",
		Long: `The guard (kernel policies, routing rules and blackhole routes) is set when the
gateway starts and stays when it stops or dies: what is protected is then dropped,
but for what management: exempts.

At each policy that it applies the gateway compiles the guard into one small file,
from which ` + "`yumen guard set`" + ` works at boot, whatever became of the configuration.`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(newGuardSet(at), newGuardCompile(at), newGuardRemove(at))
	return c
}

// compiledGuard is where a command finds the compiled file.
type compiledGuard struct {
	at   *place
	path string // of --file
}

func (g *compiledGuard) flag(c *cobra.Command) {
	c.Flags().StringVar(&g.path, "file", "", "the compiled guard (default: guard in state_dir; with it no configuration is read)")
}

// load reads the file. Not sure: the configuration is broken, and may name another.
func (g *compiledGuard) load() (compiled *guard.Compiled, path string, sure bool, err error) {
	path, sure = g.path, true
	if path == "" {
		path, sure = config.StateDir(g.at.config)
		path = filepath.Join(path, guard.FileName)
	}
	compiled, err = guard.Load(path)
	return compiled, path, sure, err
}

// alone refuses beside a running gateway, which keeps its own guard.
func (g *compiledGuard) alone(c *cobra.Command, compiled *guard.Compiled) error {
	client := g.at.client()
	if compiled != nil && g.at.socket == "" {
		client = control.NewClient(compiled.ControlSocket)
	}
	if _, err := client.Status(c.Context()); !errors.Is(err, control.ErrNotRunning) {
		return errors.New("the gateway is running and keeps its own guard: stop it first")
	}
	return nil
}

func newGuardSet(at *place) *cobra.Command {
	from := &compiledGuard{at: at}
	c := &cobra.Command{
		Use:   "set",
		Short: "Set the guard before the gateway runs, at boot for instance",
		Long: `Set the guard from the compiled file alone. Without that file nothing was ever
protected here: it says so and succeeds. With a damaged one nothing is set and it
fails: the guard that stands, if any, is not touched. Where SAs of a gateway that
stopped still carry traffic, they go on, and what they do not carry is dropped.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			compiled, path, sure, err := from.load()
			if busy := from.alone(c, compiled); busy != nil {
				return busy
			}
			switch {
			case errors.Is(err, guard.ErrAbsent) && sure:
				fmt.Fprintf(c.OutOrStdout(), "no guard is set: %s does not exist, so no policy was ever applied here\n", path)
				return nil
			case errors.Is(err, guard.ErrAbsent):
				return fmt.Errorf("%w, and the configuration cannot be read to see whether state_dir is another: name it with --file", err)
			case err != nil:
				return err
			}
			carrying, err := compiled.Set()
			if err != nil {
				return err
			}
			done := "the guard is set: traffic of the tunnels is dropped until the gateway runs"
			if carrying {
				done = "the guard is set: SAs of a gateway that stopped still carry their tunnels and were left as they are; " +
					"what else the policy protects is dropped until the gateway runs"
			}
			fmt.Fprintln(c.OutOrStdout(), done)
			return nil
		},
	}
	from.flag(c)
	return c
}

func newGuardCompile(at *place) *cobra.Command {
	return &cobra.Command{
		Use:   "compile",
		Short: "Compile the guard of the present policy without running the gateway",
		Long: `Write the compiled file that ` + "`yumen guard set`" + ` works from, as the gateway does
at each policy that it applies: for the first boot, or where the file was damaged.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := at.load(c)
			if err != nil {
				return err
			}
			if err := daemon.CompileGuard(cfg); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "the guard is compiled: %s\n", filepath.Join(cfg.StateDir, guard.FileName))
			return nil
		},
	}
}

func newGuardRemove(at *place) *cobra.Command {
	from := &compiledGuard{at: at}
	c := &cobra.Command{
		Use:   "remove",
		Short: "Remove the guard: protected traffic may then leave in clear",
		Long: `Remove the guard and its compiled file, so that no later boot sets it, until the
gateway applies a policy again.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			compiled, path, _, err := from.load()
			if err != nil {
				// What names of devices and tables there were is in the configuration too.
				cfg, bad := at.load(c)
				if bad != nil {
					return errors.Join(err, bad)
				}
				compiled = guard.Of(cfg)
			}
			if err := from.alone(c, compiled); err != nil {
				return err
			}
			if err := errors.Join(compiled.Remove(), guard.Forget(path)); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "the guard is removed: traffic of the tunnels may now leave in clear")
			return nil
		},
	}
	from.flag(c)
	return c
}
