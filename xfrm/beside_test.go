package xfrm

import (
	"net/netip"
	"testing"

	"yumen/policy"
)

// A tunnel that a userspace plane carries passes its TUN and no other way; the template
// stays below, for the moment when the TUN is taken away.
func TestTunnelsBesideTheKernelPassTheirDeviceAlone(t *testing.T) {
	zones := mustPolicy(t, []policy.Selector{sel("10.1.0.0/16", "10.2.0.0/16"), sel("fd01::/64", "fd02::/64"), sel("fd01::/64", "fd03::/64")})
	beside := lent{device: 7, sends: map[string]bool{"a": true, "b": true}, receives: map[string]bool{"a": true, "b": true, "c": true},
		own: []netip.Addr{netip.MustParseAddr("fd01::1"), netip.MustParseAddr("2001:db8::1")}}
	plan := planGuard(zones, surroundings{lent: beside})
	through := func(dir direction, src, dst string, device int) kind {
		for _, e := range plan {
			if e.dir == dir && (e.device == 0 || e.device == device) && e.src.Contains(netip.MustParseAddr(src)) && e.dst.Contains(netip.MustParseAddr(dst)) {
				return e.kind
			}
		}
		return 255
	}
	for _, c := range []struct {
		src, dst string
		device   int
		want     kind
	}{
		{"10.1.0.1", "10.2.0.1", 7, deviceAllow},
		{"10.1.0.1", "10.2.0.1", 3, protect},
		{"fd01::2", "fd02::1", 7, deviceAllow},
		{"fd01::2", "fd02::1", 3, protect},
		{"fd01::1", "fd02::1", 0, ownAllow}, // looked up before the device is known
		{"fd01::2", "fd03::1", 7, protect},  // only receives by the TUN
	} {
		if got := through(dirOut, c.src, c.dst, c.device); got != c.want {
			t.Errorf("%s to %s by device %d: %d, want %d", c.src, c.dst, c.device, got, c.want)
		}
	}
	for _, e := range plan {
		if want := e.kind == protect && e.dir != dirOut && e.dst.Addr().Is6(); e.optional != want {
			t.Errorf("entry %+v: optional", e)
		}
	}
	beside.device = 0
	for _, e := range planGuard(zones, surroundings{lent: beside}) {
		if e.kind == deviceAllow || e.kind == ownAllow || e.optional {
			t.Errorf("without a device there is %+v", e)
		}
	}
}
