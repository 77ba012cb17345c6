package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"yumen/cmd/internal/pki"
	"yumen/policy/trust"
)

// site is a directory with a pair of a fresh CA.
type site struct {
	t         *testing.T
	dir       string
	sign, enc CertKeyPaths
}

func newSite(t *testing.T, passphrase []byte) site {
	t.Helper()
	s := site{t: t, dir: t.TempDir()}
	path := func(name string) string { return filepath.Join(s.dir, name) }
	s.sign = CertKeyPaths{path("sign.crt"), path("sign.key")}
	s.enc = CertKeyPaths{path("enc.crt"), path("enc.key")}
	now := time.Now()
	spec := pki.Spec{Kind: pki.CA, Subject: "CN=root", PathLen: -1, NotBefore: now, NotAfter: now.AddDate(1, 0, 0)}
	key := s.key()
	der, err := pki.Root(rand.Reader, spec, key)
	s.check(err)
	cert, err := trust.ParseCertificate(der)
	s.check(err)
	ca, err := pki.NewAuthority(cert, key)
	s.check(err)
	for kind, at := range map[pki.Kind]CertKeyPaths{pki.Signing: s.sign, pki.Encryption: s.enc} {
		own := s.key()
		spec.Kind, spec.Subject = kind, "CN=gw"
		der, err := ca.Issue(rand.Reader, spec, own.Public())
		s.check(err)
		text, err := pki.EncodeKey(rand.Reader, own, passphrase)
		s.check(err)
		s.check(os.WriteFile(at.Cert, pki.EncodePEM(pki.TypeCertificate, der), 0o644))
		s.check(os.WriteFile(at.Key, text, 0o600))
	}
	return s
}

func (s site) key() Key {
	s.t.Helper()
	key, err := pki.NewKey(rand.Reader)
	s.check(err)
	return key.(Key)
}

func (s site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// want fails unless err holds all the texts.
func want(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Fatalf("got %q, want %q", err, text)
		}
	}
}

func TestPairIsLoadedAndItsKeysWork(t *testing.T) {
	s := newSite(t, nil)
	pair, keys, err := LoadPair(s.sign, s.enc, nil)
	s.check(err)
	if !keys.Sign.Public().(*ecdsa.PublicKey).Equal(pair.Sign.Key) || pair.Enc.Name != "CN=gw" {
		t.Fatal("wrong key or certificate")
	}
	if _, err := keys.Sign.Sign(rand.Reader, make([]byte, 32), nil); err != nil {
		t.Fatal(err)
	}
	if keys.Enc.Public().(*ecdsa.PublicKey).Equal(pair.Sign.Key) {
		t.Fatal("the keys are the same")
	}
}

func TestSwappedFilesAreTold(t *testing.T) {
	s := newSite(t, nil)
	_, _, err := LoadPair(s.enc, s.sign, nil)
	want(t, err, s.enc.Cert, "swapped", string(trust.KeyUsage))
	_, _, err = LoadPair(CertKeyPaths{s.sign.Cert, s.enc.Key}, CertKeyPaths{s.enc.Cert, s.sign.Key}, nil)
	want(t, err, s.enc.Key, "the two key files are swapped")
	other := newSite(t, nil)
	_, _, err = LoadPair(s.sign, CertKeyPaths{s.enc.Cert, other.enc.Key}, nil)
	want(t, err, other.enc.Key, "does not belong to certificate "+s.enc.Cert)
}

func TestEveryFaultOfBothFilesIsToldAtOnce(t *testing.T) {
	s := newSite(t, nil)
	s.check(os.WriteFile(s.sign.Cert, []byte("x"), 0o600))
	s.check(os.Remove(s.enc.Cert))
	s.check(os.Remove(s.sign.Key))
	s.check(os.Chmod(s.enc.Key, 0o644))
	_, _, err := LoadPair(s.sign, s.enc, nil)
	want(t, err, s.sign.Cert, s.enc.Cert, s.sign.Key, "chmod 600 "+s.enc.Key)
}

func TestKeyThatOthersMayReadIsRefused(t *testing.T) {
	s := newSite(t, nil)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o610} {
		s.check(os.Chmod(s.enc.Key, mode))
		_, _, err := LoadPair(s.sign, s.enc, nil)
		want(t, err, "chmod 600 "+s.enc.Key)
	}
	s.check(os.Chmod(s.enc.Key, 0o400))
	_, _, err := LoadPair(s.sign, s.enc, nil)
	s.check(err)
}

func TestKeyOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP only root can give files away")
	}
	s := newSite(t, nil)
	s.check(os.Chown(s.sign.Key, 1234, 1234))
	_, _, err := LoadPair(s.sign, s.enc, nil)
	want(t, err, s.sign.Key, "belongs to another user")
}

// Nothing waits for whoever may write to a pipe.
func TestAPipeIsNoKey(t *testing.T) {
	s := newSite(t, nil)
	s.check(os.Remove(s.sign.Key))
	s.check(syscall.Mkfifo(s.sign.Key, 0o600))
	_, _, err := LoadPair(s.sign, s.enc, nil)
	want(t, err, s.sign.Key, "not a regular file")
}

func TestEncryptedKeysNeedTheirPassphrase(t *testing.T) {
	s := newSite(t, []byte("correct horse"))
	_, _, err := LoadPair(s.sign, s.enc, nil)
	want(t, err, s.sign.Key, "is encrypted")
	_, _, err = LoadPair(s.sign, s.enc, []byte("wrong"))
	want(t, err, s.sign.Key, "wrong passphrase")
	_, _, err = LoadPair(s.sign, s.enc, []byte("correct horse"))
	s.check(err)
}

func TestFaultsOfFilesNameTheFile(t *testing.T) {
	s := newSite(t, nil)
	put := func(text string) string {
		path := filepath.Join(s.dir, "bad")
		s.check(os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	nist, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.check(err)
	nistDER, err := x509.MarshalPKCS8PrivateKey(nist)
	s.check(err)
	nistSEC1, err := x509.MarshalECPrivateKey(nist)
	s.check(err)
	for text, file := range map[string]string{
		"holds no PEM private key": "nothing",
		"pkcs#8":                   block("PRIVATE KEY", []byte{1}),
		"sec 1":                    block("EC PRIVATE KEY", []byte{1}),
		"old OpenSSL encryption":   "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n",
		"holds no SM2 key":         block("PRIVATE KEY", nistDER),
		"no SM2":                   block("EC PRIVATE KEY", nistSEC1),
		"longer than":              strings.Repeat("x", maxFile+1),
	} {
		path := put(file)
		_, err := LoadKey(path, []byte("x"))
		want(t, err, path, text)
	}
	_, err = LoadKey(s.dir+"/absent", nil)
	want(t, err, "absent", "no such file")
	_, err = LoadKey(s.dir, nil)
	want(t, err, s.dir)
	_, err = LoadCertificate(put("junk"))
	want(t, err, "bad", string(trust.Malformed))
	_, _, err = LoadPair(CertKeyPaths{s.dir + "/absent.crt", s.sign.Key}, s.enc, nil)
	want(t, err, "absent.crt")
}

func TestPassphraseComesFromFileOrEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pass")
	for text, line := range map[string]string{"secret\n": "secret", "secret": "secret", " a b \r\nsecond": " a b "} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Passphrase(path, "IGNORED")
		if err != nil || !bytes.Equal(got, []byte(line)) {
			t.Errorf("%q gives %q, %v", text, got, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Passphrase(path, "")
	want(t, err, "chmod 600")
	t.Setenv("YUMEN_TEST_PASSPHRASE", "from the environment")
	got, err := Passphrase("", "YUMEN_TEST_PASSPHRASE")
	if err != nil || string(got) != "from the environment" {
		t.Errorf("got %q, %v", got, err)
	}
	_, err = Passphrase("", "YUMEN_TEST_ABSENT")
	want(t, err, "YUMEN_TEST_ABSENT is not set")
	if got, err := Passphrase("", ""); got != nil || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil || os.Chmod(path, 0o600) != nil {
		t.Fatal(err)
	}
	_, err = Passphrase(path, "")
	want(t, err, "first line is empty")
}
