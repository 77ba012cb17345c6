package daemon

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"yumen/esp"
	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/xfrm"
)

// fakeSide is a data plane that notes in a diary, which it shares with the other, what is
// asked of it.
type fakeSide struct {
	name        string
	diary       *[]string
	refuse      string // the beginning of a line
	events      chan esp.Event
	echoes      chan esp.Echo
	foreign     []esp.Child
	pathMTU     int // 0: large
	mostForeign int // 0: any number
	counters    map[string]uint64
}

func (h *fakeSide) do(format string, args ...any) error {
	line := h.name + " " + fmt.Sprintf(format, args...)
	if h.refuse != "" && strings.HasPrefix(line, h.refuse) {
		return errors.New("refused")
	}
	*h.diary = append(*h.diary, line)
	return nil
}

func (h *fakeSide) SetPolicy(*policy.Policy) error          { return h.do("policy") }
func (h *fakeSide) Install(c esp.Child, _ esp.State) error  { return h.do("install %d", c.ID) }
func (h *fakeSide) Use(id esp.ChildID) error                { return h.do("use %d", id) }
func (h *fakeSide) Rebind(id esp.ChildID, _ esp.Path) error { return h.do("rebind %d", id) }
func (h *fakeSide) Remove(id esp.ChildID) (esp.State, error) {
	return esp.State{}, h.do("remove %d", id)
}
func (h *fakeSide) Usage(id esp.ChildID) (esp.Usage, bool) {
	return esp.Usage{Replayed: uint64(id)}, true
}
func (h *fakeSide) Events() <-chan esp.Event                     { return h.events }
func (h *fakeSide) WriteIKE(_ []byte, _, _ netip.AddrPort) error { return h.do("ike") }
func (h *fakeSide) Offloads() tunnel.Offload                     { return tunnel.OffloadTSO }
func (h *fakeSide) ProbeIKE(_ []byte, _, _ netip.AddrPort) error { return h.do("probe") }
func (h *fakeSide) WriteKeepalive(_, _ netip.AddrPort) error     { return h.do("keepalive") }
func (h *fakeSide) ReadIKE() (b []byte, l, r netip.AddrPort, err error) {
	return []byte(h.name), l, r, nil
}
func (h *fakeSide) PushIKE(func(_ []byte, _, _ netip.AddrPort)) { _ = h.do("push") }
func (h *fakeSide) Counters() map[string]uint64                 { return h.counters }
func (h *fakeSide) Warnings() []string                          { return []string{"both say this", h.name} }
func (h *fakeSide) Trouble() error                              { return nil }
func (h *fakeSide) Close() error                                { close(h.events); close(h.echoes); return h.do("close") }
func (h *fakeSide) LearnPath(_, _ netip.Addr, mtu int)          { _ = h.do("learn %d", mtu) }
func (h *fakeSide) Outlives(esp.ChildID) bool                   { return true }
func (h *fakeSide) Leftovers() []xfrm.Leftover                  { return []xfrm.Leftover{{SPI: 99}} }
func (h *fakeSide) Carry(s tunnel.Share) error                  { return h.do("carry %v", slices.Sorted(maps.Keys(s))) }
func (h *fakeSide) MaxInner(c esp.Child) int {
	if h.pathMTU == 0 {
		return 1400
	}
	return esp.MaxInner(c, h.pathMTU)
}
func (h *fakeSide) Foreign(list []esp.Child) error {
	if len(list) == h.mostForeign {
		return errors.New("too many")
	}
	h.foreign = list
	return nil
}
func (h *fakeSide) Beside(b xfrm.Beside) error {
	return h.do("beside %v of %v", slices.Sorted(maps.Keys(b.Sends)), slices.Sorted(maps.Keys(b.Receives)))
}
func (h *fakeSide) Adopt(list []esp.Child) (ids []esp.ChildID, err error) {
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	return ids, h.do("adopt %v", ids)
}

// pairOf is both planes over two of these, with a policy.
type pairOf struct {
	*both
	kernel, user *fakeSide
	diary        []string
}

func newPair(t *testing.T, p *policy.Policy) *pairOf {
	t.Helper()
	x := &pairOf{}
	x.kernel = &fakeSide{name: "kernel", diary: &x.diary, counters: map[string]uint64{"XfrmInNoStates": 100}, events: make(chan esp.Event), echoes: make(chan esp.Echo)}
	x.user = &fakeSide{name: "user", diary: &x.diary, events: make(chan esp.Event), echoes: make(chan esp.Echo)}
	x.both = newBoth(x.kernel, "yumen0", func() (userSide, error) { return x.user, x.user.do("open") })
	if err := x.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.user.refuse = ""
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// did returns the diary and begins a new one.
func (x *pairOf) did(t *testing.T, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(x.diary, want) && len(x.diary)+len(want) > 0 {
		t.Errorf("did\n  %s\nwant\n  %s", strings.Join(x.diary, "\n  "), strings.Join(want, "\n  "))
	}
	x.diary = nil
}

func childOf(id esp.ChildID, name string, s policy.Suite, udp bool) esp.Child {
	return esp.Child{ID: id, Tunnel: name, Suite: s, ICVBits: 96, In: esp.Half{SPI: esp.SPI(1000 + id)}, Path: esp.Path{Encap: udp}}
}

const cbc, gcm = policy.SM4CBCHMACSM3, policy.SM4GCM128

func TestAMoveGuardsAndReceivesBeforeItSends(t *testing.T) {
	x := newPair(t, parseTunnels(t, ", encap: off", "name: a, remote: 10.2.0.0/16"))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(x.Install(childOf(1, "a", cbc, false), esp.State{}))
	must(x.Use(1))
	x.did(t, "kernel policy", "kernel install 1", "kernel use 1")

	must(x.Choose("a", userspace))
	x.did(t, "user open", "user policy")
	must(x.Install(childOf(2, "a", cbc, false), esp.State{}))
	x.did(t, "user carry [a]", "kernel beside [] of [a]", "user install 2")
	if x.Current("a") != kernel || x.PlaneOf(2) != userspace {
		t.Error("the tunnel moved before its child was used")
	}
	must(x.Use(2))
	x.did(t, "user use 2", "kernel beside [a] of [a]")
	if _, err := x.Remove(1); err != nil || x.Current("a") != userspace {
		t.Error("the tunnel did not move", err)
	}
	x.did(t, "kernel remove 1")

	must(x.Choose("a", kernel))
	must(x.Install(childOf(3, "a", cbc, false), esp.State{}))
	must(x.Use(3))
	x.did(t, "kernel install 3", "kernel use 3", "kernel beside [] of [a]")
	if got := x.user.foreign; len(got) != 2 || got[0].In.SPI != 1003 || got[1].In.SPI != 99 {
		t.Errorf("told of the kernel's children: %+v", got)
	}
	if _, err := x.Remove(2); err != nil {
		t.Error(err)
	}
	x.did(t, "user remove 2", "kernel beside [] of []", "user carry []")
	if u, ok := x.Usage(3); !ok || u.Replayed != 3 {
		t.Error("usage", u, ok)
	}
	if _, err := x.Remove(77); err != nil {
		t.Error("removing what is not there:", err)
	}
}

func TestAChildThatTheKernelCannotCarryGoesToUserspace(t *testing.T) {
	x := newPair(t, parseTunnels(t, ", encap: off", "name: a, remote: 10.2.0.0/16, suites: [sm4cbc-hmacsm3, sm4gcm128]", "name: g, remote: 10.3.0.0/16, suites: [sm4gcm128]"))
	x.did(t, "kernel policy", "user open", "user policy", "user carry [g]", "kernel beside [g] of [g]")
	var placed []string
	x.placed = func(name, plane, why string) { placed = append(placed, name+" "+plane+" "+why) }
	for i, s := range []policy.Suite{cbc, gcm, gcm} {
		if err := x.Install(childOf(esp.ChildID(i+1), "a", s, false), esp.State{}); err != nil {
			t.Fatal(err)
		}
	}
	x.did(t, "kernel install 1", "user carry [a g]", "kernel beside [g] of [a g]", "user install 2", "user install 3")
	if len(placed) != 2 || !strings.HasPrefix(placed[0], "a kernel") || !strings.Contains(placed[1], "a userspace no kernel has SM4-GCM") {
		t.Errorf("told %q", placed)
	}
	if err := x.Choose("g", kernel); err == nil || !strings.Contains(err.Error(), "SM4-GCM") {
		t.Error(err)
	}
}

func TestWhatFailsIsTakenBack(t *testing.T) {
	x := newPair(t, parseTunnels(t, ", encap: off", "name: a, remote: 10.2.0.0/16", "name: g, remote: 10.3.0.0/16, suites: [sm4gcm128]"))
	if err := errors.Join(x.Install(childOf(1, "a", cbc, false), esp.State{}), x.Use(1), x.Choose("a", userspace)); err != nil {
		t.Fatal(err)
	}
	x.diary = nil
	x.user.refuse = "user install"
	if err := x.Install(childOf(2, "a", cbc, false), esp.State{}); err == nil {
		t.Error("an install that was refused succeeded")
	}
	x.did(t, "user carry [a g]", "kernel beside [g] of [a g]", "kernel beside [g] of [g]", "user carry [g]")
	if x.PlaneOf(2) != "" {
		t.Error("the child that failed is there")
	}
	x.user.refuse = ""
	if err := x.Install(childOf(2, "a", cbc, false), esp.State{}); err != nil {
		t.Fatal(err)
	}
	x.kernel.refuse = "kernel beside [a"
	if err := x.Use(2); err == nil || x.Current("a") != kernel {
		t.Error("a switch that the kernel refused was made:", err)
	}
	x.kernel.refuse = ""
}

// The planes share the NAT traversal port: in UDP as without it a child lives where it
// belongs, and the userspace plane knows the kernel's before they can be heard.
func TestInUDPEachTunnelHasItsPlane(t *testing.T) {
	p := parseTunnels(t, "", "name: a, remote: 10.2.0.0/16", "name: g, remote: 10.3.0.0/16, suites: [sm4gcm128]")
	x := newPair(t, p)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(x.Install(childOf(1, "a", cbc, true), esp.State{}))
	must(x.Use(1))
	must(x.Install(childOf(2, "g", gcm, true), esp.State{}))
	if x.PlaneOf(1) != kernel || x.PlaneOf(2) != userspace {
		t.Errorf("a is in %s, g in %s", x.PlaneOf(1), x.PlaneOf(2))
	}
	if got := x.user.foreign; len(got) != 2 || got[0].In.SPI != 1001 || !got[0].Path.Encap {
		t.Errorf("told of the kernel's children: %+v", got)
	}
	must(x.Choose("a", userspace))
	must(x.Install(childOf(3, "a", cbc, true), esp.State{}))
	must(x.Use(3))
	if x.Current("a") != userspace || x.PlaneOf(3) != userspace {
		t.Errorf("a moved to %s", x.Current("a"))
	}
	if b, _, _, _ := x.ReadIKE(); string(b) != "kernel" {
		t.Error("ike is read by", string(b))
	}
	must(x.Choose("a", kernel))
	x.user.mostForeign = len(x.user.foreign) + 1
	if err := x.Install(childOf(4, "a", cbc, true), esp.State{}); err == nil || x.PlaneOf(4) != "" {
		t.Errorf("a child was installed that nobody would find: %v", err)
	}
	if slices.Contains(x.diary, "kernel install 4") {
		t.Error("the kernel was asked to carry it")
	}
	x.user.mostForeign = 0
}

func TestTunnelsThatShareAddressesDoNotMoveApart(t *testing.T) {
	x := newPair(t, parseTunnels(t, ", encap: off", "name: a, remote: 10.2.0.0/16, protocol: tcp", "name: b, remote: 10.2.0.0/16"))
	if err := x.Choose("a", userspace); err == nil || !strings.Contains(err.Error(), "shares addresses with tunnel b") {
		t.Error(err)
	}
}

func TestBothPlanesSpeakAsOne(t *testing.T) {
	x := newPair(t, parseTunnels(t, ", encap: off", "name: a, remote: 10.2.0.0/16", "name: g, remote: 10.3.0.0/16, suites: [sm4gcm128]"))
	x.kernel.counters = map[string]uint64{"XfrmInNoStates": 100 + 12}
	x.user.counters = map[string]uint64{"raw-received": 10, "sealed": 3}
	if got := x.Counters(); got["XfrmInNoStates"] != 2 || got["sealed"] != 3 {
		t.Errorf("counted %v", got)
	}
	if got := x.Warnings(); !reflect.DeepEqual(got, []string{"both say this", "kernel", "user"}) || x.Name() != "kernel+userspace" {
		t.Errorf("%s warns %q", x.Name(), got)
	}
	for _, h := range []*fakeSide{x.kernel, x.user} {
		h.events <- esp.Event{Kind: esp.Acquire, Tunnel: h.name}
		if e := <-x.Events(); e.Tunnel != h.name {
			t.Errorf("told %+v", e)
		}
	}
	if ids, err := x.Adopt([]esp.Child{childOf(7, "a", cbc, false)}); err != nil || len(ids) != 1 || x.PlaneOf(7) != kernel || !x.Outlives(7) || x.Outlives(8) {
		t.Errorf("adopted %v, %v", ids, err)
	}
	x.diary = nil
	x.LearnPath(netip.Addr{}, netip.Addr{}, 1400)
	x.did(t, "kernel learn 1400", "user learn 1400")
}

func TestAStatusNamesTheOffloadsOfUserspaceOnlyWhereItRuns(t *testing.T) {
	x := newPair(t, &policy.Policy{})
	if u := userspaceOf(x.both); u != nil {
		t.Errorf("no userspace plane, and yet %+v", u)
	}
	x.both.mu.Lock()
	err := x.both.needUser()
	x.both.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	u := userspaceOf(x.both)
	if u == nil || !slices.Equal(u.Offloads, []string{"tun-tso"}) || len(u.Missing) != 4 || u.Crypto == "" {
		t.Errorf("%+v", u)
	}
	if u := userspaceOf(x.kernel); u != nil {
		t.Errorf("a kernel plane: %+v", u)
	}
}
