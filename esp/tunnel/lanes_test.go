package tunnel

import (
	"bytes"
	"encoding/binary"
	"testing"

	"yumen/esp"
	"yumen/policy"
)

// side is a plane with a tunnel that has children side by side.
func sideBySide(t testing.TB, lanes int) *dry {
	t.Helper()
	one := dryTunnels()[0]
	one.Children = lanes
	return newDryOf(t, &policy.Policy{Peers: []policy.Peer{{Name: "peer"}}, Tunnels: []policy.Tunnel{one}})
}

// lane puts a child on a lane to use.
func (d *dry) lane(t testing.TB, id esp.ChildID, lane uint8) {
	t.Helper()
	us, _ := d.ends(id, rawPath())
	us.Lane = lane
	d.use(t, us, esp.State{})
}

// spread sends twice a packet of each of so many flows, and returns by which SPI each
// flow left.
func (d *dry) spread(t testing.TB, flows int) map[int]uint32 {
	t.Helper()
	d.sent = nil
	for n := range 2 * flows {
		b := packet4(200, true)
		binary.BigEndian.PutUint16(b[14:], uint16(n%flows+1)) // the sender
		putHeaderChecksum(b[:20])
		d.hand(bytes.Clone(b))
	}
	if len(d.sent) != 2*flows {
		t.Fatalf("%d packets of %d left: %v", len(d.sent), 2*flows, d.Counters())
	}
	by := map[int]uint32{}
	for n, b := range d.sent {
		spi := binary.BigEndian.Uint32(b[ipHeader:])
		if n >= flows && by[n%flows] != spi {
			t.Errorf("flow %d left by %x and by %x", n%flows, by[n%flows], spi)
		}
		by[n%flows] = spi
	}
	return by
}

func count(by map[int]uint32) map[uint32]int {
	n := map[uint32]int{}
	for _, spi := range by {
		n[spi]++
	}
	return n
}

func TestFlowsAreSpreadOverTheLanesOfATunnel(t *testing.T) {
	d := sideBySide(t, 4)
	for lane := range uint8(4) {
		d.lane(t, esp.ChildID(lane+1), lane)
	}
	const flows = 400
	before := d.spread(t, flows)
	if n := count(before); len(n) != 4 || min(n[0x1002], n[0x2002], n[0x3002], n[0x4002]) < flows/4*6/10 {
		t.Errorf("flows by SPI: %v", n)
	}
	// A renewed child takes the flows of its lane and no others.
	d.lane(t, 5, 2)
	for flow, spi := range d.spread(t, flows) {
		want := before[flow]
		if want == 0x3002 {
			want = 0x5002
		}
		if spi != want {
			t.Fatalf("flow %d went from %x to %x", flow, before[flow], spi)
		}
	}
	// One that goes falls back on what its lane had before, and then leaves its flows to
	// the others; those of the others stay.
	for _, gone := range []esp.ChildID{5, 3} {
		if _, err := d.Remove(gone); err != nil {
			t.Fatal(err)
		}
	}
	after := d.spread(t, flows)
	if n := count(after); len(n) != 3 || n[0x3002] != 0 {
		t.Errorf("flows by SPI: %v", n)
	}
	for flow, spi := range before {
		if spi != 0x3002 && after[flow] != spi {
			t.Fatalf("flow %d went from %x to %x, which stands", flow, spi, after[flow])
		}
	}
	// Without the first lane the others carry on; with the last the tunnel asks.
	for _, gone := range []esp.ChildID{1, 2} {
		if _, err := d.Remove(gone); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(d.spread(t, 50)); len(n) != 1 || n[0x4002] != 50 {
		t.Errorf("flows by SPI: %v", n)
	}
	if _, err := d.Remove(4); err != nil {
		t.Fatal(err)
	}
	d.hand(inner(1, 500))
	if got := d.acquires(); len(got) != 1 {
		t.Errorf("asked for %v", got)
	}
}

func TestNothingIsAllocatedWhereFlowsAreSpreadOverLanes(t *testing.T) {
	d := sideBySide(t, 2)
	d.lane(t, 1, 0)
	d.lane(t, 2, 1)
	d.keep = false
	packets := [][]byte{inner(1, 1400), inner(2, 1400)}
	packets[1][15]++
	putHeaderChecksum(packets[1][:20])
	both := func() {
		for _, b := range packets {
			copy(d.out.buf, b)
			d.out.packet(d.snap.Load(), d.out.buf[:len(b)])
		}
		d.out.flush()
	}
	both()
	if n := testing.AllocsPerRun(500, both); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestALaneThatDoesNotExistIsRefused(t *testing.T) {
	d := sideBySide(t, 8)
	us, _ := d.ends(1, rawPath())
	us.Lane = policy.MaxSideBySide
	if err := d.Install(us, esp.State{}); err == nil {
		t.Error("installed")
	}
}
