package xfrm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"yumen/esp"
)

// The kernel drops ESP packets of next header 59 without a word (RFC 4303 2.6), so
// that its plane asks an address behind the far gateway, by ICMP. The request of a
// member leaves by a policy of its own, which only our socket meets, by a mark.

const echoQueue = 1024

var errNoTarget = errors.New("the kernel plane can only ask an address behind the far gateway: give the group probe.target")

// pinger asks and hears the answers.
type pinger struct {
	token esp.PingToken
	files [2]*os.File // IPv4, IPv6; the second is nil on a host without IPv6
	conns [2]syscall.RawConn
	known atomic.Pointer[asking]
	out   chan esp.Echo

	mu   sync.Mutex // guards the marks of the sockets and buf
	buf  []byte
	data []byte
}

// asking is what a probe needs, frozen.
type asking struct {
	members map[string]question
	groups  map[string]question
}

// question is whom to ask by which policies.
type question struct {
	target, from netip.Addr
	mark, tag    uint32
	child, muted bool
}

func tagOf(tunnel string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(tunnel))
	return h.Sum32()
}

func openPinger() (*pinger, error) {
	g := &pinger{out: make(chan esp.Echo, echoQueue)}
	g.known.Store(&asking{})
	if _, err := rand.Read(g.token[:]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
		file, err := openICMP(family)
		if i == 1 && errors.Is(err, unix.EAFNOSUPPORT) {
			break
		}
		if err == nil {
			g.files[i] = file
			g.conns[i], err = file.SyscallConn()
		}
		if err != nil {
			g.close()
			return nil, fmt.Errorf("open socket for echo requests: %w (CAP_NET_RAW is needed)", err)
		}
	}
	return g, nil
}

// openICMP opens a socket that hears echo replies alone.
func openICMP(family int) (*os.File, error) {
	protocol := unix.IPPROTO_ICMP
	if family == unix.AF_INET6 {
		protocol = unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	if family == unix.AF_INET6 {
		var f unix.ICMPv6Filter // a set bit blocks
		for i := range f.Data {
			f.Data[i] = ^uint32(0)
		}
		f.Data[129/32] &^= 1 << (129 % 32)
		err = unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &f)
	} else {
		const icmpFilter, reply = 1, 0 // linux/icmp.h
		err = unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, ^(1 << reply))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "icmp"), nil
}

func (g *pinger) close() {
	if g == nil {
		return
	}
	for _, f := range g.files {
		if f != nil {
			f.Close()
		}
	}
}

// send asks by the policies that the mark finds; 0: by those of traffic.
func (g *pinger) send(x question, e esp.Echo) error {
	at := index(x.target.Is6())
	if g.conns[at] == nil {
		return errors.New("this host has no IPv6")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.data = esp.AppendPingData(g.data[:0], g.token, x.tag, e)
	g.buf = esp.AppendPing(g.buf[:0], x.from, x.target, uint16(e.Seq), g.data)
	// The kernel writes the IP header itself: a packet that brings its own has no
	// protocol in the eyes of policies.
	message, to := g.buf[20:], unix.Sockaddr(nil)
	if x.target.Is6() {
		message, to = g.buf[40:], &unix.SockaddrInet6{Addr: x.target.As16()}
	} else {
		to = &unix.SockaddrInet4{Addr: x.target.As4()}
	}
	var inner error
	err := g.conns[at].Control(func(fd uintptr) {
		if inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(x.mark)); inner == nil {
			inner = unix.Sendmsg(int(fd), message, fromInfo(x.from), to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
	})
	return errors.Join(err, inner)
}

// fromInfo is the control message that says which address of ours a packet has.
func fromInfo(from netip.Addr) []byte {
	level, typ, size, at := unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo, 4 // behind the interface
	if from.Is6() {
		level, typ, size, at = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo, 0
	}
	b := make([]byte, unix.CmsgSpace(size))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = int32(level), int32(typ)
	h.SetLen(unix.CmsgLen(size))
	copy(b[unix.CmsgLen(0)+at:], from.AsSlice())
	return b
}

// read hands answers over until the socket is closed.
func (g *pinger) read(v6 bool) {
	buf := make([]byte, 2048)
	for {
		n, err := g.files[index(v6)].Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // a broken socket must not spin
			continue
		}
		at := time.Now()
		tag, e, ok := esp.ParsePingData(pongOf(buf[:n], v6), g.token)
		if !ok {
			continue
		}
		for name, x := range g.known.Load().members {
			if x.tag == tag {
				e.Tunnel = name
			}
		}
		e.At = at
		select {
		case g.out <- e:
		default: // who reads late loses some
		}
	}
}

// pongOf is what an echo reply brings back. The kernel has checked the message of
// ICMPv6, and keeps its IP header.
func pongOf(b []byte, v6 bool) []byte {
	if v6 {
		if len(b) < 8 || b[0] != 129 || b[1] != 0 {
			return nil
		}
		return b[8:]
	}
	p, err := esp.ParsePacket(b)
	if err != nil {
		return nil
	}
	return esp.Pong(b, &p)
}

// tellPinger freezes what probes need. The caller holds mu.
func (p *Plane) tellPinger() {
	if p.policy == nil {
		return
	}
	a := &asking{members: map[string]question{}, groups: map[string]question{}}
	for _, t := range p.policy.Tunnels {
		g := groupOf(p.groups, t.Name)
		if g == nil {
			continue // all, as a rule
		}
		a.members[t.Name] = question{target: g.target, from: g.from, mark: p.marks[t.Name], tag: tagOf(t.Name),
			child: p.latest(t.Name, 0) != nil, muted: p.muted[t.Name]}
	}
	for _, g := range p.groups {
		a.groups[g.name] = question{target: g.target, from: g.from, tag: tagOf(""), child: p.has(g.members[0])}
	}
	p.ping.known.Store(a)
}

// Echo asks the target of a tunnel's group, by the child that the tunnel sends by,
// whether or not the group's traffic goes there. seq and stamp come back in the answer,
// if there is one, by Echoes; the far gateway sends that as its traffic. Errors: no
// child (esp.ErrNoChild), a tunnel in no group, a group without target, no address of ours
// may talk to it, and what the kernel says.
func (p *Plane) Echo(tunnel string, seq uint64, stamp int64) error {
	x, ok := p.ping.known.Load().members[tunnel]
	if !ok {
		return fmt.Errorf("probe %s: the tunnel is in no group", tunnel)
	}
	return p.ask(tunnel, x, esp.Echo{Seq: seq, Stamp: stamp})
}

// EchoGroup asks like Echo, but the request leaves as the group's traffic does.
func (p *Plane) EchoGroup(name string, seq uint64, stamp int64) error {
	x, ok := p.ping.known.Load().groups[name]
	if !ok {
		return fmt.Errorf("probe %s: the policy has no such group", name)
	}
	return p.ask(name, x, esp.Echo{Group: true, Seq: seq, Stamp: stamp})
}

func (p *Plane) ask(name string, x question, e esp.Echo) error {
	var err error
	switch {
	case !x.target.IsValid():
		err = errNoTarget
	case !x.from.IsValid():
		err = fmt.Errorf("no address of this host lies in its local selector, so that nobody can ask %s; give the gateway one", x.target)
	case !x.child:
		err = esp.ErrNoChild
	case x.muted: // lost, like everything else
	default:
		err = p.ping.send(x, e)
	}
	if err != nil {
		return fmt.Errorf("probe %s: %w", name, err)
	}
	return nil
}

// Echoes are the answers, as they come. Who does not read them in time loses some. It
// is closed by Close.
func (p *Plane) Echoes() <-chan esp.Echo { return p.ping.out }
