package site_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// Two gateways with children: 3 use three children side by side in each tunnel: each
// carries some of the flows, a renewal replaces all of them, and none is left over.
// Where one end says another number there is one child.
func TestSeveralChildrenCarryOneTunnel(t *testing.T) {
	for _, far := range []int{3, 2} {
		t.Run(fmt.Sprintf("3 and %d", far), func(t *testing.T) {
			s := newTwoSites(t)
			a, b := endA(), endB()
			a.tunnelKeys += ", children: 3"
			b.tunnelKeys += fmt.Sprintf(", children: %d", far)
			s.run(a, b)
			s.waitUp(s.A, s.B)
			want := 1
			if far == 3 {
				want = 3
			}
			both := func() (err error) {
				for _, g := range []*site.Gateway{s.A, s.B} {
					if err == nil {
						_, err = s.sideBySide(g, want)
					}
				}
				return err
			}
			s.eventually("children side by side", 20*time.Second, both)
			flows := s.Flows()
			for range 12 { // each Bulk is a connection of its own
				s.pass(flows...)
			}
			first, err := s.sideBySide(s.A, want)
			s.need(err)
			for tunnel, spis := range first {
				for spi, packets := range spis {
					if packets == 0 {
						s.Errorf("%s: nothing came by %s: %v", tunnel, spi, first)
					}
				}
			}
			_, err = s.A.Command("rekey", "office4")
			s.need(err)
			s.eventually("all are renewed and none is left", 40*time.Second, func() error {
				now, err := s.sideBySide(s.A, want)
				for spi := range first["office4"] {
					if _, still := now["office4"][spi]; still && err == nil {
						err = fmt.Errorf("%s is still there", spi)
					}
				}
				return err
			})
			s.pass(flows...)
			text, err := s.A.Command("status")
			if err != nil || strings.Contains(text, "lane 2") != (want == 3) {
				s.Errorf("%v\n%s", err, text)
			}
			s.stop(s.A, s.B)
		})
	}
}

// sideBySide are the SPIs of each tunnel's children with what came by them; the error:
// they are not as many as wanted, all in use.
func (s *stage) sideBySide(g *site.Gateway, want int) (map[string]map[string]uint64, error) {
	st, err := g.Status()
	if err != nil {
		return nil, err
	}
	all := map[string]map[string]uint64{}
	for _, t := range st.Tunnels {
		all[t.Name] = map[string]uint64{}
		for _, c := range t.Children {
			if !c.InUse {
				return nil, fmt.Errorf("%s has one that is not in use", t.Name)
			}
			all[t.Name][c.In.SPI] = c.In.Packets
		}
		if n := len(all[t.Name]); n != want {
			return nil, fmt.Errorf("%s has %d children", t.Name, n)
		}
	}
	return all, nil
}
