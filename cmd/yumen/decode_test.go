package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
)

const exampleCapture = "../internal/decode/testdata/worked_example.pcap"

// The encryption keys of the worked example, published for anybody to test with.
const (
	exampleKeyI = "bb3d0ce3feaa521807031b86588d8d3ed35c888c266003780140e804491ad6d7"
	exampleKeyR = "2eb464dc25937be59938549f4cc6306cea1c2ecdcc491a4e3b4fc0bd29af1f99"
)

func writeExampleKey(t *testing.T, name, digits string) string {
	t.Helper()
	d, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	key, err := sm2.NewPrivateKey(d)
	if err != nil {
		t.Fatal(err)
	}
	der, err := smx509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func decodeCommand(args ...string) (string, error) {
	c := newDecodeCommand()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(io.Discard)
	c.SetArgs(args)
	err := c.Execute()
	return out.String(), err
}

func TestDecodeOpensTheWorkedExample(t *testing.T) {
	i, r := writeExampleKey(t, "i.key", exampleKeyI), writeExampleKey(t, "r.key", exampleKeyR)
	out, err := decodeCommand(exampleCapture, "--key", i, "--key", r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"for laboratory keys only", "authenticated: HASHi and HASHr verify", "172.16.29.10 -> 172.16.28.10", "0 FAILED, 0 could not be made"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output does not say %q", want)
		}
	}
	for _, secret := range []string{exampleKeyI[:16], exampleKeyR[:16], "af75db413c0babf6", "e6b74813213bfe47", "450be90d637a4c71"} {
		if strings.Contains(out, secret) {
			t.Errorf("the output holds key material %s", secret)
		}
	}
}

func TestDecodeWritesJSON(t *testing.T) {
	out, err := decodeCommand(exampleCapture, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Notice   string
		Messages []struct{ Name string }
		Failed   int
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if report.Notice == "" || len(report.Messages) != 10 || report.Messages[8].Name != "QM3" {
		t.Errorf("%+v", report)
	}
}

func TestDecodeFailsWhenSomethingDoesNotVerify(t *testing.T) {
	b, err := os.ReadFile(exampleCapture)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1 // the ICV of the last packet
	path := filepath.Join(t.TempDir(), "altered.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	i, r := writeExampleKey(t, "i.key", exampleKeyI), writeExampleKey(t, "r.key", exampleKeyR)
	out, err := decodeCommand(path, "--key", i, "--key", r)
	if !errors.Is(err, errNotVerified) {
		t.Errorf("error %v, want %v", err, errNotVerified)
	}
	if !strings.Contains(out, "[FAILED] ICV") {
		t.Error("the packet that does not verify is not named")
	}
}

func TestDecodeRefusesWhatItCannotUse(t *testing.T) {
	text := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(text, []byte("not a capture"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"not a capture file":           {text},
		"no such file":                 {text + ".gone"},
		"expected 96, 128 or 256":      {exampleCapture, "--icv", "64"},
		"expected 1 or more":           {exampleCapture, "--esp", "0"},
		"holds no PEM private key":     {exampleCapture, "--key", text},
		"accepts 1 arg(s), received 0": {},
		"passphrase":                   {exampleCapture, "--passphrase-file", text + ".gone"},
	} {
		if _, err := decodeCommand(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", args, err, want)
		}
	}
}
