package vm

import (
	"strings"
	"testing"
	"time"
)

// A gateway that does not know the length of its peer's ICV begins in userspace, hears
// the length by the first packet, and then moves the tunnels into the kernel by itself:
// of the traffic that came meanwhile nothing is lost.
func TestATunnelMovesIntoTheKernelOnceItsICVLengthIsKnown(t *testing.T) {
	for _, peerKeys := range []string{"", ", encap: force"} {
		t.Run("raw"+peerKeys, func(t *testing.T) {
			w := inside(t)
			d := w.daemons(t)
			near, far := make([]line, len(cbcLines)), make([]line, len(cbcLines))
			for i, l := range cbcLines {
				near[i], far[i] = l, l
				near[i].keys, far[i].keys = ", icv_bits: auto", ", icv_bits: 256"
			}
			d.configureEach(near, far, "auto", "kernel", peerKeys)
			d.start(d.b, d.a)
			d.up(d.a, d.b)
			waiting := map[string]string{"t4": "userspace", "t6": "userspace"}
			d.in(d.a, waiting)
			streams := []*stream{w.stream(t, w.hb, hostA4, streamGap), w.stream(t, w.hb, hostA6, streamGap)}
			planes := map[string]string{"t4": "kernel", "t6": "kernel"}
			eventually(t, "the tunnels are in the kernel", func() error { return d.lives(d.a, planes) })
			time.Sleep(3 * time.Second) // the old ones go
			for _, s := range streams {
				sent, lost, repeated := w.end(s)
				if sent < 50 || lost != 0 || repeated != 0 {
					t.Errorf("to %s: sent %d, lost %d, repeated %d; the first lost at %s", s.to, sent, lost, repeated, w.firstLost(s))
				}
			}
			d.in(d.a, planes)
			d.answers(2, hostB4, hostB6)
			if out := ip(t, w.ga, "xfrm", "state", "list", "nokeys"); strings.Count(out, "hmac(sm3)") != strings.Count(out, " 256\n") || !strings.Contains(out, " 256\n") {
				t.Errorf("the kernel does not check 256 bits:\n%s", out)
			}
		})
	}
}
