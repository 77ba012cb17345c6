package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yumen/policy"
)

// spaces are network namespaces of one test.
type spaces struct {
	t     *testing.T
	first string
}

func newSpaces(t *testing.T, names ...string) spaces {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: not root: network namespaces cannot be made")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("SKIP: " + tool + " is not installed")
		}
	}
	s := spaces{t, fmt.Sprintf("ydoc%d-%d-", os.Getpid(), time.Now().UnixNano()%1e6)}
	for _, n := range names {
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", s.first+n).Run() })
		s.must("ip netns add " + s.first + n)
		s.in(n, "ip link set lo up")
	}
	return s
}

func (s spaces) must(script string) {
	s.t.Helper()
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v: %s", script, err, out)
	}
}

func (s spaces) in(name, script string) {
	s.t.Helper()
	if out, err := exec.Command("ip", "netns", "exec", s.first+name, "sh", "-c", script).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %s: %v: %s", name, script, err, out)
	}
}

// enter runs do on a thread in a namespace; the thread ends with it.
func (s spaces) enter(name string, do func()) {
	s.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		f, err := os.Open("/run/netns/" + s.first + name)
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
			f.Close()
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		s.t.Fatalf("enter %s: %v", name, err)
	}
}

// examine gathers in a namespace and judges with the policy of healthy.
func (s spaces) examine(name string, spoil func(*Facts)) (f *Facts) {
	s.t.Helper()
	s.enter(name, func() { f = Gather(nil, nil, time.Time{}) })
	model := healthy(s.t)
	f.Policy, f.Paths, f.Kernel = model.Policy, model.Paths, Kernel{}
	if spoil != nil {
		spoil(f)
	}
	return f
}

func TestPrintedRuleReallyExemptsTrafficFromMasquerade(t *testing.T) {
	s := newSpaces(t, "site", "gw", "far")
	s.must(fmt.Sprintf("ip link add lan0 netns %[1]sgw type veth peer name eth0 netns %[1]ssite", s.first))
	// Towards the far site stands a device with the name of the TUN.
	s.must(fmt.Sprintf("ip link add yumen0 netns %[1]sgw type veth peer name eth0 netns %[1]sfar", s.first))
	s.in("site", "ip addr add 10.1.0.2/16 dev eth0 && ip link set eth0 up && ip route add default via 10.1.0.1")
	s.in("gw", "ip addr add 10.1.0.1/16 dev lan0 && ip addr add 10.2.0.1/16 dev yumen0 && ip link set lan0 up && ip link set yumen0 up && "+
		"sysctl -qw net.ipv4.ip_forward=1")
	s.in("far", "ip addr add 10.2.0.2/16 dev eth0 && ip link set eth0 up && ip route add default via 10.2.0.1")
	s.in("gw", "nft add table ip nat && nft 'add chain ip nat post { type nat hook postrouting priority 100; policy accept; }' && "+
		"nft add rule ip nat post ip saddr 10.1.0.0/16 oifname != lan0 masquerade")

	if got := s.sourceSeen(); got != netip.MustParseAddr("10.2.0.1") {
		t.Fatalf("before: the far site sees %s, want the gateway's: the test masquerades nothing", got)
	}
	found := only(s.examine("gw", nil), "snat")
	if len(found) != 1 || found[0].Level != Fail {
		t.Fatalf("found %+v, want one fault", found)
	}
	s.in("gw", found[0].Fix)
	if found := only(s.examine("gw", nil), "snat"); found != nil {
		t.Errorf("after its own rule: %+v", found)
	}
	if got := s.sourceSeen(); got != netip.MustParseAddr("10.1.0.2") {
		t.Errorf("after the rule the far site sees %s, want 10.1.0.2", got)
	}
}

// sourceSeen sends from the site until something arrives at the far site, and
// returns the source seen there. Each call is a new conversation.
func (s spaces) sourceSeen() (source netip.Addr) {
	s.t.Helper()
	var at, from net.PacketConn
	var fault error
	s.enter("far", func() { at, fault = net.ListenPacket("udp4", "10.2.0.2:0") })
	if fault != nil {
		s.t.Fatal(fault)
	}
	defer at.Close()
	s.enter("site", func() { from, fault = net.ListenPacket("udp4", "10.1.0.2:0") })
	if fault != nil {
		s.t.Fatal(fault)
	}
	defer from.Close()
	for range 50 { // the first may be lost while neighbours are found
		if _, err := from.WriteTo([]byte("who am I"), at.LocalAddr()); err != nil {
			s.t.Fatal(err)
		}
		_ = at.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, a, err := at.ReadFrom(make([]byte, 64)); err == nil {
			return a.(*net.UDPAddr).AddrPort().Addr().Unmap()
		}
	}
	s.t.Fatal("nothing arrived")
	return netip.Addr{}
}

func TestPrintedRulesOpenAClosedFirewall(t *testing.T) {
	s := newSpaces(t, "gw")
	s.in("gw", `nft -f - <<'END'
table inet fw {
	chain in { type filter hook input priority 0; policy drop; iifname "lo" accept; tcp dport 22 ct state new accept; }
	chain out { type filter hook output priority 0; policy accept; udp dport 4500 drop; meta l4proto esp reject; }
	chain onward { type filter hook forward priority 0; policy drop; ct state vmap { established : accept, invalid : drop }; }
}
table ip6 fw6 { chain in { type filter hook input priority 0; policy drop; }; }
END`)
	both := func(f *Facts) {
		f.Settings.Dataplane = dataplaneUser // whatever this kernel can
		addr := netip.MustParseAddr("2001:db8::2")
		f.Paths = append(f.Paths, Path{Peer: "b6", Addr: addr, Interface: "eth0", MTU: 1500})
		span, err := policy.ParseNet("10.3.0.1-10.3.0.20")
		if err != nil {
			t.Fatal(err)
		}
		odd := f.Policy.Tunnels[0] // whose exemption needs a range
		odd.Name, odd.Selector.Remote = "odd", span
		f.Policy.Tunnels = append(f.Policy.Tunnels, odd)
	}
	f := s.examine("gw", both)
	found := append(only(f, "openings"), only(f, "forward")...)
	// Inwards 3 kinds of two peers in the first chain, and 3 of IPv6 in a second that
	// shows when the first is open; outwards 2 of two peers; 4 ways through tunnels.
	if len(found) != 6+4+4 {
		t.Fatalf("%d findings: %+v", len(found), found)
	}
	for round := 0; len(found) > 0; round++ {
		if round == 3 {
			t.Fatalf("its own rules do not help: %+v", found)
		}
		for _, one := range found {
			if one.Level != Fail {
				t.Errorf("%+v: want a fault", one)
			}
			s.in("gw", one.Fix)
		}
		f := s.examine("gw", both)
		found = append(only(f, "openings"), only(f, "forward")...)
	}
}

func TestTakenPortIsToldWithItsProgram(t *testing.T) {
	s := newSpaces(t, "gw")
	if found := only(s.examine("gw", nil), "ports"); found != nil {
		t.Fatalf("before: %+v", found)
	}
	var taken net.PacketConn
	var fault error
	s.enter("gw", func() { taken, fault = net.ListenPacket("udp4", "127.0.0.1:500") })
	if fault != nil {
		t.Fatal(fault)
	}
	defer taken.Close()
	found := only(s.examine("gw", nil), "ports")
	want := fmt.Sprintf("UDP port 500 on 127.0.0.1 is held by doctor.test (process %d)", os.Getpid())
	if len(found) != 1 || found[0].Text != want {
		t.Errorf("found %+v, want %q", found, want)
	}
}

func TestRulesAndRoutesInOurPlaceAreTold(t *testing.T) {
	s := newSpaces(t, "gw")
	if found := only(s.examine("gw", nil), "rules"); found != nil {
		t.Fatalf("before: %+v", found)
	}
	s.in("gw", "ip link add d0 type veth peer name d1 && ip link set d1 up && ip link set d0 up && ip addr add 10.2.9.1/24 dev d0 && ip route add 10.9.0.0/16 dev d0 table 4950 && "+
		"ip rule add from 10.8.0.0/16 lookup 7 priority 5000 && ip rule add lookup 7 priority 100 && "+
		"ip rule add lookup main suppress_prefixlength 0 priority 90 && ip rule add fwmark 1 lookup 7 priority 80")
	f := s.examine("gw", nil)
	var all []string
	for _, one := range only(f, "rules") {
		all = append(all, one.Level.String()+" "+one.Text)
	}
	got := strings.Join(all, "\n")
	for _, want := range []string{"fail ip rule 5000", "warn ip rule 100", "fail routing table 4950 is used by others: 10.9.0.0/16"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if len(all) != 3 {
		t.Errorf("%d lines, want 3:\n%s", len(all), got)
	}
	if found := only(f, "overlap"); len(found) != 1 || !strings.Contains(found[0].Text, "10.2.9.0/24 of interface d0") {
		t.Errorf("overlap: %+v", found)
	}
}
