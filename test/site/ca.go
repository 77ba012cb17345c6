package site

import (
	"os"
	"path/filepath"
)

// CA is a root made by the product's own commands, in a folder: ca.crt, ca.key.
type CA struct {
	Dir   string
	yumen string
}

// NewCA makes a root with that common name in folder.
func NewCA(yumen, folder, name string) (*CA, error) {
	_, err := run(yumen, "pki", "root", "--subject", Subject(name), "--days", "60", "--out", folder)
	return OpenCA(yumen, folder), err
}

// OpenCA is a root that was made before.
func OpenCA(yumen, folder string) *CA { return &CA{Dir: folder, yumen: yumen} }

// Cert is the path of the root's certificate.
func (c *CA) Cert() string { return filepath.Join(c.Dir, "ca.crt") }

func (c *CA) run(args ...string) error {
	_, err := run(c.yumen, append(args, "--ca", c.Cert(), "--ca-key", filepath.Join(c.Dir, "ca.key"))...)
	return err
}

// Issue makes the certificate pair of a gateway, with the subject CN=<folder
// name>, replacing one that exists, and leaves ca.crt beside it. Private keys are
// plain PKCS#8, so that other tools can judge the captures. Further flags are
// those of `yumen pki pair`; without --not-after the pair is good for 30 days.
func (c *CA) Issue(g *Gateway, flags ...string) error {
	args := append([]string{"pki", "pair", "--subject", Subject(filepath.Base(g.Dir)), "--days", "30", "--force", "--out", g.Dir}, flags...)
	if err := c.run(args...); err != nil {
		return err
	}
	return c.Trust(g)
}

// Trust makes this root the ca.crt of a gateway.
func (c *CA) Trust(g *Gateway) error {
	crt, err := os.ReadFile(c.Cert())
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(g.Dir, "ca.crt"), crt, 0o644)
}

// Revoke writes a revocation list with those certificates into a file.
func (c *CA) Revoke(list string, certs ...string) error {
	args := []string{"pki", "crl", "--out", list}
	for _, crt := range certs {
		args = append(args, "--revoke", crt)
	}
	return c.run(args...)
}

// Issue makes a root in folder/ca and the certificate pair of each gateway.
func Issue(yumen, folder string, gateways ...*Gateway) error {
	ca, err := NewCA(yumen, filepath.Join(folder, "ca"), "Lab Root")
	if err != nil {
		return err
	}
	for _, g := range gateways {
		if err := ca.Issue(g); err != nil {
			return err
		}
	}
	return nil
}
