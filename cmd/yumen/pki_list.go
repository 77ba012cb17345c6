package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/pki"
)

func newPKICRL() *cobra.Command {
	var o pkiFlags
	var revoke []string
	var reason string
	c := &cobra.Command{Use: "crl", Short: "make the next CRL, adding to the one that exists", Args: cobra.NoArgs,
		Long: "Makes the CRL --out. When the file exists it must be a CRL of the same CA: its entries are kept and\n" +
			"its number grows by one. Without --revoke the CRL is only renewed.",
		RunE: func(c *cobra.Command, _ []string) error { return o.makeCRL(c, revoke, reason) }}
	o.caFlags(c)
	o.periodFlags(c, 30)
	c.Flags().StringVar(&o.out, "out", "", "CRL file, made or continued")
	c.Flags().StringArrayVar(&revoke, "revoke", nil, "certificate to revoke; may be repeated")
	c.Flags().StringVar(&reason, "reason", "", "why: key-compromise, ca-compromise, affiliation-changed, superseded, cessation")
	requirePKIFlags(c, "out")
	return c
}

func (o *pkiFlags) makeCRL(c *cobra.Command, revoke []string, reason string) error {
	r := pki.Revocation{}
	var err error
	if r.Reason, err = pki.ParseReason(reason); err != nil {
		return err
	}
	if r.ThisUpdate, r.NextUpdate, err = o.period(time.Now()); err != nil {
		return err
	}
	ca, err := o.authority()
	if err != nil {
		return err
	}
	if r.Previous, err = os.ReadFile(o.out); errors.Is(err, fs.ErrNotExist) {
		r.Previous = nil
	} else if err != nil {
		return err
	}
	for _, path := range revoke {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		r.Revoke = append(r.Revoke, b)
	}
	der, err := ca.CRL(rand.Reader, r)
	if err != nil {
		return fmt.Errorf("%s: %w", o.out, err)
	}
	o.force = true // the old list is part of the new one
	return o.write(c, pki.File{Path: o.out, Data: pki.EncodePEM(pki.TypeCRL, der)})
}

func newPKIShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show FILE...", Short: "show certificates, requests, CRLs and kinds of keys", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return showPKI(c, args, asJSON) }}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON array")
	return c
}

// pkiShown is one description with the file it is from.
type pkiShown struct {
	File string `json:"file"`
	pki.Info
}

func showPKI(c *cobra.Command, paths []string, asJSON bool) error {
	all := []pkiShown{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		infos, err := pki.Show(b, time.Now())
		clear(b)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, info := range infos {
			all = append(all, pkiShown{path, info})
		}
	}
	if asJSON {
		e := json.NewEncoder(c.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	for i, s := range all {
		if i > 0 {
			fmt.Fprintln(c.OutOrStdout())
		}
		fmt.Fprintf(c.OutOrStdout(), "%-20s %s\n", "file:", s.File)
		if err := s.WriteText(c.OutOrStdout()); err != nil {
			return err
		}
	}
	return nil
}
