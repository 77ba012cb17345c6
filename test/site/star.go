package site

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Place is a host behind a gateway.
type Place struct {
	Host         *Space
	Gateway      *Gateway
	Host4, Host6 string
	Gate4, Gate6 string // outside
	Net4, Net6   string // inside
}

// Star is any number of places around one router, which knows the way to their
// inner networks. Those of place n are 10.n.0.0/24 and fd00:1:0:n::/64, its
// gateway is 198.18.n.2 and 2001:db8:n::2; the router's interface is to-n.
type Star struct {
	Router *Space
	Places []Place
}

// NewStar builds it; the files of the gateways are in folder/<name>.
func NewStar(w *World, yumen, folder string, names ...string) (*Star, error) {
	s := &Star{}
	var err error
	if s.Router, err = w.Space("r", true); err != nil {
		return nil, err
	}
	for i, name := range names {
		p, err := newPlace(w, s.Router, i+1)
		if err != nil {
			return nil, err
		}
		p.Gateway.Dir, p.Gateway.Yumen = filepath.Join(folder, name), yumen
		s.Places = append(s.Places, p)
	}
	return s, nil
}

func newPlace(w *World, router *Space, n int) (p Place, err error) {
	if p.Host, err = w.Space(fmt.Sprintf("h%d", n), false); err != nil {
		return p, err
	}
	gate, err := w.Space(fmt.Sprintf("g%d", n), true)
	if err != nil {
		return p, err
	}
	p.Gateway = &Gateway{Space: gate}
	in4, in6 := fmt.Sprintf("10.%d.0.", n), fmt.Sprintf("fd00:1:0:%d::", n)
	out4, out6 := fmt.Sprintf("198.18.%d.", n), fmt.Sprintf("2001:db8:%d::", n)
	p.Net4, p.Net6 = in4+"0/24", in6+"/64"
	p.Host4, p.Host6, p.Gate4, p.Gate6 = in4+"10", in6+"10", out4+"2", out6+"2"
	return p, errors.Join(
		w.Link(p.Host, "eth0", []string{p.Host4 + "/24", p.Host6 + "/64"}, gate, "in", []string{in4 + "1/24", in6 + "1/64"}),
		w.Link(gate, "out", []string{p.Gate4 + "/24", p.Gate6 + "/64"}, router, fmt.Sprintf("to-%d", n), []string{out4 + "1/24", out6 + "1/64"}),
		p.Host.Route("default via "+in4+"1", "default via "+in6+"1"),
		gate.Route("default via "+out4+"1", "default via "+out6+"1"),
		router.Route(p.Net4+" via "+p.Gate4, p.Net6+" via "+p.Gate6),
	)
}

// Flow is traffic from one place to another, over IPv4 or IPv6.
func (s *Star) Flow(from, to int, v6 bool) Flow {
	a, b := s.Places[from], s.Places[to]
	if v6 {
		return Flow{a.Host, b.Host, a.Host6, b.Host6, NewMarker()}
	}
	return Flow{a.Host, b.Host, a.Host4, b.Host4, NewMarker()}
}
