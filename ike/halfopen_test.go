package ike

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"yumen/ike/wire"
	"yumen/policy"
)

// openings are a bare engine and n entries for it, each from an address of its
// own (or all from one).
func openings(n int, known, oneSource bool) (*Engine, []*halfOpen) {
	e := &Engine{cfg: Config{Rand: rand.NewChaCha8([32]byte{1})}, door: newDoor(), now: time.Unix(1_800_000_000, 0)}
	e.halfOpen = halfOpens{byFirst: map[firstKey]*halfOpen{}, byPair: map[pairKey]*halfOpen{}}
	offer := phaseOneOffer(24*time.Hour, policy.Dialect{}).Append(nil)
	p := &peer{e: e, how: envelope{}}
	hs := make([]*halfOpen, n)
	for i := range hs {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		if oneSource {
			a = netip.AddrFrom4([4]byte{10, 0, 0, 1})
		}
		hs[i] = &halfOpen{key: pairKey{wire.Cookie{byte(i), byte(i >> 8), 1}, e.newCookie()}, first: firstKey{byte(i), byte(i >> 8)},
			remote: netip.AddrPortFrom(a, 500), created: e.now, saI: append([]byte(nil), offer...), peer: p, known: known}
	}
	return e, hs
}

func TestBeforeMessage3ASessionCostsUnder512Bytes(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	e, hs := openings(1000, false, false)
	for _, h := range hs {
		e.admit(h)
	}
	hs = nil
	each := (heap() - before) / 1000
	if e.halfOpen.count() != 1000 {
		t.Fatalf("%d of 1000 entries are kept", e.halfOpen.count())
	}
	t.Logf("%d bytes each", each)
	if each >= 512 {
		t.Errorf("%d bytes each", each)
	}
	runtime.KeepAlive(e)
}

func TestAFloodOfMessage1KeepsTheTableBoundedAndIsForgotten(t *testing.T) {
	for _, c := range []struct {
		name             string
		known, oneSource bool
		most             int
	}{
		{"unknown sources", false, false, maxHalfOpen},
		{"one unknown source", false, true, maxHalfOpenSource},
		{"one configured address", true, true, maxHalfOpenPeer},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, hs := openings(5000, c.known, c.oneSource)
			for _, h := range hs {
				e.admit(h)
			}
			o := &e.halfOpen
			if got := o.count(); got != c.most || len(o.oldest) != c.most || len(o.byFirst) != c.most {
				t.Errorf("%d entries by cookies, %d by age, %d by M1; want %d", got, len(o.oldest), len(o.byFirst), c.most)
			}
			survivors := 0
			for _, h := range hs[:len(hs)/2] {
				if o.byPair[h.key] == h {
					survivors++
				}
			}
			if survivors == c.most {
				t.Error("nothing old had to go")
			}
			e.now = e.now.Add(halfOpenLife)
			e.clock.due(e.now)()
			if o.count() != 0 || len(o.oldest) != 0 || len(o.waiting[0])+len(o.waiting[1]) != 0 || o.expiry.pending() {
				t.Error("not everything is forgotten after its time")
			}
		})
	}
}

func TestUnknownSourcesDoNotPushOutConfiguredOnes(t *testing.T) {
	e, known := openings(10, true, false)
	for _, h := range known {
		e.admit(h)
	}
	_, flood := openings(5000, false, false)
	for _, h := range flood {
		h.key.r, h.first[15] = e.newCookie(), 1
		h.remote = netip.AddrPortFrom(h.remote.Addr(), 501)
		e.admit(h)
	}
	for _, h := range known {
		if e.halfOpen.byPair[h.key] != h {
			t.Fatal("a configured address lost its place to strangers")
		}
	}
}
