package pki

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"

	"yumen/policy/trust"
)

// oidReason is the reasonCode extension of a CRL entry, RFC 5280 5.3.1.
const oidReason = "2.5.29.21"

// CRL makes the next CRL (DER): all entries of the previous one, which must be
// this CA's own, and the new ones. Its number is one more than the previous.
func (a *Authority) CRL(random io.Reader, r Revocation) ([]byte, error) {
	if !r.NextUpdate.After(r.ThisUpdate) {
		return nil, errors.New("crl: the next update is not after this one")
	}
	issuer, err := parseCertificate(a.Cert.DER)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	x := &x509CRL{Number: big.NewInt(1), ThisUpdate: r.ThisUpdate.UTC(), NextUpdate: r.NextUpdate.UTC()}
	if r.Previous != nil {
		if err := a.follow(x, issuer, r.Previous); err != nil {
			return nil, fmt.Errorf("previous crl: %w", err)
		}
	}
	for _, b := range r.Revoke {
		if err := a.revoke(x, issuer, b, r.Reason); err != nil {
			return nil, err
		}
	}
	der, err := signCRL(random, x, issuer, a.Key)
	if err != nil {
		return nil, fmt.Errorf("crl: %w", err)
	}
	return der, nil
}

func (a *Authority) follow(x *x509CRL, issuer *x509Certificate, previous []byte) error {
	der, err := one(previous, "X509 CRL", "CRL")
	if err != nil {
		return err
	}
	old, err := parseCRL(der)
	if err != nil {
		return err
	}
	if !trust.EqualNames(old.RawIssuer, a.Cert.Subject) {
		name, _ := trust.FormatName(old.RawIssuer)
		return fmt.Errorf("is issued by %q, not by %q", name, a.Cert.Name)
	}
	if err := old.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("signature of %q does not verify: %w", a.Cert.Name, err)
	}
	if old.Number != nil {
		x.Number = new(big.Int).Add(old.Number, big.NewInt(1))
	}
	x.RevokedCertificateEntries = old.RevokedCertificateEntries
	for i := range x.RevokedCertificateEntries {
		e := &x.RevokedCertificateEntries[i]
		for _, ext := range e.Extensions {
			if ext.Id.String() != oidReason { // written from ReasonCode
				e.ExtraExtensions = append(e.ExtraExtensions, ext)
			}
		}
	}
	return nil
}

func (a *Authority) revoke(x *x509CRL, issuer *x509Certificate, b []byte, reason int) error {
	der, err := one(b, "CERTIFICATE")
	if err != nil {
		return fmt.Errorf("certificate to revoke: %w", err)
	}
	c, err := parseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate to revoke: %w", err)
	}
	if !trust.EqualNames(c.RawIssuer, a.Cert.Subject) || c.CheckSignatureFrom(issuer) != nil {
		name, _ := trust.FormatName(c.RawSubject)
		return fmt.Errorf("certificate to revoke %q is not issued by %q", name, a.Cert.Name)
	}
	for _, e := range x.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
			return nil // revoked already; the first time and reason stay
		}
	}
	x.RevokedCertificateEntries = append(x.RevokedCertificateEntries, x509Revoked{
		SerialNumber: c.SerialNumber, RevocationTime: x.ThisUpdate, ReasonCode: reason})
	return nil
}

// one gives the DER of the single PEM block, or b itself when it is no PEM.
func one(b []byte, types ...string) ([]byte, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		return b, nil
	}
	block, rest := pem.Decode(b)
	if block == nil {
		return nil, errors.New("the PEM block is damaged")
	}
	if bytes.Contains(rest, []byte("-----BEGIN ")) {
		return nil, errors.New("holds more than one PEM block")
	}
	for _, t := range types {
		if block.Type == t {
			return block.Bytes, nil
		}
	}
	return nil, fmt.Errorf("holds a PEM block %q, want %q", block.Type, types[0])
}
