package esp

import (
	"fmt"
	"maps"

	"yumen/policy"
)

// Table says which SA takes a packet. It is frozen: the With methods return
// a new one, so that workers read it behind an atomic pointer without a lock. A
// nil Table is empty.
type Table struct {
	in  map[SPI]*Inbound
	out map[place]*Outbound
}

// place is where one SA at a time sends: a lane of a tunnel.
type place struct {
	tunnel string
	lane   uint8
}

// Inbound returns the SA that receives on spi, or nil.
func (t *Table) Inbound(spi SPI) *Inbound {
	if t == nil {
		return nil
	}
	return t.in[spi]
}

// Outbound returns the SA that sends for a tunnel now, or nil: of several side by side
// that of the first lane.
func (t *Table) Outbound(tunnel string) *Outbound {
	for lane := range uint8(policy.MaxSideBySide) {
		if out := t.Lane(tunnel, lane); out != nil {
			return out
		}
	}
	return nil
}

// Lane returns the SA that sends on one lane of a tunnel, or nil.
func (t *Table) Lane(tunnel string, lane uint8) *Outbound {
	if t == nil {
		return nil
	}
	return t.out[place{tunnel, lane}]
}

// WithInbound adds an SA. The error: another child receives on its SPI.
func (t *Table) WithInbound(in *Inbound) (*Table, error) {
	spi := in.child.In.SPI
	if old := t.Inbound(spi); old != nil && old.child.ID != in.child.ID {
		return nil, fmt.Errorf("SPI %08x already belongs to child %d", uint32(spi), old.child.ID)
	}
	n := t.clone()
	n.in[spi] = in
	return n, nil
}

// WithOutbound makes out the SA that sends on its lane of its tunnel, in place of any
// other.
func (t *Table) WithOutbound(out *Outbound) *Table {
	n := t.clone()
	n.out[place{out.child.Tunnel, out.child.Lane}] = out
	return n
}

// Without removes both halves of a child.
func (t *Table) Without(id ChildID) *Table {
	n := t.clone()
	maps.DeleteFunc(n.in, func(_ SPI, in *Inbound) bool { return in.child.ID == id })
	maps.DeleteFunc(n.out, func(_ place, out *Outbound) bool { return out.child.ID == id })
	return n
}

func (t *Table) clone() *Table {
	n := &Table{in: map[SPI]*Inbound{}, out: map[place]*Outbound{}}
	if t != nil {
		maps.Copy(n.in, t.in)
		maps.Copy(n.out, t.out)
	}
	return n
}
