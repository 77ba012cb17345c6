package tunnel

import (
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"yumen/esp"
)

// Beside a kernel plane (Config.Beside) both have sockets on UDP port 4500. The
// kernel plane's was bound first and has place 0 in the group; ours follow. Linux asks
// a classic BPF program, which sees the UDP payload, for the place of each datagram,
// so ESP finds its plane by SPI: the two planes may serve one peer at one address and
// port, a child moves from one to the other without a packet lost, and what comes from
// a new mapping of a NAT reaches the plane that can tell whether it is authentic. IKE,
// keepalives and whatever is shorter than an SPI belong to place 0.

// owned are the SPIs that each plane receives on by one kind of socket.
type owned struct{ kernel, ours []esp.SPI }

const (
	// mostListed SPIs of the kernel are listed even where ours are fewer: what is in
	// no list then comes to us, who can tell the negotiation of an unknown SPI.
	mostListed = 256
	chunk      = 32   // SPIs that are compared one after the other
	mostSteps  = 4096 // of a program (BPF_MAXINSNS)
)

// divide is the program for so many sockets of ours: a search in the sorted SPIs of
// one of the planes, as the other's follow from that.
func divide(o owned, sockets int) ([]bpf.Instruction, error) {
	kernel := []bpf.Instruction{bpf.RetConstant{}}
	ours := []bpf.Instruction{bpf.RetConstant{Val: 1}}
	if sockets > 1 { // spread as spreadBySPI does
		ours = []bpf.Instruction{bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(sockets)},
			bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1}, bpf.RetA{}}
	}
	list, hit, miss := o.kernel, kernel, ours
	if len(o.kernel) > mostListed && len(o.ours) < len(o.kernel) {
		list, hit, miss = o.ours, ours, kernel
	}
	list = slices.Clone(list)
	slices.Sort(list)
	program := append([]bpf.Instruction{
		bpf.LoadAbsolute{Size: 4}, // returns 0 where there is no more
		bpf.JumpIf{Cond: bpf.JumpNotEqual, SkipTrue: 1},
		bpf.RetConstant{},
	}, search(slices.Compact(list), hit, miss)...)
	if len(program) > mostSteps {
		return nil, fmt.Errorf("both data planes have too many children in UDP to tell them apart (%d and %d)",
			len(o.kernel), len(o.ours))
	}
	return program, nil
}

// portProgram is divide in the form that the kernel takes.
func portProgram(o owned, sockets int) ([]unix.SockFilter, error) {
	steps, err := divide(o, sockets)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(steps)
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return program, err
}

// search goes to hit for an SPI of the list in the accumulator, otherwise to miss.
func search(list []esp.SPI, hit, miss []bpf.Instruction) []bpf.Instruction {
	if len(list) > chunk {
		middle := len(list) / 2
		low, high := search(list[:middle], hit, miss), search(list[middle:], hit, miss)
		return append(append([]bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: uint32(list[middle]), SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(low))},
		}, low...), high...)
	}
	var out []bpf.Instruction
	for i, spi := range list {
		out = append(out, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(spi), SkipTrue: uint8(len(list) - 1 - i + len(miss))})
	}
	return append(append(out, miss...), hit...)
}
