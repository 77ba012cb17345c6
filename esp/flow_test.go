package esp

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
)

func numberOf(t testing.TB, f *Flows, b []byte) uint32 {
	t.Helper()
	p, err := ParsePacket(b)
	if err != nil {
		t.Fatal(err)
	}
	return f.Number(&p)
}

func TestPacketsOfAFlowHaveOneNumber(t *testing.T) {
	for name, c := range map[string]struct {
		packet func(port uint16, size int) []byte
		split  func(b []byte, size int) [][]byte
	}{
		"IPv4": {func(port uint16, n int) []byte { return ipv4(here4, there4, 17, udp(port, 53, numbered(n))) }, split4},
		"IPv6": {func(port uint16, n int) []byte { return ipv6(here6, there6, 17, udp(port, 53, numbered(n))) }, split6},
	} {
		f := NewFlows(1)
		whole := numberOf(t, f, c.packet(9, 10))
		if got := numberOf(t, NewFlows(1), c.packet(9, 1000)); got != whole {
			t.Errorf("%s: sizes have numbers of their own", name)
		}
		if got := numberOf(t, NewFlows(2), c.packet(9, 10)); got == whole {
			t.Errorf("%s: the seed does not matter", name)
		}
		if got := numberOf(t, f, c.packet(10, 10)); got == whole {
			t.Errorf("%s: ports do not matter", name)
		}
		for i, b := range c.split(c.packet(9, 1000), 200) {
			if got := numberOf(t, f, b); got != whole {
				t.Errorf("%s: fragment %d is of another flow", name, i)
			}
		}
		// The first was not seen: all that come have one number, whichever.
		late, last := NewFlows(1), uint32(0)
		for i, b := range c.split(c.packet(9, 1000), 200)[1:] {
			if got := numberOf(t, late, b); i > 0 && got != last {
				t.Errorf("%s: later fragments differ among themselves", name)
			} else {
				last = got
			}
		}
	}
}

func TestAFragmentIsNotTakenForOneOfAnotherPacket(t *testing.T) {
	f := NewFlows(1)
	a := split4(ipv4(here4, there4, 17, udp(1, 2, numbered(400))), 200)
	b := split4(ipv4(here4, there4, 17, udp(3, 4, numbered(400))), 200)
	for _, x := range b {
		binary.BigEndian.PutUint16(x[4:], 0x7777) // its identification
	}
	first, second := numberOf(t, f, a[0]), numberOf(t, f, b[0])
	if numberOf(t, f, b[1]) != second || numberOf(t, f, a[1]) != first || first == second {
		t.Error("two packets in pieces are mixed up")
	}
}

func TestFlowsAllocateNothing(t *testing.T) {
	f := NewFlows(1)
	p, _ := ParsePacket(split4(ipv4(here4, there4, 17, udp(1, 2, numbered(400))), 200)[1])
	if n := testing.AllocsPerRun(100, func() { f.Number(&p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// taken counts how many of n flows each way takes.
func taken(s Spread, ways, n int) []int {
	out := make([]int, ways)
	f := NewFlows(99)
	for i := range n {
		p := Packet{Tuple: Tuple{Src: here4, Dst: there4, Protocol: 17, SrcPort: uint16(i), DstPort: uint16(i >> 16)}}
		out[s.Way(f.Number(&p))]++
	}
	return out
}

func TestASpreadKeepsToItsWeights(t *testing.T) {
	const flows = 60000
	for _, weights := range [][]int{{1, 1}, {1, 2}, {3, 1, 2}, {10, 1}, {1, 0, 1}, {5}} {
		var ways []Weight
		sum := 0
		for i, w := range weights {
			ways = append(ways, Weight{Tunnel: fmt.Sprint("path-", i), Weight: w})
			sum += w
		}
		for i, n := range taken(NewSpread(ways), len(ways), flows) {
			want := float64(flows*weights[i]) / float64(sum)
			if math.Abs(float64(n)-want) > 0.04*flows || weights[i] == 0 && n > 0 {
				t.Errorf("weights %v: way %d takes %d flows of %d, want about %.0f", weights, i, n, flows, want)
			}
		}
	}
}

func TestAFlowMovesOnlyIfItMust(t *testing.T) {
	all := []Weight{{"a", 2}, {"b", 1}, {"c", 1}, {"d", 3}}
	before := NewSpread(all)
	for gone := range all {
		left := slices.Delete(slices.Clone(all), gone, gone+1)
		after := NewSpread(left)
		for n := range uint32(spreadSlots) {
			was, is := all[before.Way(n)].Tunnel, left[after.Way(n)].Tunnel
			if was != is && was != all[gone].Tunnel {
				t.Fatalf("a flow went from %s to %s because %s is gone", was, is, all[gone].Tunnel)
			}
		}
	}
}

func TestASpreadOverOneOrNoneHasOneWay(t *testing.T) {
	for _, s := range []Spread{{}, NewSpread(nil), NewSpread([]Weight{{"a", 7}})} {
		if s.Way(12345) != 0 {
			t.Error("not the first")
		}
	}
}

func BenchmarkFlowNumber(b *testing.B) {
	f := NewFlows(1)
	for _, x := range []struct{ src, dst netip.Addr }{{here4, there4}, {here6, there6}} {
		p := Packet{Tuple: Tuple{Src: x.src, Dst: x.dst, Protocol: 17, SrcPort: 1, DstPort: 2, HasPorts: true}}
		b.Run(x.src.String(), func(b *testing.B) {
			for b.Loop() {
				f.Number(&p)
			}
		})
	}
}
