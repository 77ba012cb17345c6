package ike

import (
	"fmt"
	"net/netip"

	"yumen/ike/wire"
	"yumen/policy"
)

// clientID writes one side of a selector as the ID of quick mode: an address, a
// subnet or a range (RFC 2407 4.6.2).
func clientID(n policy.Net, protocol uint8, port uint16) wire.ID {
	id := wire.ID{Protocol: protocol, Port: port}
	first, last := n.First.AsSlice(), n.Last.AsSlice()
	prefix, isPrefix := n.Prefix()
	switch {
	case n.First == n.Last:
		id.Type, id.Data = wire.IDIPv4, first
		if n.First.Is6() {
			id.Type = wire.IDIPv6
		}
	case isPrefix:
		id.Type, id.Data = wire.IDIPv4Subnet, append(first, mask(prefix)...)
		if n.First.Is6() {
			id.Type = wire.IDIPv6Subnet
		}
	default:
		id.Type, id.Data = wire.IDIPv4Range, append(first, last...)
		if n.First.Is6() {
			id.Type = wire.IDIPv6Range
		}
	}
	return id
}

func mask(p netip.Prefix) []byte {
	m := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

// clientNet reads an ID of quick mode.
func clientNet(id wire.ID) (policy.Net, error) {
	size := 4
	switch id.Type {
	case wire.IDIPv6, wire.IDIPv6Subnet, wire.IDIPv6Range:
		size = 16
	}
	switch id.Type {
	case wire.IDIPv4, wire.IDIPv6:
		if len(id.Data) != size {
			break
		}
		a, _ := netip.AddrFromSlice(id.Data)
		return policy.Net{First: a, Last: a}, nil
	case wire.IDIPv4Subnet, wire.IDIPv6Subnet, wire.IDIPv4Range, wire.IDIPv6Range:
		if len(id.Data) != 2*size {
			break
		}
		first, _ := netip.AddrFromSlice(id.Data[:size])
		if id.Type == wire.IDIPv4Range || id.Type == wire.IDIPv6Range {
			last, _ := netip.AddrFromSlice(id.Data[size:])
			if last.Less(first) {
				return policy.Net{}, fmt.Errorf("a range that ends before it begins")
			}
			return policy.Net{First: first, Last: last}, nil
		}
		return subnet(first, id.Data[size:])
	default:
		return policy.Net{}, fmt.Errorf("ID type %v is no address", id.Type)
	}
	return policy.Net{}, fmt.Errorf("ID type %v with %d bytes", id.Type, len(id.Data))
}

// subnet reads address and mask. The mask must be contiguous; host bits in the
// address are cleared, as some peers send them.
func subnet(addr netip.Addr, m []byte) (policy.Net, error) {
	bits := 0
	for i := range len(m) * 8 {
		set := m[i/8]&(0x80>>(i%8)) != 0
		switch {
		case set && bits == i:
			bits++
		case set:
			return policy.Net{}, fmt.Errorf("a mask with holes")
		}
	}
	p := netip.PrefixFrom(addr, bits).Masked()
	last := p.Addr().AsSlice()
	for i := range last {
		last[i] |= ^m[i]
	}
	end, _ := netip.AddrFromSlice(last)
	return policy.Net{First: p.Addr(), Last: end}, nil
}

// selectorOf reads the two IDs of quick mode as a selector seen from our side.
// Without IDs they mean the addresses of the two gateways.
func (s *session) selectorOf(ids [][]byte, role Role) (policy.Selector, error) {
	var nets [2]policy.Net
	var parsed [2]wire.ID
	if len(ids) == 0 {
		own, theirs := s.local.Addr(), s.remote.Addr()
		return policy.Selector{Local: policy.Net{First: own, Last: own}, Remote: policy.Net{First: theirs, Last: theirs}}, nil
	}
	for i := range parsed {
		var err error
		if parsed[i], err = wire.ParseID(ids[i]); err != nil {
			return policy.Selector{}, err
		}
		if nets[i], err = clientNet(parsed[i]); err != nil {
			return policy.Selector{}, err
		}
	}
	if parsed[0].Protocol != parsed[1].Protocol || nets[0].First.Is4() != nets[1].First.Is4() {
		return policy.Selector{}, fmt.Errorf("the two IDs differ in protocol or family")
	}
	local, remote := 0, 1 // IDci is the initiator's side
	if role == Responder {
		local, remote = 1, 0
	}
	return policy.Selector{Local: nets[local], Remote: nets[remote], Protocol: parsed[0].Protocol,
		LocalPort: parsed[local].Port, RemotePort: parsed[remote].Port}, nil
}
