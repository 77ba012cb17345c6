package policy_test

import (
	"reflect"
	"strings"
	"testing"

	"yumen/policy"
)

func TestEveryProfileIsReadByItsName(t *testing.T) {
	for _, p := range policy.Profiles() {
		text := edit(base, 13, "    profile: "+p.String())
		if p == policy.Hillstone10 {
			text = edit(text, 7, "    crl: ca.crl\n    peer_certs: {sign: s.crt, enc: e.crt}")
		}
		got := parse(t, text).Peers[0]
		if got.Profile != p || got.Dialect != p.Dialect() {
			t.Errorf("%v: %v %v", p, got.Profile, got.Dialect)
		}
	}
	if got := parse(t, base).Peers[0].Profile; got != policy.GBT36968 {
		t.Errorf("without a profile it is %v", got)
	}
	if d := policy.GBT36968.Dialect(); d != (policy.Dialect{}) {
		t.Errorf("the default profile is not the recommended choice: %v", d)
	}
}

func TestDialectStandsAboveItsProfile(t *testing.T) {
	got := parse(t, edit(base, 13, "    profile: h3c-draft\n    dialect: {esp_sm4_id: both, sk_encoding: c1c3c2}")).Peers[0]
	want := policy.Dialect{IKESM4: policy.SM4Draft, SKEncoding: policy.SKC1C3C2}
	if got.Dialect != want || got.Profile != policy.H3CDraft {
		t.Errorf("%v %v", got.Profile, got.Dialect)
	}
	got = parse(t, edit(base, 13, "    profile: {sk_encoding: c1c3c2}")).Peers[0]
	if got.Dialect != (policy.Dialect{SKEncoding: policy.SKC1C3C2}) {
		t.Errorf("custom knobs are %v", got.Dialect)
	}
	if got := parse(t, edit(base, 13, "    dialect: {esp_icv_bits: 256}")).Tunnels[0].ICVBits; got != 128 {
		t.Errorf("the tunnel's own icv_bits became %d", got)
	}
}

// Each line of the table says where it comes from, and has effect or repeats the
// recommended value on purpose.
func TestEverySettingOfAProfileHasASourceAndAKnob(t *testing.T) {
	for _, p := range policy.Profiles() {
		seen := map[string]bool{}
		for _, s := range p.Settings() {
			if s.Source == "" || seen[s.Name] || strings.Contains(s.Certainty.String(), "(") || strings.HasPrefix(s.Source, "/") {
				t.Errorf("%v: %+v", p, s)
			}
			seen[s.Name] = true
			d, err := policy.Dialect{}.With(s.Knob)
			if err != nil {
				t.Errorf("%v: %v", p, err)
			}
			for _, k := range p.Dialect().Against(d) {
				if k.Name == s.Name {
					t.Errorf("%v: %v arrives as %v", p, s.Knob, k)
				}
			}
		}
		if len(seen) == 0 {
			t.Errorf("%v has no line", p)
		}
	}
}

// What a dialect says of itself makes the same dialect again, for every knob.
func TestDialectInWordsReadsBackAsItself(t *testing.T) {
	d := policy.Dialect{}
	v := reflect.ValueOf(&d).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Bool:
			f.SetBool(true)
		case reflect.String:
			f.SetString(`gw "seven"`)
		case reflect.Int:
			f.SetInt(256)
		default:
			f.SetUint(1)
		}
	}
	d.ESPGCM, d.ID = 200, "192.0.2.7"
	list := d.Against(policy.Dialect{})
	if len(list) != v.NumField() {
		t.Errorf("%d knobs show %d fields: %v", len(list), v.NumField(), d)
	}
	if back, err := (policy.Dialect{}).With(list...); err != nil || back != d {
		t.Errorf("%v\n%v\n%v", d, back, err)
	}
	text := edit(base, 13, "    peer_certs: {sign: s.crt, enc: e.crt}\n    dialect: "+d.String())
	if got := parse(t, text).Peers[0].Dialect; got != d {
		t.Errorf("as YAML it reads %v", got)
	}
	for _, bad := range []policy.Knob{{Name: "nosuch", Value: "1"}, {Name: "ike_sm4_id", Value: "130"}, {Name: "nat_t", Value: "no"}, {Name: "sm2_id", Value: `"open`}} {
		if _, err := (policy.Dialect{}).With(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

func TestExplainFindsTheProfileThatSaysMost(t *testing.T) {
	for _, p := range policy.Profiles() {
		found, rest := policy.Explain(p.Dialect())
		if p != policy.Auto && (len(rest) != 0 || found.Dialect() != p.Dialect()) {
			t.Errorf("%v is explained as %v %v", p, found, rest)
		}
	}
	d := policy.H3CDraft.Dialect()
	d.SKEncoding = policy.SKC1C3C2
	if got := policy.Lines(d); got != "profile: h3c-draft, dialect: {sk_encoding: c1c3c2}" {
		t.Error(got)
	}
}

var profileFaults = []struct{ line, want string }{
	{"    profile: cisco", `peers[0].profile: "cisco" is not one of gbt36968-2018,`},
	{"    profile: auto\n    dialect: {gm_version: 1.0}", "gm_version is never part of profile: auto"},
	{"    profile: auto\n    dialect: {transform_id: ignore}", "transform_id is never part of profile: auto"},
	{"    profile: hillstone-v1.0", "a peer that sends no certificates needs peer_certs"},
	{"    dialect: {id_type: fqdn}", "peers[0].dialect.id: is missing"},
	{"    dialect: {id_type: ip, id: \"gw\"}", `"gw" is no address`},
	{"    dialect: {id: \"gw\"}", "needs an id_type"},
	{"    dialect: {esp_gcm_id: 128}", "128 is SM4-CBC or SM1-CBC"},
	{"    dialect: {nonce_length: 7}", "is no number from 8 to 256"},
	{"    dialect: {nonce_length: 257}", "is no number from 8 to 256"},
	{"    dialect: {field_pad: zeros, nonce_length: 32}", "cannot be told from zeros that pad it"},
	{"    dialect: {natd_hash: sha256}", "is not one of sm3, sha1, md5"},
	{"    dialect: {esp_icv_bits: 64}", `"64" is not one of 96, 128, 256`},
	{"    peer_certs: {sign: s.crt}", "peers[0].peer_certs.enc: is missing"},
	{"    profile: {ike_sm4_id: 128}", `peers[0].profile.ike_sm4_id: "128" is not one of 129, 127`},
}

func TestEveryFaultOfAProfileNamesItsLine(t *testing.T) {
	for _, c := range profileFaults {
		_, err := policy.Parse("p.yaml", []byte(edit(base, 13, c.line)))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "p.yaml:1") {
			t.Errorf("%s: %v", c.line, err)
		}
	}
}
