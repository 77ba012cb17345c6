package xfrm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/policy"
)

// run calls ip with arguments in the namespace of the calling thread.
func run(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// until asks until it is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
	}
}

// Whoever else flushes or deletes policies, or puts one of his into the place of ours,
// finds them back, and people are told. What we change ourselves is no news.
func TestPoliciesThatOthersRemoveAreSetAgain(t *testing.T) {
	private(t, func() error {
		p, err := New(Config{NATPort: 45000})
		if err != nil {
			return err
		}
		defer p.Close()
		if err := errors.Join(p.SetPolicy(twoTunnels()), p.SetPolicy(&policy.Policy{}), p.SetPolicy(twoTunnels())); err != nil {
			return err
		}
		whole := func() bool {
			have, err := p.conn.policies()
			return err == nil && len(have) == 12
		}
		mendings := 0
		mended := func() bool {
			select {
			case e := <-p.Events():
				if e.Kind == esp.GuardMended {
					mendings++
				}
			default:
			}
			return mendings > 0
		}
		for _, meddle := range [][]string{
			{"xfrm", "policy", "flush"},
			{"xfrm", "policy", "delete", "dir", "out", "src", "fd01::/64", "dst", "fd02::/64"},
			{"xfrm", "policy", "update", "dir", "out", "src", "10.1.0.0/16", "dst", "10.2.0.0/16", "action", "allow", "priority", "7"},
		} {
			mendings = 0
			if len(p.Warnings()) > 1 && meddle[2] == "flush" {
				t.Errorf("before anything happened: %q", p.Warnings())
			}
			if err := run(meddle...); err != nil {
				return err
			}
			until(t, strings.Join(meddle, " ")+": told", mended)
			until(t, strings.Join(meddle, " ")+": mended", whole)
		}
		if w := strings.Join(p.Warnings(), "\n"); !strings.Contains(w, "others removed policies of the guard") || p.Trouble() != nil {
			t.Errorf("warnings %q, trouble %v", w, p.Trouble())
		}
		return nil
	})
}

// So many routes at once, while nobody can take the news, that the kernel cannot tell of
// all of them.
func TestRoutesAreFollowedAfterABurst(t *testing.T) {
	private(t, func() error {
		pol := twoTunnels()
		pol.Tunnels[0].Selector = sel("10.1.0.0/16", "10.0.0.0/8")
		p, err := New(Config{NATPort: 45000})
		if err != nil {
			return err
		}
		defer p.Close()
		if err := errors.Join(p.SetPolicy(pol), run("link", "add", "near", "type", "veth", "peer", "name", "far"),
			run("link", "set", "near", "up"), run("link", "set", "far", "up")); err != nil {
			return err
		}
		for round := range 3 {
			var b strings.Builder
			for i := range 3000 {
				fmt.Fprintf(&b, "route add 172.%d.%d.%d/32 dev near\n", 16+round, i/250, i%250)
			}
			batch := exec.Command("ip", "-batch", "-")
			batch.Stdin = strings.NewReader(b.String())
			p.mu.Lock()
			out, err := batch.CombinedOutput()
			p.mu.Unlock()
			if err != nil {
				return fmt.Errorf("ip: %w: %s", err, out)
			}
			lan := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(round), 1}), 24)
			if err := run("addr", "add", lan.String(), "dev", "near"); err != nil {
				return err
			}
			until(t, fmt.Sprintf("round %d: the new subnet is exempt", round), func() bool {
				have, err := p.conn.policies()
				return err == nil && slices.ContainsFunc(have, func(h placed) bool {
					return h.dir == dirOut && h.dst == lan.Masked() && !h.blocks && h.template == nil
				})
			})
		}
		return nil
	})
}

// A fault is told for a while, whatever routes do.
func TestAFaultIsNotHiddenByRoutesThatCouldBeFollowed(t *testing.T) {
	private(t, func() error {
		p, err := New(Config{NATPort: 45000})
		if err != nil {
			return err
		}
		defer p.Close()
		if err := p.SetPolicy(twoTunnels()); err != nil {
			return err
		}
		p.mu.Lock()
		p.fault(unix.EIO)
		p.mu.Unlock()
		p.followHost()
		if !errors.Is(p.Trouble(), unix.EIO) {
			t.Errorf("trouble %v", p.Trouble())
		}
		p.mu.Lock()
		p.since = p.since.Add(-faultTold)
		p.mu.Unlock()
		if p.Trouble() != nil {
			t.Errorf("for ever: %v", p.Trouble())
		}
		return nil
	})
}

// SAs that others delete are told, ours that we delete are not; and what was read, keys
// of new SAs among it, is wiped.
func TestWhatOthersDoToSAsIsHeard(t *testing.T) {
	info := stateMessage(planned(t), 0).body()[:nl.SizeofXfrmUsersaInfo]
	id := stateID(planned(t).dst, planned(t).spi)
	gone := newMessage(nl.XFRM_MSG_DELSA, 0, id.Serialize())
	gone.attr(nl.XFRMA_SA, info)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	const own = 77
	l := &listener{file: r, own: own}
	for _, c := range []struct {
		kind uint16
		body []byte
		by   uint32
		want noticeKind
	}{
		{nl.XFRM_MSG_DELSA, gone.body(), own, nothing}, {nl.XFRM_MSG_DELSA, gone.body(), 78, removed}, {nl.XFRM_MSG_DELSA, gone.body()[:30], 78, nothing},
		{nl.XFRM_MSG_NEWSA, stateMessage(planned(t), 0).body(), 78, nothing}, {nl.XFRM_MSG_FLUSHSA, []byte{50, 0, 0, 0}, 78, flushed},
	} {
		b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(c.body)))
		b = binary.NativeEndian.AppendUint16(b, c.kind)
		b = append(b, make([]byte, 6)...)
		b = append(binary.NativeEndian.AppendUint32(b, c.by), c.body...)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		var got notice
		buf := make([]byte, 4096)
		if err := l.read(buf, func(n notice) { got = n }); err != nil {
			t.Fatal(err)
		}
		if got.kind != c.want || c.want == removed && (got.spi != planned(t).spi || got.dst != planned(t).dst) {
			t.Errorf("message %#x by %d: %+v, want kind %d", c.kind, c.by, got, c.want)
		}
		if !bytes.Equal(buf, make([]byte, len(buf))) {
			t.Errorf("message %#x was not wiped", c.kind)
		}
	}
}
