package main

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/keys"
	"yumen/cmd/internal/pki"
)

// newPKICommand makes `yumen pki`: a small certification authority for SM2
// dual certificates.
func newPKICommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "pki",
		Short: "make and show SM2 certificates, requests and CRLs",
		Long: "A small certification authority for laboratories and small installations. A gateway has two\n" +
			"certificates: one signs, one is encrypted to. Private keys are PKCS#8 PEM with mode 0600.",
	}
	c.AddCommand(newPKIRoot(), newPKIIntermediate(), newPKIPair(), newPKIRequest(), newPKISign(), newPKICRL(), newPKIShow())
	return c
}

// pkiFlags are the flags that several of the commands share.
type pkiFlags struct {
	subject, san        string
	days                int
	notBefore, notAfter string
	out, cert, key      string
	ca, caKey           string
	pass, caPass        string
	force               bool
}

func (o *pkiFlags) subjectFlag(c *cobra.Command) {
	c.Flags().StringVar(&o.subject, "subject", "", `distinguished name, RFC 4514: "CN=gw-a,O=Example,C=CN"`)
}

func (o *pkiFlags) sanFlag(c *cobra.Command) {
	c.Flags().StringVar(&o.san, "san", "", "alternative names: dns:NAME,ip:ADDRESS,email:MAILBOX")
}

func (o *pkiFlags) periodFlags(c *cobra.Command, days int) {
	c.Flags().IntVar(&o.days, "days", days, "validity in days")
	c.Flags().StringVar(&o.notBefore, "not-before", "", "begin of validity, RFC 3339 (default now)")
	c.Flags().StringVar(&o.notAfter, "not-after", "", "end of validity, RFC 3339 (instead of --days)")
}

func (o *pkiFlags) outFlags(c *cobra.Command, what string) {
	c.Flags().StringVar(&o.out, "out", "", what)
	c.Flags().BoolVar(&o.force, "force", false, "replace files that exist")
}

func (o *pkiFlags) passFlag(c *cobra.Command) {
	c.Flags().StringVar(&o.pass, "passphrase-file", "", "encrypt new private keys with the first line of this file")
}

func (o *pkiFlags) caFlags(c *cobra.Command) {
	c.Flags().StringVar(&o.ca, "ca", "", "certificate of the issuing CA")
	c.Flags().StringVar(&o.caKey, "ca-key", "", "private key of the issuing CA")
	c.Flags().StringVar(&o.caPass, "ca-passphrase-file", "", "file with the passphrase of --ca-key")
	requirePKIFlags(c, "ca", "ca-key")
}

// requirePKIFlags marks flags of which only a wrong name can fail.
func requirePKIFlags(c *cobra.Command, names ...string) {
	for _, n := range names {
		if err := c.MarkFlagRequired(n); err != nil {
			panic(err)
		}
	}
}

// spec turns the flags into what a certificate shall say.
func (o *pkiFlags) spec(kind pki.Kind, subject string) (pki.Spec, error) {
	s := pki.Spec{Kind: kind, Subject: subject, PathLen: -1}
	var err error
	if s.Names, err = pki.ParseNames(o.san); err != nil {
		return s, err
	}
	s.NotBefore, s.NotAfter, err = o.period(time.Now())
	return s, err
}

func (o *pkiFlags) period(now time.Time) (from, to time.Time, err error) {
	from = now.UTC().Truncate(time.Second)
	if o.notBefore != "" {
		if from, err = time.Parse(time.RFC3339, o.notBefore); err != nil {
			return from, to, fmt.Errorf("--not-before: %w", err)
		}
	}
	if o.notAfter != "" {
		if to, err = time.Parse(time.RFC3339, o.notAfter); err != nil {
			return from, to, fmt.Errorf("--not-after: %w", err)
		}
		return from, to, nil
	}
	if o.days < 1 {
		return from, to, errors.New("--days: want at least 1")
	}
	if to = from.AddDate(0, 0, min(o.days, 4_000_000)); to.Year() > 9999 {
		return from, to, errors.New("--days: a certificate ends before the year 10000 (RFC 5280 4.1.2.5)")
	}
	return from, to, nil
}

func (o *pkiFlags) authority() (*pki.Authority, error) {
	cert, err := keys.LoadCertificate(o.ca)
	if err != nil {
		return nil, err
	}
	pass, err := keys.Passphrase(o.caPass, "")
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	key, err := keys.LoadKey(o.caKey, pass)
	if err != nil {
		return nil, err
	}
	return pki.NewAuthority(cert, key)
}

// newKey makes a key and the file that will hold it.
func (o *pkiFlags) newKey(path string) (crypto.Signer, pki.File, error) {
	pass, err := keys.Passphrase(o.pass, "")
	if err != nil {
		return nil, pki.File{}, err
	}
	defer clear(pass)
	key, err := pki.NewKey(rand.Reader)
	if err != nil {
		return nil, pki.File{}, err
	}
	text, err := pki.EncodeKey(rand.Reader, key, pass)
	return key, pki.File{Path: path, Data: text, Private: true}, err
}

// caPaths says where a new CA goes: --out DIR with fixed names, or --cert and
// --key.
func (o *pkiFlags) caPaths(name string) (cert, key string, err error) {
	switch {
	case o.out != "" && o.cert == "" && o.key == "":
		return filepath.Join(o.out, name+".crt"), filepath.Join(o.out, name+".key"), nil
	case o.out == "" && o.cert != "" && o.key != "":
		return o.cert, o.key, nil
	}
	return "", "", errors.New("want --out DIR, or both --cert FILE and --key FILE")
}

func (o *pkiFlags) write(c *cobra.Command, files ...pki.File) error {
	if err := pki.WriteFiles(o.force, files...); err != nil {
		return err
	}
	for _, f := range files {
		fmt.Fprintln(c.OutOrStdout(), "wrote", f.Path)
	}
	return nil
}

func newPKIRoot() *cobra.Command {
	var o pkiFlags
	length := -1
	c := &cobra.Command{Use: "root", Short: "make a self-signed SM2 root", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.makeCA(c, nil, "ca", length) }}
	o.subjectFlag(c)
	o.periodFlags(c, 3650)
	o.outFlags(c, "directory for ca.crt and ca.key")
	c.Flags().StringVar(&o.cert, "cert", "", "certificate file (instead of --out)")
	c.Flags().StringVar(&o.key, "key", "", "private key file (instead of --out)")
	c.Flags().IntVar(&length, "path-length", length, "intermediates allowed below; -1: no limit")
	o.passFlag(c)
	requirePKIFlags(c, "subject")
	return c
}

func newPKIIntermediate() *cobra.Command {
	var o pkiFlags
	length := 0
	c := &cobra.Command{Use: "intermediate", Short: "make an SM2 CA below another", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			above, err := o.authority()
			if err != nil {
				return err
			}
			return o.makeCA(c, above, "intermediate", length)
		}}
	o.subjectFlag(c)
	o.periodFlags(c, 1825)
	o.caFlags(c)
	o.outFlags(c, "directory for intermediate.crt and intermediate.key")
	c.Flags().StringVar(&o.cert, "cert", "", "certificate file (instead of --out)")
	c.Flags().StringVar(&o.key, "key", "", "private key file (instead of --out)")
	c.Flags().IntVar(&length, "path-length", length, "further intermediates allowed below; -1: no limit")
	o.passFlag(c)
	requirePKIFlags(c, "subject")
	return c
}

// makeCA makes a root (above is nil) or an intermediate.
func (o *pkiFlags) makeCA(c *cobra.Command, above *pki.Authority, name string, length int) error {
	certPath, keyPath, err := o.caPaths(name)
	if err != nil {
		return err
	}
	spec, err := o.spec(pki.CA, o.subject)
	if err != nil {
		return err
	}
	spec.PathLen = length
	key, keyFile, err := o.newKey(keyPath)
	if err != nil {
		return err
	}
	defer clear(keyFile.Data)
	var der []byte
	if above == nil {
		der, err = pki.Root(rand.Reader, spec, key)
	} else {
		der, err = above.Issue(rand.Reader, spec, key.Public())
	}
	if err != nil {
		return err
	}
	return o.write(c, keyFile, pki.File{Path: certPath, Data: pki.EncodePEM(pki.TypeCertificate, der)})
}
