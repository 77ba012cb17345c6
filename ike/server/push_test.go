package server

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"yumen/ike"
)

// pusher is a wire that hands over what it reads.
type pusher struct {
	*pipe
	to atomic.Pointer[func([]byte, netip.AddrPort, netip.AddrPort)]
}

func (p *pusher) PushIKE(to func([]byte, netip.AddrPort, netip.AddrPort)) { p.to.Store(&to) }

func TestTheDoorIsAskedBeforeAPushedDatagramTakesAnyPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		p := &pusher{}
		w := start(func(in ike.Input) ike.Output {
			if _, ok := in.(ike.Tick); ok {
				<-hold // a busy engine: what comes has to wait
			}
			return ike.Output{}
		}, func(c *Config) {
			p.pipe = c.Wires[0].Wire.(*pipe)
			c.Wires[0].Wire, c.Door = p, new(ike.Door)
		})
		synctest.Wait()
		buf := []byte("junk")
		for range 2000 { // twice what may wait
			(*p.to.Load())(buf, here, there)
		}
		copy(buf, "else") // the wire reads into it again
		close(hold)
		synctest.Wait()
		c := w.server.Counters()
		if c.QueueDropped != 0 || c.Received == 0 || c.Received > 100 || c.Refused < 1900 {
			t.Errorf("counted %+v", c)
		}
		for _, in := range w.engine.inputs[1:] {
			if d := in.(ike.Datagram); string(d.Data) != "junk" || d.Door == ike.Unasked || d.Remote != there {
				t.Fatalf("the engine got %+v", d)
			}
		}
		w.stop()
	})
}
