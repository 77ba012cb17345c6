package tunnel

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"yumen/esp"
	"yumen/policy"
)

func udpFrom(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// quote4 is "fragmentation needed" about an outer packet as it arrives.
func quote4(outer []byte, mtu int, keep int) []byte {
	b := make([]byte, 28, 28+keep)
	b[0], b[9], b[20], b[21] = 0x45, 1, 3, 4
	binary.BigEndian.PutUint16(b[26:], uint16(mtu))
	b = append(b, outer[:min(keep, len(outer))]...)
	binary.BigEndian.PutUint16(b[22:], ^fold(sum(0, b[20:])))
	return b
}

func quote6(outer []byte, mtu int, keep int) []byte {
	b := make([]byte, 8, 8+keep)
	b[0] = 2
	binary.BigEndian.PutUint32(b[4:], uint32(mtu))
	return append(b, outer[:min(keep, len(outer))]...)
}

func path6(encap bool) esp.Path {
	p := esp.Path{Local: netip.MustParseAddrPort("[2001:db8::1]:0"), Remote: netip.MustParseAddrPort("[2001:db8::2]:0"), Encap: encap}
	if encap {
		p.Local, p.Remote = netip.AddrPortFrom(p.Local.Addr(), 4500), netip.AddrPortFrom(p.Remote.Addr(), 4500)
	}
	return p
}

// sentOuter is a whole outer packet of a child of path.
func sentOuter(t *testing.T, d *dry, path esp.Path) []byte {
	t.Helper()
	d.sent = nil
	d.hand(inner(1, 1400))
	if len(d.sent) != 1 {
		t.Fatalf("%d packets sent", len(d.sent))
	}
	b := d.sent[0]
	if path.Remote.Addr().Is6() { // its header is the kernel's
		k := kindOf(path.Remote.Addr(), path.Encap)
		b = append(make([]byte, outerRoom(k)), b...)
		putOuter6(b, k, path, 0)
	}
	return b
}

func TestOnlyErrorsAboutPacketsOfOursAreBelieved(t *testing.T) {
	for _, path := range []esp.Path{rawPath(), udpPath(), path6(false), path6(true)} {
		d := newDry(t)
		us, _ := d.ends(1, path)
		d.use(t, us, esp.State{OutSeq: 70})
		outer := sentOuter(t, d, path)
		v6 := path.Remote.Addr().Is6()
		at := outerRoom(kindOf(path.Remote.Addr(), path.Encap)) // of the SPI
		judge := func(mtu int, change func(b []byte)) *pair {
			b := append([]byte(nil), outer...)
			change(b)
			var c complaint
			var ok bool
			if v6 {
				c, ok = readComplaint6(quote6(b, mtu, 200), 4500)
			} else {
				c, ok = readComplaint4(quote4(b, mtu, 200), 4500)
			}
			if !ok {
				return nil
			}
			if c.mtu != mtu || c.size != len(outer) || c.remote != path.Remote.Addr() {
				t.Errorf("%+v: read %+v", path, c)
			}
			return d.snap.Load().believe(c)
		}
		if x := judge(1300, func([]byte) {}); x == nil || x.child.ID != 1 {
			t.Errorf("%+v: a true error is not believed", path)
		}
		lies := map[string]func(b []byte){
			"another SPI":       func(b []byte) { b[at]++ },
			"SPI 0":             func(b []byte) { clear(b[at : at+4]) },
			"a number to come":  func(b []byte) { b[at+7]++ },
			"a number long ago": func(b []byte) { b[at+4] = 0x7f },
			"another protocol":  func(b []byte) { b[map[bool]int{false: 9, true: 6}[v6]] = 6 },
			"another remote":    func(b []byte) { b[map[bool]int{false: 19, true: 39}[v6]]++ },
		}
		if !v6 {
			lies["it may be fragmented"] = func(b []byte) { b[6] = 0 }
			lies["a later fragment"] = func(b []byte) { b[7] = 9 }
		}
		if path.Encap {
			lies["another port"] = func(b []byte) { b[at-8]++ }
		}
		remote := path.Remote.Addr()
		for name, lie := range lies {
			b := append([]byte(nil), outer...)
			lie(b)
			var c complaint
			var ok bool
			if v6 {
				c, ok = readComplaint6(quote6(b, 1300, 200), 4500)
			} else {
				c, ok = readComplaint4(quote4(b, 1300, 200), 4500)
			}
			if ok && d.snap.Load().believe(c) != nil {
				t.Errorf("%s %t: believed: %s", remote, path.Encap, name)
			}
		}
		for _, mtu := range []int{len(outer), 9000} {
			if judge(mtu, func([]byte) {}) != nil {
				t.Errorf("%s: believed that %d bytes pass and %d do not", remote, mtu, len(outer))
			}
		}
	}
}

func TestErrorsThatAreCutShortOrDamagedAreIgnored(t *testing.T) {
	d := newDry(t)
	us, _ := d.ends(1, rawPath())
	d.use(t, us, esp.State{})
	whole := quote4(sentOuter(t, d, rawPath()), 1300, 28)
	if c, ok := readComplaint4(whole, 4500); !ok || d.snap.Load().believe(c) == nil {
		t.Fatal("eight bytes of ESP are enough")
	}
	for n := range whole {
		if _, ok := readComplaint4(whole[:n], 4500); ok {
			t.Errorf("%d of %d bytes were read", n, len(whole))
		}
	}
	whole[26]++
	if _, ok := readComplaint4(whole, 4500); ok {
		t.Error("the checksum is wrong")
	}
	// An old router tells no size (RFC 1191 5).
	if c, ok := readComplaint4(quote4(d.sent[0], 0, 28), 4500); !ok || c.mtu != 1280 {
		t.Errorf("no size: %+v", c)
	}
	six := quote6(sentOuter6(t), 1280, 60)
	for n := range six[:56] {
		if _, ok := readComplaint6(six[:n], 4500); ok {
			t.Errorf("%d bytes of an ICMPv6 error were read", n)
		}
	}
}

func sentOuter6(t *testing.T) []byte {
	d := newDry(t)
	us, _ := d.ends(1, path6(false))
	d.use(t, us, esp.State{})
	return sentOuter(t, d, path6(false))
}

func TestAPathLearnsShrinksAndForgets(t *testing.T) {
	for _, path := range []esp.Path{rawPath(), path6(false)} {
		d := newDry(t)
		us, _ := d.ends(1, path)
		d.use(t, us, esp.State{})
		remote := path.Remote.Addr()
		want := func(outer int) {
			t.Helper()
			u, _ := d.Usage(1)
			if x := d.snap.Load().sending("asks"); x.outer != outer || u.EffectiveMTU != esp.MaxInner(us, outer) || x.mss4 != u.EffectiveMTU-40 || x.mss6 != u.EffectiveMTU-60 {
				t.Errorf("%s: outer %d, effective %d, segments %d %d, want outer %d", remote, x.outer, u.EffectiveMTU, x.mss4, x.mss6, outer)
			}
		}
		want(1500)
		d.learn(report{remote: remote, mtu: 1400})
		want(1400)
		d.learn(report{remote: remote, mtu: 1450}) // an older packet's error
		want(1400)
		d.learn(report{remote: netip.MustParseAddr("203.0.113.9"), mtu: 600})
		want(1400)
		d.pass(learnedFor - time.Second)
		d.learn(report{})
		want(1400)
		d.learn(report{remote: remote, mtu: 100}) // nobody has that
		least := minimumMTU4
		if remote.Is6() {
			least = minimumMTU6
		}
		want(least)
		next := path
		next.Remote = netip.AddrPortFrom(remote.Next(), 0)
		if err := d.Rebind(1, next); err != nil {
			t.Fatal(err)
		}
		want(1500)
		if err := d.Rebind(1, path); err != nil {
			t.Fatal(err)
		}
		want(least)
		d.pass(learnedFor)
		d.learn(report{})
		want(1500)
		if len(d.paths) != 0 {
			t.Errorf("%s: kept %v", remote, d.paths)
		}
	}
}

// What somebody tried holds for that pair of addresses until the next word or for
// ten minutes, never above what else is known.
func TestWhatWasTriedLowersAndRaisesAPath(t *testing.T) {
	for _, path := range []esp.Path{rawPath(), udpPath(), path6(false), path6(true)} {
		d := newDry(t)
		us, _ := d.ends(1, path)
		d.use(t, us, esp.State{})
		local, remote := path.Local.Addr(), path.Remote.Addr()
		want := func(outer int) {
			t.Helper()
			u, _ := d.Usage(1)
			if x := d.snap.Load().sending("asks"); x.outer != outer || u.EffectiveMTU != esp.MaxInner(us, outer) {
				t.Errorf("%s: outer %d, effective %d, want outer %d", remote, x.outer, u.EffectiveMTU, outer)
			}
		}
		d.LearnPath(local, remote, 1400)
		want(1400)
		before := d.snap.Load()
		d.pass(learnedFor - time.Second)
		d.LearnPath(local, remote, 1400)
		if d.snap.Load() != before {
			t.Error("the same again made a new snapshot")
		}
		d.pass(learnedFor - time.Second)
		d.learn(report{})
		want(1400) // it was repeated
		d.LearnPath(local, remote, 1300)
		want(1300)
		d.LearnPath(local, remote, 1450)
		want(1450)
		d.LearnPath(local.Next(), remote, 1280) // another way to the same peer
		d.LearnPath(local, remote.Next(), 1280)
		want(1450)
		d.learn(report{remote: remote, mtu: 1420}) // ICMP knows better
		want(1420)
		d.LearnPath(local, remote, 1500)
		want(1420)
		d.LearnPath(local, remote, 100) // nobody has that
		least := minimumMTU4
		if remote.Is6() {
			least = minimumMTU6
		}
		want(least)
		d.pass(learnedFor)
		d.learn(report{})
		want(1500)
		if len(d.probed) != 0 || len(d.paths) != 0 {
			t.Errorf("%s: kept %v, %v", remote, d.probed, d.paths)
		}
		d.LearnPath(local, remote, 9000) // more than we send
		want(1500)
	}
}

func TestSegmentSizesFollowThePolicy(t *testing.T) {
	for _, x := range []struct {
		outer      policy.Outer
		mss4, mss6 int
		mtu        int
	}{
		{policy.Outer{}, 1398, 1378, 1438},
		{policy.Outer{MSS: policy.MSSOff}, 0, 0, 1438},
		{policy.Outer{MSS: 1200}, 1200, 1200, 1438},
		{policy.Outer{Fragment: policy.FragmentAfter}, 1398, 1378, jumboMTU},
	} {
		p := pair{child: esp.Child{Suite: policy.SM4CBCHMACSM3, ICVBits: 96, Outer: x.outer, Path: rawPath()}}
		p.size(1500)
		if p.mss4 != x.mss4 || p.mss6 != x.mss6 || p.mtu != x.mtu {
			t.Errorf("%+v: segments %d %d, mtu %d; want %+v", x.outer, p.mss4, p.mss6, p.mtu, x)
		}
	}
}

func TestLargePacketsAreCutWhereThePolicySays(t *testing.T) {
	for _, path := range []esp.Path{rawPath(), udpPath(), path6(false), path6(true)} {
		for _, after := range []bool{false, true} {
			d := newDry(t)
			us, peer := d.ends(1, path)
			if after {
				us.Outer.Fragment = policy.FragmentAfter
			}
			d.use(t, us, esp.State{})
			d.learn(report{remote: path.Remote.Addr(), mtu: 1280})
			b := packet4(5000-20, after) // with DF it could not be cut before
			d.hand(b)
			in, err := esp.NewInbound(peer, esp.State{})
			if err != nil {
				t.Fatal(err)
			}
			outer, inside := esp.NewReassembler(esp.ReassemblyLimits{}), 0
			for _, piece := range d.sent {
				if len(piece) > 1280 {
					t.Errorf("%s after %t: %d bytes on a path of 1280", path.Remote, after, len(piece))
				}
				at := outerRoom(kindOf(path.Remote.Addr(), path.Encap))
				if path.Remote.Addr().Is6() && !after {
					at = 0 // the kernel's header
				}
				if after {
					if piece, err = outer.Add(time.Time{}, 0, piece); err != nil {
						t.Fatal(err)
					}
					if piece == nil {
						continue
					}
					p, err := esp.ParsePacket(piece)
					if err != nil {
						t.Fatal(err)
					}
					if path.Encap && path.Remote.Addr().Is6() && fold(sum(sum(0, piece[8:40])+uint32(len(piece)-40)+17, piece[40:])) != 0xffff {
						t.Errorf("the checksum of UDP over IPv6: %+v", p.Tuple)
					}
				}
				got, err := in.Open(make([]byte, 0, 65536), piece[at:])
				if err != nil {
					t.Fatal(err)
				}
				inside += len(got)
			}
			if after && (inside != 5000 || len(d.sent) < 4) || !after && inside <= 5000 {
				t.Errorf("%s after %t: %d pieces with %d bytes", path.Remote, after, len(d.sent), inside)
			}
		}
	}
}

func FuzzComplaints(f *testing.F) {
	f.Add(quote4(packet4(100, true), 68, 60))
	f.Add(quote6(packet6(100, false), 1280, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func([]byte, uint16) (complaint, bool){readComplaint4, readComplaint6} {
			if c, ok := read(b, 4500); ok && (c.mtu <= 0 || c.mtu >= c.size || c.spi == 0 || !c.remote.IsValid()) {
				t.Fatalf("read %+v", c)
			}
		}
	})
}
