package tunnel

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"yumen/esp"
)

// openMany opens what the offloads of sockets need; they are probed by setting them.
//
// What arrives is spread by SPI: each SA belongs to one socket and one worker, so
// that its window needs no lock and its packets keep their order. Over UDP the
// sockets share the port, and a filter over all of them chooses; over protocol 50
// each socket has a filter that passes its own. The first UDP socket was bound
// alone, so that a port that another daemon has is still noticed. IKE, whose
// marker counts as SPI 0, goes to the first. Beside a kernel plane the port is shared
// with it: see divide.
//
// Runs of ESP over IPv4 leave by further sockets on the port, since DF is a property
// of the socket there; the filter sends nothing to them.
func (p *Plane) openMany() {
	queues := 1
	if p.offloads&OffloadQueues != 0 {
		queues = len(p.tuns)
	}
	p.probeSend()
	for k := range kinds {
		p.openSpread(k, queues)
	}
	if p.offloads&OffloadSend != 0 && p.openBulk(len(p.tuns)) != nil {
		closeAll(p.bulk)
		p.bulk = nil
		p.offloads &^= OffloadSend
	}
	if p.sockets[udp4] != nil && p.cfg.Without&OffloadReceive == 0 && p.setUDP(unix.UDP_GRO, 1) {
		p.offloads |= OffloadReceive
	}
}

// probeSend asks for runs. Segment size 0 is what a socket has anyway.
func (p *Plane) probeSend() {
	if p.sockets[udp4] != nil && p.cfg.Without&OffloadSend == 0 && p.setUDP(unix.UDP_SEGMENT, 0) {
		p.offloads |= OffloadSend
	}
}

// openSpread opens what makes the sockets of a kind so many. Where that cannot be
// one socket receives all of the kind, as it did before.
func (p *Plane) openSpread(k kind, queues int) {
	first := p.sockets[k]
	if first == nil || queues == 1 {
		return
	}
	all, err := []*socket{first}, error(nil)
	if k.udp() {
		err = first.control(sharesPort)
	}
	for i := 1; i < queues && err == nil; i++ {
		var s *socket
		if s, err = openSocket(k, p.cfg.NATPort, p.cfg.Mark, true); err == nil {
			all = append(all, s)
		}
	}
	for i, s := range all {
		if err == nil && !(k.udp() && p.cfg.Beside) { // there dividePort does it
			err = s.spreadBySPI(i, queues)
		}
	}
	if err == nil {
		p.spread[k] = all[1:]
		return
	}
	closeAll(all[1:])
	if !k.udp() { // over UDP the filter was that of the sockets together
		_ = first.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
	}
}

func closeAll(list []*socket) {
	for _, s := range list {
		s.file.Close()
	}
}

// openBulk opens a socket for the runs of each worker.
func (p *Plane) openBulk(workers int) error {
	if err := p.sockets[udp4].control(sharesPort); err != nil {
		return err
	}
	for range workers {
		s, err := newMuteSocket([3]int{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, udp4, p.cfg.Mark)
		if err != nil {
			return err
		}
		p.bulk = append(p.bulk, s)
		err = s.control(func(fd int) error {
			return errors.Join(sharesPort(fd),
				unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, esp.OuterTTL),
				unix.Bind(fd, &unix.SockaddrInet4{Port: int(p.cfg.NATPort)}))
		})
		if err != nil {
			return fmt.Errorf("open socket for runs of %s: %w", udp4, err)
		}
		if p.cfg.Beside {
			continue // dividePort does it
		}
		// The group of sockets has the filter, whichever of them was given it.
		if err := p.sockets[udp4].spreadBySPI(0, 1+len(p.spread[udp4])); err != nil {
			return fmt.Errorf("spread %s: %w", udp4, err)
		}
	}
	return nil
}

// setUDP sets an option of the UDP sockets; false: this kernel does not know it.
// The kernel may ask any socket of a port whether it takes runs, so all say the same.
func (p *Plane) setUDP(option, value int) bool {
	for _, s := range slices.Concat(p.sockets[:], p.spread[udp4], p.spread[udp6], p.bulk) {
		if s == nil || !s.kind.udp() {
			continue
		}
		if s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, option, value) }) != nil {
			return false
		}
	}
	return true
}

func sharesPort(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }

// spreadBySPI gives the i-th of so many sockets the packets whose SPI leaves i. The
// program of UDP returns the place of the socket in the order of binding, and sees
// the payload; where that is shorter than an SPI it returns 0. Those of protocol 50
// see the packet from its IP header on, or for IPv6 behind it.
func (s *socket) spreadBySPI(i, sockets int) error {
	option := unix.SO_ATTACH_FILTER
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	if s.kind == raw4 {
		program = []unix.SockFilter{
			{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH},
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_IND},
		}
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(sockets)})
	if s.kind.udp() {
		option = unix.SO_ATTACH_REUSEPORT_CBPF
		program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_A})
	} else {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(i), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
	}
	return s.attach(option, program)
}

// cutting sets or clears DF in the runs that leave over IPv4.
type cutting struct {
	socket *socket
	df     int8 // 1 or 0; -1: not known
	errno  error
	call   func(fd uintptr)
}

func newCutting(s *socket) *cutting {
	c := &cutting{socket: s, df: -1}
	c.call = func(fd uintptr) {
		how := unix.IP_PMTUDISC_OMIT
		if c.df == 1 {
			how = unix.IP_PMTUDISC_PROBE // DF, and no word of the host's path MTU cache: the plane keeps its own
		}
		c.errno = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, how)
	}
	return c
}

// is says whether df is set already.
func (c *cutting) is(df bool) bool { return c.df == 1 && df || c.df == 0 && !df }

// set does it. A failure is tried again with the next run.
func (c *cutting) set(df bool) {
	c.df = 0
	if df {
		c.df = 1
	}
	if err := c.socket.conn.Control(c.call); err != nil || c.errno != nil {
		c.df = -1
	}
}
