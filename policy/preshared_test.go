package policy_test

import (
	"strings"
	"testing"

	"yumen/policy"
)

// plain is a policy with a peer that is not GB/T 36968.
const plain = `site: beijing
peers:
  - name: foreign
    remote: 198.51.100.7
    profile: rfc2409-psk
    allow_non_gm: true
    psk_file: foreign.psk
tunnels:
  - name: office
    peer: foreign
    local: 10.1.0.0/16
    remote: 10.2.0.0/16
`

func TestPlainProfileIsReadWithItsOwnSuite(t *testing.T) {
	p, err := policy.Parse("p.yaml", []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	peer, tunnel := p.Peers[0], p.Tunnels[0]
	if peer.NonGM() != "rfc2409-psk" || peer.PreShared.File != "foreign.psk" || peer.PreShared.Suite != policy.AESSHA256 {
		t.Errorf("read %+v", peer.PreShared)
	}
	if len(tunnel.Suites) != 1 || tunnel.Suites[0] != policy.AESCBCHMACSHA256 {
		t.Errorf("suites %v", tunnel.Suites)
	}
	p, err = policy.Parse("p.yaml", []byte(strings.Replace(plain, "    psk_file", "    ike_suite: sm4-sm3-modp2048\n    local_id: gw.example\n    remote_id: 10.9.9.9\n    psk_file", 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := policy.PreShared{Used: true, File: "foreign.psk", LocalID: "gw.example", RemoteID: "10.9.9.9", Suite: policy.SM4SM3}
	if p.Peers[0].PreShared != want || p.Tunnels[0].Suites[0] != policy.SM4CBCHMACSM3 {
		t.Errorf("read %+v, suites %v", p.Peers[0].PreShared, p.Tunnels[0].Suites)
	}
}

func TestPlainProfileIsRefusedUnlessItIsAllowed(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"    allow_non_gm: true\n", "", "add allow_non_gm: true"},
		{"allow_non_gm: true", "allow_non_gm: false", "add allow_non_gm: true"},
		{"    profile: rfc2409-psk\n", "", "allow_non_gm: means something with profile: rfc2409-psk only"},
		{"rfc2409-psk", "rfc2410", `"rfc2410" is not one of`},
		{"    psk_file: foreign.psk\n", "", "psk_file: is missing"},
		{"psk_file: foreign.psk", "psk_file: foreign.psk\n    ca: ca.crt", "ca: has no meaning with profile: rfc2409-psk"},
		{"psk_file: foreign.psk", "psk_file: foreign.psk\n    dialect: {qm_hash: rfc2409}", "dialect: has no meaning"},
		{"psk_file: foreign.psk", "psk_file: foreign.psk\n    ike_suite: des", `"des" is not one of aes128-sha256-modp2048, sm4-sm3-modp2048`},
		{"remote: 10.2.0.0/16", "remote: 10.2.0.0/16\n    suites: [sm4gcm128]", `"sm4gcm128" is not one of aes128cbc-hmacsha256, sm4cbc-hmacsm3`},
		{"remote: 10.2.0.0/16", "remote: 10.2.0.0/16\n    icv_bits: 96", "HMAC-SHA-256 has 128"},
	} {
		text := strings.Replace(plain, c.old, c.new, 1)
		if text == plain {
			t.Fatalf("%q is not in the policy", c.old)
		}
		if _, err := policy.Parse("p.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %v", c.new, c.old, err)
		}
	}
	second := strings.Replace(strings.Replace(plain, "198.51.100.7", "any", 1), "tunnels:", `  - name: other
    remote: any
    profile: rfc2409-psk
    allow_non_gm: true
    psk_file: other.psk
tunnels:`, 1)
	second += "    start: respond\n"
	if _, err := policy.Parse("p.yaml", []byte(second)); err == nil || !strings.Contains(err.Error(), "cannot tell two keys apart") {
		t.Errorf("two keys for any address: %v", err)
	}
}

func TestSuitesOfThePlainProfileAreRefusedForPeersOfTheStandard(t *testing.T) {
	text := strings.Replace(base, "suites: [sm4cbc-hmacsm3, sm4gcm128]", "suites: [aes128cbc-hmacsha256]", 1)
	if _, err := policy.Parse("p.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), `"aes128cbc-hmacsha256" is not one of sm4cbc-hmacsm3, sm4gcm128`) {
		t.Error(err)
	}
}

func TestSampleOfThePlainProfileLoads(t *testing.T) {
	p, err := policy.Load("../configs/rfc2409-psk/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := policy.PreShared{Used: true, File: "strongswan.psk", LocalID: "192.0.2.2", RemoteID: "198.51.100.2"}
	if p.Peers[0].PreShared != want || p.Tunnels[0].Suites[0] != policy.AESCBCHMACSHA256 {
		t.Errorf("%+v, %v", p.Peers[0].PreShared, p.Tunnels[0].Suites)
	}
	if _, err := policy.Compile(p); err != nil {
		t.Error(err)
	}
}
