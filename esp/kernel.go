package esp

import (
	"io"

	"yumen/esp/internal/lanes"
)

// Kernel is one way to compute SM4 and SM3. NewOutbound and NewInbound take the
// best of this machine; the others are for comparison.
type Kernel struct {
	Name string // generic, aesni, vaes or gfni
	// ConstantTime says that neither time nor addresses depend on SM4 keys and data.
	// Of generic, which is gmsm, it cannot be said.
	ConstantTime bool
	path         lanes.Path
}

// Kernels returns what runs on this machine, the slowest first.
func Kernels() (list []Kernel) {
	for _, p := range lanes.Paths() {
		list = append(list, Kernel{Name: p.String(), ConstantTime: p.ConstantTime(), path: p})
	}
	return list
}

// NewOutbound is the function of that name for this kernel.
func (k Kernel) NewOutbound(c Child, st State, random io.Reader) (*Outbound, error) {
	return newOutbound(c, st, random, k.path)
}

// NewInbound is the function of that name for this kernel.
func (k Kernel) NewInbound(c Child, st State) (*Inbound, error) { return newInbound(c, st, k.path) }
