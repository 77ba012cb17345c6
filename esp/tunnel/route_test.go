package tunnel

import (
	"net/netip"
	"slices"
	"testing"
)

func TestOnlyRoutesThatDifferAreWritten(t *testing.T) {
	at := func(dst string, kind routeKind, mtu int) route {
		return route{dst: netip.MustParsePrefix(dst), kind: kind, mtu: mtu}
	}
	old := []route{at("10.1.0.0/16", tunRoute, 1400), at("10.1.0.0/16", blackholeRoute, 0), at("10.2.0.0/16", tunRoute, 1400),
		at("10.2.0.0/16", blackholeRoute, 0)}
	next := []route{at("10.1.0.0/16", tunRoute, 1438), at("10.1.0.0/16", blackholeRoute, 0), at("10.3.0.0/16", throwRoute, 0)}
	set, gone := routeChanges(old, next)
	if !slices.Equal(set, []route{next[0], next[2]}) || !slices.Equal(gone, []route{old[2], old[3]}) {
		t.Errorf("to write: %v; to remove: %v", set, gone)
	}
	if set, gone = routeChanges(next, next); set != nil || gone != nil {
		t.Errorf("nothing changed, yet %v is to be written and %v removed", set, gone)
	}
}
