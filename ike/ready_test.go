package ike_test

import (
	"encoding/binary"
	"testing"
	"time"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/test/lab"
)

// While a new child waits for a peer of another make to be ready, a delete of the old
// one leaves the new one in use at once.
func TestTheNewChildIsUsedWhenTheOldOneGoesWhileItWaits(t *testing.T) {
	a, b := members().Pair()
	a.Peer().Dialect.NoOwnVID, b.Peer().Dialect.NoOwnVID = true, true
	l := lab.New(1, a, b)
	l.Run(5 * time.Second)
	i, r := l.Gateway("i"), l.Gateway("r")
	old, up := i.Plane.InUse("office")
	if !up {
		t.Fatal("not up")
	}
	l.Hook = func(p lab.Packet) []lab.Packet {
		if p.Label == "esp" && p.From == "r" {
			return nil
		}
		return []lab.Packet{p}
	}
	i.Feed(ike.Rekey{Tunnel: "office"})
	l.Run(300 * time.Millisecond)
	if c, _ := i.Plane.InUse("office"); c.ID != old.ID || len(i.Plane.Installed()) != 2 {
		t.Fatalf("child %d of %d is in use: it does not wait", c.ID, len(i.Plane.Installed()))
	}
	d := wire.Delete{DOI: 1, Protocol: wire.ProtoESP, SPISize: 4, SPIs: [][]byte{binary.BigEndian.AppendUint32(nil, uint32(old.Out.SPI))}}
	forged := r.Engine.Forge(wire.Informational, []wire.Payload{{Type: wire.TypeDelete, Body: d.Append(nil)}})
	l.Inject(forged.Local, forged.Remote, forged.Data)
	l.Run(50 * time.Millisecond)
	if c, up := i.Plane.InUse("office"); !up || c.ID == old.ID {
		t.Errorf("up %v, child %d is in use", up, c.ID)
	}
}
