package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPeerSheetIsWrittenWithoutAGatewayAndWithoutSecrets(t *testing.T) {
	dir := newSite(t)
	out := filepath.Join(dir, "sheet.md")
	pol, err := os.ReadFile(dir + "/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/policy.yaml", strings.Replace(string(pol), "ca: ca/ca.crt", "ca: ca/ca.crt, send_chain: ca/ca.crt", 1))
	status, _, stderr := yumen("peer-sheet", "net", "--config", dir+"/gateway.yaml", "--lang", "en",
		"--for", "h3c,huawei,hillstone", "--address", "192.0.2.1", "--out", out)
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{"CN=gw-a,C=CN", "CN=gw-b,C=CN", "C PrintableString, CN UTF8String", "intermediate that we send", "ike gm-main sm4-version standard", "authentication-method digital-envelope",
		"protocol-standard guomi v1.1", " remote-address 192.0.2.1", "| 192.0.2.2 "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the sheet:\n%s", want, text)
		}
	}
	for _, name := range []string{"sign.key", "enc.key"} {
		key, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if line := strings.Split(string(key), "\n")[1]; strings.Contains(text, line[20:40]) {
			t.Errorf("%s is in the sheet", name)
		}
	}
	if status, _, stderr := yumen("peer-sheet", "net", "--config", dir+"/gateway.yaml", "--out", out); status != exitFailed || !strings.Contains(stderr, "--force") {
		t.Errorf("a second sheet: exit status %d: %s", status, stderr)
	}
}

func TestPeerSheetNamesWhatItWasNotGiven(t *testing.T) {
	dir := newSite(t)
	for want, args := range map[string][]string{
		"there are net":  {"peer-sheet", "none"},
		"--lang":         {"peer-sheet", "net", "--lang", "fr"},
		"--for":          {"peer-sheet", "net", "--for", "cisco"},
		"is no address":  {"peer-sheet", "net", "--address", "here"},
		"no IPsec polic": {"import", "h3c", dir + "/policy.yaml"},
		"is no vendor":   {"import", "cisco", dir + "/policy.yaml"},
		"no such file":   {"import", "h3c", dir + "/none"},
	} {
		status, _, stderr := yumen(append(args, "--config", dir+"/gateway.yaml")...)
		if status != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit status %d: %s", args, status, stderr)
		}
	}
	if err := os.Rename(dir+"/sign.key", dir+"/sign.crt"); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := yumen("peer-sheet", "net", "--config", dir+"/gateway.yaml"); status != exitFailed || !strings.Contains(stderr, "private key") {
		t.Errorf("a key in place of a certificate: exit status %d: %s", status, stderr)
	}
}

// The draft is not fit to run until people have written what no dump can tell.
func TestImportedDraftIsRefusedByCheckUntilItIsFilledIn(t *testing.T) {
	dir := newSite(t)
	status, stdout, stderr := yumen("import", "h3c", "../internal/foreign/testdata/h3c.cfg", "--out", dir+"/draft")
	if status != 0 || !strings.Contains(stdout, "1 peers, 2 tunnels") || !strings.Contains(stdout, "CHANGE line 21") {
		t.Fatalf("exit status %d: %s%s", status, stdout, stderr)
	}
	draft := dir + "/draft/policy.yaml"
	status, _, stderr = yumen("check", "--config", dir+"/gateway.yaml", "--policy", draft)
	if status != exitFailed || !strings.Contains(stderr, `"FILL-IN-ca.crt" is a placeholder`) {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	b, err := os.ReadFile(draft)
	if err != nil {
		t.Fatal(err)
	}
	write(t, draft, strings.Replace(string(b), "FILL-IN-ca.crt", dir+"/ca/ca.crt", 1))
	if status, _, stderr := yumen("check", "--config", dir+"/gateway.yaml", "--policy", draft); status != 0 {
		t.Errorf("filled in: exit status %d: %s", status, stderr)
	}
}
