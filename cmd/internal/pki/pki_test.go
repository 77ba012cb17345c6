package pki

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"yumen/policy/trust"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newAuthority(t *testing.T, subject string) *Authority {
	t.Helper()
	key, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := Root(rand.Reader, Spec{Kind: CA, Subject: subject, NotBefore: noon, NotAfter: noon.AddDate(10, 0, 0), PathLen: -1}, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := trust.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAuthority(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *Authority) leaf(t *testing.T, kind Kind, days int) []byte {
	t.Helper()
	key, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Issue(rand.Reader, Spec{Kind: kind, Subject: "CN=gw", NotBefore: noon, NotAfter: noon.AddDate(0, 0, days)}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestAlternativeNamesReadOrAreRefused(t *testing.T) {
	n, err := ParseNames("dns:gw.example.cn, IP:192.0.2.1,ip:2001:db8::1,email:ops@example.cn")
	if err != nil || len(n.DNS) != 1 || len(n.IP) != 2 || n.Email[0] != "ops@example.cn" {
		t.Fatalf("%+v %v", n, err)
	}
	for _, bad := range []string{"gw.example.cn", "dns:", "ip:300.1.1.1", "ip:fe80::1%eth0", "host:x", "dns:a,,dns:b"} {
		if _, err := ParseNames(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestSerialNumbersArePositiveAndFresh(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		n, err := serialNumber(rand.Reader)
		if err != nil || n.Sign() <= 0 || n.BitLen() > 128 || seen[n.String()] {
			t.Fatalf("%v %v", n, err)
		}
		seen[n.String()] = true
	}
	if _, err := serialNumber(iotest.ErrReader(errors.New("dry"))); err == nil {
		t.Fatal("a number without randomness")
	}
}

func TestCRLContinuesThePreviousOne(t *testing.T) {
	a, b := newAuthority(t, "CN=a"), newAuthority(t, "CN=b")
	one, two := a.leaf(t, Signing, 10), a.leaf(t, Encryption, 10)
	first, err := a.CRL(rand.Reader, Revocation{Revoke: [][]byte{one}, Reason: 4, ThisUpdate: noon, NextUpdate: noon.AddDate(0, 0, 7)})
	if err != nil {
		t.Fatal(err)
	}
	later := Revocation{Previous: EncodePEM(TypeCRL, first), Revoke: [][]byte{EncodePEM(TypeCertificate, two), one},
		ThisUpdate: noon.AddDate(0, 0, 1), NextUpdate: noon.AddDate(0, 0, 8)}
	second, err := a.CRL(rand.Reader, later)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Show(second, noon)
	if err != nil || len(list) != 1 || list[0].Number != "2" || len(list[0].Revoked) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	if r := list[0].Revoked[0]; !r.At.Equal(noon) || r.Reason != 4 {
		t.Errorf("the first revocation changed: %+v", r)
	}
	if _, err := b.CRL(rand.Reader, later); err == nil || !strings.Contains(err.Error(), `is issued by "CN=a"`) {
		t.Errorf("got %v", err)
	}
	imposter := newAuthority(t, "CN=a")
	if _, err := imposter.CRL(rand.Reader, later); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("got %v", err)
	}
	if _, err := b.CRL(rand.Reader, Revocation{Revoke: [][]byte{one}, ThisUpdate: noon, NextUpdate: noon.AddDate(0, 0, 7)}); err == nil {
		t.Error("another CA's certificate was revoked")
	}
	if _, err := a.CRL(rand.Reader, Revocation{ThisUpdate: noon, NextUpdate: noon}); err == nil {
		t.Error("a list that is stale at once")
	}
}

func TestLeafIsNoAuthorityAndAKeyBelongsToOneCertificate(t *testing.T) {
	a := newAuthority(t, "CN=a")
	cert, err := trust.ParseCertificate(a.leaf(t, Signing, 10))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewAuthority(cert, a.Key); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("got %v", err)
	}
	spec := Spec{Subject: "CN=x", NotBefore: noon, NotAfter: noon.AddDate(0, 0, 1)}
	if _, err := a.Issue(rand.Reader, spec, a.Key.Public()); err == nil {
		t.Error("the zero kind made a certificate")
	}
	spec.Kind = Signing
	if _, err := Root(rand.Reader, spec, a.Key); err == nil {
		t.Error("a root that is no CA")
	}
	if _, err := a.Issue(rand.Reader, spec, []byte("no key")); err == nil {
		t.Error("a certificate without a key")
	}
	spec.NotBefore = noon.AddDate(0, 0, -1)
	if _, err := a.Issue(rand.Reader, spec, a.Key.Public()); err == nil {
		t.Error("a certificate older than its CA")
	}
}

func TestShowTellsValidityAndWhatAGatewayWouldRefuse(t *testing.T) {
	a := newAuthority(t, "CN=a")
	der := a.leaf(t, Encryption, 10)
	for days, want := range map[int]int{0: 10, 3: 7, 10: 0, 11: -1} {
		list, err := Show(EncodePEM(TypeCertificate, der), noon.AddDate(0, 0, days))
		if err != nil || *list[0].DaysLeft != want {
			t.Fatalf("day %d: %+v %v", days, list, err)
		}
		if past := days > 10; past != (len(list[0].Notes) > 0) {
			t.Errorf("day %d: notes %q", days, list[0].Notes)
		}
	}
	bundle := append(EncodePEM(TypeCertificate, der), EncodePEM(TypeCertificate, a.Cert.DER)...)
	list, err := Show(bundle, noon.AddDate(0, 0, -1))
	if err != nil || len(list) != 2 || !list[1].CA || !list[1].SelfSigned || list[0].SelfSigned {
		t.Fatalf("%+v %v", list, err)
	}
	if !strings.Contains(strings.Join(list[0].Notes, ""), "not valid yet") {
		t.Errorf("notes %q", list[0].Notes)
	}
	for _, bad := range []string{"", "junk", "-----BEGIN CERTIFICATE-----\nAAAA", string(EncodePEM("DH PARAMETERS", []byte{1})), string(EncodePEM(TypeCRL, der))} {
		if _, err := Show([]byte(bad), noon); err == nil {
			t.Errorf("%.40q was shown", bad)
		}
	}
}

func TestFilesAreWrittenWholeAndNeverByAccidentReplaced(t *testing.T) {
	d := t.TempDir()
	one, two := filepath.Join(d, "new", "one"), filepath.Join(d, "two")
	if err := os.WriteFile(two, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := []File{{Path: one, Data: []byte("1"), Private: true}, {Path: two, Data: []byte("2")}}
	if err := WriteFiles(false, files...); err == nil || !strings.Contains(err.Error(), two) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(one); err == nil {
		t.Fatal("the first file was written although the second exists")
	}
	if err := files[1].write(false); err == nil {
		t.Fatal("a file that appeared in between was replaced")
	}
	if err := WriteFiles(true, files...); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		text string
		mode os.FileMode
	}{one: {"1", 0o600}, two: {"2", 0o644}} {
		b, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || !bytes.Equal(b, []byte(want.text)) || info.Mode().Perm() != want.mode {
			t.Errorf("%s: %q %v %v", path, b, info.Mode(), err)
		}
	}
	left, err := filepath.Glob(filepath.Join(d, "*", ".yumen-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
