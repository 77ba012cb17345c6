package tunnel

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"yumen/esp"
)

// pathMTU asks the host for the MTU of a path: of the route, of what it has
// learned about it, and of the link. 0: it does not know.
func (k *kernel) pathMTU(path esp.Path, mark uint32) int {
	if k == nil {
		return 0
	}
	o := &netlink.RouteGetOptions{Mark: mark}
	if local := path.Local.Addr().Unmap(); local.IsValid() && !local.IsUnspecified() {
		o.SrcAddr = local.AsSlice()
	}
	routes, err := k.route.RouteGetWithOptions(path.Remote.Addr().Unmap().AsSlice(), o)
	if err != nil || len(routes) == 0 {
		return 0
	}
	mtu := routes[0].MTU
	if l, err := k.route.LinkByIndex(routes[0].LinkIndex); err == nil {
		if m := l.Attrs().MTU; mtu == 0 || m < mtu {
			mtu = m
		}
	}
	return mtu
}

// openICMP opens a socket that receives only the errors about size. They come
// here and not by the error queues of the packet sockets, where an error about
// one peer would fail the next packet to another, and where the host would lower
// its own path MTU for errors that nobody validated.
func openICMP(v6 bool, mark uint32) (*socket, error) {
	what, k := [3]int{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, raw4
	if v6 {
		what, k = [3]int{unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6}, raw6
	}
	s, err := newSocket(what, k, mark)
	if err != nil {
		return nil, err
	}
	err = s.control(func(fd int) error {
		if v6 {
			var f unix.ICMPv6Filter // a set bit blocks
			for i := range f.Data {
				f.Data[i] = ^uint32(0)
			}
			f.Data[0] &^= 1 << 2
			return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &f)
		}
		const icmpFilter, unreachable = 1, 3 // linux/icmp.h
		return unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, ^(1 << unreachable))
	})
	if err != nil {
		s.file.Close()
		return nil, fmt.Errorf("filter icmp errors: %w", err)
	}
	return s, nil
}

// listen believes or ignores what a socket of openICMP receives.
func (p *Plane) listen(s *socket) {
	buf := make([]byte, 2048)
	read := readComplaint4
	if s.kind.v6() {
		read = readComplaint6
	}
	for {
		n, err := s.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			if !p.pause() {
				return
			}
			continue
		}
		c, ok := read(buf[:n], p.cfg.NATPort)
		if !ok {
			continue
		}
		s := p.snap.Load()
		if s.foreign.out[sentKey{remote: c.remote, spi: c.spi}] {
			continue // the kernel hears of it too
		}
		if s.believe(c) == nil {
			p.counts.add(icmpForeign)
			continue
		}
		p.counts.add(icmpBelieved)
		p.tell(report{remote: c.remote, mtu: c.mtu})
	}
}
