package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/test/site"
)

// behindNAT moves gateways away from the wire, each behind a router of its own
// that masquerades:
//
//	gateway a --- router a === forwarder === router b --- gateway b
//	192.168.1.2    192.0.2.10                192.0.2.20    192.168.2.2
//
// The router of b forwards ports 500 and 4500 to it.
type behindNAT struct {
	*run
	router [2]*site.Space // nil: that end stands on the wire itself
}

const inFrontOfA, inFrontOfB = "192.0.2.10", "192.0.2.20"

func newNAT(t *testing.T, both bool) *behindNAT {
	t.Helper()
	w, dir := site.Begin(t, "nft")
	s := &scenario{pairs: 1, settle: 35 * time.Second}
	s.ordered(byOne, 4, time.Hour)
	r, err := s.build(w, yumen, dir, 1)
	need(t, err)
	n := &behindNAT{run: r}
	need(t, n.insert(dir, endA, inFrontOfA))
	remote := outer(endB, 0, false)
	if both {
		remote = inFrontOfB
		need(t, n.insert(dir, endB, inFrontOfB))
	}
	p := s.plan()
	need(t, r.sites.configure(dir, p))
	// Neither end knows an address of its own that the other could use, and b
	// does not know where a is.
	for end, g := range r.sites.gate {
		text := strings.ReplaceAll(p.policy(end), fmt.Sprintf("local: %q, remote: %q, ca", outer(end, 0, false), outer(1-end, 0, false)),
			fmt.Sprintf("remote: %q, ca", [2]string{remote, "any"}[end]))
		need(t, g.Configure(text))
	}
	need(t, r.begin(), r.waitUp(20*time.Second))
	r.traffic.Send(s.classes[0].tunnels, rate)
	flows(t, r, 5*time.Second)
	return n
}

// insert puts a masquerading router between a gateway and the wire.
func (n *behindNAT) insert(dir string, end int, public string) error {
	w, gate := n.sites.world, n.sites.gate[end].Space
	router, err := w.Space("n"+side(end), true)
	if err != nil {
		return err
	}
	n.router[end] = router
	home := fmt.Sprintf("192.168.%d.", end+1)
	if _, err := gate.Run("ip", "link", "del", "out"); err != nil { // and its end on the wire
		return err
	}
	err = errors.Join(
		w.Link(gate, "out", []string{home + "2/24"}, router, "home", []string{home + "1/24"}),
		w.Link(router, "out", []string{public + "/24"}, n.sites.wire, "to-"+side(end), nil),
		gate.Route("default via "+home+"1"),
	)
	if err != nil {
		return err
	}
	rules := "table ip nat {\n\tchain post {\n\t\ttype nat hook postrouting priority 100;\n\t\toifname \"out\" masquerade random\n\t}\n"
	if end == endB {
		rules += "\tchain pre {\n\t\ttype nat hook prerouting priority -100;\n\t\tiifname \"out\" udp dport { 500, 4500 } dnat to " + home + "2\n\t}\n"
	}
	file := filepath.Join(dir, "nat-"+side(end)+".nft")
	if err := os.WriteFile(file, []byte(rules+"}\n"), 0o600); err != nil {
		return err
	}
	_, err = router.Run("nft", "-f", file)
	return err
}

// move gives the router of a another address outside: masquerading forgets every
// mapping of the old one.
func (n *behindNAT) move(from, to string) error {
	for _, args := range []string{"ip addr add " + to + "/24 dev out", "ip addr del " + from + "/24 dev out", "ip addr replace " + to + "/24 dev out"} {
		if _, err := n.router[endA].Run(strings.Fields(args)...); err != nil {
			return err
		}
	}
	return nil
}

func TestTunnelsBehindNATLiveThroughRekeyAndANewAddress(t *testing.T) {
	for _, c := range []struct {
		name string
		both bool
		nat  [2]string
	}{{"one end", false, [2]string{"local", "remote"}}, {"both ends", true, [2]string{"both", "both"}}} {
		t.Run(c.name, func(t *testing.T) {
			n := newNAT(t, c.both)
			for end, g := range n.sites.gate {
				st, err := g.Status()
				need(t, err)
				if len(st.Sessions) != 1 || st.Sessions[0].NAT != c.nat[end] || !st.Tunnels[0].Children[0].Encap {
					t.Errorf("gateway %s: %+v, expected nat %s and ESP in UDP", side(end), st.Sessions, c.nat[end])
				}
			}
			for i := range n.traffic.Flows { // once by each end
				need(t, n.desks[i%2].rekey(fmt.Sprintf("t%d", i)))
			}
			flows(t, n.run, 2*time.Second)
			st, err := n.sites.gate[endB].Status()
			need(t, err)
			before := st.Sessions[0].CookieI

			need(t, n.move(inFrontOfA, "192.0.2.15"))
			t.Logf("traffic at the new address after %v", flows(t, n.run, 5*time.Second).Round(10*time.Millisecond))
			if st, err = n.sites.gate[endB].Status(); err != nil {
				t.Fatal(err)
			}
			if s := st.Sessions[0]; s.CookieI != before || !strings.HasPrefix(s.Remote, "192.0.2.15:") {
				eventually(t, "IKE follows, and the session is the same", 15*time.Second, func() error {
					st, err := n.sites.gate[endB].Status()
					if err != nil || len(st.Sessions) == 0 || st.Sessions[0].CookieI != before || !strings.HasPrefix(st.Sessions[0].Remote, "192.0.2.15:") {
						return fmt.Errorf("%v: %+v", err, st.Sessions)
					}
					return nil
				})
			}
			for i := range n.traffic.Flows { // and again over the new mapping
				need(t, n.desks[1-i%2].rekey(fmt.Sprintf("t%d", i)))
			}
			flows(t, n.run, 2*time.Second)
			good(t, n.run)
		})
	}
}
