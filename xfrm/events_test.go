package xfrm

import (
	"net/netip"
	"testing"

	"yumen/esp"
)

// The kernel says of every packet from another place that it came, until the SA is
// moved: each place is told once for a while, and never as the newest packet.
func TestPacketsFromElsewhereAreToldOnceAndNotAsTheNewest(t *testing.T) {
	gate, home := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddrPort("198.51.100.1:4500")
	c := esp.Child{ID: 7, Tunnel: "a", Path: esp.Path{Remote: home, Encap: true}}
	p := &Plane{events: make(chan esp.Event, 16), pairs: map[esp.ChildID]*pair{
		7: {child: c, in: state{spi: 0x1234, dst: gate}, out: state{spi: 0x4321, dst: home.Addr()}}}}
	from := func(remote string) {
		p.hear(notice{kind: mapped, dst: gate, spi: 0x1234, remote: netip.MustParseAddrPort(remote)})
	}
	for _, remote := range []string{"198.51.100.1:4500", "198.51.100.1:61000", "198.51.100.1:61000", "203.0.113.9:4500"} {
		from(remote)
	}
	for _, want := range []string{"198.51.100.1:61000", "203.0.113.9:4500"} {
		select {
		case e := <-p.events:
			if e.Kind != esp.Moved || e.Child != 7 || e.Remote.String() != want || e.Newest {
				t.Errorf("told %+v, want %s", e, want)
			}
		default:
			t.Fatalf("%s was not told", want)
		}
	}
	if len(p.events) > 0 {
		t.Errorf("told too much: %+v", <-p.events)
	}
}
