package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"yumen/policy"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// healthy is a machine on which nothing is wrong; each test spoils one thing.
func healthy(t *testing.T) *Facts {
	t.Helper()
	net := func(s string) policy.Net {
		n, err := policy.ParseNet(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	peer := netip.MustParseAddr("192.0.2.2")
	return &Facts{
		Settings: standard(),
		Policy: &policy.Policy{
			Peers: []policy.Peer{{Name: "b", Remote: policy.Remote{Addr: peer}}},
			Tunnels: []policy.Tunnel{{Name: "ab", Peer: "b", ICVBits: 96, Suites: []policy.Suite{policy.SM4CBCHMACSM3},
				Selector: policy.Selector{Local: net("10.1.0.0/16"), Remote: net("10.2.0.0/16")}}},
		},
		Now: noon, Built: noon.AddDate(0, -1, 0), Synced: true,
		Kernel: Kernel{Release: "6.1.0-56-amd64", Major: 6, Minor: 1, Debian: true, XFRM: true,
			Crypto:   map[string]bool{"sm4": true, "sm3": true},
			Config:   map[string]string{"XFRM_USER": "m", "CRYPTO_AUTHENC": "m", "CRYPTO_ECHAINIV": "y", "INET_ESP": "m"},
			Loadable: map[string]bool{"xfrm_user": true, "crypto-authenc": true, "esp4": true}},
		Rights: 1<<capNetAdmin | 1<<capNetBind | 1<<capNetRaw | 1<<capIPCLock,
		Sysctl: map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "0", "core/xfrm_larval_drop": "1",
			"core/xfrm_acq_expires": "30", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/eth0/rp_filter": "0"},
		NFT: true, Firewall: &Ruleset{},
		Paths: []Path{{Peer: "b", Addr: peer, Interface: "eth0", MTU: 1500}},
		Links: []Link{{Name: "lo"}, {Name: "eth0", Nets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		Files: []File{{What: "own signature certificate", Path: "sign.crt", NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0)}},
	}
}

// A configuration of the userspace plane alone is not told what the kernel lacks.
func TestWhatDataplaneSaysDecidesWhatIsMissed(t *testing.T) {
	f := healthy(t)
	f.Settings.Dataplane, f.Kernel = "user", Kernel{Release: "4.19", Major: 4, Minor: 19, XFRM: true}
	f.Sysctl["core/xfrm_acq_expires"] = "0"
	r := Examine(f)
	if s := text(r); r.Fails+r.Warnings != 0 || !strings.Contains(s, "userspace plane, as dataplane: user says") ||
		strings.Contains(s, "4.19") || strings.Contains(s, "CONFIG_") || strings.Contains(s, "larval") {
		t.Errorf("%s", s)
	}
	f = healthy(t)
	f.Settings.Dataplane, f.TunDevice = "kernel", errors.New("gone")
	r = Examine(f)
	if s := text(r); r.Fails+r.Warnings != 0 || !strings.Contains(s, "kernel plane, as dataplane: kernel says") {
		t.Errorf("%s", s)
	}
	f = healthy(t)
	delete(f.Kernel.Crypto, "sm3")
	if s := text(Examine(f)); !strings.Contains(s, "userspace plane only, which dataplane: auto takes; the kernel plane lacks CONFIG_CRYPTO_SM3_GENERIC") {
		t.Errorf("%s", s)
	}
}

// What only userspace can do keeps a gateway of the kernel plane alone from starting.
func TestTunnelsBeyondTheKernelAreTold(t *testing.T) {
	for name, change := range map[string]func(t *policy.Tunnel){
		"children: 2": func(t *policy.Tunnel) { t.Children = 2 }, "DSCP 46": func(t *policy.Tunnel) { t.Outer.DSCP = 46 },
		"always set DF": func(t *policy.Tunnel) { t.Outer.DF = policy.DFSet }, "icv_bits": func(t *policy.Tunnel) { t.ICVBits = policy.ICVAuto },
	} {
		for _, dataplane := range []string{dataplaneAuto, dataplaneKernel, dataplaneUser} {
			f := healthy(t)
			change(&f.Policy.Tunnels[0])
			f.Settings.Dataplane = dataplane
			found := only(f, "suite")
			want := 0
			if dataplane == dataplaneKernel {
				want = 1
			}
			if len(found) != want || want == 1 && (found[0].Level != Fail || !strings.Contains(found[0].Text, name) || found[0].Fix == "") {
				t.Errorf("%s, dataplane: %s: %+v", name, dataplane, found)
			}
		}
	}
}

func TestHealthyMachineHasNothingWrong(t *testing.T) {
	r := Examine(healthy(t))
	if r.Fails != 0 || r.Warnings != 0 {
		var b bytes.Buffer
		_ = r.WriteText(&b)
		t.Fatalf("%d wrong, %d warnings:\n%s", r.Fails, r.Warnings, &b)
	}
	for _, want := range []string{"kernel and userspace plane", "packets of 1422 bytes", "365 days left"} {
		if !strings.Contains(text(r), want) {
			t.Errorf("no %q in\n%s", want, text(r))
		}
	}
}

func text(r Report) string {
	var b bytes.Buffer
	_ = r.WriteText(&b)
	return b.String()
}

// TestEachFaultIsOneLineWithItsFix spoils one thing at a time.
func TestEachFaultIsOneLineWithItsFix(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*Facts)
		check string
		level Level
		text  string
		fix   string
	}{
		{"an old kernel", func(f *Facts) { f.Kernel.Release, f.Kernel.Major, f.Kernel.Minor = "5.10.0", 5, 10 },
			"suite", Note, "impossible: Linux 5.10.0 is older than 5.17", "5.17"},
		{"Debian without SM4", func(f *Facts) { f.Kernel.Crypto = map[string]bool{} },
			"suite", Note, "lacks CONFIG_CRYPTO_SM4_GENERIC, CONFIG_CRYPTO_SM3_GENERIC", "yumen-sm-dkms"},
		{"a module left out", func(f *Facts) { delete(f.Kernel.Loadable, "esp4") },
			"suite", Note, "module esp4 (CONFIG_INET_ESP=m, but the module is not installed)", "modules of this kernel"},
		{"tried in vain", func(f *Facts) { f.Kernel.Tried = Trial{Done: true, Fault: "no such file"} },
			"suite", Note, "lacks something (tried: no such file)", "modules of this kernel"},
		{"SM4-GCM without TUN", func(f *Facts) {
			f.TunDevice, f.Policy.Tunnels[0].Suites = fs.ErrNotExist, []policy.Suite{policy.SM4GCM128}
		}, "suite", Fail, "no plane", "tun"},
		{"no plane at all", func(f *Facts) { f.TunDevice, f.Kernel.Major = fs.ErrNotExist, 4 }, "suite", Fail, "no TUN device", "5.17"},
		{"no large UDP packets", func(f *Facts) {
			f.Offloads = Offloads{Tried: true, Have: []string{"tun-tso", "udp-gro"}, Lacks: []string{"tun-uso", "udp-segment"}}
		}, "offloads", Note, "finds tun-tso udp-gro; it does one by one", "tun-uso from Linux 6.2 on, udp-segment from Linux 4.18 on"},
		{"no offload at all", func(f *Facts) { f.Offloads = Offloads{Tried: true, Lacks: []string{"multi-queue"}} },
			"offloads", Note, "finds none", "multi-queue from Linux 3.8 on"},
		{"all offloads", func(f *Facts) { f.Offloads = Offloads{Tried: true, Have: []string{"udp-gro"}} }, "offloads", OK, "finds udp-gro", ""},
		{"no TUN", func(f *Facts) { f.TunDevice = errors.New("gone") }, "tun", Fail, "gone", "modprobe tun"},
		{"no rights", func(f *Facts) { f.Rights = 1 << capNetRaw }, "rights", Fail, "CAP_NET_BIND_SERVICE, CAP_NET_ADMIN", "root"},
		{"little memory to lock", func(f *Facts) { f.Rights, f.MemoryLock = f.Rights&^(1<<capIPCLock), 64<<10 },
			"memlock", Warn, "64 KiB", "LimitMEMLOCK"},
		{"no forwarding", func(f *Facts) { f.Sysctl["ipv4/ip_forward"] = "0" }, "forwarding", Fail, "net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1"},
		{"a strict filter", func(f *Facts) { f.Sysctl["ipv4/conf/eth0/rp_filter"] = "1" }, "rp_filter", Warn, "eth0", "rp_filter=2"},
		{"a strict filter for all", func(f *Facts) { f.Sysctl["ipv4/conf/all/rp_filter"] = "1" }, "rp_filter", Warn, "eth0", "rp_filter=2"},
		{"larval packets are lost", func(f *Facts) {}, "xfrm-sysctl", Note, "larval_drop is 1", "=0"},
		{"user without TUN", func(f *Facts) { f.TunDevice, f.Settings.Dataplane = fs.ErrNotExist, "user" }, "suite", Fail, "dataplane is user", "tun"},
		{"kernel wanted and old", func(f *Facts) { f.Kernel.Major, f.Settings.Dataplane = 4, "kernel" }, "suite", Fail, "will not start", "dataplane: auto"},
		{"kernel wanted without SM4", func(f *Facts) {
			f.Settings.Dataplane = "kernel"
			delete(f.Kernel.Crypto, "sm4")
		}, "suite", Fail, "will not start; the kernel plane lacks CONFIG_CRYPTO_SM4_GENERIC", "make dkms"},
		{"kernel wanted for GCM", func(f *Facts) {
			f.Settings.Dataplane, f.Policy.Tunnels[0].Suites = "kernel", []policy.Suite{policy.SM4GCM128}
		}, "suite", Fail, "dataplane is kernel", "dataplane: auto"},
		{"acquires for ever", func(f *Facts) { f.Sysctl["core/xfrm_acq_expires"] = "0" }, "xfrm-sysctl", Warn, "acq_expires", "=30"},
		{"a default of block", func(f *Facts) { f.XFRM.BlockDefault = "in out" }, "xfrm-sysctl", Warn, "in out", "setdefault"},
		{"no xfrm outside", func(f *Facts) { f.Sysctl["ipv4/conf/eth0/disable_xfrm"] = "1" }, "xfrm-sysctl", Warn, "disable_xfrm is on for eth0", "disable_xfrm=0"},
		{"no nft and no xfrm", func(f *Facts) { f.NFT, f.Kernel.XFRM = false, false }, "nft", Fail, "guard", "nftables"},
		{"no nft", func(f *Facts) { f.NFT = false }, "nft", Warn, "not installed", "nftables"},
		{"no nft for IPv6", func(f *Facts) {
			n := policy.NetOf(netip.MustParsePrefix("fd01::/64"))
			f.NFT, f.Policy.Tunnels[0].Selector.Local = false, n
			f.Sysctl["ipv6/conf/all/forwarding"] = "1"
		}, "nft", Fail, "no guard for IPv6", "nftables"},
		{"another daemon", func(f *Facts) { f.Sockets = []Socket{{Port: 500, PID: 7, Program: "charon"}} }, "ports", Fail, "charon (process 7)", "strongswan-starter"},
		{"a hidden daemon", func(f *Facts) { f.Sockets = []Socket{{Port: 4500}} }, "ports", Fail, "UDP port 4500", "ss -ulnp"},
		{"foreign states", func(f *Facts) { f.XFRM.ForeignStates = []string{"a -> b spi 0x1"} }, "xfrm", Warn, "1 IPsec states", "ip xfrm state"},
		{"foreign policies", func(f *Facts) { f.XFRM.ForeignPolicies = []string{"out x", "in y", "fwd z", "w"} }, "xfrm", Warn, "4 IPsec policies", "ip xfrm policy"},
		{"a rule among ours", func(f *Facts) { f.Rules = []Rule{{Priority: 5000}} }, "rules", Fail, "ip rule 5000", "rule_priority"},
		{"a rule before ours", func(f *Facts) { f.Rules = []Rule{{Priority: 100, Bare: true, Table: 7}} }, "rules", Warn, "table 7", "rule_priority below 100"},
		{"a networkd that removes routes", func(f *Facts) { f.Networkd = Networkd{Runs: true, Rules: true} }, "networkd", Warn, "ours too", "yumen-networkd.conf"},
		{"a networkd that removes rules", func(f *Facts) { f.Networkd = Networkd{Runs: true, Routes: true} }, "networkd", Warn, "ours too", "yumen-networkd.conf"},
		{"a shared table", func(f *Facts) { f.TableUsers = []string{"10.9.0.0/16"} }, "rules", Fail, "table 4950", "table"},
		{"a narrow path", func(f *Facts) { f.Paths[0].MTU = 1400 }, "mtu", Warn, "1400 bytes, mtu says 1500", "mtu: 1400"},
		{"no path", func(f *Facts) { f.Paths[0].Fault = "no route to 192.0.2.2" }, "path", Fail, "no route", "route"},
		{"a container in the way", func(f *Facts) {
			f.Links = append(f.Links, Link{Name: "docker0", Nets: []netip.Prefix{netip.MustParsePrefix("10.2.8.0/24")}})
		}, "overlap", Warn, "10.2.8.0/24 of interface docker0", "bip"},
		{"a clock of 1970", func(f *Facts) { f.Now = time.Unix(0, 0) }, "clock", Fail, "1970-01-01", "set-ntp"},
		{"a clock that drifts", func(f *Facts) { f.Synced = false }, "clock", Warn, "nothing keeps", "set-ntp"},
		{"a certificate that ends soon", func(f *Facts) { f.Files[0].NotAfter = noon.AddDate(0, 0, 5) }, "certificate", Warn, "5 days", "pki"},
		{"a certificate that ended", func(f *Facts) { f.Files[0].NotAfter = noon.AddDate(0, 0, -5) }, "certificate", Fail, "2026-05-27", "pki"},
		{"a certificate of tomorrow", func(f *Facts) { f.Files[0].NotBefore = noon.AddDate(0, 0, 1) }, "certificate", Fail, "only from 2026-06-02", "clock"},
		{"a stale CRL", func(f *Facts) { f.Files[0].CRL, f.Files[0].NotAfter = true, noon.Add(-time.Hour) }, "certificate", Fail, "past its time", "newest list"},
		{"a CRL for ever", func(f *Facts) { f.Files[0].CRL, f.Files[0].NotAfter = true, time.Time{} }, "certificate", Fail, "not until when", "newest list"},
		{"a missing file", func(f *Facts) { f.Files[0].Fault = "no such file" }, "certificate", Fail, "no such file", "check"},
		{"no configuration", func(f *Facts) { f.Policy, f.ConfigFault = nil, "x.yaml:3: bad" }, "config", Fail, "x.yaml:3: bad", "yumen check"},
		{"a blind eye", func(f *Facts) { f.Blind = []string{"nftables could not be looked at"} }, "gathering", Warn, "nftables", "root"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := healthy(t)
			test.spoil(f)
			r := Examine(f)
			for _, one := range r.Findings {
				if one.Check == test.check && one.Level == test.level && strings.Contains(one.Text, test.text) {
					if !strings.Contains(one.Fix, test.fix) || strings.Contains(one.Text+one.Fix, "\n") {
						t.Errorf("fix %q, want one line with %q", one.Fix, test.fix)
					}
					if (test.level == Fail) != (r.Fails > 0) {
						t.Errorf("%d things wrong of level %s", r.Fails, test.level)
					}
					return
				}
			}
			t.Errorf("no %s of %s with %q in\n%s", test.level, test.check, test.text, text(r))
		})
	}
}

func TestWhatWasTriedCountsMoreThanOptions(t *testing.T) {
	f := healthy(t)
	f.Kernel.Crypto, f.Kernel.Config, f.Kernel.Loadable = nil, nil, nil
	f.Kernel.Tried = Trial{Done: true}
	if r := Examine(f); !strings.Contains(text(r), "kernel and userspace plane") {
		t.Error(text(r))
	}
}

func TestManagedForwardingIsLeftToTheGateway(t *testing.T) {
	f := healthy(t)
	f.Sysctl["ipv4/ip_forward"], f.Settings.ManageSysctl = "0", true
	if r := Examine(f); r.Fails != 0 {
		t.Error(text(r))
	}
}

func TestOwnSocketsAndRulesAreNoFault(t *testing.T) {
	f := healthy(t)
	f.Sockets = []Socket{{Port: 500, PID: 7, Program: "yumen"}}
	f.Rules = []Rule{{Priority: 4950, Ours: true}, {Priority: 0}, {Priority: 32766, Bare: true, Table: 254}}
	if r := Examine(f); r.Fails+r.Warnings != 0 {
		t.Error(text(r))
	}
}

func TestReportForMachinesHasWordsAndCounts(t *testing.T) {
	f := healthy(t)
	f.Synced = false
	b, err := json.Marshal(Examine(f))
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Findings []struct{ Check, Level, Text, Fix string }
		Fails    *int
		Warnings int
	}
	if err := json.Unmarshal(b, &back); err != nil || back.Fails == nil || *back.Fails != 0 || back.Warnings != 1 {
		t.Fatalf("%v: %s", err, b)
	}
	for _, one := range back.Findings {
		if one.Check == "clock" && one.Level != "warn" {
			t.Errorf("the level of clock is %q", one.Level)
		}
	}
}

func TestTextsOfTheKernelAreRead(t *testing.T) {
	crypto := ParseCrypto("name         : cbc(sm4)\ndriver       : cbc-sm4-aesni-avx2\n\nname         : sm3\n")
	if !crypto["cbc(sm4)"] || !crypto["sm3"] || len(crypto) != 2 {
		t.Errorf("crypto: %v", crypto)
	}
	config := ParseKernelConfig("# CONFIG_CRYPTO_SM3_GENERIC is not set\nCONFIG_INET_ESP=m\nCONFIG_XFRM=y\nCONFIG_HZ=250\nCONFIG_LOCALVERSION=\"\"\n")
	if fmt.Sprint(config) != "map[INET_ESP:m XFRM:y]" {
		t.Errorf("config: %v", config)
	}
	const udp = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n" +
		"  512: 0100007F:01F4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 31337 2 0000 0\n" +
		"  513: 000080FE00000000FF005450B6AD1DFE:1194 00000000000000000000000000000000:0000 07 0:0 00:0 0     0        0 31338 2 0000 0\n"
	got := ParseSockets(udp)
	if len(got) != 2 || got[0].Addr.String() != "127.0.0.1" || got[0].Port != 500 || got[0].Inode != "31337" ||
		got[1].Addr.String() != "fe80::5054:ff:fe1d:adb6" || got[1].Port != 4500 {
		t.Errorf("sockets: %v", got)
	}
}
