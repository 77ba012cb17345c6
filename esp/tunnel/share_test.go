package tunnel

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"yumen/esp"
)

// The machine of x/net judges the program: each SPI has the place of its plane,
// whichever of the two lists the program searches.
func TestThePortFindsThePlaneBySPI(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) (list []esp.SPI) {
		for range n {
			list = append(list, esp.SPI(256+r.Uint64N(1<<32-256)))
		}
		return list
	}
	for _, c := range []struct{ kernel, ours, sockets int }{
		{0, 0, 1}, {0, 3, 2}, {1, 1, 1}, {2, 0, 4}, {33, 40, 2}, {256, 1, 8}, {257, 1, 8}, {3000, 33, 2}, {3000, 1024, 3},
	} {
		o := owned{kernel: draw(c.kernel), ours: draw(c.ours)}
		program, err := divide(o, c.sockets)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		goes := func(packet []byte) int {
			place, err := vm.Run(packet)
			if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			return place
		}
		to := func(spi esp.SPI) int { return goes(binary.BigEndian.AppendUint32(nil, uint32(spi))) }
		for _, packet := range [][]byte{{}, {0xff}, {1, 2, 3}, {0, 0, 0, 0}, make([]byte, 1000)} {
			if place := goes(packet); place != 0 {
				t.Errorf("%+v: %d bytes that are no ESP go to %d", c, len(packet), place)
			}
		}
		for _, spi := range o.kernel {
			if to(spi) != 0 {
				t.Fatalf("%+v: %08x of the kernel goes to %d", c, uint32(spi), to(spi))
			}
		}
		for _, spi := range o.ours {
			if want := 1 + int(uint32(spi)%uint32(c.sockets)); to(spi) != want && !slices.Contains(o.kernel, spi) {
				t.Fatalf("%+v: %08x of ours goes to %d, want %d", c, uint32(spi), to(spi), want)
			}
		}
		if spi := draw(1)[0]; c.kernel <= mostListed && to(spi) == 0 {
			t.Errorf("%+v: an unknown SPI is not ours to tell", c)
		}
	}
	if _, err := divide(owned{kernel: draw(5000), ours: draw(5000)}, 2); err == nil {
		t.Error("more than a program holds")
	}
}

// As many as are listed in any case, and more, are within what Linux takes of a socket
// by default (net.core.optmem_max).
func TestLinuxTakesTheProgramOfALargeHub(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := sharesPort(fd); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, mostListed, 900} {
		o := owned{kernel: make([]esp.SPI, 5000), ours: make([]esp.SPI, n)}
		for i := range o.kernel {
			o.kernel[i] = esp.SPI(0xffff0000 - 3*i) // the top bit costs an instruction more
		}
		for i := range o.ours {
			o.ours[i] = esp.SPI(0xfff00000 - 3*i)
		}
		program, err := portProgram(o, 8)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
		if err != nil {
			t.Errorf("%d children: %d steps: %v", n, len(program), err)
		}
	}
}
