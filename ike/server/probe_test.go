package server

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"yumen/ike"
)

// prober is a wire that can send whole; learner is a plane that takes advice.
type prober struct{ *pipe }

func (p prober) ProbeIKE(data []byte, _, _ netip.AddrPort) error {
	p.note("probe %s", data)
	return errors.New("message too long")
}

type learner struct{ *plane }

func (l learner) LearnPath(local, remote netip.Addr, mtu int) {
	l.note("learn %v %v %d", local, remote, mtu)
}

func TestProbesGoOnlyByWiresThatSendThemWhole(t *testing.T) {
	probe := packet("x")
	probe.Probe = true
	for _, x := range []struct {
		able bool
		want []string
	}{{true, []string{"probe x", "send y"}}, {false, []string{"send y"}}} {
		synctest.Test(t, func(t *testing.T) {
			w := start(onFirst(ike.Output{Packets: []ike.Datagram{probe, packet("y")}}), func(c *Config) {
				if x.able {
					c.Wires[0].Wire = prober{c.Wires[0].Wire.(*pipe)}
				}
			})
			w.pipe.in <- packet("go")
			synctest.Wait()
			equal(t, w.all(), x.want...)
			if c := w.server.Counters(); c.SendFailed != 0 {
				t.Errorf("a probe that is too large is no failure: %+v", c)
			}
			w.stop()
		})
	}
}

func TestAPlaneThatTakesNoAdviceAboutPathsIsLeftAlone(t *testing.T) {
	path := ike.PathMTU{Local: here.Addr(), Remote: there.Addr(), MTU: 1400}
	for _, x := range []struct {
		able bool
		want []string
	}{{true, []string{"learn 192.0.2.1 198.51.100.7 1400", "use 1", "send y"}}, {false, []string{"use 1", "send y"}}} {
		synctest.Test(t, func(t *testing.T) {
			w := start(onFirst(ike.Output{Effects: []ike.Effect{path, ike.Use{Child: 1}}, Packets: []ike.Datagram{packet("y")}}),
				func(c *Config) {
					if x.able {
						c.Plane = learner{c.Plane.(*plane)}
					}
				})
			w.pipe.in <- packet("go")
			synctest.Wait()
			equal(t, w.all(), x.want...)
			w.stop()
			equal(t, kinds(w.engine.inputs), "Tick", "Datagram", "Stop")
		})
	}
}
