package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/foreign"
	"yumen/cmd/internal/peersheet"
	"yumen/cmd/internal/pki"
)

type sheetFlags struct {
	lang, out, address string
	vendors            []string
	force              bool
}

// newPeerSheetCommand is `yumen peer-sheet`.
func newPeerSheetCommand(at *place) *cobra.Command {
	var f sheetFlags
	c := &cobra.Command{
		Use:   "peer-sheet TUNNEL",
		Short: "Write the sheet of parameters for the engineer at the far end (对接参数表)",
		Long: `Write one page for the engineer at the far end of a tunnel, seen from there: every
value that must match, what to set, our certificates, and what has to come back.
With --for also the commands to paste on that maker's box; words in <BRACKETS> are
those that only he knows.

It is made from configuration, policy and certificates; no gateway need run, no
private key is read, and no secret is in it.`,
		Example: "  yumen peer-sheet office --for h3c --out office.md\n  yumen peer-sheet office --lang en",
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return f.run(c, at, args[0]) },
	}
	fl := c.Flags()
	fl.StringVar(&f.lang, "lang", "zh", "language: zh or en")
	fl.StringSliceVar(&f.vendors, "for", nil, "also the commands for a box of: h3c, huawei, hillstone")
	fl.StringVar(&f.out, "out", "", "file to write (default: standard output)")
	fl.StringVar(&f.address, "address", "", "our address as the far end sees it (default: local of the peer)")
	fl.BoolVar(&f.force, "force", false, "replace the file of --out")
	addSettings(c)
	return c
}

func (f *sheetFlags) run(c *cobra.Command, at *place, tunnel string) error {
	lang, err := peersheet.ParseLang(f.lang)
	if err != nil {
		return fmt.Errorf("--lang: %w", err)
	}
	var vendors []foreign.Vendor
	for _, word := range f.vendors {
		v, err := foreign.ParseVendor(word)
		if err != nil {
			return fmt.Errorf("--for: %w", err)
		}
		vendors = append(vendors, v)
	}
	var our netip.Addr
	if f.address != "" {
		if our, err = netip.ParseAddr(f.address); err != nil {
			return fmt.Errorf("--address: %q is no address", f.address)
		}
	}
	cfg, err := at.load(c)
	if err != nil {
		return err
	}
	facts, err := peersheet.Gather(cfg, tunnel, our, time.Now())
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := facts.Write(&page, lang, vendors...); err != nil {
		return err
	}
	if f.out != "" {
		return pki.WriteFiles(f.force, pki.File{Path: f.out, Data: page.Bytes()})
	}
	_, err = page.WriteTo(c.OutOrStdout())
	return err
}
