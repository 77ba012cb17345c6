package trust

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/smx509"
)

// This is the only file that meets gmsm; its types do not leave it.

// usage is the key usage extension, RFC 5280 4.2.1.3, bit n at 1<<n.
type usage uint16

const (
	digitalSignature usage = 1 << iota
	contentCommitment
	keyEncipherment
	dataEncipherment
	keyAgreement
	certSign
	crlSign
)

// body is what a certificate says beyond the exported fields.
type body struct {
	issuer   []byte // DER Name
	subject  name
	by       name // the issuer
	hasUsage bool
	usage    usage
	ca       bool
	maxPath  int // of intermediates below; negative: unlimited
	dns      []string
	emails   []string
	addrs    []netip.Addr
	tbs, sig []byte
}

// sm2KeyInfo is the start of every SubjectPublicKeyInfo that is accepted:
// id-ecPublicKey with the named curve 1.2.156.10197.1.301 and an uncompressed
// point (GM/T 0015). Explicit parameters and other spellings are refused.
const sm2KeyInfo = "3059301306072a8648ce3d020106082a811ccf5501822d03420004"

// parseBody reads what chain building needs, and refuses what it would not
// honour.
func parseBody(der []byte) (Certificate, *Refusal) {
	var none Certificate
	if err := exactParts(der); err != nil {
		return none, refuse(Malformed, "%w", err)
	}
	x, err := smx509.ParseCertificate(der)
	if err != nil {
		return none, refuse(Malformed, "%w", err)
	}
	key, ok := x.PublicKey.(*ecdsa.PublicKey)
	if !ok || !sm2.IsSM2PublicKey(key) ||
		!bytes.HasPrefix(x.RawSubjectPublicKeyInfo, fromHex(sm2KeyInfo)) {
		return none, refuse(Malformed, "key is not an SM2 key on the named curve 1.2.156.10197.1.301")
	}
	if x.SignatureAlgorithm != smx509.SM2WithSM3 {
		return none, refuse(Malformed, "signature algorithm is not SM2 with SM3 (1.2.156.10197.1.501)")
	}
	c := Certificate{
		DER: x.Raw, Key: key, Subject: x.RawSubject, Fingerprint: fingerprint(x.Raw),
		Serial: serialText(x.SerialNumber), NotBefore: x.NotBefore, NotAfter: x.NotAfter,
	}
	if c.Name, err = FormatName(x.RawSubject); err != nil {
		return none, refuse(Malformed, "subject: %w", err)
	}
	by, err := parseRDNs(x.RawIssuer)
	if err != nil {
		return none, refuse(Malformed, "issuer: %w", err)
	}
	if c.x, err = newBody(x); err != nil {
		return none, refuse(Malformed, "%w", err)
	}
	c.x.by = by
	c.x.subject, _ = parseRDNs(x.RawSubject) // it was formatted above
	return c, nil
}

func newBody(x *smx509.Certificate) (*body, error) {
	b := &body{
		issuer: x.RawIssuer, usage: usage(x.KeyUsage),
		ca: x.Version == 3 && x.BasicConstraintsValid && x.IsCA, maxPath: -1,
		dns: x.DNSNames, emails: x.EmailAddresses,
		tbs: x.RawTBSCertificate, sig: x.Signature,
	}
	if x.MaxPathLen > 0 || x.MaxPathLenZero {
		b.maxPath = x.MaxPathLen
	}
	for _, ip := range x.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			b.addrs = append(b.addrs, a.Unmap())
		}
	}
	for _, e := range x.Extensions {
		id := e.Id.String()
		switch {
		case id == "2.5.29.15":
			b.hasUsage = true
		case id == "2.5.29.30":
			// Not honoured here, so a certificate that relies on it is not used.
			return nil, errors.New("name constraints are not supported")
		case e.Critical && !understood(id):
			return nil, fmt.Errorf("critical extension %s is not supported", id)
		}
	}
	return b, nil
}

// understood lists the extensions that may be critical (RFC 5280 4.2): key
// usage, subjectAltName, basic constraints, certificate policies (no policy is
// required here, so any will do) and extended key usage (none is asked for).
func understood(id string) bool {
	switch id {
	case "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.32", "2.5.29.37":
		return true
	}
	return false
}

// exactParts checks that a signed structure (certificate or CRL) is a SEQUENCE
// of exactly three elements and nothing after: bytes that no signature covers
// would let one certificate have many fingerprints.
func exactParts(der []byte) error {
	rest, err := oneElement(der, asn1.TagSequence)
	if err != nil {
		return err
	}
	for range 3 {
		var part asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &part); err != nil {
			return err
		}
	}
	if len(rest) != 0 {
		return errors.New("bytes after the signature")
	}
	return nil
}

// signedBy verifies the SM2 signature of c (user ID 1234567812345678, GM/T
// 0009) with the key of issuer.
func (c *Certificate) signedBy(issuer *Certificate) bool {
	return sm2.VerifyASN1WithSM2(issuer.Key, nil, c.x.tbs, c.x.sig)
}

func fingerprint(der []byte) string {
	sum := sm3.Sum(der)
	return hex.EncodeToString(sum[:])
}

// crlData is a CRL as bytes and numbers.
type crlData struct {
	issuer     []byte // DER Name
	this, next time.Time
	revoked    map[string]time.Time // by serial number in hexadecimal
	tbs, sig   []byte
}

func (d *crlData) signedBy(issuer *Certificate) bool {
	return sm2.VerifyASN1WithSM2(issuer.Key, nil, d.tbs, d.sig)
}

// parseCRL reads a complete, direct CRL (RFC 5280 5). Indirect, partial and
// delta CRLs do not say who else is revoked, so they are refused.
func parseCRL(der []byte) (*crlData, error) {
	if err := exactParts(der); err != nil {
		return nil, err
	}
	x, err := smx509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if x.SignatureAlgorithm != smx509.SM2WithSM3 {
		return nil, errors.New("signature algorithm is not SM2 with SM3 (1.2.156.10197.1.501)")
	}
	if x.NextUpdate.IsZero() {
		return nil, errors.New("no nextUpdate: when the CRL becomes stale cannot be told")
	}
	for _, e := range x.Extensions {
		if err := checkCRLExtension(e.Id.String(), e.Critical, e.Value); err != nil {
			return nil, err
		}
	}
	d := &crlData{issuer: x.RawIssuer, this: x.ThisUpdate, next: x.NextUpdate,
		revoked: make(map[string]time.Time), tbs: x.RawTBSRevocationList, sig: x.Signature}
	for _, entry := range x.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			if id := e.Id.String(); id == "2.5.29.29" {
				return nil, errors.New("indirect CRL (certificateIssuer) is not supported")
			} else if e.Critical && id != "2.5.29.21" {
				return nil, fmt.Errorf("critical entry extension %s is not supported", id)
			}
		}
		d.revoked[serialText(entry.SerialNumber)] = entry.RevocationTime
	}
	return d, nil
}

func checkCRLExtension(id string, critical bool, value []byte) error {
	switch id {
	case "2.5.29.27":
		return errors.New("delta CRL is not supported: use the complete CRL")
	case "2.5.29.28":
		return checkDistributionPoint(value)
	case "2.5.29.20", "2.5.29.35":
		return nil
	}
	if critical {
		return fmt.Errorf("critical extension %s is not supported", id)
	}
	return nil
}

// checkDistributionPoint accepts an issuing distribution point (RFC 5280
// 5.2.5) that only names where the CRL is published.
func checkDistributionPoint(value []byte) error {
	rest, err := oneElement(value, asn1.TagSequence)
	if err != nil {
		return fmt.Errorf("issuing distribution point: %w", err)
	}
	for len(rest) > 0 {
		var field asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &field); err != nil {
			return fmt.Errorf("issuing distribution point: %w", err)
		}
		switch {
		case field.Class == asn1.ClassContextSpecific && field.Tag == 0:
		case field.Class == asn1.ClassContextSpecific && field.Tag == 4:
			return errors.New("indirect CRL is not supported")
		default:
			return errors.New("partial CRL is not supported: use the complete CRL")
		}
	}
	return nil
}

func serialText(n *big.Int) string { return n.Text(16) }

// fromHex decodes a constant of this file.
func fromHex(s string) []byte {
	b, _ := hex.DecodeString(s)
	return b
}
