package policy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/policy"
)

// base is a sound policy that gives every key; a case replaces some of its lines.
const base = `site: beijing
peers:
  - name: dr
    remote: 198.51.100.7
    local: any
    ca: ca.crt
    crl: ca.crl
    subject: "CN=gw-b,O=Lab,C=CN"
    encap: auto
    ike_lifetime: 24h
    clock_skew: 5m
    dpd: {interval: 10s, tries: 3}
    dialect: {ike_sm4_id: 127}
  - name: road
    remote: any
    ca: ca.crt
    subject: "CN=road"
tunnels:
  - name: office
    peer: dr
    local: 10.1.0.0/16
    remote: 10.2.0.0/16
    protocol: any
    local_port: 0
    remote_port: 0
    suites: [sm4cbc-hmacsm3, sm4gcm128]
    icv_bits: 128
    esn: true
    start: trap
    lifetime: 30m
    bytes: 10GB
    packets: 1000000
    window: 256
    dscp: 46
    df: set
rules:
  - name: ssh
    action: bypass
    local: 10.1.0.0/16
    remote: 10.2.0.0/16
    protocol: tcp
    remote_port: 22
    priority: 10
  - name: web
    action: protect
    tunnel: office
    local: 10.1.0.0/16
    remote: 10.2.0.80
    protocol: tcp
`

func TestEveryKeyArrives(t *testing.T) {
	p := parse(t, base)
	peer, ok := p.Peer("dr")
	if !ok || peer.Remote.Addr.String() != "198.51.100.7" || peer.Local != (policy.Local{}) || peer.CA != "ca.crt" || peer.CRL != "ca.crl" ||
		peer.Identity.Subject != "CN=gw-b,O=Lab,C=CN" || peer.ClockSkew != 5*time.Minute || peer.IKELifetime != 24*time.Hour ||
		peer.DPD != (policy.DPD{Interval: 10 * time.Second, Tries: 3}) || peer.Dialect != (policy.Dialect{IKESM4: policy.SM4Draft}) {
		t.Errorf("peer: %s", show(peer))
	}
	tunnel, ok := p.Tunnel("office")
	want := policy.Tunnel{
		Name: "office", Peer: "dr", Selector: selector(t, "10.1.0.0/16", "10.2.0.0/16"), ICVBits: 128, ESN: true,
		Start: policy.StartTrap, Lifetime: 30 * time.Minute, Bytes: 10e9, Packets: 1e6, Window: 256, Children: 1,
		Outer: policy.Outer{DSCP: 46, DF: policy.DFSet}, Suites: []policy.Suite{policy.SM4CBCHMACSM3, policy.SM4GCM128},
	}
	if !ok || show(tunnel) != show(want) {
		t.Errorf("tunnel:\n%s\nwant:\n%s", show(tunnel), show(want))
	}
	if wide, ok := parse(t, edit(base, 33, "    children: 8")).Tunnel("office"); !ok || wide.Children != policy.MaxSideBySide {
		t.Errorf("children: 8 is %d", wide.Children)
	}
	if r := p.Rules[0]; r.Name != "ssh" || r.Action != policy.Bypass || r.Priority != 10 || r.Selector.Protocol != 6 || r.Selector.RemotePort != 22 {
		t.Errorf("rule: %s", show(r))
	}
	if got := p.TunnelsOf("dr"); len(got) != 1 || len(p.TunnelsOf("road")) != 0 {
		t.Errorf("tunnels of dr: %s", show(got))
	}
	if _, ok := p.Peer("nobody"); ok {
		t.Error("a peer that does not exist was found")
	}
}

func TestSizeKeysArrive(t *testing.T) {
	for text, want := range map[string]policy.Outer{
		"df: set":                               {DSCP: 46, DF: policy.DFSet, Fragment: policy.FragmentBefore, MSS: policy.MSSAuto},
		"fragment: before\n    mss_clamp: auto": {DSCP: 46},
		"fragment: after\n    mss_clamp: off":   {DSCP: 46, Fragment: policy.FragmentAfter, MSS: policy.MSSOff},
		"mss_clamp: 536":                        {DSCP: 46, MSS: policy.MinMSS},
		"mss_clamp: \"9000\"":                   {DSCP: 46, MSS: policy.MaxMSS},
	} {
		if got := parse(t, edit(base, 35, "    "+text)).Tunnels[0].Outer; got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
	for text, want := range map[string]policy.PathProbe{"ike_fragmentation: false": policy.ProbeAuto, "path_probe: auto": policy.ProbeAuto,
		"path_probe: on": policy.ProbeOn, "path_probe: off": policy.ProbeOff} {
		if got := parse(t, edit(base, 11, "    "+text)).Peers[0].PathProbe; got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if s := fmt.Sprint(policy.MSSAuto, policy.MSSOff, policy.MSSClamp(1300), policy.FragmentAfter); s != "auto off 1300 after" {
		t.Errorf("the words are %s", s)
	}
}

func TestEveryDialectKnobArrives(t *testing.T) {
	text := edit(base, 13, `    dialect: {ike_sm4_id: 127, esp_sm4_id: 129, qm_hash: std-full, hashr_sa: responder, sk_encoding: c1c2c3, sig_encoding: raw, sig_cert_body: without, field_pad: pkcs7, id_iv: zero, gm_version: 1.0, sm2_id: "ALICE", id_cert: enc, nat_t: false, send_dpd_vid: false, accept_zero_pad: true, strict_lifetime: true, allow_narrowing: true, key_length: send, transform_id: ignore, initiate: them, send_own_vid: false, send_certs: none, cert_order: enc-sign, id_type: fqdn, id: "gw.example", peer_id: "box-7", esp_gcm_id: 253, esp_icv_bits: 128, dpd_spi: none, dpd_order: notify-first, accept: exact, nonce_length: 32, natd_hash: md5}
    peer_certs: {sign: s.crt, enc: e.crt}
    send_chain: chain.crt`)
	want := policy.Dialect{
		IKESM4: policy.SM4Draft, ESPSM4: policy.ESPOnly129, QMHash: policy.HashStdFull, HashrSA: policy.SAResponder,
		SKEncoding: policy.SKC1C2C3, SigRaw: true, SigNoByte: true, FieldPad: policy.PadPKCS7, IDZeroIV: true,
		GMVersion0: true, SM2ID: "ALICE", IDCertEnc: true, NoNATT: true, NoDPDVID: true, ZeroPad: true,
		StrictLifetime: true, AllowNarrowing: true,
		KeyLength: policy.KeyLengthSend, AnyTransform: true, Initiate: policy.InitiateThem, NoOwnVID: true,
		SendCerts: policy.CertsNone, EncFirst: true, IDType: policy.IDFQDN, ID: "gw.example", PeerID: "box-7",
		ESPGCM: 253, ICVBits: 128, DPDNoSPI: true, DPDFirst: true, Exact: true, Nonce: 32, NATDHash: policy.NATDMD5,
	}
	peer := parse(t, text).Peers[0]
	if peer.Certs != (policy.PeerCerts{Sign: "s.crt", Enc: "e.crt"}) || peer.Chain != "chain.crt" {
		t.Errorf("the files are %+v and %q", peer.Certs, peer.Chain)
	}
	if got := peer.Dialect; got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	text = edit(base, 13, `    dialect: {nat_t: true, send_dpd_vid: true, gm_version: 1.1, sk_encoding: der, nonce_length: 16, natd_hash: sm3}`)
	if got := parse(t, text).Peers[0].Dialect; got != (policy.Dialect{}) {
		t.Errorf("the recommended choice, written out, is %+v", got)
	}
}

// edit replaces line n, counted from 1; the new text may hold several lines.
func edit(text string, n int, line string) string {
	lines := strings.Split(text, "\n")
	lines[n-1] = line
	return strings.Join(lines, "\n")
}

// faults has, for each fault, the line that replaces line n of base (or, with n
// 0, the whole file), and how the error begins.
var faults = []struct {
	n          int
	text, want string
}{
	{0, "", "1: is empty"},
	{0, "# nothing\n", "1: is empty"},
	{0, "- a\n", "1: must be a mapping"},
	{0, "a: [1,\n", "1: is not YAML"},
	{0, "a:\n  - b\n\t- c\n", "2: is not YAML"},
	{0, "site: a\nb: \xff\n", "2: is not UTF-8"},
	{0, base + "---\nsite: b\n", "50: holds a second document"},
	{0, "site: a\npeers:\n  - name: b\n", "1: tunnels: is missing"},
	{1, "sight: beijing", "1: sight: unknown key; known here: site, peers, tunnels, groups, rules, management"},
	{13, "    dialects: {}", "13: peers[0].dialects: unknown key; known here: name, remote, local, allow_non_gm, profile, ca, crl, subject, sign_subject, enc_subject, sign_fingerprint, enc_fingerprint, encap, ike_lifetime, allow_long_lifetime, clock_skew, dpd, path_probe, children_on_ike_delete, ike_fragmentation, peer_certs, send_chain, dialect"},
	{1, "site: beijing\nsite: again", "2: site: is given twice, first at line 1"},
	{1, "site: 5", "1: site: must be a string, not a number; put it in quotes"},
	{1, "site: Bei jing", `1: site: "Bei jing" is no name`},
	{1, "site:", "1: site: is empty"},
	{1, "site: &x beijing", "1: site: anchors are not allowed"},
	{1, "site: !!str beijing", "1: site: tags are not allowed"},
	{1, "? [a]\n: b\nsite: beijing", "1: holds a key that is not a plain word"},
	{1, "site: beijing\n<<: {a: 1}", "2: holds a key that is not a plain word"},
	{3, "  - name: -dr", `3: peers[0].name: "-dr" is no name`},
	{3, "  - title: dr", "3: peers[0].name: is missing"},
	{4, "    remote: 198.51.100.300", `4: peers[0].remote: "198.51.100.300" is no address`},
	{4, "    remote: gw_b.example", `4: peers[0].remote: "gw_b.example" is no address and no host name`},
	{4, "    remote: fe80::1%eth0", "4: peers[0].remote: fe80::1%eth0 is valid on one link only"},
	{4, "    remote: 0.0.0.0", "4: peers[0].remote: 0.0.0.0 is no address of one host"},
	{4, "    remote: ::ffff:192.0.2.1", "4: peers[0].remote: ::ffff:192.0.2.1 is IPv4 inside IPv6; write 192.0.2.1"},
	{4, "    remote: [192.0.2.1]", "4: peers[0].remote: must be a single value, not a list"},
	{4, "    remote: any", `29: tunnels[0].start: peer "dr" has remote: any, so its address is not known; write start: respond`},
	{5, "    local: 2001:db8::1", "5: peers[0].local: 2001:db8::1 and the peer's 198.51.100.7 are of different families"},
	{5, "    local: a-very-long-interface", `5: peers[0].local: "a-very-long-interface" is no address and no interface`},
	{5, "    local: 10.1", "5: peers[0].local: must be a string, not a number"},
	{6, "", "3: peers[0].ca: is missing; name the file"},
	{6, `    ca: ""`, "6: peers[0].ca: is empty"},
	{8, "", "3: peers[0]: the peer's identity is missing; give subject"},
	{8, "    subject: gw-b", `8: peers[0].subject: "gw-b" is no distinguished name`},
	{8, "    subject: CN=a\n    enc_subject: CN=b", "3: peers[0]: the peer's identity has more than one form"},
	{8, "    sign_subject: CN=a", "8: peers[0].sign_subject: stands alone; give enc_subject too"},
	{8, "    enc_fingerprint: " + sixtyFour, "8: peers[0].enc_fingerprint: stands alone; give sign_fingerprint too"},
	{8, "    sign_fingerprint: " + sixtyFour + "\n    enc_fingerprint: " + sixtyFour, "9: peers[0].enc_fingerprint: equals sign_fingerprint"},
	{8, "    sign_fingerprint: abc\n    enc_fingerprint: " + sixtyFour, `8: peers[0].sign_fingerprint: "abc" is no fingerprint`},
	{9, "    encap: on", `9: peers[0].encap: "on" is not one of auto, force, off`},
	{10, "    ike_lifetime: 25h", "10: peers[0].ike_lifetime: 25h is above the limit of 24h; lower it, or add allow_long_lifetime: true"},
	{10, "    ike_lifetime: 86400", `10: peers[0].ike_lifetime: "86400" is no duration; write it with a unit`},
	{10, "    ike_lifetime: 0s", "10: peers[0].ike_lifetime: 0s is out of range"},
	{10, "    ike_lifetime: 1500ms", "10: peers[0].ike_lifetime: 1500ms is not in whole seconds"},
	{11, "    clock_skew: 25h", "11: peers[0].clock_skew: 25h is out of range; write 0s to 24h"},
	{12, "    dpd: {interval: 10s, tries: 0}", `12: peers[0].dpd.tries: "0" is no number from 1 to 100`},
	{12, "    dpd: {every: 10s}", "12: peers[0].dpd.every: unknown key; known here: interval, tries"},
	{12, "    dpd: 10s", "12: peers[0].dpd: must be a mapping"},
	{13, "    dialect: {qm_hash: rfc}", `13: peers[0].dialect.qm_hash: "rfc" is not one of rfc2409, std-full, std-body`},
	{13, "    dialect: {gm_version: 2.0}", `13: peers[0].dialect.gm_version: "2.0" is not one of 1.1, 1.0`},
	{13, "    dialect: {sm2_id: 1234}", "13: peers[0].dialect.sm2_id: must be a string, not a number; put it in quotes"},
	{13, "    dialect: {nat_t: yes}", `13: peers[0].dialect.nat_t: must be true or false, not "yes"`},
	{9, "    encap: force\n    allow_long_lifetime: false", ""},
	{14, "  - name: dr", `14: peers[1].name: "dr" is already the name of another, at line 3`},
	{20, "    peer: nobody", `20: tunnels[0].peer: peer "nobody" is not defined; name one of peers`},
	{21, "    local: 10.1.0.5/16", `21: tunnels[0].local: "10.1.0.5/16" has host bits set; write 10.1.0.0/16`},
	{22, "    remote: 2001:db8::/32", "21: tunnels[0]: local and remote are of different families"},
	{22, "", "19: tunnels[0].remote: is missing"},
	{23, "    protocol: tcpip", `23: tunnels[0].protocol: "tcpip" is no protocol`},
	{23, "    protocol: icmpv6", "21: tunnels[0]: icmpv6 does not run over IPv4; write icmp"},
	{24, "    local_port: 65536", `24: tunnels[0].local_port: "65536" is no port`},
	{25, "    remote_port: 22", "21: tunnels[0]: a port needs a protocol that has ports"},
	{26, "    suites: []", "26: tunnels[0].suites: is an empty list"},
	{26, "    suites: sm4gcm128", "26: tunnels[0].suites: must be a list"},
	{26, "    suites: [aes]", `26: tunnels[0].suites[0]: "aes" is not one of sm4cbc-hmacsm3, sm4gcm128`},
	{26, "    suites:\n      - sm4gcm128\n      - sm4gcm128", "28: tunnels[0].suites[1]: sm4gcm128 is given twice"},
	{27, "    icv_bits: 100", `27: tunnels[0].icv_bits: "100" is not one of 96, 128, 256`},
	{28, "    esn: 1", `28: tunnels[0].esn: must be true or false, not "1"`},
	{29, "    start: now", `29: tunnels[0].start: "now" is not one of start, trap, respond`},
	{30, "    lifetime: 61m", "30: tunnels[0].lifetime: 1h1m is above the limit of 1h"},
	{30, "    lifetime: 9000h\n    allow_long_lifetime: true", "30: tunnels[0].lifetime: 9000h is out of range"},
	{31, "    bytes: 10 Gigs", `31: tunnels[0].bytes: "10 Gigs" is no size`},
	{31, "    bytes: 99999999999TB", "31: tunnels[0].bytes: 99999999999TB is too large"},
	{32, "    packets: 10GB", `32: tunnels[0].packets: "10GB" is no count`},
	{33, "    window: 63", `33: tunnels[0].window: "63" is no number from 64 to 4096`},
	{33, "    children: 0", `33: tunnels[0].children: "0" is no number from 1 to 8`},
	{33, "    children: 9", `33: tunnels[0].children: "9" is no number from 1 to 8`},
	{33, "    window: 4097", `33: tunnels[0].window: "4097" is no number from 64 to 4096`},
	{34, "    dscp: 64", `34: tunnels[0].dscp: "64" is not copy, zero or a code point`},
	{35, "    df: keep", `35: tunnels[0].df: "keep" is not one of copy, set, clear`},
	{35, "    df: copy\n    fragment: both", `36: tunnels[0].fragment: "both" is not one of before, after`},
	{35, "    df: set\n    fragment: after", `36: tunnels[0].fragment: after needs outer packets that may be fragmented`},
	{35, "    df: copy\n    mss_clamp: 535", `36: tunnels[0].mss_clamp: "535" is not auto, off or a size from 536 to 9000`},
	{35, "    df: copy\n    mss_clamp: 9001", `36: tunnels[0].mss_clamp: "9001" is not auto, off or a size`},
	{35, "    df: copy\n    mss_clamp: yes", `36: tunnels[0].mss_clamp: "yes" is not auto, off or a size`},
	{36, "rules: {}\nx:", "36: rules: must be a list"},
	{37, "  - name: web", `44: rules[1].name: "web" is already the name of another, at line 37`},
	{38, "    action: allow", `38: rules[0].action: "allow" is not one of protect, bypass, drop`},
	{38, "    action: bypass\n    tunnel: office", "39: rules[0].tunnel: only a protect rule names a tunnel"},
	{43, "    priority: 0", `43: rules[0].priority: "0" is no number from 1 to 1000000`},
	{46, "", "44: rules[1].tunnel: is missing"},
	{46, "    tunnel: nowhere", `46: rules[1].tunnel: tunnel "nowhere" is not defined`},
	{47, "    local: 10.0.0.0/8", "46: rules[1].tunnel: the rule's selector (10.0.0.0/8 - 10.2.0.80 tcp) is not inside the tunnel's (10.1.0.0/16 - 10.2.0.0/16)"},
	{49, "    protocol: tcp\n  - {name: more, action: drop, local: 10.1.0.0/16, remote: 10.2.0.80, protocol: tcp}", "50: rules[2]: takes the same packets as rules[1] (line 44), and neither is more specific"},
	{49, "    protocol: tcp\n  - {name: more, action: drop, local: 10.1.0.0/16, remote: 10.2.0.0/16}", "50: rules[2]: takes the same packets as tunnels[0] (line 19)"},
}

const sixtyFour = "0123456789012345678901234567890123456789012345678901234567890123"

func TestEveryFaultIsNamedWithFileLineAndKey(t *testing.T) {
	for _, c := range faults {
		text := c.text
		if c.n > 0 {
			text = edit(base, c.n, c.text)
		}
		_, err := policy.Parse("policy.yaml", []byte(text))
		if c.want == "" {
			if err != nil {
				t.Errorf("%q: %v", c.text, err)
			}
			continue
		}
		if err == nil || !hasLine(err.Error(), "policy.yaml:"+c.want) {
			t.Errorf("%q:\ngot  %v\nwant policy.yaml:%s", c.text, err, c.want)
		}
	}
}

func hasLine(text, prefix string) bool {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

func TestAllFaultsAreReportedAtOnceInOrder(t *testing.T) {
	text := edit(edit(edit(edit(edit(base, 43, "    priority: x"), 33, "    window: 1"), 21, "    local: no"), 4, "    remote: 1.2.3"), 1, "cite: x")
	_, err := policy.Parse("p.yaml", []byte(text))
	var all policy.Errors
	if !errors.As(err, &all) {
		t.Fatalf("%T", err)
	}
	var lines []string
	for _, one := range all {
		lines = append(lines, fmt.Sprint(one.Line, " ", one.Path))
	}
	want := "1 site, 1 cite, 4 peers[0].remote, 21 tunnels[0].local, 33 tunnels[0].window, 43 rules[0].priority"
	if got := strings.Join(lines, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var one *policy.Error
	if !errors.As(err, &one) || one.File != "p.yaml" {
		t.Error("a single fault cannot be taken out")
	}
}

func TestASoundFaultIsNotFollowedByOthers(t *testing.T) {
	for _, c := range []struct {
		n    int
		text string
	}{{8, "    subject: &a CN=x"}, {21, "    local: no"}, {20, "    peer:"}, {46, "    tunnel: 5"}, {12, "    dpd: 4"}, {44, "  - 7\n  - name: web"}} {
		_, err := policy.Parse("p", []byte(edit(base, c.n, c.text)))
		var all policy.Errors
		if errors.As(err, &all); len(all) != 1 {
			t.Errorf("%q gives %d faults:\n%v", c.text, len(all), err)
		}
	}
}

func TestLongLifetimesNeedTheOverride(t *testing.T) {
	text := edit(edit(base, 30, "    lifetime: 5940s\n    allow_long_lifetime: true"), 10, "    ike_lifetime: 48h\n    allow_long_lifetime: true")
	p := parse(t, text)
	if p.Tunnels[0].Lifetime != 5940*time.Second || p.Peers[0].IKELifetime != 48*time.Hour {
		t.Errorf("%s %s", p.Tunnels[0].Lifetime, p.Peers[0].IKELifetime)
	}
	if _, err := policy.Parse("p", []byte(strings.Replace(text, "allow_long_lifetime: true", "allow_long_lifetime: false", 1))); err == nil {
		t.Error("the override of one entry serves another")
	}
}

func TestAliasesAreRefused(t *testing.T) {
	_, err := policy.Parse("p", []byte("site: &a x\npeers: *a\n"))
	if err == nil || !strings.Contains(err.Error(), "p:2: peers: aliases are not allowed") {
		t.Error(err)
	}
}

func TestAFileAboveOneMebibyteIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	for _, c := range []struct {
		size int
		want string
	}{{policy.MaxFile, ""}, {policy.MaxFile + 1, "larger than 1 MiB"}} {
		text := base + "#" + strings.Repeat("x", c.size-len(base)-1)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := policy.Load(path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%d bytes: %v", c.size, err)
		}
		if err == nil && (p.Resolve("ca.crt") != filepath.Join(filepath.Dir(path), "ca.crt") || p.Resolve("/x") != "/x") {
			t.Errorf("resolved: %s", p.Resolve("ca.crt"))
		}
	}
	if _, err := policy.Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(base))
	for _, c := range faults {
		if c.n > 0 {
			f.Add([]byte(edit(base, c.n, c.text)))
		} else {
			f.Add([]byte(c.text))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := policy.Parse("policy.yaml", b)
		if err != nil {
			var all policy.Errors
			if !errors.As(err, &all) || len(all) == 0 || p != nil {
				t.Fatalf("refused without a fault: %v", err)
			}
			for _, one := range all {
				if one.Problem == "" || one.Line < 0 || one.Line > strings.Count(string(b), "\n")+strings.Count(string(b), "\r")+2 {
					t.Fatalf("a fault without place or cause: %+v", one)
				}
			}
			return
		}
		if _, err := policy.Compile(p); err != nil {
			t.Fatalf("parsed but does not compile: %v", err)
		}
		if _, err := p.BypassRules(); err != nil {
			t.Fatalf("parsed but has no routing rules: %v", err)
		}
		for _, tunnel := range p.Tunnels {
			if _, ok := p.Peer(tunnel.Peer); !ok || len(tunnel.Suites) == 0 || tunnel.Window < policy.MinWindow {
				t.Fatalf("an unusable tunnel: %+v", tunnel)
			}
		}
	})
}
