package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/cmd/internal/keys"
	"yumen/cmd/internal/pki"
	"yumen/policy"
	"yumen/policy/trust"
)

// pkiRun executes `yumen pki args` and returns its output.
func pkiRun(args ...string) (string, error) {
	var out bytes.Buffer
	c := newPKICommand()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	c.SilenceUsage = true
	err := c.Execute()
	return out.String(), err
}

func pkiMust(t *testing.T, args ...string) string {
	t.Helper()
	out, err := pkiRun(args...)
	if err != nil {
		t.Fatalf("pki %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// pkiSite makes a root, an intermediate and a pair below the intermediate.
func pkiSite(t *testing.T) string {
	t.Helper()
	d := t.TempDir()
	pkiMust(t, "root", "--subject", "CN=root,O=Example,C=CN", "--out", d)
	pkiMust(t, "intermediate", "--subject", "CN=sub,O=Example,C=CN", "--ca", d+"/ca.crt", "--ca-key", d+"/ca.key", "--out", d)
	pkiMust(t, "pair", "--subject", "CN=gw-a,O=Example,C=CN", "--san", "dns:gw-a.example.cn,ip:192.0.2.1,ip:2001:db8::1",
		"--ca", d+"/intermediate.crt", "--ca-key", d+"/intermediate.key", "--out", d+"/a")
	return d
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pairAt(d string) (sign, enc keys.CertKeyPaths) {
	return keys.CertKeyPaths{Cert: d + "/sign.crt", Key: d + "/sign.key"}, keys.CertKeyPaths{Cert: d + "/enc.crt", Key: d + "/enc.key"}
}

func TestPairFromTheCommandLineIsTrustedAndThenRevoked(t *testing.T) {
	d := pkiSite(t)
	sign, enc := pairAt(d + "/a")
	pair, _, err := keys.LoadPair(sign, enc, nil)
	if err != nil {
		t.Fatal(err)
	}
	peer := policy.Peer{Name: "a", ClockSkew: time.Minute, Identity: policy.Identity{Subject: "CN=gw-a,O=Example,C=CN"}}
	bundle := append(readFile(t, d+"/ca.crt"), readFile(t, d+"/intermediate.crt")...)
	verify := func() error {
		v, err := trust.NewVerifier(peer, bundle, append(readFile(t, d+"/ca.crl"), readFile(t, d+"/sub.crl")...))
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(time.Now(), pair.Sign.DER, pair.Enc.DER, nil)
		return err
	}
	sub := []string{"crl", "--ca", d + "/intermediate.crt", "--ca-key", d + "/intermediate.key", "--out", d + "/sub.crl"}
	pkiMust(t, "crl", "--ca", d+"/ca.crt", "--ca-key", d+"/ca.key", "--out", d+"/ca.crl")
	pkiMust(t, sub...)
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	pkiMust(t, append(sub, "--revoke", d+"/a/enc.crt", "--reason", "key-compromise")...)
	pkiMust(t, append(sub, "--revoke", d+"/a/sign.crt")...)
	pkiMust(t, sub...)
	if err := verify(); err == nil || !strings.HasPrefix(err.Error(), string(trust.Revoked)) {
		t.Fatalf("got %v", err)
	}
	var list []pki.Info
	if err := json.Unmarshal([]byte(pkiMust(t, "show", "--json", d+"/sub.crl")), &list); err != nil {
		t.Fatal(err)
	}
	if list[0].Number != "4" || len(list[0].Revoked) != 2 || list[0].Revoked[0].Serial != pair.Enc.Serial || list[0].Revoked[0].Reason != 1 {
		t.Fatalf("the list lost something: %+v", list[0])
	}
}

func TestRequestIsSignedByAnotherCA(t *testing.T) {
	d := pkiSite(t)
	pkiMust(t, "request", "--sign-subject", "CN=b sign", "--enc-subject", "CN=b enc", "--san", "dns:b.example.cn", "--out", d+"/b")
	for _, use := range []string{"sign", "enc"} {
		pkiMust(t, "sign", "--ca", d+"/ca.crt", "--ca-key", d+"/ca.key", "--usage", use, "--out", d+"/b/"+use+".crt", d+"/b/"+use+".csr")
	}
	sign, enc := pairAt(d + "/b")
	pair, _, err := keys.LoadPair(sign, enc, nil)
	if err != nil || pair.Sign.Name != "CN=b sign" || pair.Enc.Name != "CN=b enc" {
		t.Fatalf("%v %q %q", err, pair.Sign.Name, pair.Enc.Name)
	}
	if out := pkiMust(t, "show", d+"/b/sign.crt", d+"/b/sign.csr"); strings.Count(out, "dns:b.example.cn") != 2 {
		t.Fatal(out)
	}
	bad := readFile(t, d+"/b/sign.csr")
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(d+"/bad.csr", bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pkiRun("sign", "--ca", d+"/ca.crt", "--ca-key", d+"/ca.key", "--usage", "sign", "--out", d+"/bad.crt", d+"/bad.csr"); err == nil {
		t.Fatal("a damaged request was signed")
	}
}

func TestNothingIsOverwrittenWithoutForce(t *testing.T) {
	d := pkiSite(t)
	before := readFile(t, d+"/ca.key")
	if _, err := pkiRun("root", "--subject", "CN=other", "--out", d); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Fatalf("got %v", err)
	}
	if !bytes.Equal(before, readFile(t, d+"/ca.key")) {
		t.Fatal("the key was replaced")
	}
	pkiMust(t, "root", "--subject", "CN=other", "--out", d, "--force")
	if bytes.Equal(before, readFile(t, d+"/ca.key")) {
		t.Fatal("--force replaced nothing")
	}
}

func TestOnlyTheOwnerReadsKeys(t *testing.T) {
	d := pkiSite(t)
	files, err := filepath.Glob(d + "/*")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(d + "/a/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, more...) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		want := os.FileMode(0o644)
		if strings.HasSuffix(f, ".key") {
			want = 0o600
		}
		if !info.IsDir() && info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", f, info.Mode().Perm())
		}
		if strings.HasPrefix(filepath.Base(f), ".") {
			t.Errorf("%s was left behind", f)
		}
	}
}

func TestPassphraseProtectsNewKeys(t *testing.T) {
	d := t.TempDir()
	if err := os.WriteFile(d+"/pass", []byte("correct horse\nsecond line"), 0o600); err != nil {
		t.Fatal(err)
	}
	pkiMust(t, "root", "--subject", "CN=root", "--out", d, "--passphrase-file", d+"/pass")
	pair := []string{"pair", "--subject", "CN=a", "--ca", d + "/ca.crt", "--ca-key", d + "/ca.key", "--out", d + "/a", "--passphrase-file", d + "/pass"}
	if _, err := pkiRun(pair...); err == nil || !strings.Contains(err.Error(), "encrypted") {
		t.Fatalf("got %v", err)
	}
	pkiMust(t, append(pair, "--ca-passphrase-file", d+"/pass")...)
	sign, enc := pairAt(d + "/a")
	if _, _, err := keys.LoadPair(sign, enc, []byte("correct horse")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := keys.LoadPair(sign, enc, []byte("wrong")); err == nil || !strings.Contains(err.Error(), "wrong passphrase") {
		t.Fatalf("got %v", err)
	}
	if out := pkiMust(t, "show", d+"/a/sign.key"); !strings.Contains(out, "by passphrase") {
		t.Fatal(out)
	}
}

func TestFaultsOfTheCommandLineAreTold(t *testing.T) {
	d := pkiSite(t)
	ca := []string{"--ca", d + "/ca.crt", "--ca-key", d + "/ca.key"}
	leaf := []string{"--ca", d + "/a/sign.crt", "--ca-key", d + "/a/sign.key"}
	for text, args := range map[string][]string{
		"--out DIR":                       {"root", "--subject", "CN=x"},
		"is not known":                    {"root", "--subject", "XX=x", "--out", d + "/x"},
		"want at least 1":                 {"root", "--subject", "CN=x", "--out", d + "/x", "--days", "0"},
		"before the year 10000":           {"root", "--subject", "CN=x", "--out", d + "/x", "--days", "99999999"},
		"ends":                            {"root", "--subject", "CN=x", "--out", d + "/x", "--not-after", "2001-01-01T00:00:00Z"},
		"--not-before":                    {"root", "--subject", "CN=x", "--out", d + "/x", "--not-before", "yesterday"},
		"not within the CA's":             append([]string{"pair", "--subject", "CN=x", "--out", d + "/x", "--days", "9999"}, ca...),
		"want --subject":                  append([]string{"pair", "--sign-subject", "CN=x", "--out", d + "/x"}, ca...),
		"want dns:":                       append([]string{"pair", "--subject", "CN=x", "--out", d + "/x", "--san", "host:x"}, ca...),
		"may not issue":                   append([]string{"pair", "--subject", "CN=x", "--out", d + "/x"}, leaf...),
		"does not belong":                 {"pair", "--subject", "CN=x", "--out", d + "/x", "--ca", d + "/ca.crt", "--ca-key", d + "/a/enc.key"},
		"want sign or enc":                append([]string{"sign", "--usage", "both", "--out", d + "/x.crt", d + "/ca.crt"}, ca...),
		"is not issued by":                append([]string{"crl", "--out", d + "/x.crl", "--revoke", d + "/a/sign.crt"}, ca...),
		"want key-compromise":             append([]string{"crl", "--out", d + "/x.crl", "--reason", "bored"}, ca...),
		`required flag(s) "ca", "ca-key"`: {"crl", "--out", d + "/x.crl"},
		"no such file":                    {"show", d + "/nothing"},
	} {
		if out, err := pkiRun(args...); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: got %v, want %q\n%s", args, err, text, out)
		}
	}
	if _, err := os.Stat(d + "/x"); err == nil {
		t.Error("a refused command left files")
	}
	pkiMust(t, append([]string{"crl", "--out", d + "/ca.crl"}, ca...)...)
	if _, err := pkiRun("crl", "--out", d+"/ca.crl", "--ca", d+"/intermediate.crt", "--ca-key", d+"/intermediate.key"); err == nil ||
		!strings.Contains(err.Error(), "is issued by") {
		t.Errorf("another CA's list was continued: %v", err)
	}
}

func TestShowTellsWhatAFileHoldsButNoSecret(t *testing.T) {
	d := pkiSite(t)
	out := pkiMust(t, "show", d+"/a/sign.crt", d+"/a/enc.crt", d+"/ca.crt", d+"/a/enc.key")
	for _, want := range []string{
		"CN=gw-a,O=Example,C=CN", "CN=sub,O=Example,C=CN", "digitalSignature, contentCommitment (nonRepudiation)",
		"keyEncipherment, dataEncipherment, keyAgreement", "keyCertSign, cRLSign", "path length unlimited",
		"dns:gw-a.example.cn, ip:192.0.2.1, ip:2001:db8::1", "curve SM2 (1.2.156.10197.1.301)",
		"SM2 with SM3 (1.2.156.10197.1.501)", "364 days left", "sm3 fingerprint", "private key",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	var all []map[string]any
	if err := json.Unmarshal([]byte(pkiMust(t, "show", "--json", d+"/a/enc.key", d+"/a/enc.crt")), &all); err != nil {
		t.Fatal(err)
	}
	if all[0]["sm3_public_key"] != all[1]["sm3_public_key"] || all[1]["sm3_fingerprint"] == nil {
		t.Fatalf("%v", all)
	}
	if len(all[0]) != 4 {
		t.Errorf("a private key shows %v", all[0])
	}
}

// OpenSSL 3 judges what we write. It needs the SM2 user ID to be named.
func TestOpenSSLAcceptsWhatWeWrite(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	d := pkiSite(t)
	pkiMust(t, "crl", "--ca", d+"/ca.crt", "--ca-key", d+"/ca.key", "--out", d+"/ca.crl", "--revoke", d+"/intermediate.crt")
	pkiMust(t, "request", "--subject", "CN=c", "--out", d+"/c")
	const id = "distid:1234567812345678"
	for _, c := range []struct {
		want string
		args []string
	}{
		// Link by link, because OpenSSL hands the user ID to the certificate
		// in question only, not to the untrusted ones.
		{"intermediate.crt: OK", []string{"verify", "-x509_strict", "-vfyopt", id, "-CAfile", d + "/ca.crt", d + "/intermediate.crt"}},
		{"enc.crt: OK", []string{"verify", "-x509_strict", "-partial_chain", "-vfyopt", id, "-CAfile", d + "/intermediate.crt", d + "/a/sign.crt", d + "/a/enc.crt"}},
		{"Digital Signature, Non Repudiation", []string{"x509", "-in", d + "/a/sign.crt", "-noout", "-text"}},
		{"Key Encipherment, Data Encipherment, Key Agreement", []string{"x509", "-in", d + "/a/enc.crt", "-noout", "-text"}},
		{"CA:TRUE, pathlen:0", []string{"x509", "-in", d + "/intermediate.crt", "-noout", "-text"}},
		{"Serial Number:", []string{"crl", "-in", d + "/ca.crl", "-noout", "-text"}},
		{"verify OK", []string{"req", "-in", d + "/c/enc.csr", "-noout", "-verify", "-vfyopt", id}},
		{"Key is valid", []string{"pkey", "-in", d + "/a/sign.key", "-noout", "-check"}},
	} {
		out, err := exec.Command(openssl, c.args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("openssl %s: %v\n%s", strings.Join(c.args, " "), err, out)
		}
	}
	out, _ := exec.Command(openssl, "verify", "-partial_chain", "-vfyopt", id, "-CAfile", d+"/ca.crt", d+"/a/enc.crt").CombinedOutput()
	if strings.Contains(string(out), ": OK") {
		t.Errorf("openssl accepts a chain without its CA:\n%s", out)
	}
}

// Keys and certificates of OpenSSL, in its own spellings, are read.
func TestKeysOfOpenSSLAreRead(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	d := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	run("ecparam", "-genkey", "-name", "SM2", "-out", d+"/sec1.key")
	run("pkcs8", "-topk8", "-nocrypt", "-in", d+"/sec1.key", "-out", d+"/plain.key")
	run("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:secret", "-in", d+"/sec1.key", "-out", d+"/enc.key")
	run("req", "-new", "-x509", "-key", d+"/sec1.key", "-sm3", "-sigopt", "distid:1234567812345678", "-subj", "/C=CN/O=Example/CN=root",
		"-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", d+"/ca.crt")
	for _, name := range []string{"sec1", "plain", "enc"} {
		if err := os.Chmod(d+"/"+name+".key", 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := keys.LoadKey(d+"/"+name+".key", []byte("secret"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		cert, err := keys.LoadCertificate(d + "/ca.crt")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pki.NewAuthority(cert, key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	pkiMust(t, "pair", "--subject", "CN=a", "--days", "20", "--ca", d+"/ca.crt", "--ca-key", d+"/sec1.key", "--out", d+"/a")
	run("verify", "-vfyopt", "distid:1234567812345678", "-CAfile", d+"/ca.crt", d+"/a/sign.crt", d+"/a/enc.crt")
}
