package server

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
)

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// kinds lists the types of the inputs that an engine was given.
func kinds(in []ike.Input) (out []string) {
	for _, i := range in {
		out = append(out, strings.TrimPrefix(fmt.Sprintf("%T", i), "ike."))
	}
	return out
}

func onFirst(out ike.Output) func(ike.Input) ike.Output {
	return func(in ike.Input) ike.Output {
		if _, ok := in.(ike.Datagram); ok {
			return out
		}
		return ike.Output{}
	}
}

func TestEffectsComeBeforePacketsAndPacketsBeforeEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(onFirst(ike.Output{
			Effects: []ike.Effect{ike.Install{Child: esp.Child{ID: 1}}, ike.Use{Child: 1}, ike.Remove{Child: 9}},
			Packets: []ike.Datagram{packet("two"), packet("three")},
			Events:  []ike.Event{{Detail: "up"}},
		}))
		w.pipe.in <- packet("one")
		synctest.Wait()
		equal(t, w.all(), "install 1", "use 1", "remove 9", "send two", "send three", "tell up")
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		equal(t, kinds(w.engine.inputs), "Tick", "Datagram", "Stop")
	})
}

func TestAFailedEffectIsUndoneAndToldToTheEngineBeforeAnythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("no room")
		w := start(func(in ike.Input) ike.Output {
			switch in := in.(type) {
			case ike.Datagram:
				if string(in.Data) == "first" {
					return ike.Output{Effects: []ike.Effect{
						ike.Install{Child: esp.Child{ID: 1, Tunnel: "net", Path: esp.Path{Remote: here}}}, ike.Use{Child: 1}}}
				}
				return ike.Output{
					Effects: []ike.Effect{
						ike.Install{Child: esp.Child{ID: 2, Tunnel: "net"}},
						ike.Rebind{Child: 1, Path: esp.Path{Remote: there}},
						ike.Use{Child: 2},
						ike.Install{Child: esp.Child{ID: 3}},
						ike.Remove{Child: 1},
						ike.PrivateOp{ID: 77, Digest: []byte("e")},
						ike.Resolve{Peer: "b", Attempt: 5},
					},
					Packets: []ike.Datagram{packet("never")},
				}
			case ike.Failed:
				return ike.Output{Events: []ike.Event{{Detail: in.Err.Error()}}}
			}
			return ike.Output{}
		})
		w.plane.refuse["install 3"] = refused
		w.pipe.in <- packet("first")
		w.pipe.in <- packet("second")
		synctest.Wait()
		equal(t, w.all(), "install 1", "use 1",
			"install 2", "rebind 1 198.51.100.7:500", "use 2", "install 3 refused",
			"use 1", "rebind 1 192.0.2.1:500", "remove 2", "tell no room")
		equal(t, kinds(w.engine.inputs), "Tick", "Datagram", "Datagram", "Failed", "PrivateDone", "Resolved")
		f := w.engine.inputs[3].(ike.Failed)
		if i, ok := f.Effect.(ike.Install); !ok || i.Child.ID != 3 || !errors.Is(f.Err, refused) {
			t.Errorf("the engine heard %+v", f)
		}
		if p := w.engine.inputs[4].(ike.PrivateDone); p.ID != 77 || p.Err == nil {
			t.Errorf("the dropped operation was answered with %+v", p)
		}
		if r := w.engine.inputs[5].(ike.Resolved); r.Attempt != 5 || r.Err == nil {
			t.Errorf("the dropped look-up was answered with %+v", r)
		}
		w.stop()
	})
}

func TestAFullQueueDropsDatagramsAndCountsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		w := start(func(in ike.Input) ike.Output {
			if d, ok := in.(ike.Datagram); ok && string(d.Data) == "0" {
				<-hold
			}
			return ike.Output{}
		}, func(c *Config) { c.Queue = 2 })
		w.pipe.in <- packet("0")
		synctest.Wait() // the engine has it and is busy
		for i := 1; i <= 5; i++ {
			w.pipe.in <- packet(fmt.Sprint(i))
		}
		synctest.Wait()
		close(hold)
		synctest.Wait()
		if c := w.server.Counters(); c.QueueDropped != 3 || c.Received != 3 {
			t.Errorf("counted %+v, want 3 received and 3 dropped", c)
		}
		equal(t, kinds(w.engine.inputs), "Tick", "Datagram", "Datagram", "Datagram")
		w.stop()
	})
}

func TestTheEngineIsWokenWhenItAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rings []time.Duration
		begin := time.Now()
		w := start(func(in ike.Input) ike.Output {
			rings = append(rings, time.Since(begin))
			switch len(rings) {
			case 1:
				return ike.Output{Wake: begin.Add(3 * time.Second)}
			case 2:
				return ike.Output{Wake: begin} // already past: at once
			}
			return ike.Output{}
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []time.Duration{0, 3 * time.Second, 3 * time.Second}
		if !reflect.DeepEqual(rings, want) {
			t.Errorf("steps at %v, want %v", rings, want)
		}
		w.stop()
	})
}

func TestStopSendsWhatTheEngineHasToSayAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(func(in ike.Input) ike.Output {
			if in == (ike.Stop{}) {
				return ike.Output{Effects: []ike.Effect{ike.Remove{Child: 4}}, Packets: []ike.Datagram{packet("delete")}}
			}
			return ike.Output{}
		})
		synctest.Wait()
		begin := time.Now()
		if err := w.stop(); err != nil || time.Since(begin) != 0 {
			t.Errorf("stopped after %v with %v", time.Since(begin), err)
		}
		equal(t, w.all(), "remove 4", "send delete")
		if err := w.server.Do(context.Background(), ike.Start{Tunnel: "x"}); !errors.Is(err, ErrStopped) {
			t.Errorf("a stopped server answers %v", err)
		}
	})
}

func TestStopGivesUpOnADataPlaneThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		w := start(func(in ike.Input) ike.Output {
			if in == (ike.Stop{}) {
				<-hold
			}
			return ike.Output{}
		})
		synctest.Wait()
		begin := time.Now()
		if err := w.stop(); err == nil || time.Since(begin) != 2*time.Second {
			t.Errorf("returned after %v with %v, want an error after 2 s", time.Since(begin), err)
		}
		close(hold)
	})
}

func TestASocketThatClosesByItselfEndsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		w.pipe.close()
		err := <-w.ended
		if err == nil || !strings.Contains(err.Error(), "port 500") {
			t.Errorf("ended with %v", err)
		}
		equal(t, kinds(w.engine.inputs), "Tick", "Stop")
		w.cancel()
	})
}

func TestAReadErrorIsCountedAndSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		w.pipe.in <- ike.Datagram{} // a failed read
		w.pipe.in <- packet("still here")
		synctest.Wait()
		if c := w.server.Counters(); c.ReadFailed != 1 || c.Received != 1 {
			t.Errorf("counted %+v", c)
		}
		w.stop()
	})
}

func TestPacketsWithoutASocketAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stray := packet("x")
		stray.Local = there // port 500 is served
		nowhere := packet("y")
		nowhere.Local = netAddrPort("192.0.2.1:4500")
		w := start(onFirst(ike.Output{Packets: []ike.Datagram{nowhere, stray}}))
		w.pipe.in <- packet("go")
		synctest.Wait()
		equal(t, w.all(), "send x")
		if c := w.server.Counters(); c.SendFailed != 1 {
			t.Errorf("counted %+v", c)
		}
		w.stop()
	})
}

func TestDataPlaneEventsReachTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		w.plane.events <- esp.Event{Kind: esp.Acquire, Tunnel: "net"}
		close(w.plane.events) // the plane ends: the server goes on
		synctest.Wait()
		if got := w.engine.inputs[1]; got != (ike.Plane{Event: esp.Event{Kind: esp.Acquire, Tunnel: "net"}}) {
			t.Errorf("the engine heard %+v", got)
		}
		if err := w.server.Do(t.Context(), ike.Start{Tunnel: "net"}); err != nil {
			t.Error(err)
		}
		equal(t, kinds(w.engine.inputs), "Tick", "Plane", "Start")
		w.stop()
	})
}

func TestAChangeOfTheHostReachesTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		if err := w.server.HostChanged(t.Context()); err != nil {
			t.Fatal(err)
		}
		if in, ok := w.engine.inputs[len(w.engine.inputs)-1].(ike.Plane); !ok || in.Event.Kind != esp.HostChanged {
			t.Errorf("the engine was given %+v", w.engine.inputs)
		}
		w.stop()
		if err := w.server.HostChanged(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("behind its end: %v", err)
		}
	})
}

func TestOnlyOperatorsInputsAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		for _, in := range []ike.Input{ike.Reload{}, ike.Tick{}, packet("x"), ike.PrivateDone{}} {
			if err := w.server.Do(t.Context(), in); err == nil {
				t.Errorf("%T was taken", in)
			}
		}
		w.stop()
		equal(t, kinds(w.engine.inputs), "Tick", "Stop")
	})
}

func TestReloadGivesThePolicyToThePlaneFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		keys := hand{func([]byte) ([]byte, error) { return nil, nil }}
		if err := w.server.Reload(t.Context(), ike.Config{Policy: &policy.Policy{Site: "new"}}, keys); err != nil {
			t.Fatal(err)
		}
		equal(t, w.all(), "policy new")
		equal(t, kinds(w.engine.inputs), "Tick", "Reload")
		w.plane.refuse["policy bad"] = errors.New("route exists")
		if err := w.server.Reload(t.Context(), ike.Config{Policy: &policy.Policy{Site: "bad"}}, keys); err == nil {
			t.Error("a policy that the plane refused was taken")
		}
		equal(t, w.all(), "policy new", "policy bad refused", "policy new")
		equal(t, kinds(w.engine.inputs), "Tick", "Reload")
		w.stop()
	})
}

func TestStatusReadsEngineAndPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		w.engine.status.Tunnels = []ike.TunnelStatus{{Name: "net", Children: []esp.Child{{ID: 1}, {ID: 2}}}}
		r, err := w.server.Status(t.Context())
		if err != nil || len(r.Engine.Tunnels) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		if _, stale := r.Usage[2]; stale || r.Usage[1].Replayed != 1 {
			t.Errorf("usage %+v", r.Usage)
		}
		w.stop()
	})
}

// What stays is not touched, the rest is stopped, and Run ends without a Stop of all.
func TestLeaveStopsOnlyWhatDoesNotStay(t *testing.T) {
	for _, c := range []struct {
		stay string
		want []string
	}{
		{"a", []string{"Adopt", "Tick", "Stop"}},
		{"none", []string{"Adopt", "Tick", "Stop", "Stop", "Stop"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := start(nil, func(cfg *Config) {
				cfg.Adopted = []ike.Adopted{{Child: esp.Child{ID: 4, Tunnel: "a"}}}
			})
			w.engine.status.Tunnels = []ike.TunnelStatus{{Name: "a"}, {Name: "b"}}
			s, err := w.server.Leave(t.Context(), func(x ike.TunnelStatus) bool { return x.Name == c.stay })
			if err != nil || len(s.Tunnels) != 2 {
				t.Errorf("%+v, %v", s, err)
			}
			if err := <-w.ended; err != nil {
				t.Error(err)
			}
			equal(t, kinds(w.engine.inputs), c.want...)
			if stop, ok := w.engine.inputs[2].(ike.Stop); c.stay == "a" && (!ok || stop.Tunnel != "b") {
				t.Errorf("stopped %+v", stop)
			}
			if _, err := w.server.Leave(t.Context(), func(ike.TunnelStatus) bool { return true }); !errors.Is(err, ErrStopped) {
				t.Errorf("left twice: %v", err)
			}
			w.cancel()
			w.pipe.close()
		})
	}
}

func TestAServerWithoutItsPartsIsRefused(t *testing.T) {
	d := &diary{}
	whole := Config{Engine: &script{}, Plane: &plane{}, Wires: []Bound{{Wire: newPipe(d)}}, Keys: hand{}, Policy: &policy.Policy{}}
	if _, err := New(whole); err != nil {
		t.Fatal(err)
	}
	for name, take := range map[string]func(*Config){
		"engine": func(c *Config) { c.Engine = nil }, "data plane": func(c *Config) { c.Plane = nil },
		"sockets": func(c *Config) { c.Wires = nil }, "private keys": func(c *Config) { c.Keys = nil },
		"policy": func(c *Config) { c.Policy = nil },
	} {
		c := whole
		take(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}
