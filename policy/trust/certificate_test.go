package trust

import (
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"yumen/policy"
)

// example reads a certificate of the worked example, without its encoding byte.
func example(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	der, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCertificatesOfTheWorkedExampleParse(t *testing.T) {
	for file, want := range map[string]struct{ name, serial, key string }{
		"cert_enc_i.hex": {"CN=client enc,OU=DD,O=CC,ST=BB,C=AA", "5b2ebfa257b547c1b04ebce83ad65e6c595addaa", "2920dde9"},
		"cert_enc_r.hex": {"CN=server enc,OU=DD,O=CC,ST=BB,C=AA", "68d892e963aca045620e799d6fc31d937433e57c", "7dbea545"},
	} {
		c, err := ParseCertificate(example(t, file))
		if err != nil {
			t.Fatal(err)
		}
		if c.Name != want.name || c.Serial != want.serial || !strings.HasPrefix(c.Key.X.Text(16), want.key) {
			t.Errorf("%s: %s %s %s", file, c.Name, c.Serial, c.Key.X.Text(16))
		}
		if c.x.usage != keyEncipherment|dataEncipherment|keyAgreement || c.x.ca {
			t.Errorf("%s: usage %b, ca %v", file, c.x.usage, c.x.ca)
		}
		if r := c.checkTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 0); r != nil {
			t.Error(r)
		}
	}
}

// The names of the example's pair differ, so only two subjects (or two
// fingerprints) describe it.
func TestPairOfTheWorkedExampleNeedsTwoSubjects(t *testing.T) {
	enc, err := ParseCertificate(example(t, "cert_enc_i.hex"))
	if err != nil {
		t.Fatal(err)
	}
	sign := enc
	body := *enc.x
	sign.x = &body
	sign.Subject = rawName(t, "CN=client sign,OU=DD,O=CC,ST=BB,C=AA")
	if body.subject, err = parseRDNs(sign.Subject); err != nil {
		t.Fatal(err)
	}
	if p := (&Pair{sign, enc}); p.OneSubject() {
		t.Error("two names are one")
	}
	one, err := newIdentity(policy.Identity{Subject: "CN=client sign,OU=DD,O=CC,ST=BB,C=AA"})
	if err != nil {
		t.Fatal(err)
	}
	if r := one.check(&Pair{sign, enc}); r == nil || r.Reason != PairMismatch {
		t.Fatalf("got %v", r)
	}
	two, err := newIdentity(policy.Identity{SignSubject: "CN=client sign,OU=DD,O=CC,ST=BB,C=AA", EncSubject: "CN=client enc,OU=DD,O=CC,ST=BB,C=AA"})
	if err != nil {
		t.Fatal(err)
	}
	if r := two.check(&Pair{sign, enc}); r != nil {
		t.Fatal(r)
	}
}

func TestPEMHoldsExactlyOneCertificate(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	c, err := ParseCertificatePEM(root.pem())
	if err != nil || c.Name != "CN=root" {
		t.Fatal(c.Name, err)
	}
	if _, err = ParseCertificatePEM(root.cert.Raw); err != nil {
		t.Fatal(err)
	}
	_, err = ParseCertificatePEM(append(root.pem(), root.pem()...))
	wantReason(t, err, Malformed)
	_, err = ParseCertificatePEM(nil)
	wantReason(t, err, Malformed)
}

func TestOwnPairIsCheckedBeforeAPeerDoes(t *testing.T) {
	root, other := newCA(t, "CN=root", nil), newCA(t, "CN=other", nil)
	read := func(der []byte) Certificate {
		c, err := ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s, e := root.pair(gateway)
	_, f := other.pair(gateway)
	sign, enc, foreign := read(s), read(e), read(f)
	wantReason(t, CheckOwnPair(Pair{sign, enc}, noon), "")
	wantReason(t, CheckOwnPair(Pair{enc, sign}, noon), KeyUsage)
	wantReason(t, CheckOwnPair(Pair{sign, foreign}, noon), PairMismatch)
	wantReason(t, CheckOwnPair(Pair{sign, enc}, noon.AddDate(2, 0, 0)), Expired)
	wantReason(t, CheckOwnPair(Pair{sign, enc}, noon.AddDate(-2, 0, 0)), NotYetValid)
	wantReason(t, CheckOwnPair(Pair{}, noon), Malformed)
}

func TestIDPayloadMustNameThePair(t *testing.T) {
	root := newCA(t, "CN=root", nil)
	sign, enc := root.pair(gateway)
	p, err := newVerifier(t, peerNamed(gateway), root.pem(), nil).Verify(noon, sign, enc, nil)
	if err != nil {
		t.Fatal(err)
	}
	var unbound netip.Addr
	bound := netip.MustParseAddr("198.51.100.1")
	six := netip.MustParseAddr("2001:db8::7").AsSlice()
	for name, c := range map[string]struct {
		idType uint8
		data   string
		bound  netip.Addr
		want   Reason
	}{
		"subject":                 {9, string(rawName(t, gateway)), unbound, ""},
		"subject, other coding":   {9, string(rawName(t, "CN=#13"+"0467772d62"+",O=Example,C=CN")), unbound, ""},
		"other subject":           {9, string(rawName(t, "CN=gw-b,O=Other,C=CN")), unbound, BadID},
		"CN alone":                {9, string(rawName(t, "CN=gw-b")), unbound, BadID},
		"broken DN":               {9, "\x30\x80", unbound, BadID},
		"address of the SAN":      {1, "\xc0\x00\x02\x07", unbound, ""},
		"other address":           {1, "\xc0\x00\x02\x08", unbound, BadID},
		"configured address":      {1, "\xc6\x33\x64\x01", bound, ""},
		"no address":              {1, "\xc0\x00\x02", unbound, BadID},
		"IPv6 address of the SAN": {5, string(six), unbound, ""},
		"IPv6 in the IPv4 type":   {1, string(six), unbound, BadID},
		"IPv4 in the IPv6 type":   {5, "\xc0\x00\x02\x07", unbound, BadID},
		"FQDN":                    {2, "GW.example.cn", unbound, ""},
		"other FQDN":              {2, "gw.example.com", unbound, BadID},
		"FQDN with a Kelvin sign": {2, "gw.example.cn\u212a", unbound, BadID},
		"empty FQDN":              {2, "", unbound, BadID},
		"user":                    {3, "Gate@EXAMPLE.cn", unbound, ""},
		"user in another case":    {3, "gate@example.cn", unbound, BadID},
		"FQDN as user":            {3, "gw.example.cn", unbound, BadID},
		"subnet":                  {4, "\xc0\x00\x02\x07\xff\xff\xff\xff", unbound, BadID},
		"general name":            {10, "\x82\x01a", unbound, BadID},
		"key id":                  {11, "gw.example.cn", bound, BadID},
		"type 0":                  {0, "", bound, BadID},
	} {
		t.Run(name, func(t *testing.T) {
			wantReason(t, p.MatchID(c.idType, []byte(c.data), c.bound), c.want)
		})
	}
	wantReason(t, new(Pair).MatchID(9, rawName(t, gateway), bound), BadID)
}

func FuzzParseCertificate(f *testing.F) {
	f.Add(example(f, "cert_enc_i.hex"))
	f.Add(example(f, "cert_enc_r.hex"))
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := ParseCertificate(der)
		if err != nil {
			if _, ok := err.(*Refusal); !ok {
				t.Fatalf("error is a %T", err)
			}
			return
		}
		if string(c.DER) != string(der) || len(c.Fingerprint) != 64 || !EqualNames(c.Subject, c.Subject) {
			t.Fatalf("%x parses to something else", der)
		}
		if _, err := ParseName(c.Name); err != nil && len(c.Name) < maxName/4 {
			t.Fatalf("name %q does not read back: %v", c.Name, err)
		}
		_ = CheckOwnPair(Pair{c, c}, noon)
	})
}
