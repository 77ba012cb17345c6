package esp

import (
	"bytes"
	"net/netip"
	"testing"

	"yumen/policy"
)

func TestOuterTypeOfService(t *testing.T) {
	for inner := range 256 {
		tos := byte(inner)
		if got := OuterTOS(policy.Outer{DSCP: policy.CopyDSCP}, tos); got != tos {
			t.Errorf("copy of %02x: %02x", tos, got)
		}
		if got := OuterTOS(policy.Outer{}, tos); got != tos&3 {
			t.Errorf("zero of %02x: %02x", tos, got)
		}
		if got := OuterTOS(policy.Outer{DSCP: 46}, tos); got != 0xb8|tos&3 {
			t.Errorf("46 of %02x: %02x", tos, got)
		}
	}
}

func TestCongestionLeavesTheTunnelAsRFC6040Says(t *testing.T) {
	const drop = 9
	// Figure 4; rows: inner, columns: outer Not-ECT, ECT(1), ECT(0), CE by value.
	table := [4][4]byte{
		ecnNot:  {ecnNot: ecnNot, ecnECT1: ecnNot, ecnECT0: ecnNot, ecnCE: drop},
		ecnECT1: {ecnNot: ecnECT1, ecnECT1: ecnECT1, ecnECT0: ecnECT1, ecnCE: ecnCE},
		ecnECT0: {ecnNot: ecnECT0, ecnECT1: ecnECT1, ecnECT0: ecnECT0, ecnCE: ecnCE},
		ecnCE:   {ecnNot: ecnCE, ecnECT1: ecnCE, ecnECT0: ecnCE, ecnCE: ecnCE},
	}
	for i := range byte(4) {
		for o := range byte(4) {
			for _, dscp := range []byte{0, 0xb8, 0xfc} {
				for _, b := range [][]byte{ipv4(here4, there4, 17, numbered(4)), ipv6(here6, there6, 17, numbered(4))} {
					setTOS(b, dscp|i)
					b[len(b)-1] = 7
					before := bytes.Clone(b)
					err := Decapsulate(b, 0x48|o)
					if want := table[i][o]; want == drop {
						if err != ErrCongestion || !bytes.Equal(b, before) {
							t.Errorf("inner %d outer %d: %v", i, o, err)
						}
					} else if err != nil || TOS(b) != dscp|want {
						t.Errorf("inner %d outer %d: %02x, %v", i, o, TOS(b), err)
					}
					if b[0]>>4 == 4 && checksum(b[:20]) != 0 {
						t.Errorf("inner %d outer %d: checksum", i, o)
					}
					setTOS(b, dscp|i)
					if !bytes.Equal(b, before) {
						t.Errorf("inner %d outer %d: more than the mark changed", i, o)
					}
				}
			}
		}
	}
}

func TestChecksumFollowsEveryChange(t *testing.T) {
	b := ipv4(here4, there4, 17, nil)
	for id := range 1 << 16 {
		b[4], b[5] = byte(id>>8), byte(id)
		b[10], b[11] = 0, 0
		sum := checksum(b)
		b[10], b[11] = byte(sum>>8), byte(sum)
		setTOS(b, b[1]^byte(id>>3|1))
		if checksum(b) != 0 {
			t.Fatalf("identification %04x", id)
		}
	}
}

func TestDontFragmentByPolicy(t *testing.T) {
	with, without := ipv4(here4, there4, 17, nil), ipv4(here4, there4, 17, nil)
	with[6] = 0x40
	for _, c := range []struct {
		df    policy.DF
		inner []byte
		want  bool
	}{
		{policy.DFCopy, with, true}, {policy.DFCopy, without, false}, {policy.DFCopy, ipv6(here6, there6, 17, nil), true},
		{policy.DFSet, without, true}, {policy.DFClear, with, false}, {policy.DFClear, ipv6(here6, there6, 17, nil), false},
	} {
		if got := OuterDF(policy.Outer{DF: c.df}, c.inner); got != c.want {
			t.Errorf("%d of %x: %v", c.df, c.inner[:7], got)
		}
	}
}

// The largest inner packet fits to the byte, and one more does not.
func TestMaxInnerIsExact(t *testing.T) {
	for _, v := range variants() {
		out, _ := v.pair(t, State{})
		for _, remote := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"} {
			for _, encap := range []bool{false, true} {
				a, _ := v.ends()
				a.Path = Path{Remote: netip.AddrPortFrom(netip.MustParseAddr(remote), 4500), Encap: encap}
				outer := 20
				if remote == "2001:db8::1" {
					outer = 40
				}
				if encap {
					outer += 8
				}
				for mtu := 576; mtu < 576+40; mtu++ {
					n := MaxInner(a, mtu)
					size := func(n int) int {
						head := len(v.packet(0))
						return outer + len(must(t, out, v.packet(n-head)))
					}
					if size(n) > mtu || size(n+1) <= mtu {
						t.Fatalf("%v over %s encap %v, MTU %d: %d makes %d, one more %d", v, remote, encap, mtu, n, size(n), size(n+1))
					}
				}
			}
		}
	}
}

func TestMaxInnerKnownValues(t *testing.T) {
	v4 := Path{Remote: netip.MustParseAddrPort("192.0.2.1:0")}
	for _, c := range []struct {
		suite policy.Suite
		icv   int
		want  int
	}{
		{policy.SM4CBCHMACSM3, 96, 1438}, {policy.SM4CBCHMACSM3, 128, 1438}, {policy.SM4CBCHMACSM3, 256, 1422}, {policy.SM4GCM128, 0, 1446},
	} {
		if got := MaxInner(Child{Suite: c.suite, ICVBits: c.icv, Path: v4}, 1500); got != c.want {
			t.Errorf("suite %d ICV %d: %d, want %d", c.suite, c.icv, got, c.want)
		}
	}
	unknown := Child{Suite: policy.SM4GCM128}
	if MaxInner(unknown, 1500) != 1426 || MaxInner(unknown, 50) != 0 || MaxInner(unknown, 0) != 0 || MaxInner(Child{}, 1500) != 0 {
		t.Error("edges")
	}
	if Overhead(policy.SM4CBCHMACSM3, 96) != 8+16+15+2+12 || Overhead(policy.SM4GCM128, 0) != 8+8+3+2+16 || Overhead(policy.NoSuite, 96) != 0 {
		t.Error("overhead")
	}
}
