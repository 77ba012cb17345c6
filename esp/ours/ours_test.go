package ours_test

import (
	"net"
	"net/netip"
	"testing"

	"yumen/esp/ours"
)

func TestBandsAreApart(t *testing.T) {
	for _, c := range []struct {
		priority      uint32
		kernel, guard bool
	}{
		{0, false, false}, {ours.KernelBand - 1, false, false}, {ours.KernelBand, true, false}, {ours.GuardBand - 1, true, false},
		{ours.GuardBand, false, true}, {1<<31 - 1, false, true}, {1 << 31, false, false}, {^uint32(0), false, false},
	} {
		if ours.InKernelBand(c.priority) != c.kernel || ours.InGuardBand(c.priority) != c.guard {
			t.Errorf("%#x: kernel %t, guard %t", c.priority, ours.InKernelBand(c.priority), ours.InGuardBand(c.priority))
		}
	}
	for r, want := range map[uint32]bool{0: false, ours.Reqid: true, ours.Reqid | ours.ReqidBits: true, ours.Reqid - 1: false, 0x5a000000: false} {
		if ours.IsReqid(r) != want {
			t.Errorf("reqid %#x is ours: %t", r, !want)
		}
	}
}

func TestPrefixesKeepTheFamilyOfTheirMask(t *testing.T) {
	for text, want := range map[string]bool{"10.1.2.3/16": true, "fd01::/64": true, "::ffff:10.0.0.0/112": true} {
		_, n, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		p, ok := ours.PrefixOf(n)
		if _, size := n.Mask.Size(); ok != want || p.Addr().BitLen() != size || p != p.Masked() {
			t.Errorf("%s is %v, %t", text, p, ok)
		}
	}
	for _, n := range []*net.IPNet{nil, {}, {IP: net.IP{1, 2, 3}, Mask: net.CIDRMask(8, 32)}} {
		if p, ok := ours.PrefixOf(n); ok {
			t.Errorf("%v is %v", n, p)
		}
	}
}

func TestWhatLiesInside(t *testing.T) {
	p := netip.MustParsePrefix
	if !ours.Contains(ours.Everything(false), p("10.0.0.0/8")) || !ours.Contains(p("10.0.0.0/8"), p("10.0.0.0/8")) ||
		ours.Contains(p("10.0.0.0/9"), p("10.0.0.0/8")) || ours.Contains(ours.Everything(true), p("10.0.0.0/8")) {
		t.Error("Contains")
	}
	for _, n := range ours.LinkScope() {
		if !ours.Contains(ours.Everything(n.Addr().Is6()), n) {
			t.Errorf("%s is in nothing", n)
		}
	}
	if ours.IsLAN(ours.Everything(false)) || ours.IsLAN(p("fe80::/64")) || ours.IsLAN(p("224.0.0.0/4")) || !ours.IsLAN(p("10.1.0.0/24")) {
		t.Error("IsLAN")
	}
}
