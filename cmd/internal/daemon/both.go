package daemon

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	"yumen/esp"
	"yumen/esp/tunnel"
	"yumen/policy"
	"yumen/policy/secret"
	"yumen/xfrm"
)

// kernelSide is the kernel plane as both need it.
type kernelSide interface {
	plane
	Beside(b xfrm.Beside) error
	Leftovers() []xfrm.Leftover
	LearnPath(local, remote netip.Addr, mtu int)
	MaxInner(c esp.Child) int
	adopter
}

// userSide is the userspace plane as both need it.
type userSide interface {
	plane
	Carry(s tunnel.Share) error
	Foreign(list []esp.Child) error
	LearnPath(local, remote netip.Addr, mtu int)
	ProbeIKE(data []byte, local, remote netip.AddrPort) error
	Offloads() tunnel.Offload
}

// both is the kernel plane and, from the moment that a tunnel needs it, the userspace
// plane beside it. It knows on which of the two each child lives. Both guards stand at
// the same time: see xfrm.Beside and tunnel.Share for what lies between them.
type both struct {
	kernel   kernelSide
	open     func() (userSide, error)
	device   string // of the userspace plane
	before   uint64 // what the kernel had counted as noStates
	placed   func(name, plane, why string)
	narrowed func() // Narrow may have an answer
	events   chan esp.Event
	echoes   chan esp.Echo
	running  sync.WaitGroup
	done     chan struct{}

	mu       sync.Mutex // guards what follows
	user     userSide   // nil: not needed yet
	policy   *policy.Policy
	homes    map[string]home
	chosen   map[string]string // by tunnel: the operator's word
	children map[esp.ChildID]resident
	sending  map[string]esp.ChildID
	told     map[string]string // by tunnel: the plane that was told last
	share    map[string]bool   // what the planes were told last: see shared
	advice   map[[2]netip.Addr]advice
	groups   map[string]*policy.Group // by tunnel
	steers   map[string][]esp.Weight  // by group: who carries, as told last
	muted    map[string]bool          // tunnels
}

// resident is a child, without keys, on a plane.
type resident struct {
	esp.Child
	plane string
}

func newBoth(k kernelSide, device string, open func() (userSide, error)) *both {
	b := &both{kernel: k, open: open, device: device, events: make(chan esp.Event), echoes: make(chan esp.Echo, 1024), done: make(chan struct{}),
		placed: func(string, string, string) {}, narrowed: func() {}, advice: map[[2]netip.Addr]advice{}, chosen: map[string]string{}, children: map[esp.ChildID]resident{},
		sending: map[string]esp.ChildID{}, told: map[string]string{}, share: map[string]bool{}, steers: map[string][]esp.Weight{}, muted: map[string]bool{}}
	b.before = k.Counters()[noStates]
	b.forward(k)
	return b
}

func (b *both) forward(x plane) {
	b.forwardEchoes(x)
	b.running.Go(func() {
		for e := range x.Events() {
			select {
			case b.events <- e:
			case <-b.done:
			}
		}
	})
}

// Events merges those of the planes.
func (b *both) Events() <-chan esp.Event { return b.events }

// offloads are those of the userspace plane; false: it is not open.
func (b *both) offloads() (tunnel.Offload, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.user == nil {
		return 0, false
	}
	return b.user.Offloads(), true
}

// needUser opens the userspace plane. The caller holds mu.
func (b *both) needUser() error {
	if b.user != nil {
		return nil
	}
	u, err := b.open()
	if err != nil {
		return fmt.Errorf("userspace plane: %w", err)
	}
	err = u.SetPolicy(b.policy)
	if err == nil {
		err = b.brief(u)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("userspace plane: %w", err), u.Close())
	}
	b.user = u
	b.forward(u)
	return b.tellForeign()
}

// SetPolicy gives the policy to both planes, the kernel's guard first.
func (b *both) SetPolicy(p *policy.Policy) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.kernel.SetPolicy(p); err != nil {
		return err
	}
	where := homes(p)
	b.policy, b.homes = p, where
	b.enlist()
	if b.user != nil {
		if err := b.user.SetPolicy(p); err != nil {
			return err
		}
	}
	known := func(name string) bool { _, ok := where[name]; return ok }
	maps.DeleteFunc(b.chosen, func(name, _ string) bool { return !known(name) })
	maps.DeleteFunc(b.told, func(name, _ string) bool { return !known(name) })
	for _, h := range where {
		if h.why != "" {
			if err := b.needUser(); err != nil {
				return err
			}
			break
		}
	}
	return b.agree()
}

// Install puts a child where it can be carried.
func (b *both) Install(c esp.Child, from esp.State) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	where, why := b.place(c)
	if where == userspace {
		if err := b.needUser(); err != nil {
			return fmt.Errorf("install child %d: %w", c.ID, err)
		}
	}
	r := resident{c, where}
	r.In.Keymat, r.Out.Keymat = secret.Secret{}, secret.Secret{}
	b.children[c.ID] = r
	// What it receives must pass, and find it, before the first packet comes.
	err := errors.Join(b.agree(), b.tellForeign())
	if err == nil {
		err = b.on(where).Install(c, from)
	}
	if err != nil {
		delete(b.children, c.ID)
		return errors.Join(err, b.agree(), b.tellForeign())
	}
	b.tellPlaced(c.Tunnel, where, why)
	return nil
}

// place chooses the plane of a child. The caller holds mu.
func (b *both) place(c esp.Child) (where, why string) {
	if err := carries(c.Suite, c.ICVBits, c.Outer); err != nil {
		return userspace, err.Error()
	}
	if where = b.wish(c.Tunnel); where == kernel {
		if err := b.narrow(c); err != nil && b.movable(c.Tunnel, userspace) == nil {
			return userspace, err.Error()
		}
	}
	return where, b.reason(c.Tunnel)
}

// wish is where a tunnel belongs until a child says otherwise.
func (b *both) wish(name string) string {
	if w, ok := b.chosen[name]; ok {
		return w
	}
	if h, ok := b.homes[name]; ok {
		return h.plane
	}
	return kernel
}

func (b *both) reason(name string) string {
	if _, ok := b.chosen[name]; ok {
		return "the operator's choice"
	}
	if h := b.homes[name]; h.plane == userspace {
		return h.why
	}
	return "this kernel carries it"
}

func (b *both) on(where string) plane {
	if where == userspace {
		return b.user
	}
	return b.kernel
}

// current is the plane that a tunnel sends by, or would.
func (b *both) current(name string) string {
	if r, ok := b.children[b.sending[name]]; ok {
		return r.plane
	}
	if w := b.wish(name); w == kernel || b.user != nil {
		return w
	}
	return kernel
}

// shared says which tunnels the userspace plane has to do with: true if it sends
// their packets, false if it only receives them.
func (b *both) shared() map[string]bool {
	s := map[string]bool{}
	for _, r := range b.children {
		if r.plane == userspace {
			s[r.Tunnel] = false
		}
	}
	for name := range b.homes {
		if b.sends(name) == userspace {
			s[name] = true
		}
	}
	// What belongs to a group the planes know by its head.
	for name := range s {
		if g := b.groups[name]; g != nil && !s[g.Head()] {
			s[g.Head()] = false
		}
	}
	return s
}

// agree tells the planes what each carries, so that at no moment neither guards a
// tunnel: the userspace plane takes over before the kernel lets go, and lets go after
// the kernel took over. The caller holds mu.
func (b *both) agree() error {
	next := b.shared()
	if b.user == nil || maps.Equal(b.share, next) {
		return nil
	}
	before, wide, after := tunnel.Share{}, tunnel.Share{}, tunnel.Share{}
	beside := xfrm.Beside{Device: b.device, Sends: map[string]bool{}, Receives: map[string]bool{}}
	for name := range b.share {
		before[name], wide[name] = true, true
	}
	for name, sends := range next {
		wide[name], after[name], beside.Receives[name] = true, true, true
		if sends {
			beside.Sends[name] = true
		}
	}
	err := b.carry(before, wide)
	if err == nil {
		err = b.kernel.Beside(beside)
	}
	if err == nil {
		err = b.carry(wide, after)
	}
	if b.share = next; err != nil {
		// What stands is not known: the next call sets all of it.
		b.share = map[string]bool{}
		for name := range wide {
			b.share[name] = false
		}
	}
	return err
}

func (b *both) carry(from, to tunnel.Share) error {
	if maps.Equal(from, to) {
		return nil
	}
	return b.user.Carry(to)
}

// Use sends a tunnel's packets by a child. If that is on the other plane than before,
// the switch is one change of policy, after the new child can send.
func (b *both) Use(id esp.ChildID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.children[id]
	if !ok {
		return fmt.Errorf("use child %d: no such child", id)
	}
	if err := b.on(r.plane).Use(id); err != nil {
		return err
	}
	if r.Lane > 0 {
		return nil // the first lane says where the tunnel is
	}
	before, had := b.sending[r.Tunnel]
	b.sending[r.Tunnel] = id
	if err := b.agree(); err != nil {
		delete(b.sending, r.Tunnel)
		if had {
			b.sending[r.Tunnel] = before
		}
		return errors.Join(fmt.Errorf("use child %d: %w", id, err), b.agree())
	}
	return nil
}

// Rebind moves a child to another path on its plane.
func (b *both) Rebind(id esp.ChildID, path esp.Path) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.children[id]
	if !ok {
		return fmt.Errorf("rebind child %d: no such child", id)
	}
	if err := b.on(r.plane).Rebind(id, path); err != nil {
		return err
	}
	r.Path = path
	b.children[id] = r
	return b.tellForeign()
}

// Remove stops a child. One that is not installed is no error.
func (b *both) Remove(id esp.ChildID) (esp.State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.children[id]
	if !ok {
		return esp.State{}, nil
	}
	st, err := b.on(r.plane).Remove(id)
	if err != nil {
		return st, err
	}
	delete(b.children, id)
	if b.sending[r.Tunnel] == id {
		delete(b.sending, r.Tunnel)
	}
	return st, errors.Join(b.tellForeign(), b.agree())
}

// Usage reads a child's counters.
func (b *both) Usage(id esp.ChildID) (esp.Usage, bool) {
	b.mu.Lock()
	r, ok := b.children[id]
	x := b.on(r.plane)
	b.mu.Unlock()
	if !ok {
		return esp.Usage{}, false
	}
	return x.Usage(id)
}

// tellForeign says which SPIs the kernel receives on. The caller holds mu.
func (b *both) tellForeign() error {
	if b.user == nil {
		return nil
	}
	var list []esp.Child
	for _, r := range b.children {
		if r.plane == kernel {
			list = append(list, r.Child)
		}
	}
	for _, l := range b.kernel.Leftovers() {
		list = append(list, esp.Child{Path: l.Path, In: esp.Half{SPI: l.SPI}, Out: esp.Half{SPI: l.SPI}})
	}
	return b.user.Foreign(list)
}

// tellPlaced tells where a tunnel went, when that is news.
func (b *both) tellPlaced(name, where, why string) {
	if b.told[name] != where {
		b.told[name] = where
		b.placed(name, where, why)
	}
}
