package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/pki"
)

func newPKIPair() *cobra.Command {
	var o pkiFlags
	var sign, enc string
	c := &cobra.Command{Use: "pair", Short: "make a gateway's two keys and certificates", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.makePair(c, sign, enc) }}
	o.subjectFlag(c)
	c.Flags().StringVar(&sign, "sign-subject", "", "subject of the signing certificate (default --subject)")
	c.Flags().StringVar(&enc, "enc-subject", "", "subject of the encryption certificate (default --subject)")
	o.sanFlag(c)
	o.periodFlags(c, 365)
	o.caFlags(c)
	o.outFlags(c, "directory for sign.crt, sign.key, enc.crt and enc.key")
	o.passFlag(c)
	requirePKIFlags(c, "out")
	return c
}

// halves pairs each name of a file with its kind and subject.
func (o *pkiFlags) halves(sign, enc string) ([]pki.Spec, []string, error) {
	if sign == "" {
		sign = o.subject
	}
	if enc == "" {
		enc = o.subject
	}
	if sign == "" || enc == "" {
		return nil, nil, errors.New("want --subject, or both --sign-subject and --enc-subject")
	}
	s, err := o.spec(pki.Signing, sign)
	if err != nil {
		return nil, nil, err
	}
	e := s
	e.Kind, e.Subject = pki.Encryption, enc
	return []pki.Spec{s, e}, []string{"sign", "enc"}, nil
}

func (o *pkiFlags) makePair(c *cobra.Command, sign, enc string) error {
	specs, names, err := o.halves(sign, enc)
	if err != nil {
		return err
	}
	ca, err := o.authority()
	if err != nil {
		return err
	}
	var files []pki.File
	for i, spec := range specs {
		key, keyFile, err := o.newKey(filepath.Join(o.out, names[i]+".key"))
		if err != nil {
			return err
		}
		defer clear(keyFile.Data)
		der, err := ca.Issue(rand.Reader, spec, key.Public())
		if err != nil {
			return err
		}
		files = append(files, keyFile,
			pki.File{Path: filepath.Join(o.out, names[i]+".crt"), Data: pki.EncodePEM(pki.TypeCertificate, der)})
	}
	return o.write(c, files...)
}

func newPKIRequest() *cobra.Command {
	var o pkiFlags
	var sign, enc string
	c := &cobra.Command{Use: "request", Short: "make two keys and PKCS#10 requests for another CA", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.makeRequests(c, sign, enc) }}
	o.days = 1 // a request has no validity
	o.subjectFlag(c)
	c.Flags().StringVar(&sign, "sign-subject", "", "subject of the signing request (default --subject)")
	c.Flags().StringVar(&enc, "enc-subject", "", "subject of the encryption request (default --subject)")
	o.sanFlag(c)
	o.outFlags(c, "directory for sign.csr, sign.key, enc.csr and enc.key")
	o.passFlag(c)
	requirePKIFlags(c, "out")
	return c
}

func (o *pkiFlags) makeRequests(c *cobra.Command, sign, enc string) error {
	specs, names, err := o.halves(sign, enc)
	if err != nil {
		return err
	}
	var files []pki.File
	for i, spec := range specs {
		key, keyFile, err := o.newKey(filepath.Join(o.out, names[i]+".key"))
		if err != nil {
			return err
		}
		defer clear(keyFile.Data)
		der, err := pki.Request(rand.Reader, spec.Subject, spec.Names, key)
		if err != nil {
			return err
		}
		files = append(files, keyFile,
			pki.File{Path: filepath.Join(o.out, names[i]+".csr"), Data: pki.EncodePEM(pki.TypeRequest, der)})
	}
	return o.write(c, files...)
}

func newPKISign() *cobra.Command {
	var o pkiFlags
	var usage string
	c := &cobra.Command{Use: "sign REQUEST", Short: "make a certificate for a PKCS#10 request", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return o.approve(c, usage, args[0]) }}
	c.Flags().StringVar(&usage, "usage", "", "sign or enc")
	o.subjectFlag(c)
	o.sanFlag(c)
	o.periodFlags(c, 365)
	o.caFlags(c)
	o.outFlags(c, "certificate file")
	requirePKIFlags(c, "out", "usage")
	return c
}

func (o *pkiFlags) approve(c *cobra.Command, usage, path string) error {
	kind, ok := map[string]pki.Kind{"sign": pki.Signing, "enc": pki.Encryption}[usage]
	if !ok {
		return fmt.Errorf("--usage %q: want sign or enc", usage)
	}
	request, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	spec, err := o.spec(kind, o.subject)
	if err != nil {
		return err
	}
	ca, err := o.authority()
	if err != nil {
		return err
	}
	der, err := ca.Approve(rand.Reader, spec, request)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return o.write(c, pki.File{Path: o.out, Data: pki.EncodePEM(pki.TypeCertificate, der)})
}
