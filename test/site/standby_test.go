package site_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yumen/test/numbered"
	"yumen/test/site"
)

// standby is a site with two gateways behind one shared address, moved by the
// keepalived of the samples, and one gateway far away:
//
//	           +- first  .2 -- .3 -+
//	host a ----+ lan           wan +--- router --- far --- host b
//	  via .1   +- second .3 -- .4 -+    via .2
type standby struct {
	*stage
	hostA, hostB, router *site.Space
	machines             [2]*site.Gateway
	far                  *site.Gateway
	vrrp                 [2]*site.Process
	traffic              *numbered.Traffic
}

// machine names in the sample: what `keepalived -i` chooses.
var machines = [2]string{"first", "second"}

func newStandby(t *testing.T) *standby {
	t.Helper()
	w, dir := site.Begin(t, "tshark", "nft", "keepalived")
	s := &standby{stage: &stage{T: t, world: w, dir: dir}}
	spaces := map[string]*site.Space{}
	for name, forward := range map[string]bool{"ha": false, "lan": false, "first": true, "second": true, "wan": false, "r": true, "far": true, "hb": false} {
		space, err := w.Space(name, forward)
		s.need(err)
		spaces[name] = space
	}
	s.hostA, s.hostB, s.router = spaces["ha"], spaces["hb"], spaces["r"]
	for _, name := range []string{"lan", "wan"} {
		_, err := spaces[name].Run("ip", "link", "add", "name", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
		s.need(err)
		_, err = spaces[name].Run("ip", "link", "set", "br0", "up")
		s.need(err)
	}
	plug := func(sw string, who *site.Space, iface string, addrs ...string) {
		t.Helper()
		port := "p-" + who.Name[strings.LastIndexByte(who.Name, '-')+1:]
		s.need(w.Link(who, iface, addrs, spaces[sw], port, nil))
		_, err := spaces[sw].Run("ip", "link", "set", port, "master", "br0")
		s.need(err)
	}
	plug("lan", s.hostA, "eth0", "10.1.0.10/24", "fd01::10/64")
	plug("wan", s.router, "to-a", "192.0.2.1/24")
	for i, name := range machines {
		plug("lan", spaces[name], "eth1", fmt.Sprintf("10.1.0.%d/24", i+2), fmt.Sprintf("fd01::%d/64", i+2))
		plug("wan", spaces[name], "eth0", fmt.Sprintf("192.0.2.%d/24", i+3))
		// As the sample says: or what comes out of a tunnel while eth1 is down would
		// follow the default route, outside.
		s.need(spaces[name].Route("default via 192.0.2.1"))
		for _, inside := range []string{"10.1.0.0/16", "fd01::/64"} {
			_, err := spaces[name].Run("ip", "route", "add", "unreachable", inside, "metric", "4000000000")
			s.need(err)
		}
		s.machines[i] = &site.Gateway{Space: spaces[name], Dir: filepath.Join(dir, name), Yumen: yumen}
	}
	s.far = &site.Gateway{Space: spaces["far"], Dir: filepath.Join(dir, "far"), Yumen: yumen}
	s.need(
		w.Link(s.router, "to-b", []string{"198.51.100.1/24"}, spaces["far"], "out", []string{"198.51.100.7/24"}),
		w.Link(spaces["far"], "in", []string{"10.2.0.1/24", "fd02::1/64"}, s.hostB, "eth0", []string{"10.2.0.10/24", "fd02::10/64"}),
		s.hostA.Route("default via 10.1.0.1", "default via fd01::1"), s.hostB.Route("default via 10.2.0.1", "default via fd02::1"),
		spaces["far"].Route("default via 198.51.100.1"),
		s.router.Route("10.1.0.0/24 via 192.0.2.2", "10.2.0.0/24 via 198.51.100.7"),
	)
	return s
}

// configure gives the machines the sample's policy and certificates of one subject
// and different keys, and starts everything.
func (s *standby) begin() {
	s.Helper()
	ca, err := site.NewCA(yumen, filepath.Join(s.dir, "ca"), "Lab Root")
	s.need(err)
	sample, err := os.ReadFile("../../configs/keepalived/policy.yaml")
	s.need(err)
	ours := strings.NewReplacer("CN=gw-b,O=Lab,C=CN", site.Subject("far")).Replace(string(sample))
	theirs := fmt.Sprintf("site: b\npeers:\n  - {name: a, remote: 192.0.2.2, ca: ca.crt, subject: %q}\ntunnels:\n"+
		"  - {name: office, peer: a, local: 10.2.0.0/16, remote: 10.1.0.0/16, start: respond}\n"+
		"  - {name: office6, peer: a, local: \"fd02::/64\", remote: \"fd01::/64\", start: respond}\n", site.Subject("gw-a"))
	s.need(os.MkdirAll(s.far.Dir, 0o755), s.far.Configure(theirs), ca.Issue(s.far), s.far.Start())
	s.answers(s.far)
	for i, g := range s.machines {
		s.need(os.MkdirAll(g.Dir, 0o755), g.Configure(ours), ca.Issue(g, "--subject", site.Subject("gw-a")), g.Start())
		s.answers(g)
		s.install(i)
	}
	one, err := os.ReadFile(filepath.Join(s.machines[0].Dir, "sign.key"))
	s.need(err)
	two, err := os.ReadFile(filepath.Join(s.machines[1].Dir, "sign.key"))
	s.need(err)
	if string(one) == string(two) {
		s.Fatal("the two machines have one key")
	}
	s.startVRRP(0)
	s.eventually("the first machine is master", 15*time.Second, func() error { return s.up(0) })
	s.startVRRP(1)
	s.eventually("the second stands by", 10*time.Second, func() error { return s.inState(1, "standby") })
	s.traffic, err = numbered.New(s.world, [2]*site.Space{s.hostA, s.hostB},
		[]numbered.Pair{{"10.1.0.10", "10.2.0.10"}, {"fd01::10", "fd02::10"}})
	s.need(err)
	s.traffic.Send([]int{0, 1}, 250)
	s.flows(10 * time.Second)
}

// install puts the sample's three files into a machine's folder, with its paths.
func (s *standby) install(i int) {
	g := s.machines[i]
	wrapper := filepath.Join(g.Dir, "yumen-here")
	s.need(os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\" --config %s/gateway.yaml\n", yumen, g.Dir), 0o755))
	paths := strings.NewReplacer("/etc/keepalived/", g.Dir+"/", "/usr/bin/yumen", wrapper,
		"logger -t yumen-vrrp --", "echo >>"+g.Dir+"/notify.log",
		"    enable_script_security\n", "") // the folder of a test is in /tmp, which anybody may write to
	for _, name := range []string{"keepalived.conf", "yumen-check", "yumen-notify"} {
		from := filepath.Join("../../configs/keepalived", name)
		info, err := os.Stat(from)
		s.need(err)
		b, err := os.ReadFile(from)
		s.need(err, os.WriteFile(filepath.Join(g.Dir, name), []byte(paths.Replace(string(b))), info.Mode()))
	}
}

func (s *standby) startVRRP(i int) {
	s.Helper()
	g := s.machines[i]
	p, err := g.Space.Start(filepath.Join(g.Dir, "keepalived.log"), "keepalived", "--dont-fork", "--log-console", "--log-detail",
		"--vrrp", "--config-id", machines[i], "--use-file", filepath.Join(g.Dir, "keepalived.conf"),
		"--pid", filepath.Join(g.Dir, "keepalived.pid"), "--vrrp_pid", filepath.Join(g.Dir, "vrrp.pid"))
	s.need(err)
	s.vrrp[i] = p
}

// up wants a machine to be ready in every respect.
func (s *standby) up(i int) error {
	_, err := s.machines[i].Command("ready")
	return err
}

func (s *standby) inState(i int, state string) error {
	st, err := s.machines[i].Status()
	if err != nil {
		return err
	}
	for _, t := range st.Tunnels {
		if t.State != state {
			return fmt.Errorf("tunnel %s is %s, %s", t.Name, t.State, t.LastDetail)
		}
	}
	return nil
}

// flows waits until traffic passes on both families both ways.
func (s *standby) flows(limit time.Duration) {
	s.Helper()
	var marks [][2]uint32
	for _, f := range s.traffic.Flows {
		marks = append(marks, [2]uint32{f[0].Sent.Load(), f[1].Sent.Load()})
	}
	s.eventually("traffic both ways", limit, func() error {
		for n, f := range s.traffic.Flows {
			for end := range f {
				if !f[end].ArrivedFrom(marks[n][end]) {
					return fmt.Errorf("nothing of pair %d from end %d", n, end)
				}
			}
		}
		return nil
	})
}

// change does something to the site and reports how long nothing was delivered.
func (s *standby) change(what string, do func(), limit time.Duration) {
	s.Helper()
	var marks []uint32
	for _, f := range s.traffic.Flows {
		for end := range f {
			f[end].Watch()
			marks = append(marks, f[end].Sent.Load())
		}
	}
	do()
	s.flows(limit)
	time.Sleep(time.Second)
	line := ""
	for n, f := range s.traffic.Flows {
		for end := range f {
			gap := f[end].Gap(time.Now())
			lost := f[end].Lost(marks[2*n+end], f[end].Sent.Load()-100) // what is under way is not lost
			line += fmt.Sprintf("; %s %d ms, %d lost", [2][2]string{{"v4 a>b", "v4 b>a"}, {"v6 a>b", "v6 b>a"}}[n][end], gap.Milliseconds(), lost)
			if gap > limit {
				s.Errorf("%s: nothing was delivered for %v, more than %v", what, gap, limit)
			}
		}
	}
	s.Logf("%s%s", what, line)
}

// clean wants the far end to keep one session and one child of each tunnel.
func (s *standby) clean(limit time.Duration) {
	s.Helper()
	s.eventually("the far end keeps nothing of the machine before", limit, func() error {
		st, err := s.far.Status()
		if err != nil {
			return err
		}
		for _, t := range st.Tunnels {
			if len(t.Children) != 1 {
				return fmt.Errorf("tunnel %s has %d children", t.Name, len(t.Children))
			}
		}
		if len(st.Sessions) != 1 {
			return fmt.Errorf("%d sessions", len(st.Sessions))
		}
		return nil
	})
}

// downTime is what VRRP takes to miss a machine: three advertisements and the skew of
// the second's priority (RFC 9568 6.1), with what is set in the sample.
const downTime = 3*200*time.Millisecond + 200*time.Millisecond*(256-100)/256

// slack is for a busy machine: the handshake, the kernel's events, neighbours.
const slack = 1500 * time.Millisecond

func TestSecondMachineTakesOverWithKeepalived(t *testing.T) {
	s := newStandby(t)
	s.begin()
	stop := s.capture(s.router, "any")
	if _, err := s.machines[1].Command("ready", "--local"); err != nil {
		t.Errorf("the machine that stands by is not ready to take over: %v", err)
	}
	if out, err := s.machines[1].Command("ready"); err == nil || !strings.Contains(out, "stands by") {
		t.Errorf("the machine that stands by is ready for traffic: %s, %v", out, err)
	}

	first, second := s.machines[0], s.machines[1]
	s.change("the first machine loses its power", func() {
		for _, iface := range []string{"eth1", "eth0"} { // the last word of VRRP is not heard
			_, err := first.Run("ip", "link", "set", iface, "down")
			s.need(err)
		}
		first.Daemon().Kill()
		s.vrrp[0].Kill()
	}, downTime+slack)
	s.clean(3 * time.Second)

	s.change("and comes back: nothing happens", func() {
		// A machine that boots has none of the shared addresses.
		_, err := first.Run("sh", "-c", "ip addr del 192.0.2.2/32 dev eth0; ip addr del 10.1.0.1/32 dev eth1; ip addr del fd01::1/128 dev eth1; "+
			"ip link set eth0 up && ip link set eth1 up && ip addr replace fd01::2/64 dev eth1 && ip route replace default via 192.0.2.1")
		s.need(err, first.Start())
		s.answers(first)
		s.startVRRP(0)
		s.eventually("it stands by", 10*time.Second, func() error { return s.inState(0, "standby") })
		time.Sleep(3 * time.Second)
	}, 300*time.Millisecond)

	s.change("the gateway of the second is killed, its check fails", func() {
		second.Daemon().Kill()
	}, 2*time.Second+time.Second+downTime+slack) // fall 2, interval 1
	s.eventually("the first is ready", 5*time.Second, func() error { return s.up(0) })
	s.clean(3 * time.Second)

	s.change("keepalived of the master is stopped", func() {
		s.need(second.Start())
		s.answers(second)
		s.eventually("it stands by", 10*time.Second, func() error {
			return errors.Join(s.inState(1, "standby"))
		})
		time.Sleep(4 * time.Second) // rise 2
		s.need(s.vrrp[0].Stop(10 * time.Second))
	}, downTime+slack)
	s.eventually("who gave the address up lets go", 15*time.Second, func() error {
		st, err := first.Status()
		if err == nil && (len(st.Sessions) > 0 || len(st.Tunnels[0].Children) > 0) {
			err = fmt.Errorf("%d sessions", len(st.Sessions))
		}
		return err
	})

	s.traffic.Halt()
	found, err := site.Found(stop(), append(site.Needles(s.inClear()...), site.Needle{What: "numbered traffic", Bytes: s.traffic.Marker[:]}))
	s.need(err)
	if len(found) > 0 {
		t.Errorf("in clear on the outside wire: %v", found)
	}
}

// inClear are the flows whose addresses must not be seen side by side.
func (s *standby) inClear() (out []site.Flow) {
	for _, p := range [][2]string{{"10.1.0.10", "10.2.0.10"}, {"fd01::10", "fd02::10"}} {
		out = append(out, site.Flow{FromAddr: p[0], ToAddr: p[1], Marker: s.traffic.Marker}, site.Flow{FromAddr: p[1], ToAddr: p[0], Marker: s.traffic.Marker})
	}
	return out
}
