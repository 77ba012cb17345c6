package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestProbeAndConformSayWhatTheyWereNotGiven(t *testing.T) {
	dir := newSite(t)
	for want, args := range map[string][]string{
		"or --listen":             {"probe"},
		"is no address of a host": {"probe", "here"},
		"needs --peer":            {"probe", "--listen"},
		"no peer is called":       {"probe", "192.0.2.9", "--peer", "nobody"},
		"--peer NAME is needed":   {"conform", "--listen"},
		"is no profile":           {"conform", "--listen", "--peer", "b", "--profile", "auto"},
		"is not name=value":       {"conform", "--listen", "--peer", "b", "--knob", "sk_encoding"},
		"no knob is called":       {"conform", "--listen", "--peer", "b", "--knob", "colour=red"},
		"needs --knob id=":        {"conform", "--listen", "--peer", "b", "--knob", "id_type=fqdn"},
	} {
		status, _, stderr := yumen(append(args, "--config", dir+"/gateway.yaml", "--socket", dir+"/none.sock")...)
		if status != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit status %d: %s", args, status, stderr)
		}
	}
}

// A state folder with anything in it, and the standard one, are a gateway's.
func TestConformRefusesTheStateOfAGateway(t *testing.T) {
	dir := newSite(t)
	state := filepath.Join(dir, "lived-in")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "last-time"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{state, "/var/lib/yumen"} {
		status, _, stderr := yumen("conform", "--listen", "--peer", "b", "--config", dir+"/gateway.yaml", "--socket", dir+"/none.sock", "--state-dir", at)
		if status != exitFailed || !strings.Contains(stderr, "of its own") {
			t.Errorf("%s: exit status %d: %s", at, status, stderr)
		}
	}
}

// A user ID is often all digits, and a name has commas: both are taken as they stand.
func TestKnobsAndUserIDsAreTakenAsTheyStand(t *testing.T) {
	f := conformFlags{profile: "gbt36968-2018", knobs: []string{"sm2_id=1234567812345678", "id_type=key-id", "id=CN=gw,O=Example", "peer_id=true"}}
	if d, err := f.dialect(); err != nil || d.SM2ID != "1234567812345678" || d.ID != "CN=gw,O=Example" || d.PeerID != "true" {
		t.Errorf("%v: %v", d, err)
	}
	at := &place{}
	for c, args := range map[*cobra.Command][]string{newProbeCommand(at): {"--user-id", "CN=gw,O=Example"}, newConformCommand(at): {"--knob", "id=CN=gw,O=Example"}} {
		if err := c.ParseFlags(args); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Flags().GetStringArray(args[0][2:]); err != nil || len(got) != 1 || got[0] != args[1] {
			t.Errorf("%s: %q, %v", args[0], got, err)
		}
	}
}
