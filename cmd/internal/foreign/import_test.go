package foreign_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"yumen/cmd/internal/foreign"
	"yumen/policy"
	"yumen/test/golden"
)

func file(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func drafted(t *testing.T, v foreign.Vendor, b []byte) (*foreign.Draft, *policy.Policy) {
	t.Helper()
	d, err := foreign.Import(v, "box.cfg", b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse("draft.yaml", d.Policy)
	if err != nil {
		t.Fatalf("%v\n%s", err, d.Policy)
	}
	return d, p
}

// The dumps have what terminals leave behind: CR LF, GBK, a pager with cursor
// movements, prompts.
func TestDumpsOfBoxesBecomeDraftsWithTheLineOfEachValue(t *testing.T) {
	for _, v := range []foreign.Vendor{foreign.H3C, foreign.Huawei} {
		d, p := drafted(t, v, file(t, "testdata/"+v.String()+".cfg"))
		golden.Check(t, "testdata/"+v.String()+".draft.yaml", d.Policy)
		if d.Peers != len(p.Peers) || d.Tunnels != len(p.Tunnels) {
			t.Errorf("%v: %d peers, %d tunnels are told", v, d.Peers, d.Tunnels)
		}
		if len(p.Unfilled()) == 0 {
			t.Errorf("%v: no placeholder is named, but nobody can know the CA", v)
		}
		if strings.Contains(string(d.Policy), "secret") || strings.Contains(string(d.Policy), "abcdef") {
			t.Errorf("%v: a key of the dump is in the draft", v)
		}
	}
}

func TestEveryFindingNamesItsLineAndWhy(t *testing.T) {
	raw := strings.Split(string(file(t, "testdata/huawei.cfg")), "\n")
	d, _ := drafted(t, foreign.Huawei, file(t, "testdata/huawei.cfg"))
	for _, f := range d.Findings {
		if f.Reason == "" || f.Line < 1 || f.Line > len(raw) || !strings.Contains(raw[f.Line-1], strings.Fields(f.Text)[0]) {
			t.Errorf("%+v", f)
		}
	}
	for text, change := range map[string]bool{"pre-shared-key ******": true, "rule 15 permit ip source address-set branch destination any": false,
		"certificate local-filename gw_sign.cer": false, "esp encryption-algorithm aes-256": true, "tunnel-protocol ipsec": false} {
		if !slices.ContainsFunc(d.Findings, func(f foreign.Finding) bool { return f.Text == text && f.Change == change }) {
			t.Errorf("%q (change: %v) is not found", text, change)
		}
	}
}

// However a dump reached us, the same policy comes of it.
func TestDraftDoesNotDependOnHowTheDumpWasSaved(t *testing.T) {
	plain := strings.Join([]string{"#", "sysname A", "#", "acl advanced 3101", " rule permit ip source 10.2.0.0 0.0.255.255 destination 10.1.0.0 0.0.255.255",
		"#", "ike proposal 1", " authentication-method sm2-de", " encryption-algorithm sm4-cbc", " authentication-algorithm sm3", "#",
		"ike profile p", " exchange-mode gm-main", " proposal 1", " dpd interval 20 retry 5 periodic", "#",
		"ipsec transform-set t", " esp encryption-algorithm sm4-cbc", " esp authentication-algorithm sm3", "#",
		"ipsec policy m 1 isakmp", " transform-set t", " security acl 3101", " local-address 198.51.100.7", " remote-address 192.0.2.1", " ike-profile p", "#", "return", ""}, "\n")
	_, want := drafted(t, foreign.H3C, []byte(plain))
	if len(want.Tunnels) != 1 || want.Peers[0].Remote.String() != "198.51.100.7" || want.Peers[0].DPD.Interval.Seconds() != 20 {
		t.Fatalf("%+v", want)
	}
	typed := strings.NewReplacer("\nsysname", "\n[A] sysname", "\nacl", "\n[A]acl", "\nike ", "\n[A]ike ", "\nipsec", "\n[A]ipsec", "\n ", "\n[A-x]", "\n#", "\n[A-x]quit").Replace(plain)
	wide := []byte{0xff, 0xfe}
	for _, c := range plain {
		wide = append(wide, byte(c), 0)
	}
	for name, text := range map[string][]byte{
		"CR LF": []byte(strings.ReplaceAll(plain, "\n", "\r\n")), "CR": []byte(strings.ReplaceAll(plain, "\n", "\r")),
		"byte order mark": append([]byte("\xef\xbb\xbf"), plain...), "UTF-16": wide,
		"no indentation": []byte(strings.ReplaceAll(plain, "\n ", "\n")), "commands as typed": []byte(typed),
		"pager":                []byte(strings.ReplaceAll(plain, " proposal 1", "  ---- More ----\x1b[42D                     \x1b[42D proposal 1")),
		"pager, no escapes":    []byte(strings.ReplaceAll(plain, " proposal 1", "  ---- More ----[42D          [42D proposal 1")),
		"pager, carriage":      []byte(strings.ReplaceAll(plain, " proposal 1", "--More--\r        \r proposal 1")),
		"pager, own line":      []byte(strings.ReplaceAll(plain, " proposal 1", "---- More ----\n proposal 1")),
		"no separators":        []byte(strings.ReplaceAll(plain, "\n#", "")),
		"hot standby prompt":   []byte("HRP_M<A>display current-configuration\n" + plain + "HRP_M<A>"),
		"GBK in a description": []byte(strings.ReplaceAll(plain, " proposal 1", " proposal 1\n description \xb9\xfa\xc3\xdc")),
	} {
		_, got := drafted(t, foreign.H3C, text)
		if name == "no indentation" || name == "commands as typed" {
			got.Site = want.Site
		}
		if len(got.Tunnels) != 1 || got.Tunnels[0].Selector != want.Tunnels[0].Selector || got.Peers[0] != want.Peers[0] {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWhatTheFarEndMustChangeIsMarked(t *testing.T) {
	const head = "acl advanced 3101\n rule permit ip source 10.2.0.0 0.0.255.255 destination 10.1.0.0 0.0.255.255\n#\n"
	for text, want := range map[string]string{
		"ipsec policy m 1 manual\n#\nipsec policy m 2 isakmp\n":                                         "make it isakmp",
		"ipsec policy m 2 isakmp\n security acl 3101\n":                                                 "it names no ike-profile",
		"ipsec policy m 2 isakmp\n ike-profile x\n":                                                     "ike profile x is not in the dump",
		"ipsec policy m 2 isakmp\n security acl 9\n":                                                    "the access list that it names is not in the dump",
		"ipsec policy m 2 isakmp\n ike-profile x\n#\nike profile x\n proposal 1\n#\nike proposal 1\n":   "authentication-method is not there",
		"ipsec policy m 2 isakmp\n ike-profile x\n#\nike profile x\n exchange-mode main\n":              "must be gm-main",
		"ipsec policy m 2 isakmp\n transform-set t\n#\nipsec transform-set t\n protocol ah-esp\n":       "must be esp",
		"ipsec policy m 2 isakmp\n transform-set t\n#\nipsec transform-set t\n pfs dh-group2\n":         "no PFS",
		"ipsec policy m 2 isakmp\n ike-profile x\n#\nike profile x\n keychain k\n#\nike keychain k\n":   "a pre-shared key has no place",
		"ipsec policy m 2 isakmp\n security acl 3101\n#\nipsec policy m 3 isakmp\n security acl 3101\n": "no tunnel of ours can say it",
	} {
		d, _ := drafted(t, foreign.H3C, []byte(head+text))
		if !slices.ContainsFunc(d.Findings, func(f foreign.Finding) bool { return strings.Contains(f.Reason, want) }) {
			t.Errorf("%q is not told of %q:\n%s", want, text, d.Policy)
		}
	}
}

func TestHuaweisOwnEnvelopeIsNotTakenForTheNationalOne(t *testing.T) {
	d, _ := drafted(t, foreign.Huawei, []byte("ike proposal 1\n authentication-method hss-de\n#\nike peer p\n ike-proposal 1\n#\nipsec policy m 1 isakmp\n ike-peer p\n"))
	if !slices.ContainsFunc(d.Findings, func(f foreign.Finding) bool { return f.Change && strings.Contains(f.Reason, "Huawei's own") }) {
		t.Errorf("%s", d.Policy)
	}
}

func TestHugeDumpGivesADraftAllTheSame(t *testing.T) {
	var b strings.Builder
	b.WriteString("acl advanced 3101\n")
	for i := range 2000 {
		fmt.Fprintf(&b, " rule permit ip source 10.%d.%d.0 0.0.0.255 destination 10.1.0.0 0.0.255.255\n", 100+i/256, i%256)
	}
	for i := range 1000 {
		fmt.Fprintf(&b, "#\nipsec policy m %d isakmp\n security acl 3101\n remote-address 192.0.2.%d\n frobnicate %d\n", i, i%200+1, i)
	}
	d, p := drafted(t, foreign.H3C, []byte(b.String()))
	if len(p.Tunnels) != 300 || len(p.Peers) != 100 || len(d.Findings) < 2700 {
		t.Errorf("%d tunnels, %d peers, %d findings", len(p.Tunnels), len(p.Peers), len(d.Findings))
	}
}

func TestDumpWithoutIPsecIsRefused(t *testing.T) {
	for _, text := range []string{"", "#\nsysname A\n", "\x00\xff\xfe", strings.Repeat("x", foreign.MaxDump+1)} {
		if _, err := foreign.Import(foreign.H3C, "a.cfg", []byte(text)); err == nil || !strings.Contains(err.Error(), "a.cfg") {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if _, err := foreign.Import(foreign.Hillstone, "a.cfg", nil); err == nil {
		t.Error("hillstone is not read, but was")
	}
}

func FuzzImportGivesADraftThatParses(f *testing.F) {
	// Short ones: the fuzzer shortens what it finds interesting, which takes its time.
	f.Add([]byte("acl 3\n rule permit ip source 10.2.0.0 0.0.255.255\n#\nipsec policy m 1 isakmp\n security acl 3\n ike-profile p\n#\nike profile p\n local-identity fqdn a\n"))
	f.Add([]byte("ike peer p\n remote-address 192.0.2.1\n remote-id-type ip\n remote-id 192.0.2.1\nipsec policy m 1 isakmp\n ike-peer p\n tunnel local 192.0.2.9"))
	f.Add([]byte("pki entity e\r\n common-name \xb9\xfa\r\n  ---- More ----\x1b[9D \x1b[9D#\r\nipsec policy m 1 isakmp"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range []foreign.Vendor{foreign.H3C, foreign.Huawei} {
			d, err := foreign.Import(v, "fuzz", b)
			if err != nil {
				if strings.Contains(err.Error(), "does not read as a policy") {
					t.Fatal(err)
				}
				continue
			}
			if _, err := policy.Parse("draft", d.Policy); err != nil {
				t.Fatalf("%v\n%s", err, d.Policy)
			}
		}
	})
}
