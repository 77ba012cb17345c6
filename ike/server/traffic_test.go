package server

import (
	"testing"
	"testing/synctest"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

// meter is a plane whose children count.
type meter struct {
	*plane
	used map[esp.ChildID]esp.Usage
	left map[esp.ChildID]esp.State
}

func (m *meter) Usage(id esp.ChildID) (esp.Usage, bool) { u, ok := m.used[id]; return u, ok }
func (m *meter) Remove(id esp.ChildID) (esp.State, error) {
	st := m.left[id]
	delete(m.used, id)
	_, err := m.plane.Remove(id)
	return st, err
}

// What a child carried until its end is in the sum of its tunnel, though nobody read
// its counters since its beginning.
func TestTrafficOfAChildThatEndedIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bytes := func(n uint64) esp.Count { return esp.Count{Bytes: n, Packets: n / 10} }
		m := &meter{used: map[esp.ChildID]esp.Usage{}, left: map[esp.ChildID]esp.State{}}
		w := start(func(in ike.Input) ike.Output {
			d, ok := in.(ike.Datagram)
			if !ok {
				return ike.Output{}
			}
			switch string(d.Data) {
			case "make":
				return ike.Output{Effects: []ike.Effect{ike.Install{Child: esp.Child{ID: 1, Tunnel: "net"}},
					ike.Install{Child: esp.Child{ID: 2, Tunnel: "net"}}, ike.Install{Child: esp.Child{ID: 3, Tunnel: "other"}}}}
			case "end":
				return ike.Output{Effects: []ike.Effect{ike.Remove{Child: 1}, ike.Remove{Child: 3}, ike.Remove{Child: 9}}}
			}
			return ike.Output{Effects: []ike.Effect{ike.Remove{Child: 2}}}
		}, func(c *Config) { m.plane = c.Plane.(*plane); c.Plane = m })
		defer w.stop()
		spent := func() map[string]esp.Usage {
			r, err := w.server.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return r.Spent
		}
		w.pipe.in <- packet("make")
		synctest.Wait()
		m.used[1] = esp.Usage{In: bytes(100), Out: bytes(50), Replayed: 1, BadAuth: 2, BadSelector: 3}
		m.used[2] = esp.Usage{In: bytes(1000)}
		m.left[1] = esp.State{In: bytes(120), Out: bytes(50)} // more came while it was removed
		w.pipe.in <- packet("end")
		synctest.Wait()
		want := esp.Usage{In: bytes(120), Out: bytes(50), Replayed: 1, BadAuth: 2, BadSelector: 3}
		if got := spent(); got["net"] != want || got["other"] != (esp.Usage{}) {
			t.Errorf("spent %+v, want %+v of net", got, want)
		}
		w.pipe.in <- packet("end the other")
		synctest.Wait()
		want.In = bytes(1120)
		if got := spent(); got["net"] != want {
			t.Errorf("spent %+v, want %+v of net", got, want)
		}
		if err := w.server.Reload(t.Context(), ike.Config{Policy: &policy.Policy{Tunnels: []policy.Tunnel{{Name: "other"}}}}, hand{}); err != nil {
			t.Fatal(err)
		}
		if _, kept := spent()["net"]; kept {
			t.Error("what a tunnel of an older policy carried is kept")
		}
	})
}
