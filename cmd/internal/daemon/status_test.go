package daemon

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"yumen/cmd/internal/control"
	"yumen/cmd/internal/selftest"
	"yumen/esp"
	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/policy/trust"
)

func TestAStatusTellsWhatEngineAndDataPlaneKnow(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(s int) time.Time { return now.Add(-time.Duration(s) * time.Second) }
	later := func(s int) *time.Time { x := now.Add(time.Duration(s) * time.Second); return &x }
	net := func(s string) policy.Net { return policy.NetOf(netip.MustParsePrefix(s)) }
	sel := policy.Selector{Local: net("10.1.0.0/16"), Remote: net("10.2.0.0/16"), Protocol: 6, RemotePort: 443}
	key := secret.New([]byte("never to be told"))
	child := esp.Child{ID: 7, Tunnel: "net", Selector: sel, Suite: policy.SM4CBCHMACSM3, ICVBits: 128, ESN: true,
		Path: esp.Path{Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("192.0.2.2:4500"), Encap: true},
		In:   esp.Half{SPI: 0x100, Keymat: key}, Out: esp.Half{SPI: 0xabcdef01, Keymat: key}}
	r := reading{lives: lodging(userspace),
		policy: &policy.Policy{Site: "hq", Peers: []policy.Peer{{Name: "b"}}, Tunnels: []policy.Tunnel{{Name: "net", Peer: "b", Selector: sel, Start: policy.StartTrap}},
			Groups: []policy.Group{{Name: "dr", Members: []policy.Member{{Tunnel: "net"}}}}},
		selftest: []selftest.Result{{Name: "sm3"}, {Name: "sm4", Err: errors.New("wrong")}},
		own:      trust.Pair{Sign: trust.Certificate{Name: "CN=a", Serial: "1f", NotAfter: now}, Enc: trust.Certificate{Name: "CN=a", Serial: "20", NotAfter: now}},
		clock:    "wrong", started: ago(60),
		engine: ike.Status{HalfOpen: 2,
			Sessions: []ike.SessionStatus{{Peer: "b", Role: ike.Responder, State: "established", Version: wire.Version11, CookieI: wire.Cookie{1}, CookieR: wire.Cookie{2},
				Local: child.Path.Local, Remote: child.Path.Remote, LocalName: "CN=a", RemoteName: "CN=b", Created: ago(9), Established: ago(8),
				Expires: *later(5), NAT: "local", Deviations: []string{"x"}, Explicit: "profile: h3c"}},
			Learned: []ike.Learned{{Peer: "b", Fingerprint: "f", Dialect: "{d}"}},
			Tunnels: []ike.TunnelStatus{{Name: "net", Peer: "b", State: "up", LastFailure: ike.NoSuite, LastDetail: "why", InUse: 7,
				Children: []esp.Child{child}, Installed: []time.Time{ago(7)}, Expires: []time.Time{*later(70)}}}},
		usage: map[esp.ChildID]esp.Usage{7: {In: esp.Count{Bytes: 1, Packets: 2}, Out: esp.Count{Bytes: 3, Packets: 4}, LastIn: ago(1),
			Replayed: 5, BadAuth: 6, BadSelector: 8, EffectiveMTU: 1390}},
		server: map[string]uint64{"received": 1}, plane: map[string]uint64{"sealed": 2},
	}
	want := control.Status{
		Version: "1", Site: "hq", Plane: "userspace", Now: now, Started: ago(60), Clock: "wrong", HalfOpen: 2, Peers: []string{"b"},
		SelfTests:    control.SelfTests{Passed: 1, Failed: []string{"sm4"}},
		Certificates: []control.Certificate{{Role: "sign", Subject: "CN=a", Serial: "1f", NotAfter: now}, {Role: "enc", Subject: "CN=a", Serial: "20", NotAfter: now}},
		Sessions: []control.Session{{Peer: "b", State: "established", Version: "1.1", CookieI: "0100000000000000", CookieR: "0200000000000000",
			Local: "192.0.2.1:4500", Remote: "192.0.2.2:4500", LocalName: "CN=a", RemoteName: "CN=b", Created: ago(9), Established: later(-8),
			Expires: later(5), NAT: "local", Deviations: []string{"x"}, Explicit: "profile: h3c"}},
		Learned: []control.Learned{{Peer: "b", Fingerprint: "f", Dialect: "{d}"}},
		Tunnels: []control.Tunnel{{Name: "net", Peer: "b", State: "up", Start: "trap", Group: "dr", Plane: "userspace", Local: "10.1.0.0/16[tcp]", Remote: "10.2.0.0/16[tcp/443]",
			LastFailure: "no-suite", LastDetail: "why",
			Children: []control.Child{{ID: 7, InUse: true, Plane: "userspace", Suite: "ESP:SM4_CBC/HMAC_SM3_128", ESN: true, Encap: true,
				Local: "10.1.0.0/16[tcp]", Remote: "10.2.0.0/16[tcp/443]", Outside: "192.0.2.1:4500 > 192.0.2.2:4500", MTU: 1390,
				Installed: later(-7), Expires: later(70), In: control.Half{SPI: "00000100", Bytes: 1, Packets: 2, Last: later(-1)},
				Out: control.Half{SPI: "abcdef01", Bytes: 3, Packets: 4}, Replayed: 5, BadAuth: 6, BadPolicy: 8}}}},
		Counters: control.Counters{Datagrams: r.server, Packets: r.plane},
	}
	if got := describe(r, "1", now); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

func TestOnlyMappingsOnOurSideAreKeptOpen(t *testing.T) {
	for nat, want := range map[string]bool{"none": false, "remote": false, "": false, "local": true, "both": true, "forced": true} {
		if behindNAT(nat) != want {
			t.Errorf("%q is kept open: %v", nat, !want)
		}
	}
}
