package lab

import (
	"bytes"
	"net/netip"
	"time"

	"yumen/esp"
	"yumen/ike"
)

// Packet is one packet on its way: ISAKMP, or the shadow of an ESP packet, of
// which only the SPI exists.
type Packet struct {
	From, To         string // names of gateways; To is empty when nobody has the address
	Source, Dest     netip.AddrPort
	Data             []byte // ISAKMP
	Probe            bool   // sent whole
	SPI              esp.SPI
	Number           uint64 // of ESP: the sequence number
	ICVBits          int    // of ESP; 0: whatever the receiver has
	Label            string // "main 1" to "main 6", "quick 1" to "quick 3", "info", "esp"
	Again            bool   // the same bytes were sent before
	Delay            time.Duration
	encrypted, clear string
}

// Lost, Twice and Late are what hooks answer most.
func Lost(Packet) []Packet    { return nil }
func Twice(p Packet) []Packet { return []Packet{p, p} }
func Late(d time.Duration) func(Packet) []Packet {
	return func(p Packet) []Packet {
		p.Delay += d
		return []Packet{p}
	}
}

// Size is that of the IP packet that carries ISAKMP.
func (p Packet) Size() int {
	n := 20 + 8 + len(p.Data)
	if p.Source.Addr().Is6() {
		n += 20
	}
	if p.Source.Port() == 4500 || p.Dest.Port() == 4500 {
		n += 4
	}
	return n
}

// Mute is a path that drops what is larger than mtu and says nothing. What is not
// sent whole is cut and gets there.
func Mute(mtu int) func(Packet) []Packet {
	return func(p Packet) []Packet {
		if p.Probe && p.Size() > mtu {
			return nil
		}
		return []Packet{p}
	}
}

// send puts a datagram of g on the wire.
func (l *Lab) send(g *Gateway, d ike.Datagram) {
	p := Packet{From: g.Name, Source: d.Local, Dest: d.Remote, Data: bytes.Clone(d.Data), Probe: d.Probe}
	if !p.Source.Addr().IsValid() || p.Source.Addr().IsUnspecified() {
		p.Source = netip.AddrPortFrom(g.Addr, d.Local.Port())
	}
	if !l.Story.Off || l.Hook != nil { // nobody else reads labels
		l.seen.label(&p, l.keyholders())
	}
	l.carry(g, p)
}

// carry takes p through the NAT of its sender and the hook to where it goes.
func (l *Lab) carry(g *Gateway, p Packet) {
	if g.Public.IsValid() {
		p.Source = g.nat.out(g.Public, p.Source, p.Dest)
	}
	if to := l.holder(p.Dest.Addr()); to != nil {
		p.To = to.Name
	}
	on := []Packet{p}
	if l.Hook != nil {
		on = l.Hook(p)
	}
	l.Story.packet(g, p, on)
	for _, x := range on {
		l.After(x.Delay, func() { l.arrive(x) })
	}
}

// Inject lets a packet of an attacker arrive now. Source and Dest say all.
func (l *Lab) Inject(source, dest netip.AddrPort, data []byte) {
	l.arrive(Packet{Source: source, Dest: dest, Data: bytes.Clone(data)})
}

func (l *Lab) holder(a netip.Addr) *Gateway {
	for _, g := range l.gateways {
		if g.Public == a || !g.Public.IsValid() && g.has(a) {
			return g
		}
	}
	return nil
}

func (l *Lab) arrive(p Packet) {
	to := l.holder(p.Dest.Addr())
	if to == nil {
		return
	}
	if to.Public.IsValid() {
		ok := false
		for _, g := range l.gateways { // whoever of those behind this NAT has the port
			if inside, has := g.nat.in(p.Dest, p.Source); has && g.Public == to.Public {
				to, p.Dest, ok = g, inside, true
				break
			}
		}
		if !ok {
			return
		}
	}
	if p.Data == nil {
		to.Plane.arrive(p)
		return
	}
	to.Feed(ike.Datagram{Local: p.Dest, Remote: p.Source, Data: bytes.Clone(p.Data)})
}

// keyholders are whose keys the observer may use: nobody's, when no transcript is
// kept.
func (l *Lab) keyholders() []*Gateway {
	if l.Story.Off {
		return nil
	}
	return l.gateways
}

// natTable is a NAT in front of one gateway: each inside socket and each
// destination address has one outside port, and only that destination gets in.
type natTable struct {
	ports map[natKey]uint16
	back  map[uint16]natKey
	next  uint16
}

type natKey struct {
	inside netip.AddrPort
	dest   netip.Addr
}

func (n *natTable) out(public netip.Addr, source, dest netip.AddrPort) netip.AddrPort {
	if n.ports == nil {
		n.ports, n.back = map[natKey]uint16{}, map[uint16]natKey{}
	}
	k := natKey{source, dest.Addr()}
	port, ok := n.ports[k]
	if !ok {
		n.next++
		port = n.next
		n.ports[k], n.back[port] = port, k
	}
	return netip.AddrPortFrom(public, port)
}

func (n *natTable) in(dest, source netip.AddrPort) (netip.AddrPort, bool) {
	k, ok := n.back[dest.Port()]
	return k.inside, ok && k.dest == source.Addr()
}

// ForgetNAT makes the NAT in front of g forget its mappings, as a reboot does.
func (g *Gateway) ForgetNAT() { g.nat.ports, g.nat.back = nil, nil }
