package tunnel

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"yumen/esp"
)

// dividePort has the sockets of the port that we share follow what both planes
// receive on. Linux changes programs at once, between two packets. The caller holds mu.
func (p *Plane) dividePort() error {
	if !p.cfg.Beside {
		return nil
	}
	for k := udp4; k < kinds; k++ {
		if p.sockets[k] == nil {
			continue
		}
		o := owned{kernel: p.foreign.udp[k]}
		for _, x := range p.pairs {
			if x.kind == k {
				o.ours = append(o.ours, x.child.In.SPI)
			}
		}
		if err := p.divide(k, o); err != nil {
			return fmt.Errorf("share %s with the kernel plane: %w", k, err)
		}
	}
	return nil
}

func (p *Plane) divide(k kind, o owned) error {
	program, err := portProgram(o, 1+len(p.spread[k]))
	if err != nil || slices.Equal(program, p.divided[k]) {
		return err
	}
	if err := p.sockets[k].attach(unix.SO_ATTACH_REUSEPORT_CBPF, program); err != nil {
		if errors.Is(err, unix.ENOMEM) {
			return fmt.Errorf("%w: %d children of the kernel in UDP: raise net.core.optmem_max", err, len(o.kernel))
		}
		return err
	}
	p.divided[k] = program
	return nil
}

// attach gives a socket, or the group that shares its port, a program.
func (s *socket) attach(option int, program []unix.SockFilter) error {
	return s.control(func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

// udpSPIs sorts the SPIs of children in UDP by the kind of socket that they come by.
func udpSPIs(list []esp.Child) (out [kinds][]esp.SPI) {
	for _, c := range list {
		if c.Path.Encap {
			k := kindOf(c.Path.Remote.Addr(), true)
			out[k] = append(out[k], c.In.SPI)
		}
	}
	return out
}
