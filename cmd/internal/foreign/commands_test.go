package foreign_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"yumen/cmd/internal/foreign"
	"yumen/policy"
	"yumen/test/golden"
)

// sheet is our policy as these tests have it; %s are more keys of the peer and of
// the tunnel.
const sheet = `site: a
peers:
  - name: far
    remote: 198.51.100.7
    local: 192.0.2.1
    ca: ca.crt
    subject: "CN=gw-b,OU=Net,O=Lab,C=CN"
    ike_lifetime: 12h
    dpd: {interval: 20s, tries: 4}
%s
tunnels:
  - name: office
    peer: far
    local: 10.1.0.0/16
    remote: 10.2.0.0/17
    lifetime: 30m
    bytes: 1048576KiB
%s`

func link(t *testing.T, peerKeys, tunnelKeys string) foreign.Link {
	t.Helper()
	p, err := policy.Parse("a.yaml", []byte(fmt.Sprintf(sheet, peerKeys, tunnelKeys)))
	if err != nil {
		t.Fatal(err)
	}
	return foreign.Link{Peer: p.Peers[0], Tunnel: p.Tunnels[0], Our: p.Peers[0].Local.Addr,
		OurSign: "CN=gw-a,O=Lab,C=CN", OurEnc: "CN=gw-a enc,O=Lab,C=CN"}
}

func commands(t *testing.T, v foreign.Vendor, l foreign.Link) foreign.Script {
	t.Helper()
	s, err := foreign.Commands(v, l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCommandsForEachVendorMirrorOurPolicy(t *testing.T) {
	for v, profile := range map[foreign.Vendor]string{foreign.H3C: "h3c-draft", foreign.Huawei: "huawei", foreign.Hillstone: "hillstone-v1.1"} {
		s := commands(t, v, link(t, "    profile: "+profile, ""))
		golden.Check(t, "testdata/"+v.String()+".commands", []byte(strings.Join(s.Lines, "\n")+"\n"))
		for _, f := range s.Fill {
			if !strings.Contains(strings.Join(s.Lines, "\n"), f.Word) || f.What.ZH == "" || f.What.EN == "" {
				t.Errorf("%v: %+v", v, f)
			}
		}
		for _, r := range s.Remarks {
			if r.ZH == "" || r.EN == "" {
				t.Errorf("%v: %+v", v, r)
			}
		}
	}
}

// A box that was set up with our commands is imported as what we had.
func TestCommandsComeBackThroughImport(t *testing.T) {
	for _, c := range []struct {
		v            foreign.Vendor
		peer, tunnel string
	}{
		{foreign.H3C, "    profile: h3c", ""},
		{foreign.H3C, "    profile: h3c-draft", "    esn: true"},
		{foreign.H3C, "    profile: h3c\n    dialect: {id_type: fqdn, id: gw-a.example, peer_id: gw-b.example}", "    protocol: tcp\n    local_port: 443"},
		{foreign.H3C, "    profile: h3c\n    dialect: {id_type: ip, id: 192.0.2.1}", "    protocol: udp\n    remote_port: 53"},
		{foreign.Huawei, "    profile: huawei", ""},
		{foreign.Huawei, "    profile: huawei\n    dialect: {dpd_order: notify-first, nat_t: true}", "    protocol: icmp"},
		{foreign.Huawei, "    profile: huawei\n    dialect: {id_type: user-fqdn, id: \"a@b.example\", peer_id: gw-b.example}", ""},
	} {
		want := link(t, c.peer, c.tunnel)
		d, p := drafted(t, c.v, []byte(strings.Join(commands(t, c.v, want).Lines, "\n")))
		got, tunnel := p.Peers[0], p.Tunnels[0]
		got.Name, got.CA, tunnel.Peer = want.Peer.Name, want.Peer.CA, want.Tunnel.Peer
		if c.v == foreign.H3C {
			got.DPD.Tries = want.Peer.DPD.Tries // Comware does not count them
		}
		if got != want.Peer {
			t.Errorf("%v %s:\n%+v\n%+v", c.v, c.peer, got, want.Peer)
		}
		if fmt.Sprint(tunnel) != fmt.Sprint(want.Tunnel) {
			t.Errorf("%v %s:\n%+v\n%+v", c.v, c.tunnel, tunnel, want.Tunnel)
		}
		for _, f := range d.Findings {
			if f.Change || strings.Contains(f.Reason, "not known here") {
				t.Errorf("%v: our own command comes back as %+v", c.v, f)
			}
		}
	}
}

func TestIPv6ComesBackToo(t *testing.T) {
	l := link(t, "    profile: h3c", "")
	l.Our, l.Peer.Local.Addr, l.Peer.Remote.Addr = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::7")
	l.Tunnel.Selector.Local, _ = policy.ParseNet("2001:db8:1::/48")
	l.Tunnel.Selector.Remote, _ = policy.ParseNet("2001:db8:2::/48")
	_, p := drafted(t, foreign.H3C, []byte(strings.Join(commands(t, foreign.H3C, l).Lines, "\n")))
	if p.Tunnels[0].Selector != l.Tunnel.Selector || p.Peers[0].Remote != l.Peer.Remote || p.Peers[0].Local != l.Peer.Local {
		t.Errorf("%+v", p)
	}
}

func TestWhatWeCannotKnowIsAPlaceholderThatABoxRefuses(t *testing.T) {
	l := link(t, "", "")
	l.Our = netip.Addr{}
	for _, v := range []foreign.Vendor{foreign.H3C, foreign.Huawei, foreign.Hillstone} {
		if text := strings.Join(commands(t, v, l).Lines, "\n"); !strings.Contains(text, "<YUMEN-ADDRESS>") {
			t.Errorf("%v:\n%s", v, text)
		}
	}
}

func TestKnobsWithoutACommandAreTold(t *testing.T) {
	l := link(t, "    dialect: {sk_encoding: c1c3c2, esp_icv_bits: 256}", "")
	for _, v := range []foreign.Vendor{foreign.H3C, foreign.Huawei, foreign.Hillstone} {
		said := fmt.Sprint(commands(t, v, l).Remarks)
		if !strings.Contains(said, "sk_encoding: c1c3c2") || !strings.Contains(said, "256 bits") {
			t.Errorf("%v: %s", v, said)
		}
	}
	l.Peer.PreShared.Used = true
	if _, err := foreign.Commands(foreign.H3C, l); err == nil {
		t.Error("commands for a peer that is not GB/T 36968")
	}
}
