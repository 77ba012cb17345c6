package tunnel

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"yumen/esp"
	"yumen/policy"
)

func TestBesideTheKernelOnlyWhatIsSharedIsRoutedAndGuarded(t *testing.T) {
	rules := rulesFor(t, "protect 10.1.0.0/16 10.2.0.0/16", "protect 10.1.0.0/16 10.2.3.0/24", "protect 10.1.0.0/16 10.9.0.0/16",
		"protect 10.1.5.0/24 10.2.4.0/24")
	for i, name := range []string{"wide", "narrow", "far", "corner"} {
		rules[i].Tunnel = name
	}
	p := &Plane{cfg: Config{Beside: true}, share: Share{"wide": true}}
	zones := p.shared(zonesOf(rules))
	got := map[string]routeKind{}
	for _, r := range planRoutes(zones, surroundings{}, func(zone) int { return 0 }) {
		if r.kind != blackholeRoute {
			got[r.dst.String()] = r.kind
		}
	}
	// The corner has other local addresses than the wide one: a route cannot tell.
	if len(got) != 2 || got["10.2.0.0/16"] != tunRoute || got["10.2.3.0/24"] != throwRoute {
		t.Errorf("routes %v", got)
	}
	for _, e := range planGuard(zones, surroundings{}) {
		if e.dst != netip.MustParsePrefix("10.2.0.0/16") && e.src != netip.MustParsePrefix("10.2.0.0/16") {
			t.Errorf("guards %v to %v, which is the kernel's", e.src, e.dst)
		}
	}
	p.cfg.Beside = false
	for _, z := range p.shared(zonesOf(rules)) {
		if z.foreign {
			t.Errorf("alone, %s is somebody else's", z.tunnel)
		}
	}
}

func TestNftLetsPassWhatTheKernelOpenedOrIsAboutToSeal(t *testing.T) {
	list := []guardEntry{{dir: guardOut, kind: tunnelBlock, src: netip.MustParsePrefix("fd01::/64"), dst: netip.MustParsePrefix("fd02::/64")}}
	for _, beside := range []bool{false, true} {
		text := nftGuard{tun: "yumen0", beside: beside}.script(list, list)
		for _, line := range []string{"rt ipsec exists accept", "meta ipsec exists accept"} {
			if strings.Contains(text, line) != beside {
				t.Errorf("beside %t: %q in\n%s", beside, line, text)
			}
		}
		lines := strings.Split(text, "\n")
		before := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "ipsec exists") })
		after := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "drop") })
		if after < 0 || before > after {
			t.Errorf("beside %t: in this order\n%s", beside, text)
		}
	}
}

func TestPacketsOfTheKernelPlaneAreNotUnknown(t *testing.T) {
	p := &Plane{cfg: Config{Beside: true}.withDefaults(), pairs: map[esp.ChildID]*pair{}, events: make(chan esp.Event, 9)}
	p.spd, _ = policy.Compile(&policy.Policy{})
	from := netip.MustParseAddrPort("192.0.2.2:0")
	p.Foreign([]esp.Child{{In: esp.Half{SPI: 0x1000}, Path: esp.Path{Remote: from}}})
	p.tuns = []*tunQueue{{}}
	w := newInWorker(p, raw4, 0)
	for _, spi := range []byte{0x10, 0x20} {
		w.packet(p.snap.Load(), &datagram{data: []byte{0, 0, spi, 0, 0, 0, 0, 1}, remote: from})
	}
	c := p.Counters()
	if c["other-plane"] != 1 || c["unknown-spi"] != 1 || c["raw-received"] != 1 || len(p.events) != 1 {
		t.Errorf("counted %v, told %d", c, len(p.events))
	}
}
