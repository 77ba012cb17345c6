// Package pki makes what a gateway needs from a certification authority: SM2
// roots and intermediates, dual certificates, requests, CRLs; and shows what a
// file holds.
//
// It is for laboratories, small installations and tests; it keeps no database,
// so whoever issues keeps the files. It refuses to know peers and policy.
// Randomness and the time come in as arguments; only files.go touches files.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"strings"
	"time"

	"yumen/policy/trust"
)

// Kind is what a certificate is for.
type Kind uint8

// The zero Kind makes nothing.
const (
	NoKind     Kind = iota
	CA              // keyCertSign, cRLSign
	Signing         // digitalSignature, contentCommitment (nonRepudiation)
	Encryption      // keyEncipherment, dataEncipherment, keyAgreement
)

// Names are subject alternative names.
type Names struct {
	DNS   []string
	Email []string
	IP    []netip.Addr
}

// Spec is what a new certificate says. Subject is RFC 4514 text.
type Spec struct {
	Kind      Kind
	Subject   string
	Names     Names
	NotBefore time.Time
	NotAfter  time.Time
	PathLen   int // of a CA: intermediates allowed below it; negative: no limit
}

// Authority is a CA certificate with its private key.
type Authority struct {
	Cert trust.Certificate
	Key  crypto.Signer
}

// NewAuthority puts a CA certificate and its key together and refuses what
// cannot issue: a key of another certificate, a certificate that is no CA.
func NewAuthority(cert trust.Certificate, key crypto.Signer) (*Authority, error) {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || !pub.Equal(cert.Key) {
		return nil, fmt.Errorf("the key does not belong to the CA certificate %q", cert.Name)
	}
	if !isCA(cert.DER) {
		return nil, fmt.Errorf("%q may not issue certificates and CRLs: it needs basicConstraints CA, keyCertSign and cRLSign", cert.Name)
	}
	return &Authority{cert, key}, nil
}

// Root makes a self-signed CA certificate (DER) over key.
func Root(random io.Reader, spec Spec, key crypto.Signer) ([]byte, error) {
	if spec.Kind != CA {
		return nil, errors.New("a root is a CA certificate")
	}
	return create(random, spec, key.Public(), nil, key)
}

// Issue makes a certificate (DER) for the public key. Its validity must lie
// within the CA's own, since no verifier would accept the rest; X.509 counts
// whole seconds.
func (a *Authority) Issue(random io.Reader, spec Spec, pub crypto.PublicKey) ([]byte, error) {
	spec.NotBefore, spec.NotAfter = spec.NotBefore.Truncate(time.Second), spec.NotAfter.Truncate(time.Second)
	if spec.NotAfter.After(a.Cert.NotAfter) || spec.NotBefore.Before(a.Cert.NotBefore) {
		return nil, fmt.Errorf("validity %s to %s is not within the CA's %s to %s: choose fewer days, --not-before or --not-after",
			stamp(spec.NotBefore), stamp(spec.NotAfter), stamp(a.Cert.NotBefore), stamp(a.Cert.NotAfter))
	}
	return create(random, spec, pub, &a.Cert, a.Key)
}

// Approve makes a certificate for a PKCS#10 request (PEM or DER), whose own
// signature proves that the requester has the key. An empty Subject and empty
// Names of spec are taken from the request; key usages never are.
func (a *Authority) Approve(random io.Reader, spec Spec, request []byte) ([]byte, error) {
	r, err := readRequest(request)
	if err != nil {
		return nil, err
	}
	if spec.Subject == "" {
		spec.Subject = r.subject
	}
	if spec.Names.empty() {
		spec.Names = r.names
	}
	return a.Issue(random, spec, r.key)
}

func (n Names) empty() bool { return len(n.DNS)+len(n.Email)+len(n.IP) == 0 }

// ParseNames reads "dns:gw.example.cn,ip:192.0.2.1,email:ops@example.cn".
func ParseNames(text string) (Names, error) {
	var n Names
	if text == "" {
		return n, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		kind, value, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok || value == "" {
			return Names{}, fmt.Errorf("alternative name %q: want dns:NAME, ip:ADDRESS or email:MAILBOX", part)
		}
		switch strings.ToLower(kind) {
		case "dns":
			n.DNS = append(n.DNS, value)
		case "email":
			n.Email = append(n.Email, value)
		case "ip":
			a, err := netip.ParseAddr(value)
			if err != nil || a.Zone() != "" {
				return Names{}, fmt.Errorf("alternative name %q: not an IP address", part)
			}
			n.IP = append(n.IP, a.Unmap())
		default:
			return Names{}, fmt.Errorf("alternative name %q: want dns:, ip: or email:", part)
		}
	}
	return n, nil
}

// Revocation says which certificates a new CRL adds.
type Revocation struct {
	Previous   []byte   // the CRL to continue, PEM or DER; nil for the first one
	Revoke     [][]byte // certificates of this CA, PEM or DER
	Reason     int      // RFC 5280 5.3.1; 0: none given
	ThisUpdate time.Time
	NextUpdate time.Time
}

// serialNumber draws a random positive number of 128 bits, so that numbers
// cannot be guessed and never repeat without a database.
func serialNumber(random io.Reader) (*big.Int, error) {
	b := make([]byte, 16)
	for {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, fmt.Errorf("serial number: %w", err)
		}
		if n := new(big.Int).SetBytes(b); n.Sign() > 0 {
			return n, nil
		}
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// ParseReason maps the words of --reason to RFC 5280 5.3.1. Certificate hold and
// removal are left out: nothing here takes a certificate off a CRL.
func ParseReason(word string) (int, error) {
	switch word {
	case "":
		return 0, nil
	case "key-compromise":
		return 1, nil
	case "ca-compromise":
		return 2, nil
	case "affiliation-changed":
		return 3, nil
	case "superseded":
		return 4, nil
	case "cessation":
		return 5, nil
	}
	return 0, fmt.Errorf("reason %q: want key-compromise, ca-compromise, affiliation-changed, superseded or cessation", word)
}
