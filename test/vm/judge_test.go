package vm

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/xfrm"
)

// forge seals packets from ha to hb with the child's own keys and puts them on the
// wire itself, so that it can hold some back, repeat and spoil them.
type forge struct {
	t   *testing.T
	w   *world
	out *esp.Outbound
	fd  int
}

func newForge(t *testing.T, w *world, f form) *forge {
	t.Helper()
	out, err := esp.NewOutbound(child(false, 0, 0, f), esp.State{}, rand.Reader)
	check(t, err)
	x := &forge{t: t, w: w, out: out}
	check(t, w.ga.Do(func() (err error) {
		x.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ESP)
		return err
	}))
	t.Cleanup(func() { unix.Close(x.fd) })
	return x
}

// seal makes the next packet, with a datagram of a number of its own.
func (x *forge) seal() (packet []byte, number uint64) {
	x.t.Helper()
	number = numbers.Add(1)
	b := make([]byte, 28, 64)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	src, dst := netip.MustParseAddr(hostA4).As4(), netip.MustParseAddr(hostB4).As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[20:], 40000)
	binary.BigEndian.PutUint16(b[22:], echoPort)
	b = binary.BigEndian.AppendUint64(b, number)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[24:], uint16(len(b)-20)) // no UDP checksum
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	packet, err := x.out.Seal(nil, b)
	check(x.t, err)
	return packet, number
}

func (x *forge) send(packet []byte) {
	x.t.Helper()
	check(x.t, unix.Sendto(x.fd, packet, 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(gateB4).As4()}))
}

// arrived waits until hb has a datagram, or a moment if it should not have it.
func (x *forge) arrived(number uint64, want int) int {
	limit := 5 * time.Second
	if want == 0 {
		limit = 150 * time.Millisecond
	}
	for end := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		if n := x.w.echoes[hostB4].times(number); n != 0 || time.Now().After(end) {
			return n
		}
	}
}

// counter reads one of the kernel's statistics.
func counter(t *testing.T, s *side, name string) uint64 {
	t.Helper()
	all, err := s.dataplane.(*xfrm.Plane).Stats()
	check(t, err)
	n, ok := all[name]
	if !ok {
		t.Fatalf("the kernel has no counter %s", name)
	}
	return n
}

// The window of 1024 is really there without ESN: a library that writes it into the
// old field of 8 bits switches anti-replay off.
func TestKernelRefusesReplaysAndForgeries(t *testing.T) {
	for _, f := range []form{{icv: 96}, {icv: 96, esn: true}, {icv: 256}} {
		t.Run(f.String(), func(t *testing.T) {
			w := inside(t)
			b := w.open(t, true, kernel)
			c := child(true, 0, 0, f)
			check(t, b.Install(c, esp.State{}))
			x := newForge(t, w, f)
			replays, forged := counter(t, b, "XfrmInStateSeqError"), counter(t, b, "XfrmInStateProtoError")
			expect := func(what string, packet []byte, number uint64, want int) {
				t.Helper()
				before := w.echoes[hostB4].times(number)
				x.send(packet)
				if got := x.arrived(number, want) - before; got != want {
					t.Errorf("%s: arrived %d times, want %d", what, got, want)
				}
			}
			late, lateNumber := x.seal()   // number 1
			early, earlyNumber := x.seal() // number 2
			first, firstNumber := x.seal()
			expect("number 3", first, firstNumber, 1)
			var last []byte
			var number uint64
			for x.out.Seq() < 1002 {
				last, number = x.seal()
			}
			expect("number 1002", last, number, 1)
			expect("number 2, 1000 late", early, earlyNumber, 1)
			x.send(early) // again
			for x.out.Seq() < 1026 {
				last, number = x.seal()
			}
			expect("number 1026", last, number, 1)
			expect("number 1, left of the window", late, lateNumber, 0)
			x.send(last) // again
			spoilt, spoiltNumber := x.seal()
			spoilt[len(spoilt)-1] ^= 1
			expect("wrong ICV", spoilt, spoiltNumber, 0)
			if n := w.echoes[hostB4].times(earlyNumber); n != 1 {
				t.Errorf("a replay was taken: %d times", n)
			}
			// With ESN a number left of the window counts as one of the next 2^32, whose
			// ICV does not fit (RFC 4303 appendix A2).
			old, wrong := uint64(3), uint64(1)
			if f.esn {
				old, wrong = 2, 2
			}
			if n := counter(t, b, "XfrmInStateSeqError") - replays; n != old {
				t.Errorf("the kernel counted %d replays, want %d", n, old)
			}
			if n := counter(t, b, "XfrmInStateProtoError") - forged; n != wrong {
				t.Errorf("the kernel counted %d wrong ICVs, want %d", n, wrong)
			}
			u, _ := b.Usage(c.ID)
			if u.In.Packets != 4 || u.Replayed != old || u.BadAuth != wrong {
				t.Errorf("usage %+v", u)
			}
			// Moved with its state the window holds.
			s, err := b.Remove(c.ID)
			check(t, err)
			if s.InSeq != 1026 {
				t.Errorf("highest number %d", s.InSeq)
			}
			check(t, b.Install(c, s))
			expect("a replay after the move", last, number, 0)
			middle, middleNumber := x.seal()
			expect("the next after the move", middle, middleNumber, 1)
		})
	}
}
