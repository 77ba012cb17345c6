package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"

	"yumen/policy/trust"
)

// Info is what a file holds, for people and as JSON. Empty members do not
// apply. There is no member for a secret.
type Info struct {
	Type               string       `json:"type"` // certificate, request, crl, private key
	Subject            string       `json:"subject,omitempty"`
	Issuer             string       `json:"issuer,omitempty"`
	SelfSigned         bool         `json:"self_signed,omitempty"`
	Serial             string       `json:"serial,omitempty"`
	NotBefore          *time.Time   `json:"not_before,omitempty"`
	NotAfter           *time.Time   `json:"not_after,omitempty"`
	DaysLeft           *int         `json:"days_left,omitempty"` // whole days until NotAfter; negative: past
	CA                 bool         `json:"ca,omitempty"`
	PathLength         *int         `json:"path_length,omitempty"`
	KeyUsage           []string     `json:"key_usage,omitempty"`
	AlternativeNames   []string     `json:"alternative_names,omitempty"`
	KeyAlgorithm       string       `json:"key_algorithm,omitempty"`
	SignatureAlgorithm string       `json:"signature_algorithm,omitempty"`
	SubjectKeyID       string       `json:"subject_key_id,omitempty"`
	AuthorityKeyID     string       `json:"authority_key_id,omitempty"`
	Fingerprint        string       `json:"sm3_fingerprint,omitempty"` // of the DER
	PublicKey          string       `json:"sm3_public_key,omitempty"`  // of the SubjectPublicKeyInfo's point
	Encrypted          bool         `json:"encrypted,omitempty"`
	Number             string       `json:"crl_number,omitempty"`
	Revoked            []RevokedRow `json:"revoked,omitempty"`
	Notes              []string     `json:"notes,omitempty"` // what a gateway would refuse
}

// RevokedRow is one entry of a CRL.
type RevokedRow struct {
	Serial string    `json:"serial"`
	At     time.Time `json:"at"`
	Reason int       `json:"reason,omitempty"` // RFC 5280 5.3.1
}

// Show describes every PEM block of b, or the DER that b is.
func Show(b []byte, now time.Time) ([]Info, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		return showDER(b, now)
	}
	var all []Info
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		info, err := showBlock(block, now)
		if err != nil {
			return nil, fmt.Errorf("block %d (%s): %w", len(all)+1, block.Type, err)
		}
		all, b = append(all, info), rest
	}
	if len(all) == 0 {
		return nil, errors.New("the PEM block is damaged")
	}
	return all, nil
}

// showDER finds out by trying: the three structures cannot be confused.
func showDER(b []byte, now time.Time) ([]Info, error) {
	for _, kind := range []string{TypeCertificate, TypeCRL, TypeRequest} {
		if info, err := showBlock(&pem.Block{Type: kind, Bytes: b}, now); err == nil {
			return []Info{info}, nil
		}
	}
	return nil, errors.New("is neither PEM nor a DER certificate, CRL or request")
}

func showBlock(block *pem.Block, now time.Time) (Info, error) {
	switch block.Type {
	case TypeCertificate:
		return showCertificate(block.Bytes, now)
	case TypeRequest, "NEW " + TypeRequest:
		return showRequest(block.Bytes)
	case TypeCRL, "CRL":
		return showCRL(block.Bytes, now)
	case "EC PARAMETERS":
		return Info{Type: "curve parameters"}, nil
	case "ENCRYPTED PRIVATE KEY":
		return Info{Type: "private key", Encrypted: true, KeyAlgorithm: "hidden by the passphrase"}, nil
	}
	pub, err := readPrivate(block)
	if err != nil {
		return Info{}, err
	}
	return Info{Type: "private key", KeyAlgorithm: "SM2, private", PublicKey: pointPrint(pub)}, nil
}

func showCertificate(der []byte, now time.Time) (Info, error) {
	x, err := parseCertificate(der)
	if err != nil {
		return Info{}, err
	}
	info := Info{
		Type: "certificate", Subject: nameText(x.RawSubject), Issuer: nameText(x.RawIssuer),
		SelfSigned: bytes.Equal(x.RawSubject, x.RawIssuer), Serial: x.SerialNumber.Text(16),
		CA: x.BasicConstraintsValid && x.IsCA, KeyUsage: usageWords(x),
		AlternativeNames: alternativeNames(x.DNSNames, x.EmailAddresses, x.IPAddresses),
		KeyAlgorithm:     keyAlgorithm(x.RawSubjectPublicKeyInfo), SignatureAlgorithm: signatureAlgorithm(der),
		SubjectKeyID: hex.EncodeToString(x.SubjectKeyId), AuthorityKeyID: hex.EncodeToString(x.AuthorityKeyId),
		Fingerprint: fingerprint(der),
	}
	if info.CA && (x.MaxPathLen > 0 || x.MaxPathLenZero) {
		info.PathLength = &x.MaxPathLen
	}
	if pub, ok := x.PublicKey.(*ecdsa.PublicKey); ok {
		info.PublicKey = pointPrint(pub)
	}
	info.period(x.NotBefore, x.NotAfter, now)
	if _, err := trust.ParseCertificate(der); err != nil {
		info.Notes = append(info.Notes, err.Error())
	}
	return info, nil
}

func showRequest(der []byte) (Info, error) {
	x, err := parseRequest(der)
	if err != nil {
		return Info{}, err
	}
	info := Info{Type: "request", Subject: nameText(x.RawSubject),
		AlternativeNames: alternativeNames(x.DNSNames, x.EmailAddresses, x.IPAddresses),
		KeyAlgorithm:     keyAlgorithm(x.RawSubjectPublicKeyInfo), SignatureAlgorithm: signatureAlgorithm(der),
		Fingerprint: fingerprint(der)}
	if pub, ok := x.PublicKey.(*ecdsa.PublicKey); ok {
		info.PublicKey = pointPrint(pub)
	}
	if err := x.CheckSignature(); err != nil {
		info.Notes = append(info.Notes, "the signature does not verify: "+err.Error())
	}
	return info, nil
}

func showCRL(der []byte, now time.Time) (Info, error) {
	x, err := parseCRL(der)
	if err != nil {
		return Info{}, err
	}
	info := Info{Type: "crl", Issuer: nameText(x.RawIssuer), SignatureAlgorithm: signatureAlgorithm(der),
		AuthorityKeyID: hex.EncodeToString(x.AuthorityKeyId), Fingerprint: fingerprint(der)}
	if x.Number != nil {
		info.Number = x.Number.String()
	}
	if info.period(x.ThisUpdate, x.NextUpdate, now); x.NextUpdate.IsZero() {
		info.NotAfter, info.DaysLeft = nil, nil
		info.Notes = append(info.Notes, "no next update: a gateway refuses it")
	}
	for _, e := range x.RevokedCertificateEntries {
		info.Revoked = append(info.Revoked, RevokedRow{e.SerialNumber.Text(16), e.RevocationTime.UTC(), e.ReasonCode})
	}
	return info, nil
}

func (i *Info) period(from, to, now time.Time) {
	from, to = from.UTC(), to.UTC()
	days := int(math.Floor(to.Sub(now).Hours() / 24))
	i.NotBefore, i.NotAfter, i.DaysLeft = &from, &to, &days
	if now.After(to) {
		i.Notes = append(i.Notes, "is past its time")
	}
	if now.Before(from) {
		i.Notes = append(i.Notes, "is not valid yet")
	}
}

// nameText shows even a name that a gateway would refuse.
func nameText(der []byte) string {
	text, err := trust.FormatName(der)
	if err != nil {
		return fmt.Sprintf("#%x (%v)", der, err)
	}
	return text
}

func pointPrint(pub *ecdsa.PublicKey) string {
	point, err := pointOf(pub)
	if err != nil {
		return ""
	}
	return fingerprint(point)
}

func usageWords(x *x509Certificate) []string {
	words := []string{"digitalSignature", "contentCommitment (nonRepudiation)", "keyEncipherment", "dataEncipherment",
		"keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"}
	var out []string
	for bit, word := range words {
		if int(x.KeyUsage)>>bit&1 != 0 {
			out = append(out, word)
		}
	}
	return out
}

func alternativeNames(dns, email []string, ips []net.IP) []string {
	var out []string
	for _, s := range dns {
		out = append(out, "dns:"+s)
	}
	for _, ip := range ips {
		out = append(out, "ip:"+ip.String())
	}
	for _, s := range email {
		out = append(out, "email:"+s)
	}
	return out
}

// keyAlgorithm names the algorithm and the curve of a SubjectPublicKeyInfo.
func keyAlgorithm(der []byte) string {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return "unreadable"
	}
	text := oidText(info.Algorithm.Algorithm)
	var curve asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &curve); err == nil {
		text += ", curve " + oidText(curve)
	}
	return text
}

// signatureAlgorithm reads the second element of a certificate, request or CRL.
func signatureAlgorithm(der []byte) string {
	var signed struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &signed); err != nil {
		return "unreadable"
	}
	return oidText(signed.Algorithm.Algorithm)
}

func oidText(oid asn1.ObjectIdentifier) string {
	switch text := oid.String(); text {
	case "1.2.840.10045.2.1":
		return "id-ecPublicKey (1.2.840.10045.2.1)"
	case "1.2.156.10197.1.301":
		return "SM2 (1.2.156.10197.1.301)"
	case "1.2.156.10197.1.501":
		return "SM2 with SM3 (1.2.156.10197.1.501)"
	default:
		return text
	}
}

// WriteText writes the description as lines "name: value".
func (i Info) WriteText(w io.Writer) error {
	var out strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%-20s %s\n", name+":", value)
		}
	}
	line("type", i.Type)
	line("subject", i.Subject)
	line("issuer", i.Issuer)
	line("serial", i.Serial)
	line("crl number", i.Number)
	if i.NotBefore != nil {
		line("not before", stamp(*i.NotBefore))
	}
	if i.NotAfter != nil {
		line("not after", fmt.Sprintf("%s (%d days left)", stamp(*i.NotAfter), *i.DaysLeft))
	}
	if i.CA {
		length := "unlimited"
		if i.PathLength != nil {
			length = fmt.Sprint(*i.PathLength)
		}
		line("ca", "yes, path length "+length)
	}
	line("key usage", strings.Join(i.KeyUsage, ", "))
	line("alternative names", strings.Join(i.AlternativeNames, ", "))
	line("key algorithm", i.KeyAlgorithm)
	line("signature algorithm", i.SignatureAlgorithm)
	line("subject key id", i.SubjectKeyID)
	line("authority key id", i.AuthorityKeyID)
	line("sm3 fingerprint", i.Fingerprint)
	line("sm3 of public key", i.PublicKey)
	if i.Encrypted {
		line("encrypted", "yes, by passphrase")
	}
	for _, r := range i.Revoked {
		line("revoked", fmt.Sprintf("serial %s at %s, reason %d", r.Serial, stamp(r.At), r.Reason))
	}
	line("note", strings.Join(i.Notes, "; "))
	_, err := io.WriteString(w, out.String())
	return err
}
