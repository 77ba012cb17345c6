package netns

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"yumen/esp/tunnel"
)

// The router is the hub here: what comes from one spoke for the other goes out by
// the device it came in by.
func TestSpokesReachEachOtherThroughTheHub(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	a := []childSpec{
		{Local: "10.1.0.0/24", Remote: "10.0.0.0/8", From: OutsideA4, To: "192.0.2.254", Key: 1},
		{Local: "fd01::/64", Remote: "fd00::/8", From: OutsideA6, To: "2001:db8:a::fe", Key: 2},
	}
	b := []childSpec{
		{Local: "10.2.0.0/24", Remote: "10.0.0.0/8", From: OutsideB4, To: "198.51.100.254", Key: 3},
		{Local: "fd02::/64", Remote: "fd00::/8", From: OutsideB6, To: "2001:db8:b::fe", Key: 4},
	}
	start(t, two.GatewayA, spec{Children: a})
	start(t, two.GatewayB, spec{Children: b})
	hub := start(t, two.Router, spec{B: true, Children: append(a, b...)})
	stopA, stopB := Capture(t, two.Router, "wan-a", ""), Capture(t, two.Router, "wan-b", "")
	flows := two.flows()
	carry(t, flows, 50_000)
	nothingClear(t, stopA(), flows)
	nothingClear(t, stopB(), flows)
	if c := hub.stop(t); c["opened"] == 0 || c["opened"] > c["sealed"] {
		t.Errorf("the hub opened %d packets and sealed %d", c["opened"], c["sealed"])
	}
}

func TestIKEAndKeepalivesShareThePortWithESP(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	var a, b *tunnel.Plane
	Check(t, two.GatewayA.Do(func() (err error) { a, err = tunnel.New(tunnel.Config{}); return err }))
	t.Cleanup(func() { a.Close() })
	Check(t, two.GatewayB.Do(func() (err error) { b, err = tunnel.New(tunnel.Config{}); return err }))
	t.Cleanup(func() { b.Close() })
	for _, x := range [][2]string{{OutsideA4, OutsideB4}, {OutsideA6, OutsideB6}} {
		from, to := port4500(x[0]), port4500(x[1])
		Check(t, a.WriteKeepalive(from, to))
		Check(t, a.WriteIKE([]byte("a message"), from, to))
		data, local, remote, err := b.ReadIKE()
		Check(t, err)
		if string(data) != "a message" || local != to || remote != from {
			t.Errorf("%q from %s to %s, want it from %s to %s", data, remote, local, from, to)
		}
		// ESP that nobody knows is told, with where it came from.
		Check(t, two.GatewayA.Do(func() error {
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(make([]byte, 3)) // neither
			if err == nil {
				_, err = fmt.Fprint(c, "SPI?", "SEQ?", "0123456789abcdef0123456789abcdef")
			}
			return err
		}))
		select {
		case e := <-b.Events():
			if e.SPI != 0x5350493f || e.Remote.Addr() != from.Addr() {
				t.Errorf("event %+v", e)
			}
		case <-time.After(5 * time.Second):
			t.Error("no event about an unknown SPI")
		}
	}
	c := b.Counters()
	// What has no SPI is another worker's than the SPI that was waited for.
	for end := time.Now().Add(5 * time.Second); c["malformed"] != 2 && time.Now().Before(end); c = b.Counters() {
		time.Sleep(5 * time.Millisecond)
	}
	if c["keepalive-received"] != 2 || c["ike-received"] != 2 || c["malformed"] != 2 || c["unknown-spi"] != 2 {
		t.Errorf("counters %v", c)
	}
	Check(t, b.Close())
	if _, _, _, err := b.ReadIKE(); err == nil {
		t.Error("a closed plane still reads")
	}
}

func port4500(addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), 4500)
}

func TestTheNextPlaneTakesOverFromOneThatWasKilled(t *testing.T) {
	Need(t)
	t.Parallel()
	two := NewTwoSites(t)
	s := spec{Children: subnets()}
	a, _ := two.both(t, s)
	carry(t, two.flows(), 10_000)
	before := Run(t, two.GatewayA, "sh", "-c", "ip xfrm policy count; ip rule | wc -l; ip route show table 4950 | wc -l")
	a.Kill()
	s.ICV = 96
	again := start(t, two.GatewayA, s)
	after := Run(t, two.GatewayA, "sh", "-c", "ip xfrm policy count; ip rule | wc -l; ip route show table 4950 | wc -l")
	if before != after {
		t.Errorf("left behind by the first plane:\n%s\n%s", before, after)
	}
	// B's window has seen the numbers of the first plane; only new keys would pass.
	_ = two.flows()[0].Ping()
	if c := again.stop(t); c["sealed"] == 0 {
		t.Errorf("the new plane sends nothing: %v", c)
	}
}
