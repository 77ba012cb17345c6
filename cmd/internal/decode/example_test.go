package decode

import (
	"crypto/rand"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/ike/wire"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"

	"crypto/x509/pkix"
	"yumen/test/golden"
)

// readExample reads the values of the published worked example.
func readExample(t testing.TB) map[string][]byte {
	t.Helper()
	b, err := os.ReadFile("../../../ike/gm/testdata/worked_example.txt")
	if err != nil {
		t.Fatal(err)
	}
	v := map[string][]byte{}
	name := ""
	for line := range strings.Lines(string(b)) {
		digits := strings.TrimSpace(line)
		switch {
		case digits == "" || line[0] == '#':
			continue
		case line[0] != ' ':
			name, digits, _ = strings.Cut(strings.TrimSpace(line), "=")
			name, digits = strings.TrimSpace(name), strings.TrimSpace(digits)
		}
		part, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v[name] = append(v[name], part...)
	}
	return v
}

// signCert is a certificate for a signing key of which only the public half was
// published; the issuer is made up, so it is kept in testdata.
func signCert(t testing.TB, file, cn string, public []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", file)
	if b, err := os.ReadFile(path); err == nil {
		block, _ := pem.Decode(b)
		return block.Bytes
	}
	pub, err := sm2.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 6}, Value: "AA"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 8}, Value: "BB"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "CC"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "DD"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: cn}}}
	leaf := &smx509.Certificate{SerialNumber: big.NewInt(1), Subject: name, KeyUsage: 1,
		NotBefore: time.Date(2023, 2, 22, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2123, 1, 29, 0, 0, 0, 0, time.UTC)}
	issuer := &smx509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "made up"}}
	der, err := smx509.CreateCertificate(rand.Reader, leaf, issuer, pub, ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return der
}

// exampleFrames is the worked example as a capture would hold it, with one ESP
// packet in each of two forms.
func exampleFrames(t testing.TB) [][]byte {
	v := readExample(t)
	get := func(name string) []byte {
		if v[name] == nil {
			t.Fatalf("the worked example has no value %q", name)
		}
		return v[name]
	}
	h := wire.Header{Initiator: wire.Cookie(get("CKY-I")), Version: wire.Version11, Exchange: wire.MainMode}
	m1 := wire.Message{Header: h, Payloads: []wire.Payload{{Type: wire.TypeSA, Body: get("SAi_b")}}}.Append(nil)
	h.Responder = wire.Cookie(get("CKY-R"))
	signI := append([]byte{4}, signCert(t, "sign_i.pem", "client sign", get("pub_sign_i"))...)
	signR := append([]byte{4}, signCert(t, "sign_r.pem", "server sign", get("pub_sign_r"))...)
	clear := func(ps ...wire.Payload) []byte { return wire.Message{Header: h, Payloads: ps}.Append(nil) }
	p := func(t wire.PayloadType, body []byte) wire.Payload { return wire.Payload{Type: t, Body: body} }
	m2 := clear(p(wire.TypeSA, get("SAi_b")), p(wire.TypeCert, signR), p(wire.TypeCert, get("CERT_enc_r_b")))
	m3 := clear(p(wire.TypeSK, get("SKi body")), p(wire.TypeNonce, get("Ni wire")), p(wire.TypeID, get("IDi wire")),
		p(wire.TypeCert, signI), p(wire.TypeCert, get("CERT_enc_i_b")), p(wire.TypeSig, get("SIG_i")))
	m4 := clear(p(wire.TypeSK, get("SKr body")), p(wire.TypeNonce, get("Nr wire")), p(wire.TypeID, get("IDr wire")), p(wire.TypeSig, get("SIG_r")))
	h.Flags = wire.FlagEncrypted
	m5, m6 := h.Append(nil, wire.TypeHash, get("M5 wire")), h.Append(nil, wire.TypeHash, get("M6 wire"))
	h.Exchange, h.MessageID = wire.QuickMode, 0xcc2d2221
	q1, q2, q3 := h.Append(nil, wire.TypeHash, get("QM1 wire")), h.Append(nil, wire.TypeHash, get("QM2 wire")), h.Append(nil, wire.TypeHash, get("QM3 wire"))

	a, b := netip.AddrPortFrom(gwA, 500), netip.AddrPortFrom(gwB, 500)
	var out [][]byte
	for i, msg := range [][]byte{m1, m2, m3, m4, m5, m6, q1, q2, q3} {
		if i%2 == 0 {
			out = append(out, udpFrame(a, b, msg))
		} else {
			out = append(out, udpFrame(b, a, msg))
		}
	}
	esp, err := hex.DecodeString(exampleESP)
	if err != nil {
		t.Fatal(err)
	}
	return append(out, ipFrame(gwA, gwB, protoESP, esp))
}

// exampleESP is a packet towards the responder, sequence number 1, ICV 96 bits.
const exampleESP = "c713ad0600000001a0a1a2a3a4a5a6a7a8a9aaabacadaeaf092e3d9b314a2c3dd58b87103c613c534825d355018c8e30" +
	"abfcfb1beb5a63b2" + "ec5893b31aadbba14c4a3740"

func exampleKeys(t testing.TB, names ...string) (keys []Key) {
	v := readExample(t)
	for _, n := range names {
		k, err := sm2.NewPrivateKey(v[n])
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, Key{n, k})
	}
	return keys
}

func TestWorkedExampleVerifiesWithBothKeys(t *testing.T) {
	r := decodeBytes(t, record(t, exampleFrames(t)...), Options{Keys: exampleKeys(t, "d_enc_i", "d_enc_r")})
	wantClean(t, r)
	for _, c := range [][2]string{{"M3", "SIGi"}, {"M4", "SIGr"}, {"M5", "HASHi"}, {"M6", "HASHr"}, {"QM1", "HASH_1"},
		{"QM2", "HASH_2"}, {"QM3", "HASH_3"}, {"ESP", "ICV"}} {
		wantVerdict(t, r, c[0], c[1], Verified)
	}
	golden.Check(t, "testdata/worked_example.txt", []byte(text(t, r)))
	golden.Check(t, "testdata/worked_example.pcap", []byte(string(record(t, exampleFrames(t)...))))
}

func TestWithoutKeysEverythingInTheClearIsShown(t *testing.T) {
	r := decodeBytes(t, record(t, exampleFrames(t)...), Options{})
	if r.Failed != 0 || r.Unverified == 0 {
		t.Errorf("%d failed, %d unverified", r.Failed, r.Unverified)
	}
	golden.Check(t, "testdata/worked_example_no_keys.txt", []byte(text(t, r)))
}

func TestOneKeyOpensTheEnvelopesSealedForIt(t *testing.T) {
	for key, open := range map[string][2]Verdict{"d_enc_r": {Verified, Unverified}, "d_enc_i": {Unverified, Verified}} {
		r := decodeBytes(t, record(t, exampleFrames(t)...), Options{Keys: exampleKeys(t, key)})
		if r.Failed != 0 {
			t.Errorf("%s: %d failed:\n%s", key, r.Failed, text(t, r))
		}
		wantVerdict(t, r, "M3", "envelope", open[0])
		wantVerdict(t, r, "M4", "envelope", open[1])
		wantVerdict(t, r, "M5", "HASHi", Unverified)
		wantVerdict(t, r, "QM1", "HASH_1", Unverified)
	}
}

func TestReportHoldsNoKeyMaterial(t *testing.T) {
	v := readExample(t)
	r := decodeBytes(t, record(t, exampleFrames(t)...), Options{Keys: exampleKeys(t, "d_enc_i", "d_enc_r")})
	all := text(t, r)
	for _, name := range []string{"Ski", "Skr", "Ni plain", "Nr plain", "SKEYID", "SKEYID_d", "SKEYID_a", "SKEYID_e",
		"d_enc_i", "d_enc_r", "KEYMAT init", "KEYMAT resp", "HASH(Ni|Nr)"} {
		b := v[name]
		if len(b) < 16 {
			t.Errorf("no value %q to look for", name)
			continue
		}
		if strings.Contains(all, hex.EncodeToString(b[:12])) {
			t.Errorf("%s is in the report", name)
		}
	}
}
