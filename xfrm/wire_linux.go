package xfrm

import (
	stdcontext "context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"yumen/esp/ours"
)

// The kernel takes ESP out of a UDP socket with UDP_ENCAP and leaves what begins
// with the non-ESP marker (RFC 3948 2.2), so the plane's sockets carry IKE too.

// ikeDatagram is what came by the NAT traversal port behind a non-ESP marker.
type ikeDatagram struct {
	data          []byte
	local, remote netip.AddrPort
}

type wire struct {
	conns [2]*net.UDPConn // IPv4, IPv6; the second is nil on a host without IPv6
	port  uint16

	sending sync.RWMutex // taken alone while a socket sends probes
}

func openWire(port uint16, mark uint32, shared bool) (*wire, error) {
	w := &wire{port: port}
	for i, network := range []string{"udp4", "udp6"} {
		v6 := i == 1
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			var inner error
			err := c.Control(func(fd uintptr) {
				if inner = encapsulate(int(fd), v6, mark); inner == nil && shared {
					inner = share(int(fd))
				}
			})
			return errors.Join(err, inner)
		}}
		c, err := listen(&lc, network, port, shared)
		if v6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			return w, nil
		}
		if err != nil {
			w.close()
			return nil, fmt.Errorf("open udp port %d: %w", port, err)
		}
		w.conns[i] = c.(*net.UDPConn)
	}
	return w, nil
}

// listen binds a port that nobody has, also where it will be shared.
func listen(lc *net.ListenConfig, network string, port uint16, shared bool) (net.PacketConn, error) {
	where := fmt.Sprintf(":%d", port)
	if shared {
		alone, err := net.ListenPacket(network, where)
		if err != nil {
			return nil, err
		}
		alone.Close()
	}
	return lc.ListenPacket(stdcontext.Background(), network, where)
}

// share lets further sockets of this user have the port of one that is not bound yet.
// The first has place 0 among them, and until the others bring a better program
// everything goes there.
func share(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("share the NAT traversal port: %w", err)
	}
	first := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &first})
	if err != nil {
		return fmt.Errorf("share the NAT traversal port: %w", err)
	}
	return nil
}

func (w *wire) close() {
	for _, c := range w.conns {
		if c != nil {
			c.Close()
		}
	}
}

// encapsulate makes the kernel take ESP from a socket, tell which address of ours a
// datagram was sent to, and leave the socket alone with policies.
func encapsulate(fd int, v6 bool, mark uint32) error {
	level, info, level4, off := unix.IPPROTO_IP, unix.IP_PKTINFO, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT
	if v6 {
		level, info = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		level4, off = unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, encapESPinUDP); err != nil {
		return fmt.Errorf("switch on esp in udp (IPv6: Linux 5.8): %w", err)
	}
	if err := unix.SetsockoptInt(fd, level, info, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, level, level4, off); err != nil {
		return err // large messages of IKE may be cut
	}
	if mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return fmt.Errorf("set socket mark %#x: %w (CAP_NET_ADMIN is needed)", mark, err)
		}
	}
	return bypass(fd, v6)
}

// bypass takes a socket out of the reach of policies, so that a selector that covers
// the peer does not catch the tunnel's own packets.
func bypass(fd int, v6 bool) error {
	level, option := unix.IPPROTO_IP, unix.IP_XFRM_POLICY
	if v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_XFRM_POLICY
	}
	for _, dir := range []direction{dirIn, dirOut} {
		text := string(policyMessage(entry{dir: dir, kind: bypassAllow, src: ours.Everything(v6), dst: ours.Everything(v6)}, nil).body())
		if err := unix.SetsockoptString(fd, level, option, text); err != nil {
			return fmt.Errorf("set ipsec bypass policy on socket: %w (CAP_NET_ADMIN is needed)", err)
		}
	}
	return nil
}

// read hands up what one socket receives until it is closed.
func (w *wire) read(c *net.UDPConn, up func(data []byte, local, remote netip.AddrPort)) {
	buf, oob := make([]byte, 64<<10), make([]byte, 256)
	for {
		n, m, _, remote, err := c.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 4 || binary.NativeEndian.Uint32(buf) != 0 {
			continue // an ICMP error; or neither IKE nor ESP
		}
		up(buf[4:n], netip.AddrPortFrom(destination(oob[:m]), w.port), unmap(remote))
	}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// destination is the address of ours in control messages.
func destination(oob []byte) netip.Addr {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range list {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[8:12])) // ipi_addr
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data[:16])).Unmap()
		}
	}
	return netip.Addr{}
}

// write sends a datagram, in fragments if need be.
func (w *wire) write(head, data []byte, local, remote netip.AddrPort) error {
	w.sending.RLock()
	defer w.sending.RUnlock()
	return w.send(head, data, local, remote)
}

// send sends a datagram, from local's address if it has one.
func (w *wire) send(head, data []byte, local, remote netip.AddrPort) error {
	remote = unmap(remote)
	if !remote.IsValid() || remote.Port() == 0 {
		return fmt.Errorf("send ike to %s: not an address and port", remote)
	}
	c := w.conns[index(remote.Addr().Is6())]
	if c == nil {
		return errors.New("send ike: this host has no IPv6")
	}
	var oob []byte
	if a := local.Addr().Unmap(); a.IsValid() && !a.IsUnspecified() {
		oob = packetInfo(a)
	}
	if _, _, err := c.WriteMsgUDPAddrPort(append(append([]byte(nil), head...), data...), oob, remote); err != nil {
		return fmt.Errorf("send ike to %s: %w", remote, err)
	}
	return nil
}

// packetInfo is the control message that chooses the source address.
func packetInfo(a netip.Addr) []byte {
	level, kind, size := unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo
	if a.Is6() {
		level, kind, size = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo
	}
	b := make([]byte, unix.CmsgSpace(size))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = int32(level), int32(kind)
	h.SetLen(unix.CmsgLen(size))
	data := b[unix.CmsgLen(0):]
	if a.Is6() {
		copy(data, a.AsSlice())
	} else {
		copy(data[4:], a.AsSlice()) // ipi_spec_dst
	}
	return b
}
