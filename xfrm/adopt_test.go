package xfrm

import (
	"net/netip"
	"testing"

	"yumen/esp/ours"
	"yumen/policy"
)

// What a process before sent by is taken over for the same traffic and the same peer
// only, whatever the tunnel is called.
func TestALeftTemplateMustFitTheTunnelOfNow(t *testing.T) {
	const reqid = ours.Reqid | 1
	there, elsewhere := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.9")
	left := func(src, dst string, protocol uint8) placed {
		return placed{selector: selector{dir: dirOut, src: netip.MustParsePrefix(src), dst: netip.MustParsePrefix(dst), protocol: protocol},
			template: &template{src: netip.MustParseAddr("192.0.2.1"), dst: there, spi: 0x1000, reqid: reqid}}
	}
	idled := left("10.1.0.0/16", "10.9.0.0/16", 0)
	idled.template.spi = 0
	for _, c := range []struct {
		name           string
		remote         policy.Remote
		selector       policy.Selector
		left           []placed
		taken, strange bool
	}{
		{"the same", policy.Remote{Addr: there}, sel("10.1.0.0/16", "10.2.0.0/16"), []placed{left("10.1.0.0/16", "10.2.0.0/16", 0)}, true, false},
		{"a wider tunnel", policy.Remote{Any: true}, sel("10.0.0.0/8", "10.2.0.0/16"), []placed{left("10.1.0.0/16", "10.2.0.0/16", 6)}, true, false},
		{"a peer by name", policy.Remote{FQDN: "b"}, sel("10.1.0.0/16", "10.2.0.0/16"), []placed{left("10.1.0.0/16", "10.2.0.0/16", 0)}, true, false},
		{"the peer is elsewhere", policy.Remote{Addr: elsewhere}, sel("10.1.0.0/16", "10.2.0.0/16"), []placed{left("10.1.0.0/16", "10.2.0.0/16", 0)}, false, false},
		{"a narrower tunnel", policy.Remote{Addr: there}, sel("10.1.0.0/16", "10.2.3.0/24"), []placed{left("10.1.0.0/16", "10.2.0.0/16", 0)}, false, true},
		{"other traffic", policy.Remote{Addr: there}, sel("10.1.0.0/16", "10.3.0.0/16"), []placed{left("10.1.0.0/16", "10.2.0.0/16", 0)}, false, true},
		{"another protocol", policy.Remote{Addr: there}, policy.Selector{Local: sel("10.1.0.0/16", "10.2.0.0/16").Local,
			Remote: sel("10.1.0.0/16", "10.2.0.0/16").Remote, Protocol: 17}, []placed{left("10.1.0.0/16", "10.2.0.0/16", 0)}, false, true},
		{"one policy of two", policy.Remote{Addr: there}, sel("10.1.0.0/16", "10.2.0.0/16"),
			[]placed{left("10.1.0.0/16", "10.2.0.0/17", 0), left("10.1.0.0/16", "10.5.0.0/16", 0)}, true, true},
		{"idle ones do not count", policy.Remote{Addr: there}, sel("10.1.0.0/16", "10.2.0.0/16"),
			[]placed{idled, left("10.1.0.0/16", "10.2.0.0/16", 0)}, true, false},
	} {
		p := &Plane{policy: &policy.Policy{Peers: []policy.Peer{{Name: "b", Remote: c.remote}},
			Tunnels: []policy.Tunnel{{Name: "t", Peer: "b", Selector: c.selector}}}}
		templates, strange := p.leftTemplates(map[uint32]string{reqid: "t"}, c.left)
		if _, taken := templates["t"]; taken != c.taken || strange["t"] != c.strange {
			t.Errorf("%s: taken %t, strange %t", c.name, taken, strange["t"])
		}
	}
}
