package pki

import (
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"yumen/policy/trust"
)

func create(random io.Reader, spec Spec, pub crypto.PublicKey, issuer *trust.Certificate, key crypto.Signer) ([]byte, error) {
	x, err := newTemplate(random, spec, pub)
	if err != nil {
		return nil, err
	}
	parent := x
	if issuer != nil {
		if parent, err = parseCertificate(issuer.DER); err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
	}
	der, err := signCertificate(random, x, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	// What we issue must be what our own verifier reads.
	if _, err := trust.ParseCertificate(der); err != nil {
		return nil, err
	}
	return der, nil
}

func newTemplate(random io.Reader, spec Spec, pub crypto.PublicKey) (*x509Certificate, error) {
	if !spec.NotAfter.After(spec.NotBefore) {
		return nil, fmt.Errorf("validity ends (%s) before it begins (%s)", stamp(spec.NotAfter), stamp(spec.NotBefore))
	}
	subject, err := trust.ParseName(spec.Subject)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	number, err := serialNumber(random)
	if err != nil {
		return nil, err
	}
	id, err := keyID(pub)
	if err != nil {
		return nil, err
	}
	x := &x509Certificate{
		SerialNumber: number, RawSubject: subject, SubjectKeyId: id,
		NotBefore: spec.NotBefore.UTC(), NotAfter: spec.NotAfter.UTC(),
		BasicConstraintsValid: true, MaxPathLen: -1,
		DNSNames: spec.Names.DNS, EmailAddresses: spec.Names.Email,
	}
	for _, a := range spec.Names.IP {
		x.IPAddresses = append(x.IPAddresses, a.AsSlice())
	}
	switch spec.Kind {
	case CA:
		x.IsCA = true
		x.KeyUsage = useCertSign | useCRLSign
		if spec.PathLen >= 0 {
			x.MaxPathLen, x.MaxPathLenZero = spec.PathLen, spec.PathLen == 0
		}
	case Signing:
		x.KeyUsage = useSignature | useCommitment
	case Encryption:
		x.KeyUsage = useKeyEncipher | useDataEncipher | useAgreement
	default:
		return nil, errors.New("a certificate needs a usage")
	}
	return x, nil
}

func isCA(der []byte) bool {
	x, err := parseCertificate(der)
	both := useCertSign | useCRLSign
	return err == nil && x.BasicConstraintsValid && x.IsCA && x.KeyUsage&both == both
}

// Request makes a PKCS#10 request (DER) for the key.
func Request(random io.Reader, subject string, names Names, key crypto.Signer) ([]byte, error) {
	name, err := trust.ParseName(subject)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	x := &x509Request{RawSubject: name, DNSNames: names.DNS, EmailAddresses: names.Email}
	for _, a := range names.IP {
		x.IPAddresses = append(x.IPAddresses, a.AsSlice())
	}
	der, err := signRequest(random, x, key)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	return der, nil
}

// request is what a PKCS#10 request asks for.
type request struct {
	subject string
	names   Names
	key     *ecdsa.PublicKey
}

func readRequest(b []byte) (*request, error) {
	der, err := one(b, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	x, err := parseRequest(der)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	key, ok := x.PublicKey.(*ecdsa.PublicKey)
	if !ok || !isSM2(key) || x.SignatureAlgorithm != signedWithSM2 {
		return nil, errors.New("request: is not of an SM2 key signed with SM2 and SM3")
	}
	if err := x.CheckSignature(); err != nil {
		return nil, fmt.Errorf("request: the requester does not prove that it has the key: %w", err)
	}
	r := &request{key: key, names: Names{DNS: x.DNSNames, Email: x.EmailAddresses}}
	for _, ip := range x.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			r.names.IP = append(r.names.IP, a.Unmap())
		}
	}
	if r.subject, err = trust.FormatName(x.RawSubject); err != nil {
		return nil, fmt.Errorf("request: subject: %w", err)
	}
	return r, nil
}
