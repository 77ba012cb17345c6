package daemon

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"yumen/esp"
)

// planes are those that run.
func (b *both) planes() []plane {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sides()
}

// Name is what status shows of the planes that run.
func (b *both) Name() string {
	if len(b.planes()) == 1 {
		return kernel
	}
	return kernel + "+" + userspace
}

// PlaneOf is the plane of a child; empty: there is no such child.
func (b *both) PlaneOf(id esp.ChildID) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.children[id].plane
}

// Current is the plane that a tunnel sends by, or would.
func (b *both) Current(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current(name)
}

// noStates is the kernel's name for packets of an SPI that it does not know.
const noStates = "XfrmInNoStates"

// Counters merges those of the planes. The kernel counts each packet of protocol 50
// that is not its own as of no state, also those that the userspace plane opens or
// has counted as unknown: they are left out, and so is what a gateway before this one
// had, since nobody knows how many of those were such.
func (b *both) Counters() map[string]uint64 {
	out := map[string]uint64{}
	for _, x := range b.planes() {
		maps.Copy(out, x.Counters())
	}
	if n, ok := out[noStates]; ok {
		out[noStates] = n - min(n, b.before+out["raw-received"])
	}
	return out
}

// Warnings are those of all planes.
func (b *both) Warnings() (list []string) {
	for _, x := range b.planes() {
		list = append(list, x.Warnings()...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Trouble joins that of the planes.
func (b *both) Trouble() (err error) {
	for _, x := range b.planes() {
		err = errors.Join(err, x.Trouble())
	}
	return err
}

// Close ends both planes; their guards stay.
func (b *both) Close() (err error) {
	close(b.done)
	for _, x := range slices.Backward(b.planes()) {
		err = errors.Join(err, x.Close())
	}
	b.running.Wait()
	close(b.events)
	return err
}

// ReadIKE, PushIKE, WriteIKE, ProbeIKE and WriteKeepalive are the kernel plane's: of the port that
// both share it has what is not ESP.
func (b *both) ReadIKE() (data []byte, local, remote netip.AddrPort, err error) {
	return b.kernel.ReadIKE()
}

func (b *both) PushIKE(to func(data []byte, local, remote netip.AddrPort)) { b.kernel.PushIKE(to) }

func (b *both) WriteIKE(data []byte, local, remote netip.AddrPort) error {
	return b.kernel.WriteIKE(data, local, remote)
}

func (b *both) WriteKeepalive(local, remote netip.AddrPort) error {
	return b.kernel.WriteKeepalive(local, remote)
}

// ProbeIKE sends whole or not at all.
func (b *both) ProbeIKE(data []byte, local, remote netip.AddrPort) error {
	return natWire{b.kernel}.ProbeIKE(data, local, remote)
}

// Adopt takes children of the kernel plane back.
func (b *both) Adopt(children []esp.Child) ([]esp.ChildID, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	byID := map[esp.ChildID]esp.Child{}
	for _, c := range children {
		byID[c.ID] = c
	}
	taken, err := b.kernel.Adopt(children)
	for _, id := range taken {
		c := byID[id]
		b.children[id], b.sending[c.Tunnel] = resident{c, kernel}, id
	}
	return taken, errors.Join(err, b.tellForeign(), b.agree())
}

// Outlives reports whether a child carries on when this process ends: in the kernel.
func (b *both) Outlives(id esp.ChildID) bool {
	return b.PlaneOf(id) == kernel && b.kernel.Outlives(id)
}
