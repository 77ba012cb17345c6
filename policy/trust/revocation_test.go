package trust

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/smx509"
)

func crlPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func TestRevocationOfEitherOrOfAnIntermediateRefuses(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sub := root.below("CN=sub", nil)
	sign, enc := sub.pair(gateway)
	ofRoot, ofSub := root.crl(nil), sub.crl(nil)
	both := func(a, b []byte) []byte { return append(crlPEM(a), crlPEM(b)...) }
	late := func(l *smx509.RevocationList) { l.NextUpdate = noon.Add(-peerNamed("").ClockSkew - 1e9) }
	lateWithinSkew := func(l *smx509.RevocationList) { l.NextUpdate = noon.Add(-peerNamed("").ClockSkew / 2) }
	early := func(l *smx509.RevocationList) { l.ThisUpdate = noon.AddDate(0, 0, 1) }
	for name, c := range map[string]struct {
		crl  []byte
		want Reason
	}{
		"no check":                {nil, ""},
		"none revoked":            {both(ofRoot, ofSub), ""},
		"signing revoked":         {both(ofRoot, sub.crl(nil, sign)), Revoked},
		"encryption revoked":      {both(ofRoot, sub.crl(nil, enc)), Revoked},
		"intermediate revoked":    {both(root.crl(nil, sub.cert.Raw), ofSub), Revoked},
		"another revoked":         {both(root.crl(nil, sign), ofSub), ""},
		"stale":                   {both(ofRoot, sub.crl(late)), StaleCRL},
		"stale, but revoked":      {both(ofRoot, sub.crl(late, sign)), Revoked},
		"stale within the skew":   {both(ofRoot, sub.crl(lateWithinSkew)), ""},
		"of the future":           {both(ofRoot, sub.crl(early)), StaleCRL},
		"none of the issuer":      {ofRoot, StaleCRL},
		"none of the anchor":      {ofSub, StaleCRL},
		"stale one of the anchor": {both(root.crl(late), ofSub), StaleCRL},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerifier(t, peerNamed(gateway), append(root.pem(), sub.pem()...), c.crl)
			_, err := v.Verify(noon, sign, enc, nil)
			wantReason(t, err, c.want)
		})
	}
}

func TestCRLFileFaultsAreNamed(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	imposter := newCA(t, "CN=root", nil)
	foreign := newCA(t, "CN=foreign,C=CN", nil)
	mute := newCA(t, "CN=mute", nil)
	der := mute.crl(nil)
	extension := func(id asn1.ObjectIdentifier, value ...byte) []byte {
		return root.crl(func(l *smx509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: id, Critical: true, Value: value}}
		})
	}
	point := asn1.ObjectIdentifier{2, 5, 29, 28}
	for name, c := range map[string]struct {
		file []byte
		text string
	}{
		"foreign issuer":         {foreign.crl(nil), `issued by "CN=foreign,C=CN"`},
		"imposter":               {imposter.crl(nil), "signature does not verify"},
		"unknown":                {der, `issued by "CN=mute"`},
		"empty":                  {[]byte{}, "empty"},
		"junk":                   {[]byte("junk"), "crl 1"},
		"truncated":              {root.crl(nil)[:100], "crl 1"},
		"trailing":               {append(root.crl(nil), 0), "trailing"},
		"certificate":            {root.pem(), "CERTIFICATE"},
		"two of one":             {append(crlPEM(root.crl(nil)), crlPEM(root.crl(nil))...), "second CRL"},
		"delta":                  {extension(asn1.ObjectIdentifier{2, 5, 29, 27}, 2, 1, 1), "delta"},
		"indirect":               {extension(point, 0x30, 3, 0x84, 1, 0xff), "indirect"},
		"user certificates only": {extension(point, 0x30, 3, 0x81, 1, 0xff), "partial"},
		"unknown critical":       {extension(asn1.ObjectIdentifier{1, 2, 3}, 5, 0), "1.2.3"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewVerifier(peerNamed(gateway), root.pem(), c.file)
			if err == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), `peer "b": crl ca.crl`) {
				t.Fatalf("got %v, want peer, file and %q", err, c.text)
			}
		})
	}
	where := extension(point, 0x30, 9, 0xa0, 7, 0xa0, 5, 0x86, 3, 'u', ':', 'x')
	newVerifier(t, peerNamed(gateway), root.pem(), where)
}

func TestIndirectEntryIsRefused(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sign, _ := root.pair(gateway)
	file := root.crl(func(l *smx509.RevocationList) {
		l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
	}, sign)
	_, err := NewVerifier(peerNamed(gateway), root.pem(), file)
	if err == nil || !strings.Contains(err.Error(), "indirect") {
		t.Fatalf("got %v", err)
	}
}

func TestIssuerWithoutCRLSignMayNotIssueACRL(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	list := root.crl(nil)
	// The same key and name again, without the right.
	x := caTemplate(t, "CN=root")
	x.KeyUsage = smx509.KeyUsageCertSign
	anchor := root.sign(x, &root.key.PublicKey)
	_, err := NewVerifier(peerNamed(gateway), anchor, list)
	if err == nil || !strings.Contains(err.Error(), "cRLSign") {
		t.Fatalf("got %v", err)
	}
}

func TestEveryFlippedBitOfACertificateIsRefused(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sign, enc := root.pair(gateway)
	v := newVerifier(t, peerNamed(gateway), root.pem(), nil)
	for i := range sign {
		bad := bytes.Clone(sign)
		bad[i] ^= 1 << (i % 8)
		if _, err := v.Verify(noon, bad, enc, nil); err == nil {
			t.Fatalf("flipped bit in byte %d was accepted", i)
		}
	}
}

func TestEveryStrictPrefixOfACertificateIsMalformed(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sign, _ := root.pair(gateway)
	for n := range sign {
		_, err := ParseCertificate(sign[:n])
		wantReason(t, err, Malformed)
	}
}

// What keeps every certificate of a peer from being believed is known before one
// comes.
func TestWhatIsOutdatedIsToldBeforeAPeerCalls(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sub := root.below("CN=sub", nil)
	both := append(root.pem(), sub.pem()...)
	skew := peerNamed(gateway).ClockSkew
	late := func(l *smx509.RevocationList) { l.NextUpdate = noon.Add(-skew - 1e9) }
	early := func(l *smx509.RevocationList) { l.ThisUpdate = noon.Add(skew + 1e9) }
	for name, c := range map[string]struct {
		crl  []byte
		now  time.Time
		want []string
	}{
		"all is well":  {append(crlPEM(root.crl(nil)), crlPEM(sub.crl(nil))...), noon, nil},
		"no check":     {nil, noon, nil},
		"late":         {append(crlPEM(root.crl(late)), crlPEM(sub.crl(nil))...), noon, []string{`the CRL of "CN=root" was to be renewed`}},
		"early":        {append(crlPEM(root.crl(nil)), crlPEM(sub.crl(early))...), noon, []string{`the CRL of "CN=sub" is of`}},
		"in two years": {nil, noon.AddDate(2, 0, 0), []string{`the CA "CN=root" expired`, `the intermediate "CN=sub" expired`}},
		"long ago":     {nil, noon.AddDate(-1, 0, 0), []string{`the CA "CN=root" is valid only from`, `the intermediate "CN=sub" is valid only from`}},
	} {
		t.Run(name, func(t *testing.T) {
			got := newVerifier(t, peerNamed(gateway), both, c.crl).Outdated(c.now)
			if len(got) != len(c.want) {
				t.Fatalf("told %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("told %q, want %q", got[i], want)
				}
			}
		})
	}
}
