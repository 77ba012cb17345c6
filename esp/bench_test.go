package esp

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchVariants are each suite and ICV length, IPv4 without ESN.
func benchVariants() (out []variant) {
	for _, v := range variants() {
		if !v.v6 && !v.esn {
			out = append(out, v)
		}
	}
	return out
}

var benchSizes = []int{64, 512, 1428}

func TestNothingIsAllocatedForAPacket(t *testing.T) {
	for _, v := range variants() {
		out, in := v.pair(t, State{})
		inner := v.packet(1000)
		buf, plain := make([]byte, 0, 2048), make([]byte, 0, 2048)
		forged := append([]byte(nil), must(t, out, inner)...)
		forged[len(forged)-1] ^= 1
		n := testing.AllocsPerRun(100, func() {
			if _, err := in.Open(plain, forged); err != ErrAuth && err != ErrReplayed {
				t.Fatal(err)
			}
			packet, err := out.Seal(buf, inner)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Open(plain, packet); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%v: %v allocations", v, n)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, v := range benchVariants() {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%d", v.short(), size), func(b *testing.B) {
				out, _ := v.pair(b, State{})
				inner := v.packet(size - 20)
				buf := make([]byte, 0, 2048)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := out.Seal(buf, inner); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, v := range benchVariants() {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%d", v.short(), size), func(b *testing.B) {
				out, in := v.pair(b, State{})
				packet := must(b, out, v.packet(size-20))
				buf := make([]byte, 0, 2048)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					in.window.Restore(0, nil) // the same packet is new again
					if _, err := in.Open(buf, packet); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func (v variant) short() string {
	if v.icvBits == 0 {
		return "GCM"
	}
	return fmt.Sprintf("CBC-%d", v.icvBits)
}

func BenchmarkParsePacket(b *testing.B) {
	packet := ipv4(here4, there4, 17, udp(1, 2, numbered(100)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePacket(packet); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTable(b *testing.B) {
	var table *Table
	r := rand.New(rand.NewPCG(1, 1))
	var spis []SPI
	for i := range 1000 {
		_, c := variants()[0].ends()
		c.ID, c.In.SPI = ChildID(i+1), SPI(r.Uint32()|0x100)
		in, err := NewInbound(c, State{})
		if err != nil {
			b.Fatal(err)
		}
		if table, err = table.WithInbound(in); err != nil {
			b.Fatal(err)
		}
		spis = append(spis, c.In.SPI)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if table.Inbound(spis[i%len(spis)]) == nil {
			b.Fatal("missing")
		}
		i++
	}
}
