package site_test

import (
	"testing"
	"time"

	"yumen/test/site"
)

// TestBypassGoesInClearAndDropGoesNowhere has rules by port beside the tunnels.
func TestBypassGoesInClearAndDropGoesNowhere(t *testing.T) {
	t.Parallel()
	s := newTwoSites(t)
	a, b := endA(), endB()
	a.rules = `  - {name: ssh4, action: bypass, local: 10.1.0.0/24, remote: 10.2.0.0/24, protocol: tcp, remote_port: 22}
  - {name: ssh6, action: bypass, local: "fd01::/64", remote: "fd02::/64", protocol: tcp, remote_port: 22}
  - {name: games4, action: drop, local: 10.1.0.0/24, remote: 10.2.0.0/24, protocol: udp, remote_port: 666}
  - {name: games6, action: drop, local: "fd01::/64", remote: "fd02::/64", protocol: udp, remote_port: 666}
`
	b.rules = `  - {name: ssh4, action: bypass, local: 10.2.0.0/24, remote: 10.1.0.0/24, protocol: tcp, local_port: 22}
  - {name: ssh6, action: bypass, local: "fd02::/64", remote: "fd01::/64", protocol: tcp, local_port: 22}
`
	stop := s.capture(s.Router, "to-b")
	s.run(a, b)
	s.waitUp(s.A, s.B)

	protected, clear, games := s.Flows(), s.Flows(), s.Flows()
	// Outwards only: what a opens, from a to b.
	clear, games = []site.Flow{clear[0], clear[2]}, []site.Flow{games[0], games[2]}
	s.pass(protected...)
	for _, f := range clear {
		if err := f.Talk("tcp", 22, 3*time.Second); err != nil {
			s.Errorf("bypassed tcp to %s: %v", f.ToAddr, err)
		}
	}
	for _, f := range games {
		if f.Talk("udp", 666, quiet) == nil {
			s.Errorf("dropped udp to %s passes", f.ToAddr)
		}
	}
	s.stop(s.A, s.B)
	file := stop()
	s.shown(file, clear...)
	var markers []site.Needle // the addresses are those of the bypass too
	for _, f := range append(protected, games...) {
		markers = append(markers, site.Needle{What: "marker to " + f.ToAddr, Bytes: f.Marker[:]})
	}
	found, err := site.Found(file, markers)
	s.need(err)
	if len(found) > 0 {
		s.Errorf("in clear: %v", found)
	}
	if rows := s.tshark(file, "(ip.addr == 10.2.0.0/24 || ipv6.addr == fd02::/64) && tcp.port != 22", "frame.number"); len(rows) > 0 {
		s.Errorf("frames in clear beside port 22: %v", rows)
	}
	s.sequences(file)
	s.verified(file)
}
