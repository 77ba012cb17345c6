package site_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"yumen/test/site"
)

// newStar is a stage with places around a router, a certificate pair for each.
func newStar(t *testing.T, names ...string) (*stage, *site.Star) {
	t.Helper()
	s := newStage(t)
	for _, name := range names {
		s.need(os.MkdirAll(filepath.Join(s.dir, name), 0o755))
	}
	star, err := site.NewStar(s.world, yumen, s.dir, names...)
	s.need(err)
	var gates []*site.Gateway
	for _, p := range star.Places {
		gates = append(gates, p.Gateway)
	}
	s.need(site.Issue(yumen, s.dir, gates...))
	return s, star
}

const (
	all4 = "10.0.0.0/8" // everything that is inside anywhere
	all6 = "fd00:1::/48"
)

// spokePolicy sends everything that is elsewhere to the hub.
func spokePolicy(me, hub site.Place) string {
	return fmt.Sprintf(`site: %s
peers:
  - {name: hub, remote: %s, ca: ca.crt, subject: %q}
tunnels:
  - {name: four, peer: hub, local: %q, remote: %q}
  - {name: six, peer: hub, local: %q, remote: %q}
`, filepath.Base(me.Gateway.Dir), hub.Gate4, site.Subject("hub"), me.Net4, all4, me.Net6, all6)
}

// hubPolicy stands for all other sites before each spoke. It only responds and
// does not know where the spokes are.
func hubPolicy(spokes ...site.Place) string {
	peers, tunnels := "site: hub\npeers:\n", "tunnels:\n"
	for _, p := range spokes {
		name := filepath.Base(p.Gateway.Dir)
		peers += fmt.Sprintf("  - {name: %s, remote: any, ca: ca.crt, subject: %q}\n", name, site.Subject(name))
		tunnels += fmt.Sprintf("  - {name: %s-four, peer: %s, local: %q, remote: %q, start: respond}\n", name, name, all4, p.Net4)
		tunnels += fmt.Sprintf("  - {name: %s-six, peer: %s, local: %q, remote: %q, start: respond}\n", name, name, all6, p.Net6)
	}
	return peers + tunnels
}

func TestSpokesReachEachOtherThroughTheHub(t *testing.T) {
	t.Parallel()
	s, star := newStar(t, "hub", "north", "south")
	hub, north, south := star.Places[0], star.Places[1], star.Places[2]
	s.need(hub.Gateway.Configure(hubPolicy(north, south)), north.Gateway.Configure(spokePolicy(north, hub)),
		south.Gateway.Configure(spokePolicy(south, hub)))
	var stops []func() string
	for _, iface := range []string{"to-1", "to-2", "to-3"} {
		stops = append(stops, s.capture(star.Router, iface))
	}
	s.need(hub.Gateway.Start())
	s.answers(hub.Gateway)
	s.need(north.Gateway.Start(), south.Gateway.Start())
	s.waitUp(north.Gateway, south.Gateway, hub.Gateway)

	var flows []site.Flow
	for _, way := range [][2]int{{1, 2}, {2, 1}, {1, 0}, {0, 2}} {
		flows = append(flows, star.Flow(way[0], way[1], false), star.Flow(way[0], way[1], true))
	}
	for _, f := range flows {
		s.need(f.Ping())
	}
	s.pass(flows...)
	for _, f := range flows[:2] { // spoke to spoke, so much that a packet too large would show
		if _, err := f.Bulk(1 << 20); err != nil {
			s.Errorf("TCP from %s to %s through the hub: %v", f.FromAddr, f.ToAddr, err)
		}
	}
	s.stop(north.Gateway, south.Gateway, hub.Gateway)
	spis := 0
	for i, stop := range stops {
		file := stop()
		s.hidden(file, flows...)
		s.wellFormed(file)
		n := s.sequences(file)
		if spis += n; i == 0 && n != 8 {
			s.Errorf("%d SPIs at the hub, expected 8", n)
		}
	}
	if spis != 16 { // each SA is seen at its spoke and at the hub: none goes from spoke to spoke
		s.Errorf("%d SPIs on the three links, expected 16", spis)
	}
}
