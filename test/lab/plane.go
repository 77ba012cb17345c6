package lab

import (
	"bytes"
	"net/netip"
	"slices"

	"yumen/esp"
	"yumen/ike"
	"yumen/policy"
	"yumen/policy/secret"
)

// Plane is a data plane without packets: it keeps what it is told and checks
// that it makes sense, alone and against the plane of the other end.
type Plane struct {
	g         *Gateway
	installed map[esp.ChildID]*held
	inUse     map[slot]esp.ChildID
	spis      map[esp.SPI]esp.ChildID
	// Paths is how large packets get to whom, as the engine said last.
	Paths map[netip.Addr]int
	// BadAuth counts packets whose ICV has another length than the child.
	BadAuth int
	boxes   []secret.Secret // keys of every child ever installed
}

// slot is a place for one child to send by: a lane of a tunnel.
type slot struct {
	tunnel string
	lane   uint8
}

// held is an installed child with its own copy of the keys: the engine wipes
// its boxes when a child ends.
type held struct {
	esp.Child
	in, out []byte
	first   bool // the first packet was told
	sent    uint64
	highest uint64 // number of a packet that came
}

func newPlane(g *Gateway) *Plane {
	return &Plane{g: g, installed: map[esp.ChildID]*held{}, inUse: map[slot]esp.ChildID{},
		spis: map[esp.SPI]esp.ChildID{}, Paths: map[netip.Addr]int{}}
}

// Installed lists the children, oldest first.
func (p *Plane) Installed() []esp.Child {
	var list []esp.Child
	for _, h := range p.installed {
		list = append(list, h.Child)
	}
	slices.SortFunc(list, func(a, b esp.Child) int { return int(a.ID) - int(b.ID) })
	return list
}

// InUse is the child that a tunnel sends on, the first of several.
func (p *Plane) InUse(tunnel string) (esp.Child, bool) { return p.InUseOn(tunnel, 0) }

// InUseOn is the child that a lane of a tunnel sends on.
func (p *Plane) InUseOn(tunnel string, lane uint8) (esp.Child, bool) {
	h := p.installed[p.inUse[slot{tunnel, lane}]]
	if h == nil {
		return esp.Child{}, false
	}
	return h.Child, true
}

// Unwiped counts keys of children that are gone and were not wiped.
func (p *Plane) Unwiped() int {
	n := 0
	for _, b := range p.boxes {
		if b.Len() > 0 {
			n++
		}
	}
	return n - 2*len(p.installed)
}

func (p *Plane) fault(format string, args ...any) {
	p.g.lab.fault(p.g.Name+": "+format, args...)
}

func (p *Plane) install(f ike.Install) func() {
	c := f.Child
	h := &held{Child: c, in: bytes.Clone(c.In.Keymat.Bytes()), out: bytes.Clone(c.Out.Keymat.Bytes())}
	if p.installed[c.ID] != nil || c.ID == 0 {
		p.fault("install of child %d twice", c.ID)
	}
	if _, taken := p.spis[c.In.SPI]; taken || c.In.SPI < 256 || c.Out.SPI < 256 {
		p.fault("install with the SPIs %x and %x", c.In.SPI, c.Out.SPI)
	}
	if len(h.in) == 0 || len(h.in) != len(h.out) || bytes.Equal(h.in, h.out) {
		p.fault("install with keys of %d and %d bytes", len(h.in), len(h.out))
	}
	p.installed[c.ID], p.spis[c.In.SPI] = h, c.ID
	p.boxes = append(p.boxes, c.In.Keymat, c.Out.Keymat)
	p.compare(h)
	return func() { p.remove(c.ID) }
}

// compare checks that both ends of an SA pair agree, as soon as both exist.
func (p *Plane) compare(h *held) {
	for _, g := range p.g.lab.gateways {
		if g == p.g {
			continue
		}
		id, ok := g.Plane.spis[h.Out.SPI]
		if !ok {
			continue
		}
		o := g.Plane.installed[id]
		if o.Out.SPI != h.In.SPI {
			continue
		}
		if !bytes.Equal(h.in, o.out) || !bytes.Equal(h.out, o.in) {
			p.fault("keys of child %d differ from those of %s", h.ID, g.Name)
		}
		if h.Selector != o.Selector.Reverse() {
			p.fault("selector %v against %v of %s", h.Selector, o.Selector, g.Name)
		}
		if h.Suite != o.Suite || h.ESN != o.ESN || h.Path.Encap != o.Path.Encap {
			p.fault("suite %v, esn %v, encap %v against %v, %v, %v of %s", h.Suite, h.ESN, h.Path.Encap,
				o.Suite, o.ESN, o.Path.Encap, g.Name)
		}
	}
}

func (p *Plane) use(id esp.ChildID) func() {
	h := p.installed[id]
	if h == nil {
		p.fault("use of child %d, which is not installed", id)
		return func() {}
	}
	at := slot{h.Tunnel, h.Lane}
	before := p.inUse[at]
	p.inUse[at] = id
	p.Send(h.Tunnel)
	return func() { p.inUse[at] = before }
}

func (p *Plane) rebind(f ike.Rebind) func() {
	h := p.installed[f.Child]
	if h == nil {
		p.fault("rebind of child %d, which is not installed", f.Child)
		return func() {}
	}
	before := h.Path
	h.Path = f.Path
	return func() { h.Path = before }
}

// remove takes a child out. It cannot be undone: the keys are gone.
func (p *Plane) remove(id esp.ChildID) func() {
	h := p.installed[id]
	if h == nil {
		p.fault("remove of child %d, which is not installed", id)
		return func() {}
	}
	delete(p.installed, id)
	delete(p.spis, h.In.SPI)
	if at := (slot{h.Tunnel, h.Lane}); p.inUse[at] == id {
		delete(p.inUse, at)
	}
	return func() {}
}

// Send sends one packet into a tunnel, by each child that it uses side by side. Without
// one the plane asks for it.
func (p *Plane) Send(tunnel string) {
	sent := false
	for lane := range uint8(policy.MaxSideBySide) {
		if h := p.installed[p.inUse[slot{tunnel, lane}]]; h != nil {
			p.sendBy(h)
			sent = true
		}
	}
	if !sent {
		p.tell(esp.Event{Kind: esp.Acquire, Tunnel: tunnel})
	}
}

func (p *Plane) sendBy(h *held) {
	icv := h.ICVBits
	if icv == policy.ICVAuto {
		icv = 96 // what a plane sends that heard nothing yet
	}
	h.sent++
	p.g.lab.carry(p.g, Packet{From: p.g.Name, Label: "esp", SPI: h.Out.SPI, Number: h.sent, ICVBits: icv,
		Source: h.Path.Local, Dest: h.Path.Remote})
}

// arrive takes an ESP packet from the net.
func (p *Plane) arrive(x Packet) {
	h := p.installed[p.spis[x.SPI]]
	switch {
	case h == nil:
		p.tell(esp.Event{Kind: esp.UnknownSPI, SPI: x.SPI, Remote: x.Source})
	case x.ICVBits != 0 && h.ICVBits != policy.ICVAuto && h.ICVBits != x.ICVBits:
		p.BadAuth++
		return
	case !h.first:
		h.first = true
		v := esp.Event{Kind: esp.FirstPacket, Child: h.ID, Tunnel: h.Tunnel, SPI: x.SPI, Remote: x.Source}
		if h.ICVBits == policy.ICVAuto {
			h.ICVBits, v.ICVBits = x.ICVBits, x.ICVBits
		}
		p.tell(v)
	}
	if h != nil {
		p.follow(h, x)
	}
}

// follow tells that a packet came from elsewhere: one that was not seen before, or like
// the kernel each one.
func (p *Plane) follow(h *held, x Packet) {
	newest := x.Number > h.highest
	h.highest = max(h.highest, x.Number)
	if h.Path.Encap && x.Source != h.Path.Remote && (newest || p.g.Kernel) {
		p.tell(esp.Event{Kind: esp.Moved, Child: h.ID, Tunnel: h.Tunnel, SPI: x.SPI, Remote: x.Source,
			Newest: newest && !p.g.Kernel})
	}
}

// tell hands an event to the engine, in a step of its own.
func (p *Plane) tell(v esp.Event) {
	p.g.later(0, func() { p.g.Feed(ike.Plane{Event: v}) })
}
