package xfrm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"yumen/esp"
)

// The kernel itself honours what routers say about the size of ESP packets, and
// answers inner packets that became too large. What it cannot know is what padded
// probes found out where routers are mute. The one door by which it takes such a
// finding without a change of anyone's routes is the message that a router would have
// sent: an ICMP error that quotes one of our SAs (RFC 1191, RFC 8201, RFC 4301 8.2).
// We send it to ourselves. The kernel forgets it after its own time, ten minutes
// unless net.ipv4.route.mtu_expires or net.ipv6.route.mtu_expires say otherwise.

// ends are the two addresses of a path.
type ends struct{ local, remote netip.Addr }

// known is the size of a path as it was last looked up.
type known struct {
	mtu int
	at  time.Time
}

// pathMemory is how long a look-up is good.
const pathMemory = 2 * time.Second

// LearnPath takes advice about a path: packets from local to remote may be of mtu
// bytes, all headers included. Senders then hear of it as of any path.
func (p *Plane) LearnPath(local, remote netip.Addr, mtu int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	local, remote = local.Unmap(), remote.Unmap()
	if p.closed || mtu >= p.pathMTU(ends{local, remote}) {
		return
	}
	for _, x := range p.pairs {
		if x.out.src != local || x.out.dst != remote || x.ended {
			continue
		}
		delete(p.sizes, ends{local, remote})
		if err := p.icmp.tooBig(x.out, mtu); err != nil {
			p.fault(err)
		}
		return
	}
}

// MaxInner is the size in bytes of the largest inner packet of a child, installed or
// not, that the kernel carries by its path. It answers and drops those that are larger,
// IPv6 of its least size not excepted.
func (p *Plane) MaxInner(c esp.Child) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	mtu := p.cfg.MTU
	if path, err := p.locate(c.Path); err == nil && !p.closed {
		mtu = p.pathMTU(ends{path.Local.Addr(), path.Remote.Addr()})
	}
	return esp.MaxInner(c, mtu)
}

// InUse are the children by which tunnels send, without keys.
func (p *Plane) InUse() []esp.Child {
	p.mu.Lock()
	defer p.mu.Unlock()
	latest := map[string]*pair{}
	for _, x := range p.pairs {
		if y := latest[x.child.Tunnel]; x.turn > 0 && !x.ended && (y == nil || x.turn > y.turn) {
			latest[x.child.Tunnel] = x
		}
	}
	var out []esp.Child
	for _, x := range latest {
		out = append(out, x.child)
	}
	return out
}

// pathMTU is what the kernel believes of a path, and not more than the configuration
// allows. The caller holds mu.
func (p *Plane) pathMTU(e ends) int {
	if k, ok := p.sizes[e]; ok && time.Since(k.at) < pathMemory {
		return k.mtu
	}
	mtu := p.cfg.MTU
	if m := p.host.pathMTU(e, p.cfg.OutputMark); m > 0 {
		mtu = min(mtu, m)
	}
	p.sizes[e] = known{mtu, time.Now()}
	return mtu
}

// pathMTU asks for the route of our own packets; 0: not known.
func (h *host) pathMTU(e ends, mark uint32) int {
	routes, err := h.route.RouteGetWithOptions(e.remote.AsSlice(), &netlink.RouteGetOptions{SrcAddr: e.local.AsSlice(), Mark: mark})
	if err != nil || len(routes) == 0 {
		return 0
	}
	mtu := routes[0].MTU
	if l, err := h.route.LinkByIndex(routes[0].LinkIndex); err == nil && (mtu == 0 || l.Attrs().MTU < mtu) {
		mtu = l.Attrs().MTU
	}
	return mtu
}

// reporter sends ICMP errors to ourselves, IPv4 and IPv6; -1: this host has no IPv6.
type reporter [2]int

func openReporter(mark uint32) (*reporter, error) {
	r := &reporter{-1, -1}
	for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
		protocol := unix.IPPROTO_ICMP
		if family == unix.AF_INET6 {
			protocol = unix.IPPROTO_ICMPV6
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		if family == unix.AF_INET6 && errors.Is(err, unix.EAFNOSUPPORT) {
			return r, nil
		}
		if err == nil {
			r[i] = fd
			err = r.prepare(fd, family == unix.AF_INET6, mark)
		}
		if err != nil {
			r.close()
			return nil, fmt.Errorf("open a raw socket for what is learned of paths: %w (CAP_NET_RAW is needed)", err)
		}
	}
	return r, nil
}

// prepare makes a socket hear nothing, and leaves it alone with policies.
func (r *reporter) prepare(fd int, v6 bool, mark uint32) error {
	// A filter that takes no packet: return 0.
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	if err == nil && mark != 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
	}
	if err != nil {
		return err
	}
	return bypass(fd, v6)
}

func (r *reporter) close() {
	if r == nil {
		return
	}
	for i, fd := range r {
		if fd >= 0 {
			unix.Close(fd)
			r[i] = -1
		}
	}
}

// tooBig reports that packets by an SA may be of mtu bytes.
func (r *reporter) tooBig(out state, mtu int) error {
	v6 := out.dst.Is6()
	fd := r[index(v6)]
	if fd < 0 {
		return nil
	}
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: first4(out.src)}
	if v6 {
		to = &unix.SockaddrInet6{Addr: out.src.As16()}
	}
	if err := unix.Sendto(fd, tooBigMessage(out, mtu), 0, to); err != nil {
		return fmt.Errorf("tell the kernel that packets to %s may be of %d bytes: %w", out.dst, mtu, err)
	}
	return nil
}

func first4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}

// tooBigMessage is "fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443
// 3.2) about a packet by an SA. The checksum of the latter is the kernel's affair.
func tooBigMessage(out state, mtu int) []byte {
	protocol := byte(unix.IPPROTO_ESP)
	quoted := binary.BigEndian.AppendUint32(nil, uint32(out.spi))
	quoted = binary.BigEndian.AppendUint32(quoted, 1)
	if out.sport != 0 {
		protocol = unix.IPPROTO_UDP
		quoted = binary.BigEndian.AppendUint16(nil, out.sport)
		quoted = binary.BigEndian.AppendUint16(quoted, out.dport)
		quoted = binary.BigEndian.AppendUint16(quoted, uint16(min(mtu, 1<<16-1)))
		quoted = append(quoted, 0, 0)
	}
	if out.dst.Is6() {
		b := binary.BigEndian.AppendUint32([]byte{2, 0, 0, 0}, uint32(mtu))
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(min(mtu, 1<<16-1)))
		b = append(b, protocol, 64)
		b = append(append(b, out.src.AsSlice()...), out.dst.AsSlice()...)
		return append(b, quoted...)
	}
	b := binary.BigEndian.AppendUint16([]byte{3, 4, 0, 0, 0, 0}, uint16(min(mtu, 1<<16-1)))
	head := []byte{0x45, 0}
	head = binary.BigEndian.AppendUint16(head, uint16(min(mtu+1, 1<<16-1)))
	head = append(head, 0, 0, 0x40, 0, 64, protocol, 0, 0)
	head = append(append(head, out.src.AsSlice()...), out.dst.AsSlice()...)
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	b = append(append(b, head...), quoted...)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// checksum is that of RFC 1071, over an even number of bytes.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// ProbeIKE sends an IKE message like WriteIKE, but whole or not at all: with DF in
// IPv4, without fragments in IPv6, however small the path is believed to be.
func (p *Plane) ProbeIKE(data []byte, local, remote netip.AddrPort) error {
	return p.wire.probe(data, local, remote)
}

func (w *wire) probe(data []byte, local, remote netip.AddrPort) error {
	v6 := unmap(remote).Addr().Is6()
	c := w.conns[index(v6)]
	if c == nil {
		return errors.New("probe: this host has no IPv6")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	discover := func(how int) (err error) {
		level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
		if v6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
		}
		e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, how) })
		return errors.Join(e, err)
	}
	w.sending.Lock()
	defer w.sending.Unlock()
	if err := discover(unix.IP_PMTUDISC_PROBE); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	err = w.send([]byte{0, 0, 0, 0}, data, local, remote)
	return errors.Join(err, discover(unix.IP_PMTUDISC_DONT))
}
