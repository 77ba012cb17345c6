package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"yumen/ike"
	"yumen/policy"
)

// pathWorld is a pair of gateways that try their paths, and what they told.
type pathWorld struct {
	*Lab
	i, r *Gateway
	told []string // of i: when the path became another
}

// paths builds one. With v6 and nat the ends have IPv6 addresses or speak on
// port 4500.
func paths(seed uint64, v6, nat bool, dpd time.Duration) *pathWorld {
	i, r := members().Pair()
	for _, s := range []*Site{&i, &r} {
		s.Peer().PathProbe, s.Peer().DPD = policy.ProbeOn, policy.DPD{Interval: dpd, Tries: 3}
		if nat {
			s.Peer().Encap = policy.EncapForce
		}
	}
	if v6 {
		i.Addr, r.Addr = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
		i.Peer().Remote.Addr, r.Peer().Remote.Addr = r.Addr, i.Addr
	}
	w := &pathWorld{Lab: New(seed, i, r)}
	w.i, w.r = w.Gateway("i"), w.Gateway("r")
	w.i.Told = func(v ike.Event) {
		if v.Kind == ike.PathChanged {
			w.told = append(w.told, v.Detail)
		}
	}
	return w
}

func (w *pathWorld) mtu() int { return w.i.Plane.Paths[w.r.Addr] }

// What the search ends at is carried and no more than a step of the table below
// what the path carries. The largest probe that fits into 1500 bytes, up to 15
// less, stands for them.
func TestAMutePathIsMeasured(t *testing.T) {
	for _, x := range []struct {
		v6, nat bool
		path    int
		least   int
	}{
		{path: 1500, least: 1500}, {path: 9000, least: 1500}, {path: 1495, least: 1480}, {path: 1492, least: 1480},
		{path: 1480, least: 1480}, {path: 1400, least: 1400}, {path: 1399, least: 1368}, {path: 1280, least: 1264},
		{path: 610, least: 576}, {nat: true, path: 1400, least: 1388}, {nat: true, path: 1500, least: 1500},
		{v6: true, path: 1500, least: 1500}, {v6: true, path: 1400, least: 1388}, {v6: true, nat: true, path: 1400, least: 1392},
		{v6: true, path: 1290, least: 1280}, {v6: true, path: 1280, least: 1280},
	} {
		t.Run(fmt.Sprintf("v6=%t nat=%t %d", x.v6, x.nat, x.path), func(t *testing.T) {
			w := paths(1, x.v6, x.nat, 10*time.Second)
			mute, sent := Mute(x.path), 0
			w.Hook = func(p Packet) []Packet {
				if p.Probe && p.From == "i" {
					sent++
					if p.Size() > 1500 || p.Size() < 576 {
						t.Errorf("a probe of %d bytes", p.Size())
					}
				}
				return mute(p)
			}
			w.Run(2 * time.Minute)
			if got := w.mtu(); got < x.least || got > min(x.path, 1500) {
				t.Errorf("concluded %d, want %d to %d", got, x.least, x.path)
			}
			if want := min(1, max(0, 1500-x.path)); len(w.told) != want {
				t.Errorf("told %q, want %d times", w.told, want)
			}
			if sent > 60 {
				t.Errorf("%d probes in two minutes", sent)
			}
			// DPD is as calm as ever.
			if s := w.i.Engine.Status().Sessions; len(s) != 1 || s[0].State != "established" {
				t.Errorf("sessions: %+v", s)
			}
		})
	}
}

// probeTriesInTest is how often one size is asked for in one search.
const probeTriesInTest = 3

func TestAPathThatChangesIsFollowedBothWaysWithOneWordEach(t *testing.T) {
	w := paths(2, false, false, 10*time.Second)
	w.Run(time.Minute)
	if w.mtu() != 1500 || len(w.told) != 0 {
		t.Fatalf("%d, told %q", w.mtu(), w.told)
	}
	for i, x := range []struct{ path, want int }{{1400, 1400}, {1280, 1272}, {1380, 1368}, {1500, 1500}} {
		w.Hook = Mute(x.path)
		w.Run(10 * time.Minute)
		if w.mtu() != x.want || len(w.told) != i+1 {
			t.Errorf("path of %d: %d, told %q", x.path, w.mtu(), w.told)
		}
		w.Run(30 * time.Minute) // it says nothing twice
		if len(w.told) != i+1 {
			t.Errorf("path of %d: told %q", x.path, w.told)
		}
	}
}

// A data plane forgets after ten minutes: before that it hears again.
func TestAConclusionIsRepeatedBeforeItIsForgotten(t *testing.T) {
	w := paths(3, false, false, 10*time.Second)
	w.Hook = Mute(1400)
	last := w.Now()
	w.i.Refuse = func(f ike.Effect) error {
		if p, ok := f.(ike.PathMTU); ok {
			if p.MTU != 1400 || p.Remote != w.r.Addr || p.Local != w.i.Addr {
				t.Errorf("concluded %+v", p)
			}
			if d := w.Now().Sub(last); d > 10*time.Minute {
				t.Errorf("nothing for %v", d)
			}
			last = w.Now()
		}
		return nil
	}
	w.Run(3 * time.Hour) // sessions and tunnels are renewed meanwhile
	if d := w.Now().Sub(last); d > 10*time.Minute {
		t.Errorf("nothing for %v", d)
	}
}

// Some peers answer R-U-THERE alone. Nothing follows from their silence, and the
// session lives on.
func TestAPeerThatIgnoresPaddedProbesTellsNothing(t *testing.T) {
	w := paths(4, false, false, 10*time.Second)
	probes := 0
	w.Hook = func(p Packet) []Packet {
		if p.Probe {
			if p.From == "i" {
				probes++
			}
			return nil
		}
		return []Packet{p}
	}
	cookies := ""
	w.i.Told = func(v ike.Event) {
		switch v.Kind {
		case ike.IKEUp:
			cookies += fmt.Sprintf("%x ", v.CookieI)
		case ike.PathChanged, ike.PeerDead, ike.IKEDown:
			t.Errorf("%s: %s", KindName(v.Kind), v.Detail)
		}
	}
	w.Run(2 * time.Hour)
	if w.mtu() != 0 || probes == 0 || probes > 3*probeTriesInTest || strings.Count(cookies, " ") != 1 {
		t.Errorf("concluded %d, %d probes, sessions %s", w.mtu(), probes, cookies)
	}
}

// When everything is lost, what is large is too; that says nothing about size.
func TestAnOutageIsNotTakenForANarrowPath(t *testing.T) {
	w := paths(5, false, false, 0)
	for second := range 40 {
		w.Run(time.Minute)
		w.Hook = func(Packet) []Packet { return nil }
		w.Run(time.Duration(second) * time.Second)
		w.Hook = nil
	}
	if len(w.told) != 0 {
		t.Errorf("told %q", w.told)
	}
}

// A lossy path may be taken for a narrow one, but not for long.
func TestALossyPathIsNotNarrowForLong(t *testing.T) {
	for seed := range uint64(50) {
		w := paths(seed, false, seed%2 == 0, 0)
		w.Hook = func(p Packet) []Packet {
			if w.Random.Float64() < 0.4 {
				return nil
			}
			return []Packet{p}
		}
		w.Run(20 * time.Minute)
		w.Hook = nil
		w.Run(10 * time.Minute)
		if w.mtu() != 1500 && w.mtu() != 0 { // it may have given up before it began
			t.Errorf("seed %d: %d", seed, w.mtu())
		}
	}
}

func TestNothingIsTriedWithoutLeave(t *testing.T) {
	for name, change := range map[string]func(i, r *Site){
		"path_probe: off":      func(i, r *Site) { i.Peer().PathProbe = policy.ProbeOff },
		"peer without DPD":     func(i, r *Site) { i.Peer().PathProbe, r.Peer().Dialect.NoDPDVID = policy.ProbeOn, true },
		"peer of another make": func(i, r *Site) { r.Peer().Dialect.NoOwnVID = true },
	} {
		i, r := members().Pair()
		i.Peer().PathProbe = policy.ProbeAuto
		change(&i, &r)
		l := New(6, i, r)
		l.Hook = func(p Packet) []Packet {
			if p.Probe {
				t.Errorf("%s: a probe of %d bytes", name, p.Size())
			}
			return []Packet{p}
		}
		l.Run(20 * time.Minute)
		if _, up := l.Gateway("i").Plane.InUse("office"); !up {
			t.Errorf("%s: no tunnel", name)
		}
	}
}

// A peer behind a NAT that gets another address has another path.
func TestAPathIsMeasuredAnewAfterAMove(t *testing.T) {
	i, r := members().Pair()
	i.Addr, i.Public = netip.MustParseAddr("172.16.0.5"), netip.MustParseAddr("192.0.2.1")
	r.Peer().Remote = policy.Remote{Any: true}
	r.Peer().PathProbe = policy.ProbeAuto
	i.Peer().DPD = policy.DPD{Interval: 10 * time.Second, Tries: 3}
	l := New(7, i, r)
	l.Run(time.Minute)
	a, b := l.Gateway("i"), l.Gateway("r")
	if b.Plane.Paths[a.Public] != 1500 {
		t.Fatalf("before: %v", b.Plane.Paths)
	}
	a.Public = netip.MustParseAddr("203.0.113.9")
	a.ForgetNAT()
	l.Hook = Mute(1400)
	l.Run(30 * time.Second)
	if got := b.Plane.Paths[a.Public]; got < 1380 || got > 1400 {
		t.Errorf("after: %v", b.Plane.Paths)
	}
}
