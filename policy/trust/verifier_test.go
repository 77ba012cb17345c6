package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/smx509"

	"yumen/policy"
)

// wantReason fails unless err is a refusal with exactly this reason; "" wants
// no error.
func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	var r *Refusal
	switch {
	case want == "" && err == nil:
	case want == "":
		t.Fatalf("refused: %v", err)
	case !errors.As(err, &r):
		t.Fatalf("got %v (%T), want reason %s", err, err, want)
	case r.Reason != want:
		t.Fatalf("got reason %s (%v), want %s", r.Reason, err, want)
	}
	if want != "" {
		var byValue Refusal
		if !errors.As(err, &byValue) || byValue.Reason != want {
			t.Fatalf("errors.As by value gives %q", byValue.Reason)
		}
	}
}

func TestGoodPairIsAcceptedAndStaysCurrent(t *testing.T) {
	root := newCA(t, "CN=root,C=CN", nil)
	sign, enc := root.pair(gateway)
	v := newVerifier(t, peerNamed(gateway), root.pem(), root.crl(nil))
	p, err := v.Verify(noon, sign, enc, nil)
	wantReason(t, err, "")
	if p.Sign.Name != gateway || !bytes.Equal(p.Enc.DER, enc) || len(p.Sign.Fingerprint) != 64 {
		t.Fatalf("pair is %q %q", p.Sign.Name, p.Sign.Fingerprint)
	}
	wantReason(t, v.Current(noon.AddDate(0, 0, 5), p), "")
	wantReason(t, v.Current(noon.AddDate(0, 0, 7), p), StaleCRL)
	wantReason(t, v.Current(noon.AddDate(2, 0, 0), p), Expired)
	wantReason(t, CheckOwnPair(*p, noon), "")

	other := newVerifier(t, peerNamed(gateway), newCA(t, "CN=root,C=CN", nil).pem(), nil)
	wantReason(t, other.Current(noon, p), UnknownCA)
	revoked := newVerifier(t, peerNamed(gateway), root.pem(), root.crl(nil, enc))
	wantReason(t, revoked.Current(noon, p), Revoked)
	moved := newVerifier(t, peerNamed("CN=somebody else"), root.pem(), nil)
	wantReason(t, moved.Current(noon, p), BadIdentity)
}

// What is left of a pair after a restart is judged as the pair itself would be.
func TestAStandingIsJudgedAsItsPairIs(t *testing.T) {
	root := newCA(t, "CN=root,C=CN", nil)
	sign, enc := root.pair(gateway)
	v := newVerifier(t, peerNamed(gateway), root.pem(), root.crl(nil))
	p, err := v.Verify(noon, sign, enc, nil)
	wantReason(t, err, "")
	b, err := json.Marshal(p.Standing())
	if err != nil {
		t.Fatal(err)
	}
	var kept Standing
	if err := json.Unmarshal(b, &kept); err != nil {
		t.Fatal(err)
	}
	wantReason(t, v.Stands(noon.AddDate(0, 0, 5), kept), "")
	wantReason(t, v.Stands(noon.AddDate(0, 0, 7), kept), StaleCRL)
	wantReason(t, v.Stands(noon.AddDate(2, 0, 0), kept), Expired)
	wantReason(t, newVerifier(t, peerNamed(gateway), newCA(t, "CN=root,C=CN", nil).pem(), nil).Stands(noon, kept), UnknownCA)
	wantReason(t, newVerifier(t, peerNamed(gateway), root.pem(), root.crl(nil, enc)).Stands(noon, kept), Revoked)
	wantReason(t, newVerifier(t, peerNamed(gateway), root.pem(), root.crl(nil, sign)).Stands(noon, kept), Revoked)
	for _, short := range []Standing{{}, {Sign: kept.Sign}, {kept.Sign, kept.Enc[:1]}} {
		wantReason(t, v.Stands(noon, short), UnknownCA)
	}
}

func TestEachFaultOfAPairHasItsOwnReason(t *testing.T) {
	root := newCA(t, "CN=root,C=CN", nil)
	stranger := newCA(t, "CN=stranger,C=CN", nil)
	imposter := newCA(t, "CN=root,C=CN", nil) // same name, other key
	sign, enc := root.pair(gateway)
	_, othersEnc := root.pair("CN=gw-c,O=Example,C=CN")
	othersSign, _ := root.pair("CN=gw-c,O=Example,C=CN")
	strangeSign, strangeEnc := stranger.pair(gateway)
	imposedSign, _ := imposter.pair(gateway)
	with := func(use smx509.KeyUsage, change func(*smx509.Certificate)) []byte {
		return root.leaf(gateway, use, change)
	}
	until := func(at time.Time) func(*smx509.Certificate) {
		return func(x *smx509.Certificate) { x.NotAfter = at }
	}
	from := func(at time.Time) func(*smx509.Certificate) {
		return func(x *smx509.Certificate) { x.NotBefore = at }
	}
	flipped := bytes.Clone(sign)
	flipped[len(flipped)-1] ^= 1
	ext := func(id asn1.ObjectIdentifier) func(*smx509.Certificate) {
		return func(x *smx509.Certificate) {
			x.ExtraExtensions = []pkix.Extension{{Id: id, Critical: true, Value: []byte{5, 0}}}
		}
	}
	for name, c := range map[string]struct {
		sign, enc []byte
		want      Reason
	}{
		"good":                        {sign, enc, ""},
		"wrong CA":                    {strangeSign, strangeEnc, UnknownCA},
		"CA of the same name":         {imposedSign, enc, UnknownCA},
		"signature flipped":           {flipped, enc, UnknownCA},
		"truncated":                   {sign[:len(sign)-1], enc, Malformed},
		"trailing byte":               {append(bytes.Clone(sign), 0), enc, Malformed},
		"empty":                       {nil, enc, Malformed},
		"too long":                    {make([]byte, maxCertificate+1), enc, Malformed},
		"swapped":                     {enc, sign, KeyUsage},
		"twice the signing":           {sign, sign, KeyUsage},
		"twice the encryption":        {enc, enc, KeyUsage},
		"no usage at all":             {with(0, nil), enc, KeyUsage},
		"usage of neither":            {with(smx509.KeyUsageContentCommitment, nil), enc, KeyUsage},
		"the CA as gateway":           {root.cert.Raw, enc, KeyUsage},
		"keyAgreement alone":          {sign, with(smx509.KeyUsageKeyAgreement, nil), ""},
		"expired":                     {with(signUsage, until(noon.Add(-6*time.Minute))), enc, Expired},
		"expired within the skew":     {with(signUsage, until(noon.Add(-4*time.Minute))), enc, ""},
		"encryption expired":          {sign, with(encUsage, until(noon.Add(-6*time.Minute))), Expired},
		"not yet valid":               {with(signUsage, from(noon.Add(6*time.Minute))), enc, NotYetValid},
		"not yet, within the skew":    {with(signUsage, from(noon.Add(4*time.Minute))), enc, ""},
		"another's encryption":        {sign, othersEnc, PairMismatch},
		"another's signing":           {othersSign, enc, BadIdentity},
		"another pair":                {othersSign, othersEnc, BadIdentity},
		"unknown critical extension":  {with(signUsage, ext(asn1.ObjectIdentifier{1, 2, 3, 4})), enc, Malformed},
		"critical policy constraints": {with(signUsage, ext(asn1.ObjectIdentifier{2, 5, 29, 99})), enc, Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerifier(t, peerNamed(gateway), root.pem(), nil)
			_, err := v.Verify(noon, c.sign, c.enc, nil)
			wantReason(t, err, c.want)
		})
	}
}

func TestKeyOfAnotherCurveIsMalformed(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := template(t, gateway)
	x.KeyUsage = signUsage
	_, err = ParseCertificate(root.sign(x, &key.PublicKey))
	wantReason(t, err, Malformed)
}

func TestIntermediatesMayBeConfiguredOrSent(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sub := root.below("CN=sub", nil)
	sign, enc := sub.pair(gateway)
	alone := newVerifier(t, peerNamed(gateway), root.pem(), nil)
	_, err := alone.Verify(noon, sign, enc, nil)
	wantReason(t, err, UnknownCA)
	junk := []byte("not a certificate")
	p, err := alone.Verify(noon, sign, enc, [][]byte{junk, root.cert.Raw, sub.cert.Raw})
	wantReason(t, err, "")
	wantReason(t, alone.Current(noon, p), "")
	bundle := newVerifier(t, peerNamed(gateway), append(root.pem(), sub.pem()...), nil)
	_, err = bundle.Verify(noon, sign, enc, nil)
	wantReason(t, err, "")
}

func TestTooManyOrTooLongIntermediatesAreRefused(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sign, enc := root.pair(gateway)
	v := newVerifier(t, peerNamed(gateway), root.pem(), nil)
	four := [][]byte{root.cert.Raw, root.cert.Raw, root.cert.Raw, root.cert.Raw}
	_, err := v.Verify(noon, sign, enc, four)
	wantReason(t, err, "")
	_, err = v.Verify(noon, sign, enc, append(four, root.cert.Raw))
	wantReason(t, err, Malformed)
	_, err = v.Verify(noon, sign, enc, [][]byte{make([]byte, maxCertificate+1)})
	wantReason(t, err, Malformed)
}

func TestIssuersMustBeCertificationAuthorities(t *testing.T) {
	root := newCA(t, "CN=root", func(x *smx509.Certificate) { x.MaxPathLen = 1 })
	for name, c := range map[string]struct {
		change func(*smx509.Certificate)
		want   Reason
	}{
		"good":              {nil, ""},
		"not a CA":          {func(x *smx509.Certificate) { x.IsCA, x.MaxPathLen = false, 0 }, UnknownCA},
		"no keyCertSign":    {func(x *smx509.Certificate) { x.KeyUsage = smx509.KeyUsageCRLSign }, KeyUsage},
		"no key usage":      {func(x *smx509.Certificate) { x.KeyUsage = 0 }, KeyUsage},
		"expired":           {func(x *smx509.Certificate) { x.NotAfter = noon.AddDate(0, 0, -1) }, Expired},
		"not yet valid":     {func(x *smx509.Certificate) { x.NotBefore = noon.AddDate(0, 0, 1) }, NotYetValid},
		"name constraints":  {func(x *smx509.Certificate) { x.PermittedDNSDomains = []string{"example.cn"} }, UnknownCA},
		"critical oddities": {func(x *smx509.Certificate) { x.ExtraExtensions = odd() }, UnknownCA},
	} {
		t.Run(name, func(t *testing.T) {
			sub := root.below("CN=sub", c.change)
			sign, enc := sub.pair(gateway)
			v := newVerifier(t, peerNamed(gateway), root.pem(), nil)
			_, err := v.Verify(noon, sign, enc, [][]byte{sub.cert.Raw})
			wantReason(t, err, c.want)
		})
	}
}

func odd() []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
}

func TestPathLengthIsKept(t *testing.T) {
	root := newCA(t, "CN=root", func(x *smx509.Certificate) { x.MaxPathLen = 1 })
	one := root.below("CN=one", nil)
	two := one.below("CN=two", nil)
	v := newVerifier(t, peerNamed(gateway), root.pem(), nil)
	sign, enc := one.pair(gateway)
	_, err := v.Verify(noon, sign, enc, [][]byte{one.cert.Raw})
	wantReason(t, err, "")
	sign, enc = two.pair(gateway)
	_, err = v.Verify(noon, sign, enc, [][]byte{one.cert.Raw, two.cert.Raw})
	wantReason(t, err, UnknownCA)
	if !strings.Contains(err.Error(), "allows 1") {
		t.Fatalf("the text does not tell the path length: %v", err)
	}
	zero := newCA(t, "CN=zero", func(x *smx509.Certificate) { x.MaxPathLen, x.MaxPathLenZero = 0, true })
	sub := zero.below("CN=sub", nil)
	sign, enc = sub.pair(gateway)
	_, err = newVerifier(t, peerNamed(gateway), zero.pem(), nil).Verify(noon, sign, enc, [][]byte{sub.cert.Raw})
	wantReason(t, err, UnknownCA)
}

func TestTheTwoMustHaveOneIssuer(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sub := root.below("CN=sub", nil)
	sign, _ := root.pair(gateway)
	_, enc := sub.pair(gateway)
	v := newVerifier(t, peerNamed(gateway), root.pem(), nil)
	_, err := v.Verify(noon, sign, enc, [][]byte{sub.cert.Raw})
	wantReason(t, err, PairMismatch)
}

func TestExpiredAnchorEndsEveryChain(t *testing.T) {
	root := newCA(t, "CN=root", func(x *smx509.Certificate) { x.NotAfter = noon.AddDate(0, 0, -1) })
	sign, enc := root.pair(gateway)
	_, err := newVerifier(t, peerNamed(gateway), root.pem(), nil).Verify(noon, sign, enc, nil)
	wantReason(t, err, Expired)
}

func TestCircleOfIntermediatesEnds(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	a := root.below("CN=a", nil)
	b := a.below("CN=b", nil)
	x := caTemplate(t, "CN=a")
	again := b.sign(x, &a.key.PublicKey) // a, issued by b: a circle
	sign, enc := a.pair(gateway)
	stranger := newVerifier(t, peerNamed(gateway), newCA(t, "CN=other", nil).pem(), nil)
	_, err := stranger.Verify(noon, sign, enc, [][]byte{a.cert.Raw, b.cert.Raw, again})
	wantReason(t, err, UnknownCA)
}

func TestAnchorFileFaultsAreNamed(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	leaf, _ := root.pair(gateway)
	forged := bytes.Clone(root.cert.Raw)
	forged[len(forged)-1] ^= 1
	key := []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	for name, c := range map[string]struct {
		file []byte
		text string
	}{
		"empty":                 {nil, "empty"},
		"leaf":                  {leaf, "not a CA"},
		"broken self-signature": {forged, "self-signature"},
		"key file":              {key, "PRIVATE KEY"},
		"damaged":               {root.pem()[:200], "damaged"},
		"too many":              {bytes.Repeat(root.pem(), maxConfigured+1), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewVerifier(peerNamed(gateway), c.file, nil)
			if err == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), `peer "b": ca ca.crt`) {
				t.Fatalf("got %v, want peer, file and %q", err, c.text)
			}
		})
	}
}

func TestIdentityEntryPinsBothCertificates(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sign := root.leaf("CN=client sign,O=CC", signUsage, nil)
	enc := root.leaf("CN=client enc,O=CC", encUsage, nil)
	signPrint, encPrint := fingerprint(sign), fingerprint(enc)
	for name, c := range map[string]struct {
		id   policy.Identity
		want Reason
	}{
		"two subjects":        {policy.Identity{SignSubject: "CN=client sign,O=CC", EncSubject: "cn = client enc, o = CC"}, ""},
		"one subject":         {policy.Identity{Subject: "CN=client sign,O=CC"}, PairMismatch},
		"CN alone":            {policy.Identity{SignSubject: "CN=client sign", EncSubject: "CN=client enc"}, BadIdentity},
		"other case":          {policy.Identity{SignSubject: "CN=Client sign,O=CC", EncSubject: "CN=client enc,O=CC"}, BadIdentity},
		"other order":         {policy.Identity{SignSubject: "O=CC,CN=client sign", EncSubject: "CN=client enc,O=CC"}, BadIdentity},
		"fingerprints":        {policy.Identity{SignFingerprint: strings.ToUpper(signPrint), EncFingerprint: encPrint}, ""},
		"fingerprint of enc":  {policy.Identity{SignFingerprint: signPrint, EncFingerprint: signPrint}, PairMismatch},
		"fingerprint of sign": {policy.Identity{SignFingerprint: encPrint, EncFingerprint: encPrint}, BadIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			peer := peerNamed("")
			peer.Identity = c.id
			_, err := newVerifier(t, peer, root.pem(), nil).Verify(noon, sign, enc, nil)
			wantReason(t, err, c.want)
		})
	}
}

func TestIdentityEntryHasExactlyOneForm(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	hash := strings.Repeat("0", 64)
	for _, id := range []policy.Identity{
		{}, {SignSubject: "CN=a"}, {EncSubject: "CN=a"}, {SignFingerprint: hash},
		{Subject: "CN=a", SignFingerprint: hash, EncFingerprint: hash},
		{Subject: "CN=a", SignSubject: "CN=a", EncSubject: "CN=b"},
		{SignFingerprint: hash[1:], EncFingerprint: hash}, {Subject: "no name"},
	} {
		peer := peerNamed("")
		peer.Identity = id
		if _, err := NewVerifier(peer, root.pem(), nil); err == nil {
			t.Errorf("%+v was accepted", id)
		}
	}
}
