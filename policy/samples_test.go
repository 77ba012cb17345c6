package policy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yumen/policy"
)

// samples is every directory of configs that holds the policies of sites that
// belong together.
func samples(t *testing.T) map[string][]*policy.Policy {
	t.Helper()
	out := make(map[string][]*policy.Policy)
	for _, dir := range []string{"two-sites", "hub-and-spokes", "full-tunnel", "two-paths"} {
		root := filepath.Join("..", "configs", dir)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") {
				return err
			}
			p, err := policy.Load(path)
			if err != nil {
				t.Errorf("%s does not load:\n%v", path, err)
				return nil
			}
			out[dir] = append(out[dir], p)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(out[dir]) < 2 {
			t.Errorf("%s holds %d policies, want two or more sites", dir, len(out[dir]))
		}
	}
	return out
}

func TestEverySamplePolicyLoadsAndCompiles(t *testing.T) {
	for dir, sites := range samples(t) {
		for _, p := range sites {
			if _, err := policy.Compile(p); err != nil {
				t.Errorf("%s/%s: %v", dir, p.Site, err)
			}
			if _, err := p.BypassRules(); err != nil {
				t.Errorf("%s/%s: %v", dir, p.Site, err)
			}
		}
	}
}

// Both machines of a site with keepalived have one policy, which stands by without
// the address that keepalived.conf moves.
func TestSampleForKeepalivedNamesTheSharedAddress(t *testing.T) {
	dir := filepath.Join("..", "configs", "keepalived")
	p, err := policy.Load(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Compile(p); err != nil {
		t.Error(err)
	}
	vrrp, err := os.ReadFile(filepath.Join(dir, "keepalived.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if shared := p.Peers[0].Local.Addr; !strings.Contains(string(vrrp), "\n        "+shared.String()+"/32 dev") {
		t.Errorf("keepalived.conf does not move %v", shared)
	}
}

func TestEverySampleTunnelHasItsMirror(t *testing.T) {
	for dir, sites := range samples(t) {
		for _, a := range sites {
			for _, tunnel := range a.Tunnels {
				if !mirrored(tunnel, a, sites) {
					t.Errorf("%s/%s: no other site has tunnel %s as %s", dir, a.Site, tunnel.Name, tunnel.Selector.Reverse())
				}
			}
		}
	}
}

func mirrored(tunnel policy.Tunnel, own *policy.Policy, sites []*policy.Policy) bool {
	for _, b := range sites {
		for _, other := range b.Tunnels {
			if b != own && other.Selector == tunnel.Selector.Reverse() && other.Suites[0] == tunnel.Suites[0] {
				return true
			}
		}
	}
	return false
}

func TestASampleThatSpellsOutDefaultsSaysTheTruth(t *testing.T) {
	b, err := os.ReadFile("../configs/two-sites/site-a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse("site-a.yaml", b)
	if err != nil {
		t.Fatal(err)
	}
	spelled, short := p.Tunnels[0], p.Tunnels[1]
	short.Name, short.Selector = spelled.Name, spelled.Selector
	if len(short.Suites) != 1 || short.Suites[0] != spelled.Suites[0] {
		t.Errorf("default suites %v, written %v", short.Suites, spelled.Suites)
	}
	short.Suites, spelled.Suites = nil, nil
	if a, b := show(spelled), show(short); a != b {
		t.Errorf("written:\n%s\ndefault:\n%s", a, b)
	}
}

// The sample of vendors writes out every knob with its recommended value.
func TestSampleOfVendorsNamesEveryKnob(t *testing.T) {
	path := filepath.Join("..", "configs", "vendors", "policy.yaml")
	p, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	byHand, _ := p.Peer("by-hand")
	if byHand.Dialect != (policy.Dialect{}) {
		t.Errorf("what is written out differs from the recommended choice: %v", byHand.Dialect)
	}
	for _, name := range policy.KnobNames() {
		if !strings.Contains(string(text), name+": ") {
			t.Errorf("%s is not there", name)
		}
	}
	if _, err := policy.Compile(p); err != nil {
		t.Error(err)
	}
}
