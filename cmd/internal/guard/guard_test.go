package guard

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"yumen/cmd/internal/atomicfile"
	"yumen/cmd/internal/config"
	"yumen/policy"
)

const text = `site: a
peers: [{name: b, remote: 198.51.100.7, ca: ca.crt, subject: CN=b}]
tunnels:
  - {name: office4, peer: b, local: 10.1.0.0/16, remote: 10.2.0.0-10.2.3.9}
  - {name: office6, peer: b, local: "fd01::/64", remote: "fd02::/64", protocol: tcp, remote_port: 443}
rules:
  - {name: printer, action: bypass, local: 10.1.0.0/16, remote: 10.2.0.9}
  - {name: never, action: drop, local: 10.1.0.0/16, remote: 10.2.0.10}
management: [203.0.113.0/24, {from: 0.0.0.0/0, port: 22}]
`

func compiled(t *testing.T) (*Compiled, *config.Config) {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Tun: "yumen7", Mark: 7, Table: 700, RulePriority: 7000, ControlSocket: "/run/x.sock", StateDir: t.TempDir()}
	g, err := Compile(c, p)
	if err != nil {
		t.Fatal(err)
	}
	return g, c
}

func TestACompiledGuardComesBackWhole(t *testing.T) {
	g, c := compiled(t)
	if err := g.Save(c.StateDir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.StateDir, FileName)
	got, err := Load(path)
	if err != nil || !reflect.DeepEqual(got, g) {
		t.Fatalf("%+v, %v\nwant %+v", got, err, g)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if len(g.Rules) != 6 || len(g.Routes) == 0 {
		t.Errorf("%d rules, %d routes", len(g.Rules), len(g.Routes))
	}
	if err := errors.Join(Forget(path), Forget(path)); err != nil {
		t.Error(err)
	}
	if _, err := Load(path); !errors.Is(err, ErrAbsent) {
		t.Errorf("a file that is gone: %v", err)
	}
}

func TestEveryPrefixAndEveryBitFlipIsRefused(t *testing.T) {
	g, _ := compiled(t)
	b, err := g.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := Decode(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
		}
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := Decode(b); !errors.Is(err, ErrDamaged) {
				t.Fatalf("bit %d of byte %d (%q): %v", bit, i, b[max(0, i-9):i+1], err)
			}
			b[i] ^= 1 << bit
		}
	}
	if _, err := Decode(append(b, '\n')); !errors.Is(err, ErrDamaged) {
		t.Errorf("a longer file: %v", err)
	}
	if _, err := Decode(b); err != nil {
		t.Errorf("the file itself: %v", err)
	}
	odd := []byte(`{"site":"a","surprise":1}`)
	if _, err := Decode(atomicfile.Seal(kind, version, odd)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a key that nobody knows: %v", err)
	}
}

func TestAFileThatOthersMayWriteIsRefused(t *testing.T) {
	g, c := compiled(t)
	if err := g.Save(c.StateDir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.StateDir, FileName)
	link := filepath.Join(c.StateDir, "link")
	if err := errors.Join(os.Chmod(path, 0o620), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("writable by the group: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(link); err == nil {
		t.Error("a link was followed")
	}
	if _, err := Load(c.StateDir); err == nil {
		t.Error("a folder was read")
	}
}
