package trust

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// maxCertificate bounds one certificate; real ones have 500 to 1,500 bytes.
const maxCertificate = 16 << 10

// Certificate is an SM2 certificate of the GM/T 0015 profile. The zero value is
// no certificate.
type Certificate struct {
	DER         []byte
	Key         *ecdsa.PublicKey // on the SM2 curve
	Subject     []byte           // DER Name
	Name        string           // the subject as RFC 4514 text
	Fingerprint string           // SM3 of DER, 64 lower-case hex digits
	Serial      string           // lower-case hexadecimal, no leading zeros
	NotBefore   time.Time
	NotAfter    time.Time

	x     *body
	chain []*Certificate // the issuers up to the anchor, set by Verify
}

// Pair is a gateway's signing and encryption certificate.
type Pair struct{ Sign, Enc Certificate }

// ParseCertificate reads one DER certificate of at most 16 KiB. Only SM2 keys
// on the named curve and SM2-with-SM3 signatures are accepted; names must be
// well coded; a critical extension that this package does not honour is
// refused. Errors are *Refusal with Malformed. The signature is not checked.
func ParseCertificate(der []byte) (Certificate, error) {
	c, r := parse(der)
	if r != nil {
		return Certificate{}, r
	}
	return c, nil
}

// parse keeps no reference to der, which may be a packet buffer.
func parse(der []byte) (Certificate, *Refusal) {
	if len(der) > maxCertificate {
		return Certificate{}, refuse(Malformed, "certificate of %d bytes is longer than %d", len(der), maxCertificate)
	}
	return parseBody(bytes.Clone(der))
}

// ParseCertificatePEM reads exactly one certificate, PEM or DER.
func ParseCertificatePEM(b []byte) (Certificate, error) {
	list, err := blocks(b, "CERTIFICATE")
	if err != nil {
		return Certificate{}, refuse(Malformed, "%w", err)
	}
	if len(list) != 1 {
		return Certificate{}, refuse(Malformed, "found %d certificates where one is expected", len(list))
	}
	return ParseCertificate(list[0])
}

// blocks gives the DER of each PEM block of b, all of which must have one of
// the types; b without PEM is taken as DER itself.
func blocks(b []byte, types ...string) ([][]byte, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		if len(b) == 0 {
			return nil, errors.New("empty")
		}
		return [][]byte{b}, nil
	}
	var out [][]byte
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		known := false
		for _, t := range types {
			known = known || block.Type == t
		}
		if !known {
			return nil, fmt.Errorf("found a PEM block %q where only %q is expected", block.Type, types[0])
		}
		out, b = append(out, block.Bytes), rest
	}
	if bytes.Contains(b, []byte("-----BEGIN ")) {
		return nil, errors.New("a PEM block is damaged")
	}
	return out, nil
}

// Bundle gives the DER of each certificate of a file of intermediates, PEM or one
// in DER, at most the four that a peer takes. Each must be one of a CA.
func Bundle(b []byte) ([][]byte, error) {
	list, err := blocks(b, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	if len(list) > maxIntermediates {
		return nil, fmt.Errorf("holds %d certificates; a peer takes %d", len(list), maxIntermediates)
	}
	for i, der := range list {
		c, r := parse(der)
		if r == nil {
			r = c.checkIssuer(false)
		}
		if r != nil {
			return nil, r.about(fmt.Sprintf("certificate %d", i+1))
		}
	}
	return list, nil
}

// role is which of the two a certificate is meant to be.
type role string

const (
	signing    role = "signing certificate"
	encryption role = "encryption certificate"
)

// checkUsage refuses a certificate that may not do the work of its role. A
// missing extension says nothing, which is not enough: GM/T 0015 demands it.
func (c *Certificate) checkUsage(r role) *Refusal {
	signs := c.x.usage&digitalSignature != 0
	encrypts := c.x.usage&(keyEncipherment|dataEncipherment|keyAgreement) != 0
	switch {
	case c.x.ca:
		return refuse(KeyUsage, "%q is a CA certificate", c.Name)
	case !c.x.hasUsage:
		return refuse(KeyUsage, "%q has no key usage extension", c.Name)
	case r == signing && !signs && encrypts:
		return refuse(KeyUsage, "%q is for encryption only: the two certificates are swapped", c.Name)
	case r == encryption && !encrypts && signs:
		return refuse(KeyUsage, "%q is for signing only: the two certificates are swapped", c.Name)
	case r == signing && !signs:
		return refuse(KeyUsage, "%q lacks digitalSignature", c.Name)
	case r == encryption && !encrypts:
		return refuse(KeyUsage, "%q lacks keyEncipherment, dataEncipherment and keyAgreement", c.Name)
	}
	return nil
}

// checkTime tolerates a difference of the two clocks of at most skew.
func (c *Certificate) checkTime(now time.Time, skew time.Duration) *Refusal {
	if now.Add(skew).Before(c.NotBefore) {
		return refuse(NotYetValid, "%q is valid from %s", c.Name, stamp(c.NotBefore))
	}
	if now.Add(-skew).After(c.NotAfter) {
		return refuse(Expired, "%q was valid until %s", c.Name, stamp(c.NotAfter))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// CheckOwnPair refuses a pair of our own that no peer would accept: usages,
// validity at now without tolerance, one issuer. Certificates that were not
// parsed by this package are refused as malformed.
func CheckOwnPair(p Pair, now time.Time) error {
	if err := CheckOwnUsage(p); err != nil {
		return err
	}
	if r := p.Sign.checkTime(now, 0); r != nil {
		return r.about(string(signing))
	}
	if r := p.Enc.checkTime(now, 0); r != nil {
		return r.about(string(encryption))
	}
	if !p.Sign.x.by.equal(p.Enc.x.by) {
		return refuse(PairMismatch, "the two certificates have different issuers")
	}
	return nil
}

// OneSubject says whether both certificates carry the same name. They must have been
// parsed by this package.
func (p *Pair) OneSubject() bool {
	return p.Sign.x != nil && p.Enc.x != nil && p.Sign.x.subject.equal(p.Enc.x.subject)
}

// CheckOwnUsage is the part of CheckOwnPair that needs no clock: the key usage
// of each certificate, so that the two are not swapped.
func CheckOwnUsage(p Pair) error {
	if p.Sign.x == nil || p.Enc.x == nil {
		return refuse(Malformed, "the pair is not complete")
	}
	if r := p.Sign.checkUsage(signing); r != nil {
		return r.about(string(signing))
	}
	if r := p.Enc.checkUsage(encryption); r != nil {
		return r.about(string(encryption))
	}
	return nil
}

// hasAddr looks into subjectAltName.
func (c *Certificate) hasAddr(a netip.Addr) bool {
	for _, have := range c.x.addrs {
		if have == a {
			return true
		}
	}
	return false
}
