package trust

import (
	"crypto/rand"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"

	"yumen/policy"
)

// The tests live at this moment.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// ca is an authority of a test.
type ca struct {
	t    *testing.T
	key  *sm2.PrivateKey
	cert *smx509.Certificate
}

func newKey(t *testing.T) *sm2.PrivateKey {
	t.Helper()
	key, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rawName(t *testing.T, text string) []byte {
	t.Helper()
	der, err := ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// template is a certificate with nothing but names, number and a year.
func template(t *testing.T, subject string) *smx509.Certificate {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return &smx509.Certificate{
		SerialNumber: n.Add(n, big.NewInt(1)), RawSubject: rawName(t, subject),
		NotBefore: noon.AddDate(0, -1, 0), NotAfter: noon.AddDate(1, 0, 0),
	}
}

func caTemplate(t *testing.T, subject string) *smx509.Certificate {
	x := template(t, subject)
	x.BasicConstraintsValid, x.IsCA, x.MaxPathLen = true, true, -1
	x.KeyUsage = smx509.KeyUsageCertSign | smx509.KeyUsageCRLSign
	return x
}

// newCA makes a root; change may be nil.
func newCA(t *testing.T, subject string, change func(*smx509.Certificate)) *ca {
	t.Helper()
	a := &ca{t: t, key: newKey(t)}
	x := caTemplate(t, subject)
	if change != nil {
		change(x)
	}
	der, err := smx509.CreateCertificate(rand.Reader, x, x, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert = mustParse(t, der)
	return a
}

func mustParse(t *testing.T, der []byte) *smx509.Certificate {
	t.Helper()
	x, err := smx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// below makes an intermediate.
func (a *ca) below(subject string, change func(*smx509.Certificate)) *ca {
	a.t.Helper()
	b := &ca{t: a.t, key: newKey(a.t)}
	x := caTemplate(a.t, subject)
	if change != nil {
		change(x)
	}
	b.cert = mustParse(a.t, a.sign(x, &b.key.PublicKey))
	return b
}

func (a *ca) sign(x *smx509.Certificate, pub any) []byte {
	a.t.Helper()
	der, err := smx509.CreateCertificate(rand.Reader, x, a.cert, pub, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

const (
	signUsage = smx509.KeyUsageDigitalSignature | smx509.KeyUsageContentCommitment
	encUsage  = smx509.KeyUsageKeyEncipherment | smx509.KeyUsageDataEncipherment | smx509.KeyUsageKeyAgreement
)

// leaf issues a gateway's certificate.
func (a *ca) leaf(subject string, use smx509.KeyUsage, change func(*smx509.Certificate)) []byte {
	a.t.Helper()
	x := template(a.t, subject)
	x.KeyUsage = use
	if change != nil {
		change(x)
	}
	return a.sign(x, &newKey(a.t).PublicKey)
}

// pair issues both certificates of a gateway.
func (a *ca) pair(subject string) (sign, enc []byte) {
	a.t.Helper()
	sans := func(x *smx509.Certificate) {
		x.DNSNames = []string{"gw.example.cn"}
		x.EmailAddresses = []string{"Gate@example.cn"}
		x.IPAddresses = []net.IP{net.ParseIP("192.0.2.7"), net.ParseIP("2001:db8::7")}
	}
	return a.leaf(subject, signUsage, sans), a.leaf(subject, encUsage, nil)
}

func (a *ca) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// crl lists the given certificates as revoked; valid from a day ago for a week.
func (a *ca) crl(change func(*smx509.RevocationList), revoked ...[]byte) []byte {
	a.t.Helper()
	list := &smx509.RevocationList{Number: big.NewInt(7), ThisUpdate: noon.AddDate(0, 0, -1), NextUpdate: noon.AddDate(0, 0, 6)}
	for _, der := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, smx509.RevocationListEntry{
			SerialNumber: mustParse(a.t, der).SerialNumber, RevocationTime: noon.AddDate(0, 0, -2)})
	}
	if change != nil {
		change(list)
	}
	der, err := smx509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

const gateway = "CN=gw-b,O=Example,C=CN"

func peerNamed(subject string) policy.Peer {
	return policy.Peer{Name: "b", CA: "ca.crt", CRL: "ca.crl", ClockSkew: 5 * time.Minute,
		Identity: policy.Identity{Subject: subject}}
}

func newVerifier(t *testing.T, peer policy.Peer, anchor, crl []byte) *Verifier {
	t.Helper()
	v, err := NewVerifier(peer, anchor, crl)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
