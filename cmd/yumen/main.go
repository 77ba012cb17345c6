// Command yumen is a site-to-site IPsec gateway for GB/T 36968: one program that
// runs the gateway, asks it questions, makes certificates and reads captures.
//
// Exit status: 0 done; 1 it could not be done, and why is on standard error; 2
// the command line is not understood; 3 no gateway is running (status, up, down).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/control"
	"yumen/cmd/internal/daemon"
)

const (
	exitFailed     = 1
	exitUsage      = 2
	exitNotRunning = 3
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line and returns its exit status.
func run(args []string, stdout, stderr io.Writer) int {
	root, understood := newRootCommand()
	root.SetArgs(args)
	out := &heedful{Writer: stdout}
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		err = out.err // a full disk: what was to be told is not
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "yumen: %v\n", err)
	switch {
	case !*understood:
		fmt.Fprintln(stderr, "try `yumen help`")
		return exitUsage
	case errors.Is(err, control.ErrNotRunning):
		return exitNotRunning
	}
	return exitFailed
}

// heedful remembers the first write that failed, for those who do not look.
type heedful struct {
	io.Writer
	err error
}

func (h *heedful) Write(b []byte) (int, error) {
	n, err := h.Writer.Write(b)
	if err != nil && h.err == nil {
		h.err = fmt.Errorf("write the answer: %w", err)
	}
	return n, err
}

// place is what every command that belongs to a gateway needs to find it.
type place struct {
	config string
	socket string
	build  daemon.Build
}

// newRootCommand returns the whole tree; understood becomes true once cobra has
// accepted flags and arguments.
func newRootCommand() (root *cobra.Command, understood *bool) {
	understood = new(bool)
	at := &place{build: buildInfo()}
	root = &cobra.Command{
		Use:   "yumen",
		Short: "A site-to-site IPsec gateway for GB/T 36968",
		Long: `A site-to-site IPsec gateway for GB/T 36968 (SM2, SM3, SM4).

Exit status: 0 done, 1 failed, 2 wrong usage, 3 no gateway is running.`,
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRun:  func(*cobra.Command, []string) { *understood = true },
	}
	root.PersistentFlags().StringVar(&at.config, "config", config.DefaultFile, "bootstrap configuration")
	root.PersistentFlags().StringVar(&at.socket, "socket", "", "control socket (default: of the configuration)")
	root.AddCommand(newRunCommand(at), newCheckCommand(at), newStatusCommand(at), newReadyCommand(at), newDrillCommand(at), newUpCommand(at), newDownCommand(at), newRekeyCommand(at),
		newDataplaneCommand(at), newGuardCommand(at), newHandoverCommand(at), newPKICommand(), newDecodeCommand(),
		newPeerSheetCommand(at), newImportCommand(), newProbeCommand(at), newConformCommand(at), newDoctorCommand(at),
		newBenchCommand(), newVersionCommand())
	return root, understood
}

// client talks to the gateway of this place.
func (p *place) client() *control.Client { return control.NewClient(config.Socket(p.config, p.socket)) }

// load reads the configuration of this place; c may have flags of settings.
func (p *place) load(c *cobra.Command) (*config.Config, error) {
	flags := config.Flags{}
	if p.socket != "" {
		flags["control_socket"] = p.socket
	}
	for _, key := range overridable() {
		if f := c.Flags().Lookup(config.FlagName(key)); f != nil && f.Changed {
			flags[key] = f.Value.String()
		}
	}
	return config.Load(p.config, flags)
}

// overridable are the settings that have a flag: those that one changes for one
// run. Every setting has an environment variable.
func overridable() []string { return []string{"policy", "state_dir", "log.format", "log.level"} }

func addSettings(c *cobra.Command) {
	for _, key := range overridable() {
		c.Flags().String(config.FlagName(key), "", "overrides "+key+" of the configuration")
	}
}

// buildInfo is what the Go toolchain wrote into this program.
func buildInfo() daemon.Build {
	b := daemon.Build{Version: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = info.Main.Version
	revision := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.time":
			b.Time, _ = time.Parse(time.RFC3339, s.Value) // zero when absent: not known
		case "vcs.revision":
			revision = s.Value
		}
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
		if len(revision) >= 12 {
			b.Version += "-" + revision[:12]
		}
	}
	return b
}
