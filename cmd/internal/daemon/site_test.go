package daemon

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"yumen/cmd/internal/config"
	"yumen/cmd/internal/pki"
	"yumen/policy/trust"
)

// folder is a site on disk: a configuration, a policy and certificates.
type folder struct {
	t    *testing.T
	path string
	ca   *pki.Authority
}

func (f folder) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f folder) write(name, content string) {
	f.t.Helper()
	f.must(os.WriteFile(filepath.Join(f.path, name), []byte(content), 0o600))
}

func (f folder) key(name string) crypto.Signer {
	f.t.Helper()
	key, err := pki.NewKey(rand.Reader)
	f.must(err)
	if name != "" {
		b, err := pki.EncodeKey(rand.Reader, key, nil)
		f.must(err)
		f.write(name, string(b))
	}
	return key
}

// issue writes a certificate of our own, valid from now-1h until end.
func (f folder) issue(name string, kind pki.Kind, end time.Time) {
	f.t.Helper()
	der, err := f.ca.Issue(rand.Reader, pki.Spec{Kind: kind, Subject: "CN=gw-a,C=CN", NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end},
		f.key(name+".key").Public())
	f.must(err)
	f.write(name+".crt", string(pki.EncodePEM("CERTIFICATE", der)))
}

const onePeer = `site: a
peers:
  - name: b
    remote: 192.0.2.2
    ca: ca.crt
    subject: "CN=gw-b,C=CN"
tunnels:
  - {name: net, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0/16}
`

// newFolder is a site that is fit to run.
func newFolder(t *testing.T) folder {
	f := folder{t: t, path: t.TempDir()}
	now := time.Now()
	key := f.key("")
	der, err := pki.Root(rand.Reader, pki.Spec{Kind: pki.CA, Subject: "CN=Root,C=CN", NotBefore: now.Add(-3 * time.Hour), NotAfter: now.Add(24 * time.Hour), PathLen: -1}, key)
	f.must(err)
	cert, err := trust.ParseCertificate(der)
	f.must(err)
	f.ca, err = pki.NewAuthority(cert, key)
	f.must(err)
	f.write("ca.crt", string(pki.EncodePEM("CERTIFICATE", der)))
	f.issue("sign", pki.Signing, now.Add(time.Hour))
	f.issue("enc", pki.Encryption, now.Add(time.Hour))
	f.write("policy.yaml", onePeer)
	f.write("gateway.yaml", "state_dir: state\ncontrol_socket: c.sock\nmetrics_listen: 127.0.0.1:9808\nike_port: 5000\nnat_port: 5001\n")
	return f
}

func (f folder) config() *config.Config {
	f.t.Helper()
	c, err := config.Load(filepath.Join(f.path, "gateway.yaml"), nil)
	f.must(err)
	return c
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// logged is a log that a test reads line by line.
func logged() (*slog.Logger, <-chan string) {
	lines := make(chan string, 1000)
	return slog.New(slog.NewTextHandler(lineWriter(lines), nil)), lines
}

type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	select {
	case w <- string(b):
		return len(b), nil
	default:
		return 0, fmt.Errorf("the test does not read its log")
	}
}
