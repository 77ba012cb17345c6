package control

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"yumen/test/golden"
)

// sample is a gateway with something of everything.
func sample() Status {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { t := now.Add(-d); return &t }
	in := func(d time.Duration) *time.Time { t := now.Add(d); return &t }
	const day = 24 * time.Hour
	up := Session{Peer: "b", State: "established", Version: "1.1", Initiator: true, CookieI: "9f3a000000000fc1", CookieR: "41d000000000007e",
		Local: "192.0.2.1:500", Remote: "198.51.100.7:500", LocalName: "C=CN, O=A, CN=gw1", RemoteName: "C=CN, O=B, CN=gw2",
		Created: *ago(813 * time.Second), Established: ago(812 * time.Second), Rekey: in(22*time.Hour + 51*time.Minute),
		Expires: in(23 * time.Hour), CertExpires: in(211 * day), NAT: "none", Deviations: []string{"phase-1 SM4 number: ike_sm4_id: 127"},
		Explicit: "profile: h3c-draft"}
	half := Session{State: "connecting", Version: "1.1", CookieI: "0102030405060708", CookieR: "1112131415161718",
		Local: "[2001:db8::1]:4500", Remote: "[2001:db8::7]:4500", LocalName: "C=CN, O=A, CN=gw1", Created: *ago(3 * time.Second), NAT: "remote"}
	net := Child{ID: 12, InUse: true, Plane: "kernel", Suite: "ESP:SM4_CBC/HMAC_SM3_96", Local: "10.1.0.0/16", Remote: "10.2.0.0/16",
		Outside: "192.0.2.1 > 198.51.100.7", MTU: 1390, Installed: ago(time.Minute), Expires: in(50 * time.Minute),
		In:  Half{SPI: "c4a1b2c3", Bytes: 913244, Packets: 1204, Last: ago(0)},
		Out: Half{SPI: "5d6e7f80", Bytes: 801122, Packets: 1190, Last: ago(2 * time.Second)}, Replayed: 1, BadAuth: 2, BadPolicy: 3}
	next := Child{ID: 13, Plane: "userspace", Suite: "ESP:SM4_GCM_128", Lane: 2, ESN: true, Encap: true, Local: "10.1.0.0/16", Remote: "10.2.0.0/16",
		In: Half{SPI: "00000100"}, Out: Half{SPI: "00000101"}}
	return Status{
		Version: "1.0", Site: "hq", Plane: "kernel+userspace", Now: now, Started: *ago(2*time.Hour + 3*time.Minute), HalfOpen: 1,
		Userspace: &Userspace{Crypto: "generic", Offloads: []string{"tun-tso", "udp-segment"}, Missing: []string{"tun-uso"}},
		Clock:     "2026-03-01 12:00 lies before 2026-06-01 00:00, when this program was built", Warnings: []string{"net.ipv4.ip_forward is 0"},
		Certificates: []Certificate{{"sign", "C=CN, O=A, CN=gw1", "1f", *in(90 * day)}, {"enc", "C=CN, O=A, CN=gw1", "20", *ago(day)}},
		Peers:        []string{"b", "c"},
		Sessions:     []Session{up, half},
		Learned:      []Learned{{"b", strings.Repeat("ab", 32), "{ike_sm4_id: 127, esp_sm4_id: 127}"}},
		Tunnels: []Tunnel{
			{Name: "net", Peer: "b", State: "up", Plane: "kernel", Local: "10.1.0.0/16", Remote: "10.2.0.0/16", Children: []Child{net, next}},
			{Name: "lab", Peer: "b", State: "connecting", Plane: "kernel", Local: "10.8.0.0/16", Remote: "10.9.0.0/16",
				LastFailure: "no-proposal", LastDetail: "peer refused", NextTry: in(30 * time.Second)},
			{Name: "far", Peer: "c", State: "stopped", Plane: "userspace", Local: "0.0.0.0/0", Remote: "10.7.0.0/16", LastFailure: "operator"},
		},
		Groups: []Group{
			{Name: "dr", Mode: "active-standby", Carries: []string{"dr-b"}, Works: true, Flips: map[string]uint64{"start": 1, "probe-lost": 2},
				Probe: Probe{Interval: 100, Lost: 3, Recover: 10},
				Last:  &Flip{At: *ago(40 * time.Second), From: []string{"dr-a"}, To: []string{"dr-b"}, Reason: "probe-lost", Cause: "dr-a"},
				Paths: []Path{
					{Tunnel: "dr-a", State: "down", Why: "drill", Since: ago(40 * time.Second), Priority: 1, Weight: 1, Loss: 62, RTT: 1.25, Jitter: 0.5,
						Probes: 1000, Lost: 400, Failed: in(20 * time.Second)},
					{Tunnel: "dr-b", State: "good", Since: ago(time.Hour), Carries: true, Priority: 2, Weight: 1, RTT: 3.5, Jitter: 0.125, Probes: 36000}}},
			{Name: "lan", Mode: "load-share", Carries: []string{"x", "y"}, Paths: []Path{
				{Tunnel: "x", State: "down", Why: "probe-lost", Carries: true, Priority: 1, Weight: 3, Loss: 100},
				{Tunnel: "y", State: "down", Why: "link-down", Carries: true, Priority: 1, Weight: 1, Loss: 100}}},
			{Name: "far", Mode: "active-standby", Carries: []string{"m"}, Works: true, Paths: []Path{
				{Tunnel: "m", State: "unanswered", Why: "probe-lost", Carries: true, Priority: 1, Weight: 1, Loss: 100, Probes: 50, Lost: 50,
					Unsent: "probe m: no address of this host lies in its local selector"}}},
			{Name: "new", Mode: "active-standby", Carries: []string{}, Paths: []Path{{Tunnel: "n", State: "down", Why: "no-child", Priority: 1, Weight: 1}}},
		},
		Refusals: []Refusal{
			{At: *ago(time.Minute), Claimed: true, Remote: "[2001:db8::9]:500", Reason: "certificate-unknown-ca"},
			{At: *ago(9 * time.Second), Peer: "c", Claimed: true, Remote: "203.0.113.7:500", Reason: "certificate-revoked", Detail: "peer c: serial 7"},
			{At: *ago(31 * time.Second), Peer: "b", Tunnel: "lab", Reason: "peer-refused"},
		},
	}
}

func TestTheTextOfAStatusIsAsEngineersKnowIt(t *testing.T) {
	var b bytes.Buffer
	if err := WriteText(&b, sample()); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/status.txt", b.Bytes())
}

func TestTheJSONOfAStatusKeepsItsNames(t *testing.T) {
	b, err := json.MarshalIndent(sample(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/status.json", append(b, '\n'))
}

func TestSpansUseTwoUnitsAtMost(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 812 * time.Second: "812s", 20 * time.Minute: "0h20m", 22*time.Hour + 51*time.Minute: "22h51m",
		47*time.Hour + 59*time.Minute: "47h59m", 211 * 24 * time.Hour: "211d",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// TestNoWordOfTheConversationIsAKey: the types have no field that could carry
// one, whatever a later version fills in.
func TestNoWordOfTheConversationIsAKey(t *testing.T) {
	b, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"keymat", "secret", "private", "skey", `"key`} {
		if strings.Contains(strings.ToLower(string(b)), word) {
			t.Errorf("a status speaks of %q", word)
		}
	}
}

func TestTheTextSaysWhichPeerIsNotGM(t *testing.T) {
	s := Status{Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Peers: []string{"swan"},
		Sessions: []Session{{Peer: "swan", State: "connecting", Version: "1.0", NonGM: "rfc2409-psk", Suite: "AES_CBC_128/SHA2_256/MODP_2048/PSK"}}}
	var b strings.Builder
	if err := WriteText(&b, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"swan: #1, CONNECTING, NOT GM (rfc2409-psk)/1.0, ", "\n  AES_CBC_128/SHA2_256/MODP_2048/PSK\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "SM2-envelope") {
		t.Errorf("a suite that it does not have:\n%s", b.String())
	}
}
