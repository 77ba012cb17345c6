package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"yumen/policy"
)

func show(v any) string { return fmt.Sprintf("%+v", v) }

func net(t testing.TB, s string) policy.Net {
	t.Helper()
	n, err := policy.ParseNet(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestANetIsWrittenAsItIsRead(t *testing.T) {
	for _, s := range []string{
		"10.1.2.3", "10.1.0.0/16", "0.0.0.0/0", "10.0.0.1-10.0.0.4", "255.255.255.255",
		"2001:db8::1", "2001:db8::/32", "::/0", "2001:db8::1-2001:db8::ffff", "0.0.0.1-255.255.255.255",
	} {
		if got := net(t, s).String(); got != s {
			t.Errorf("%s is written %s", s, got)
		}
	}
	if got := net(t, "10.0.0.0-10.0.0.255").String(); got != "10.0.0.0/24" {
		t.Errorf("a range that is a prefix is written %s", got)
	}
	if got := (policy.Net{}).String(); got != "none" {
		t.Errorf("the zero Net is written %s", got)
	}
}

func TestANetThatIsNoneIsRefused(t *testing.T) {
	for s, want := range map[string]string{
		"":                         "no address",
		"10.1.0.0/33":              "no prefix",
		"10.1.0.5/16":              "10.1.0.0/16",
		"10.0.0.300":               "no address",
		"10.0.0.9-10.0.0.1":        "ends before",
		"10.0.0.1-2001:db8::1":     "mixes",
		"10.0.0.1-":                "no range",
		"fe80::1%eth0":             "zone",
		"::ffff:10.0.0.1":          "IPv4 inside IPv6",
		"fe80::1%a-fe80::2%a":      "zone",
		"::ffff:10.0.0.0/112":      "IPv4 inside IPv6",
		"10.0.0.1-10.0.0.2-10.0.0": "no range",
	} {
		if _, err := policy.ParseNet(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %q", s, err, want)
		}
	}
}

func TestARangeSplitsIntoTheFewestPrefixes(t *testing.T) {
	for s, want := range map[string]string{
		"10.0.0.1-10.0.0.6":       "[10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32]",
		"0.0.0.0/0":               "[0.0.0.0/0]",
		"::/0":                    "[::/0]",
		"0.0.0.0-255.255.255.254": "",
		"10.0.0.7":                "[10.0.0.7/32]",
		"::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "[::/1]",
	} {
		got := net(t, s).Prefixes()
		if want == "" {
			if len(got) != 32 {
				t.Errorf("%s splits into %d prefixes, want 32", s, len(got))
			}
		} else if fmt.Sprint(got) != want {
			t.Errorf("%s splits into %v, want %s", s, got, want)
		}
	}
	if got := (policy.Net{}).Prefixes(); got != nil {
		t.Errorf("the zero Net splits into %v", got)
	}
	worst := net(t, "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")
	if got := len(worst.Prefixes()); got != 254 {
		t.Errorf("the worst range splits into %d prefixes, want 254", got)
	}
}

func TestPrefixesOfARangeCoverItExactly(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a, b := byte(r.IntN(256)), byte(r.IntN(256))
		if b < a {
			a, b = b, a
		}
		for _, n := range []policy.Net{
			{First: netip.AddrFrom4([4]byte{10, 0, 0, a}), Last: netip.AddrFrom4([4]byte{10, 0, 0, b})},
			{First: netip.AddrFrom16([16]byte{0x20, 7: 1, 8: a}), Last: netip.AddrFrom16([16]byte{0x20, 7: 1, 8: b})},
		} {
			at := n.First
			for i, p := range n.Prefixes() {
				block := policy.NetOf(p)
				if p != p.Masked() || block.First != at || !n.ContainsNet(block) {
					t.Fatalf("%s: prefix %d is %s, want one at %s", n, i, p, at)
				}
				at = block.Last.Next()
			}
			if at != n.Last.Next() {
				t.Fatalf("%s: the prefixes end before %s", n, at)
			}
		}
	}
}

func TestContainmentAndOverlapOfNets(t *testing.T) {
	for _, c := range []struct {
		a, b               string
		contains, overlaps bool
	}{
		{"10.0.0.0/8", "10.1.0.0/16", true, true},
		{"10.1.0.0/16", "10.0.0.0/8", false, true},
		{"10.0.0.0/8", "11.0.0.0/8", false, false},
		{"10.0.0.1-10.0.0.5", "10.0.0.5-10.0.0.9", false, true},
		{"10.0.0.1-10.0.0.5", "10.0.0.6-10.0.0.9", false, false},
		{"0.0.0.0/0", "::/0", false, false},
		{"::/0", "2001:db8::1", true, true},
		{"::/0", "10.0.0.1", false, false},
	} {
		a, b := net(t, c.a), net(t, c.b)
		if a.ContainsNet(b) != c.contains || a.Overlaps(b) != c.overlaps || b.Overlaps(a) != c.overlaps {
			t.Errorf("%s and %s: contains %t, overlaps %t", a, b, a.ContainsNet(b), a.Overlaps(b))
		}
	}
	zero := policy.Net{}
	if zero.Contains(netip.MustParseAddr("10.0.0.1")) || zero.Contains(netip.Addr{}) || zero.Overlaps(zero) {
		t.Error("the zero Net holds something")
	}
	if net(t, "::/0").Contains(netip.MustParseAddr("::ffff:10.0.0.1")) != true {
		t.Error("::/0 does not hold an IPv4-mapped address, which IPv6 packets may carry")
	}
}

func TestSelectorsReverseAndNest(t *testing.T) {
	wide := policy.Selector{Local: net(t, "10.1.0.0/16"), Remote: net(t, "10.2.0.0/16")}
	ssh := policy.Selector{Local: net(t, "10.1.5.0/24"), Remote: net(t, "10.2.0.9"), Protocol: 6, RemotePort: 22}
	if !ssh.Within(wide) || wide.Within(ssh) || !wide.Overlaps(ssh) {
		t.Error("a narrower selector is not within the wider one alone")
	}
	if back := ssh.Reverse(); back.LocalPort != 22 || back.Reverse() != ssh {
		t.Errorf("reversed: %s", back)
	}
	if got, want := ssh.String(), "10.1.5.0/24 - 10.2.0.9 tcp any:22"; got != want {
		t.Errorf("written %q, want %q", got, want)
	}
	if got, want := wide.String(), "10.1.0.0/16 - 10.2.0.0/16"; got != want {
		t.Errorf("written %q, want %q", got, want)
	}
	f := policy.Flow{Local: netip.MustParseAddr("10.1.5.1"), Remote: netip.MustParseAddr("10.2.0.9"), Protocol: 6, LocalPort: 40000, RemotePort: 22, HasPorts: true}
	if !ssh.Contains(f) {
		t.Error("the selector does not take its flow")
	}
	f.HasPorts = false
	if ssh.Contains(f) || !wide.Contains(f) {
		t.Error("a flow without ports must be taken by the selector without ports alone")
	}
}

func TestWordsOfEnumerations(t *testing.T) {
	for _, c := range []struct {
		got  any
		want string
	}{
		{policy.SM4CBCHMACSM3, "sm4cbc-hmacsm3"}, {policy.SM4GCM128, "sm4gcm128"}, {policy.NoSuite, "none"},
		{policy.Suite(9), "suite(9)"}, {policy.StartNow, "start"}, {policy.StartTrap, "trap"},
		{policy.StartNone, "respond"}, {policy.Drop, "drop"}, {policy.Bypass, "bypass"},
		{policy.Protect, "protect"}, {policy.EncapForce, "force"}, {policy.CopyDSCP, "copy"},
		{policy.DSCP(0), "zero"}, {policy.DSCP(46), "46"}, {policy.DFClear, "clear"},
		{policy.ESPOnly127, "127"}, {policy.HashStdBody, "std-body"}, {policy.Remote{}, "any"},
		{policy.Local{Interface: "eth0"}, "eth0"},
		{policy.SM4CBCHMACSM3.Describe(96), "ESP:SM4_CBC/HMAC_SM3_96"},
		{policy.SM4GCM128.Describe(96), "ESP:SM4_GCM_128"},
	} {
		if got := fmt.Sprint(c.got); got != c.want {
			t.Errorf("%#v is written %q, want %q", c.got, got, c.want)
		}
	}
}
