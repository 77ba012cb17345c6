package changes

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// private runs f in a network namespace of its own, with a link that is up.
func private(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP changes of a host: not root")
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the namespace ends with the thread
		var err error
		defer func() { result <- err }()                       // though f ends the test
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil { // addresses of IPv6 change by themselves for a while
			err = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644)
		}
		if err == nil {
			err = ip("link add near type veth peer name far\nlink set near up\nlink set far up\naddr add 10.9.0.1/24 dev near\n")
		}
		if err == nil {
			err = f()
		}
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func ip(batch string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

func told(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: nothing is told", what)
	}
}

func silent(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
		t.Errorf("%s: told", what)
	case <-time.After(4 * settleRoutes):
	}
}

// More routes at once than the socket holds: that they changed is told all the same,
// and so is the next change.
func TestAWatchOutlivesMessagesThatWereLost(t *testing.T) {
	private(t, func() error {
		done, c := make(chan struct{}), make(chan struct{}, 100)
		defer close(done)
		last := []byte{172, 17, 0, 1}
		w := Watch{Protocol: unix.NETLINK_ROUTE, Groups: []int{unix.RTNLGRP_IPV4_ROUTE}, Settle: settleRoutes,
			Changed: func() { c <- struct{}{} }, Matters: func(m Message) bool { return bytes.Contains(m.Body, last) }}
		file, err := w.open(2048)
		if err != nil {
			return err
		}
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, "route add 172.16.%d.%d/32 dev near\n", i/250, i%250)
		}
		if err := ip(b.String()); err != nil {
			return err
		}
		w.run(file, done)
		told(t, c, "messages were lost") // none of those that were read matters
		silent(t, c, "nothing happened")
		if err := ip("route add 172.17.0.1/32 dev near\n"); err != nil {
			return err
		}
		told(t, c, "the next change")
		return nil
	})
}

func TestRoutesOfOthersAndAddressesAreTold(t *testing.T) {
	private(t, func() error {
		done, c := make(chan struct{}), make(chan struct{}, 100)
		defer close(done)
		if err := Routes(done, 211, true, func() { c <- struct{}{} }); err != nil {
			return err
		}
		for _, one := range []struct {
			do   string
			told bool
		}{
			{"route add 172.16.0.0/24 dev near", true}, {"route add 172.16.1.0/24 dev near proto 211", false},
			{"route del 172.16.1.0/24 dev near proto 211", false}, {"addr add 10.9.1.1/24 dev far", true}, {"route del 172.16.0.0/24", true},
		} {
			if err := ip(one.do + "\n"); err != nil {
				return err
			}
			if one.told {
				told(t, c, one.do)
			}
			silent(t, c, "after "+one.do)
		}
		return nil
	})
}

func TestIPRulesAndRoutesOfOursThatGoAreTold(t *testing.T) {
	private(t, func() error {
		done, c := make(chan struct{}), make(chan struct{}, 100)
		defer close(done)
		if err := Removals(done, 211, func() { c <- struct{}{} }); err != nil {
			return err
		}
		for _, one := range []struct {
			do   string
			told bool
		}{
			{"route add 172.16.0.0/24 dev near proto 211 table 4950", false}, {"route add 172.16.1.0/24 dev near", false},
			{"route del 172.16.1.0/24 dev near", false}, {"route del 172.16.0.0/24 dev near table 4950", true},
			{"rule add pref 4950 from 10.1.0.0/16 lookup 4950 proto 211", false}, {"rule del pref 4950", true},
			{"-6 rule add pref 4950 from fd01::/64 lookup 4950", false}, {"-6 rule del pref 4950", true},
		} {
			args := strings.Fields(one.do)
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %w: %s", one.do, err, out)
			}
			if one.told {
				told(t, c, one.do)
			}
			silent(t, c, "after "+one.do)
		}
		return nil
	})
}

func TestPoliciesThatGoAreTold(t *testing.T) {
	private(t, func() error {
		done, c := make(chan struct{}), make(chan struct{}, 100)
		defer close(done)
		ours := func(priority uint32) bool { return priority >= 1000 }
		if err := Policies(done, ours, func() { c <- struct{}{} }); err != nil {
			return err
		}
		const policy = "xfrm policy add src 10.1.0.0/16 dst 10.%d.0.0/16 dir out action block priority %d\n"
		if err := ip(fmt.Sprintf(policy, 2, 2000)); err != nil {
			t.Skipf("SKIP policies: %v", err)
		}
		silent(t, c, "one of ours")
		if err := ip(fmt.Sprintf(policy, 3, 1)); err != nil {
			return err
		}
		told(t, c, "one of others")
		silent(t, c, "nothing more")
		for _, do := range []string{"xfrm policy delete src 10.1.0.0/16 dst 10.2.0.0/16 dir out\n", "xfrm policy flush\n"} {
			if err := ip(do); err != nil {
				return err
			}
			told(t, c, do)
			silent(t, c, "after "+do)
		}
		return nil
	})
}

func TestPiecesOfMessagesAreNotRead(t *testing.T) {
	b := binary.NativeEndian.AppendUint32(nil, 200)
	b = append(binary.NativeEndian.AppendUint16(b, updatePolicy), make([]byte, 194)...)
	w := Watch{Matters: func(m Message) bool { return len(m.Body) != 184 }}
	for n := range b {
		if w.matters(b[:n]) {
			t.Errorf("%d of %d bytes were read", n, len(b))
		}
	}
	if w.matters(b) || !(Watch{}).matters(b) {
		t.Error("the whole message")
	}
}
