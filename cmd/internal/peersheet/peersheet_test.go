package peersheet

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"yumen/cmd/internal/foreign"
	"yumen/cmd/internal/pki"
	"yumen/policy"
	"yumen/test/golden"
)

const site = `site: beijing
peers:
  - name: shanghai
    remote: 198.51.100.7
    local: 192.0.2.1
    ca: ca.crt
    subject: "CN=gw-b,O=Lab,C=CN"
PROFILE
tunnels:
  - {name: office, peer: shanghai, local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp, local_port: 443}
  - {name: voice, peer: shanghai, local: 10.3.0.0/16, remote: 10.4.0.0/16, suites: [sm4gcm128, sm4cbc-hmacsm3], esn: true, bytes: 10GiB}
`

func facts(t *testing.T, tunnel, profile string) *Facts {
	t.Helper()
	pol, err := policy.Parse("policy.yaml", []byte(strings.Replace(site, "PROFILE", profile, 1)))
	if err != nil {
		t.Fatal(err)
	}
	from, to := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	f := &Facts{MTU: 1500, IKEPort: 500, NATPort: 4500, Now: from,
		Sign: pki.Info{Type: "certificate", Subject: "CN=gw-a,O=Lab,C=CN", Issuer: "CN=Root,C=CN", Serial: "1a2b", NotBefore: &from, NotAfter: &to,
			KeyUsage: []string{"digitalSignature"}, Fingerprint: strings.Repeat("ab", 32)},
		Enc: pki.Info{Type: "certificate", Subject: "CN=gw-a,O=Lab,C=CN", Issuer: "CN=Root,C=CN", Serial: "3c4d", NotBefore: &from, NotAfter: &to,
			KeyUsage: []string{"keyEncipherment", "keyAgreement"}, Fingerprint: strings.Repeat("cd", 32)},
		Anchors: []pki.Info{{Type: "certificate", Subject: "CN=Root,C=CN", Fingerprint: strings.Repeat("ef", 32)}},
	}
	if err := f.find(pol, tunnel); err != nil {
		t.Fatal(err)
	}
	return f
}

func written(t *testing.T, f *Facts, lang Lang, vendors ...foreign.Vendor) string {
	t.Helper()
	var b bytes.Buffer
	if err := f.Write(&b, lang, vendors...); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSheetsInBothLanguagesAndForEachVendor(t *testing.T) {
	for name, got := range map[string]string{
		"zh":        written(t, facts(t, "office", ""), Chinese),
		"en":        written(t, facts(t, "office", ""), English),
		"h3c":       written(t, facts(t, "office", "    profile: h3c-draft"), Chinese, foreign.H3C),
		"huawei":    written(t, facts(t, "office", "    profile: huawei"), Chinese, foreign.Huawei),
		"hillstone": written(t, facts(t, "voice", "    profile: hillstone-v1.1"), English, foreign.Hillstone),
	} {
		golden.Check(t, "testdata/"+name+".md", []byte(got))
	}
}

// Every row of a table is as wide as every other on a terminal.
func TestTablesAreStraightWhateverTheLanguage(t *testing.T) {
	for _, lang := range []Lang{Chinese, English} {
		last := 0
		for _, line := range strings.Split(written(t, facts(t, "voice", "    dialect: {sm2_id: \"a|b\"}"), lang), "\n") {
			switch {
			case !strings.HasPrefix(line, "|"):
				last = 0
			case last != 0 && columns(line) != last:
				t.Errorf("%d columns, not %d: %s", columns(line), last, line)
			default:
				last = columns(line)
			}
		}
	}
	if columns("隧道 a｜") != 8 {
		t.Error("a Chinese character takes two columns")
	}
}

// Each knob that a peer may have changes what the sheet says, in both languages.
func TestEveryKnobShowsInTheSheet(t *testing.T) {
	for _, k := range []string{"gm_version: 1.0, send_certs: none", "ike_sm4_id: 127", "key_length: send", "nat_t: false", "cert_order: enc-sign",
		"sk_encoding: c1c3c2", "field_pad: pkcs7", "id_iv: zero", "id_type: fqdn, id: gw.example", "peer_id: \"x\"", "id_cert: enc",
		"sig_encoding: raw", "sig_cert_body: without", "sm2_id: \"other\"", "hashr_sa: responder", "qm_hash: std-body", "esp_sm4_id: 127",
		"esp_gcm_id: 200", "esp_icv_bits: 256", "dpd_spi: none", "dpd_order: notify-first", "initiate: us", "accept: exact",
		"strict_lifetime: true", "allow_narrowing: true", "send_own_vid: false", "transform_id: ignore"} {
		for _, lang := range []Lang{Chinese, English} {
			for _, tunnel := range []string{"office", "voice"} {
				f := facts(t, tunnel, "    peer_certs: {sign: s.crt, enc: e.crt}\n    dialect: {"+k+"}")
				if written(t, f, lang) == written(t, facts(t, tunnel, ""), lang) {
					t.Errorf("%s does not show in %s", k, tunnel)
				}
			}
		}
	}
}

func TestSelectorsAreThoseOfTheFarEnd(t *testing.T) {
	text := written(t, facts(t, "office", ""), English)
	for _, want := range []string{"| local network (yours)", "tcp any:443"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the sheet", want)
		}
	}
	at := strings.Index(text, "local network (yours)")
	if line, _, _ := strings.Cut(text[at:], "\n"); !strings.Contains(line, "10.2.0.0/16") {
		t.Errorf("their network is %q", line)
	}
}

func TestPeerThatIsNotOfTheStandardHasNoSheet(t *testing.T) {
	pol := &policy.Policy{Peers: []policy.Peer{{Name: "p", PreShared: policy.PreShared{Used: true}}}, Tunnels: []policy.Tunnel{{Name: "t", Peer: "p"}}}
	if err := (&Facts{}).find(pol, "t"); err == nil || !strings.Contains(err.Error(), "rfc2409-psk") {
		t.Error(err)
	}
}

// Encapsulation by force needs NAT-D too, and its hash must be known.
func TestForcedEncapsulationNamesTheHashOfNATD(t *testing.T) {
	for hash, want := range map[string]string{"sm3": "NAT-D by SM3", "sha1": "NAT-D by SHA1"} {
		f := facts(t, "office", "    encap: force\n    dialect: {natd_hash: "+hash+"}")
		if text := written(t, f, English); !strings.Contains(text, "on, ESP always in UDP ("+want) {
			t.Errorf("%s: %q is not in the sheet:\n%s", hash, want, text)
		}
	}
}
