package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/foreign"
	"yumen/cmd/internal/pki"
)

// newImportCommand is `yumen import`.
func newImportCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "import h3c|huawei FILE",
		Short: "Draft our policy from the configuration of the far end's box",
		Long: `Read what a box of another maker prints of its configuration (display
current-configuration, as the terminal saved it; - is standard input) and draft the
policy of our side: peers, tunnels, profile and dialect. Behind each value stands the
line it comes from; at the end every line about IPsec that has no place in the draft,
with the reason. CHANGE marks what the far end must change.

What no dump can tell is a FILL-IN, which yumen check names. No secret of the dump is
shown.`,
		Example: "  yumen import h3c fw-bj.cfg --out draft",
		Args:    cobra.ExactArgs(2),
		RunE:    func(c *cobra.Command, args []string) error { return runImport(c, args[0], args[1], out) },
	}
	c.Flags().StringVar(&out, "out", "", "folder to write policy.yaml into (default: standard output)")
	return c
}

func runImport(c *cobra.Command, vendor, path, out string) error {
	v, err := foreign.ParseVendor(vendor)
	if err != nil {
		return err
	}
	dump, err := readDump(c, path)
	if err != nil {
		return err
	}
	draft, err := foreign.Import(v, filepath.Base(path), dump)
	if err != nil {
		return err
	}
	if out == "" {
		if _, err := c.OutOrStdout().Write(draft.Policy); err != nil {
			return fmt.Errorf("write the draft: %w", err)
		}
		return nil
	}
	file := filepath.Join(out, "policy.yaml")
	if err := pki.WriteFiles(false, pki.File{Path: file, Data: draft.Policy, Private: true}); err != nil {
		return err
	}
	tell := func(format string, args ...any) { fmt.Fprintf(c.OutOrStdout(), format+"\n", args...) }
	tell("%s: %d peers, %d tunnels; %d lines have no place in it", file, draft.Peers, draft.Tunnels, len(draft.Findings))
	for _, f := range draft.Findings {
		mark := ""
		if f.Change {
			mark = "CHANGE "
		}
		tell("  %sline %d: %s\n    %s", mark, f.Line, f.Text, f.Reason)
	}
	return nil
}

func readDump(c *cobra.Command, path string) ([]byte, error) {
	in := c.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, foreign.MaxDump+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}
