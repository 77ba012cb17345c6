package bench

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"yumen/cmd/internal/control"
	"yumen/cmd/internal/pki"
	"yumen/policy/trust"
)

const (
	linkMTU   = 1500
	suiteWord = "sm4cbc-hmacsm3"
	readyTime = 30 * time.Second
)

// authority issues certificates that are good for a day and for this run only.
type authority struct {
	*pki.Authority
	pem []byte
}

func newAuthority() (*authority, error) {
	key, err := pki.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := pki.Root(rand.Reader, period(pki.CA, "bench-root"), key)
	if err != nil {
		return nil, err
	}
	cert, err := trust.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a, err := pki.NewAuthority(cert, key)
	return &authority{a, pki.EncodePEM(pki.TypeCertificate, der)}, err
}

func period(kind pki.Kind, name string) pki.Spec {
	now := time.Now()
	s := pki.Spec{Kind: kind, Subject: subject(name), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), PathLen: -1}
	if kind == pki.CA {
		s.NotBefore, s.NotAfter = now.Add(-2*time.Hour), now.Add(48*time.Hour)
	}
	return s
}

func subject(name string) string { return "CN=" + name + ",O=Yumen Bench,C=CN" }

// identity is a gateway's two certificates and their keys.
type identity struct {
	pair      trust.Pair
	sign, enc crypto.Signer // both decrypt, too
}

func (a *authority) identity(name string) (*identity, error) {
	id := &identity{}
	for _, half := range []struct {
		kind pki.Kind
		cert *trust.Certificate
		key  *crypto.Signer
	}{{pki.Signing, &id.pair.Sign, &id.sign}, {pki.Encryption, &id.pair.Enc, &id.enc}} {
		key, err := pki.NewKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := a.Issue(rand.Reader, period(half.kind, name), key.Public())
		if err != nil {
			return nil, err
		}
		if *half.cert, err = trust.ParseCertificate(der); err != nil {
			return nil, err
		}
		*half.key = key
	}
	return id, nil
}

// files are those that `yumen run` reads.
func (id *identity) files(dir string) ([]pki.File, error) {
	var files []pki.File
	for name, half := range map[string]struct {
		cert trust.Certificate
		key  crypto.Signer
	}{"sign": {id.pair.Sign, id.sign}, "enc": {id.pair.Enc, id.enc}} {
		text, err := pki.EncodeKey(rand.Reader, half.key, nil)
		if err != nil {
			return nil, err
		}
		files = append(files, pki.File{Path: filepath.Join(dir, name+".key"), Data: text, Private: true},
			pki.File{Path: filepath.Join(dir, name+".crt"), Data: pki.EncodePEM(pki.TypeCertificate, half.cert.DER)})
	}
	return files, nil
}

// gateway is a `yumen run` in a namespace.
type gateway struct {
	at      *space
	dir     string
	process *process
	client  *control.Client
}

// setup is what a gateway is made of.
type setup struct {
	name, plane, policy string
	mtu                 int // outside
}

// gateway writes all files of a gateway and starts it.
func (s *space) gateway(ca *authority, program string, x setup) (*gateway, error) {
	dir, err := os.MkdirTemp(s.w.dir, x.name+"-")
	if err != nil {
		return nil, err
	}
	id, err := ca.identity(x.name)
	if err != nil {
		return nil, err
	}
	files, err := id.files(dir)
	if err != nil {
		return nil, err
	}
	boot := fmt.Sprintf("policy: policy.yaml\nstate_dir: state\ncontrol_socket: c.sock\ndataplane: %s\nmtu: %d\n"+
		"sign_cert: sign.crt\nsign_key: sign.key\nenc_cert: enc.crt\nenc_key: enc.key\nlog:\n  level: warn\n", x.plane, x.mtu)
	files = append(files, pki.File{Path: filepath.Join(dir, "ca.crt"), Data: ca.pem},
		pki.File{Path: filepath.Join(dir, "policy.yaml"), Data: []byte(x.policy), Private: true},
		pki.File{Path: filepath.Join(dir, "gateway.yaml"), Data: []byte(boot), Private: true})
	if err := pki.WriteFiles(false, files...); err != nil {
		return nil, err
	}
	g := &gateway{at: s, dir: dir, client: control.NewClient(filepath.Join(dir, "c.sock"))}
	g.process, err = s.start(filepath.Join(dir, "log"), program, "run", "--config", filepath.Join(dir, "gateway.yaml"))
	return g, err
}

// wait asks the gateway for its status until enough says so.
func (g *gateway) wait(ctx context.Context, what string, enough func(control.Status) bool) error {
	var last error
	for end := time.Now().Add(readyTime); time.Now().Before(end); {
		st, err := g.client.Status(ctx)
		if err == nil && enough(st) {
			return nil
		}
		if last = err; err == nil {
			last = errors.New(stuck(st))
		}
		if g.process.ended() {
			return fmt.Errorf("%s: the gateway ended: %s", what, g.log())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s: not within %v: %w; its log: %s", what, readyTime, last, g.log())
}

// stuck says what the first tunnel that is not up waits for.
func stuck(st control.Status) string {
	for _, t := range st.Tunnels {
		if t.State != "up" {
			return fmt.Sprintf("tunnel %s is %s %s %s", t.Name, t.State, t.LastFailure, t.LastDetail)
		}
	}
	return "all tunnels are up"
}

// up counts the tunnels that are up.
func up(st control.Status) (n int) {
	for _, t := range st.Tunnels {
		if t.State == "up" {
			n++
		}
	}
	return n
}

// log is the end of what the gateway said.
func (g *gateway) log() string {
	const most = 600
	b, err := os.ReadFile(filepath.Join(g.dir, "log"))
	if err != nil {
		return err.Error()
	}
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return strings.TrimSpace(string(b))
}
