package daemon

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"yumen/esp/links"
	"yumen/policy"
)

// addresses are those that somebody follows.
type addresses struct {
	list   []links.Path
	states chan links.State
}

func (a *addresses) Follow(list []links.Path)   { a.list = list }
func (a *addresses) States() <-chan links.State { return a.states }

func TestAnAddressThatComesOrGoesIsToldToTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		seen := &addresses{states: make(chan links.State)}
		h := homeWatch{seen, func(context.Context) error { told++; return nil }}
		shared := policy.Local{Addr: netip.MustParseAddr("192.0.2.2")}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- h.serve(ctx, &policy.Policy{Peers: []policy.Peer{{Name: "a", Local: shared}, {Name: "b", Local: shared}, {Name: "c"},
				{Name: "d", Local: policy.Local{Addr: netip.MustParseAddr("127.0.0.1")}}}})
		}()
		expect := func(s links.State, want int) {
			t.Helper()
			seen.states <- s
			synctest.Wait()
			if told != want {
				t.Errorf("after %+v the engine was asked %d times, expected %d", s, told, want)
			}
		}
		expect(links.State{Name: "192.0.2.2"}, 0)
		expect(links.State{Name: "192.0.2.2", Up: true}, 1)
		expect(links.State{Name: "192.0.2.2"}, 2)
		if want := []links.Path{{Name: "192.0.2.2", Local: shared.Addr}}; !slices.Equal(seen.list, want) {
			t.Errorf("follows %+v", seen.list)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
