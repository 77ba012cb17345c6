package wire

import (
	"encoding/binary"
	"fmt"
)

// The only domain and situation in which the rest of an SA payload has a known
// form: the IPsec DOI and SIT_IDENTITY_ONLY (RFC 2407 4.2).
const (
	DOIIPsec              = 1
	SituationIdentityOnly = 1
)

// Bounds on what one SA payload offers. Gateways offer a handful of each.
const (
	maxProposals  = 32
	maxTransforms = 64 // of one proposal
	maxAttributes = 32 // of one transform
)

const (
	typeProposal  PayloadType = 2
	typeTransform PayloadType = 3
	shortForm                 = 0x8000 // AF, the top bit of an attribute type
)

// DOIOf is the DOI of the body of an SA payload, which says how the rest is to be
// read; false: there is none.
func DOIOf(body []byte) (doi uint32, ok bool) {
	r := reader{b: body}
	doi = r.u32("doi")
	return doi, r.err == nil
}

// ParseSA reads the body of an SA payload (RFC 2408 3.4 to 3.6). What parses is
// written back by Append to the same bytes, because hashes cover them. The parts
// alias body.
func ParseSA(body []byte) (SA, error) {
	r := reader{b: body}
	s := SA{DOI: r.u32("doi"), Situation: r.u32("situation")}
	if r.err == nil && s.DOI != DOIIPsec {
		r.fail("doi: %d, only %d (ipsec) is known", s.DOI, DOIIPsec)
	}
	if r.err == nil && s.Situation != SituationIdentityOnly {
		r.fail("situation: %#x, only %d (identity only) is known", s.Situation, SituationIdentityOnly)
	}
	for next := typeProposal; r.err == nil && next != None; {
		if len(s.Proposals) == maxProposals {
			r.fail("more than %d proposals", maxProposals)
			break
		}
		var p Proposal
		p, next = r.proposal()
		if r.err != nil {
			return SA{}, fmt.Errorf("sa: proposal %d: %w", len(s.Proposals)+1, r.err)
		}
		s.Proposals = append(s.Proposals, p)
	}
	if err := r.done(); err != nil {
		return SA{}, fmt.Errorf("sa: %w", err)
	}
	return s, nil
}

// chain checks the type that an item inside an SA payload announces: one more of
// its kind, or none.
func (r *reader) chain(next, kind PayloadType) {
	if r.err == nil && next != None && next != kind {
		r.fail("next payload: %d, only %d or 0 may follow", next, kind)
	}
}

func (r *reader) proposal() (p Proposal, next PayloadType) {
	next, body := r.item()
	r.chain(next, typeProposal)
	in := reader{b: body, err: r.err}
	p.Number = in.u8("number")
	p.Protocol = Protocol(in.u8("protocol"))
	size := in.u8("spi size")
	count := int(in.u8("number of transforms"))
	p.SPI = in.bytes(int(size), "spi")
	if in.err == nil && (count == 0 || count > maxTransforms) {
		in.fail("number of transforms: %d, must be 1 to %d", count, maxTransforms)
	}
	for more := typeTransform; in.err == nil && more != None; {
		if len(p.Transforms) == count {
			in.fail("more than the %d transforms announced", count)
			break
		}
		var t Transform
		t, more = in.transform()
		if in.err != nil {
			in.err = fmt.Errorf("transform %d: %w", len(p.Transforms)+1, in.err)
		}
		p.Transforms = append(p.Transforms, t)
	}
	if in.err == nil && len(p.Transforms) != count {
		in.fail("number of transforms: %d announced, %d found", count, len(p.Transforms))
	}
	r.err = in.done()
	return p, next
}

func (r *reader) transform() (t Transform, next PayloadType) {
	next, body := r.item()
	r.chain(next, typeTransform)
	in := reader{b: body, err: r.err}
	t.Number = in.u8("number")
	t.ID = in.u8("id")
	in.zero(2, "reserved bytes")
	t.Attributes = in.attributes()
	r.err = in.done()
	return t, next
}

// attributes reads data attributes up to the end (RFC 2408 3.3).
func (r *reader) attributes() (as []Attribute) {
	for r.err == nil && len(r.b) > 0 {
		if len(as) == maxAttributes {
			r.fail("more than %d attributes", maxAttributes)
			return nil
		}
		typ := r.u16("type")
		a := Attribute{Type: typ &^ shortForm, TLV: typ&shortForm == 0}
		size := 2
		if a.TLV {
			size = int(r.u16("length"))
		}
		a.Value = r.bytes(size, "value")
		if r.err != nil {
			r.err = fmt.Errorf("attribute %d: %w", len(as)+1, r.err)
		}
		as = append(as, a)
	}
	return as
}

// Append writes the body of the payload. Chains, counts and lengths are
// computed. A proposal has at most 255 transforms and 255 bytes of SPI.
func (s SA) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, s.DOI)
	dst = binary.BigEndian.AppendUint32(dst, s.Situation)
	for i, p := range s.Proposals {
		next := None
		if i+1 < len(s.Proposals) {
			next = typeProposal
		}
		dst = appendItem(dst, next, p.append)
	}
	return dst
}

func (p Proposal) append(dst []byte) []byte {
	dst = append(dst, p.Number, byte(p.Protocol), byte(len(p.SPI)), byte(len(p.Transforms)))
	dst = append(dst, p.SPI...)
	for i, t := range p.Transforms {
		next := None
		if i+1 < len(p.Transforms) {
			next = typeTransform
		}
		dst = appendItem(dst, next, t.append)
	}
	return dst
}

func (t Transform) append(dst []byte) []byte {
	dst = append(dst, t.Number, t.ID, 0, 0)
	for _, a := range t.Attributes {
		dst = a.append(dst)
	}
	return dst
}

func (a Attribute) append(dst []byte) []byte {
	if !a.TLV {
		var v [2]byte
		copy(v[:], a.Value)
		dst = binary.BigEndian.AppendUint16(dst, a.Type|shortForm)
		return append(dst, v[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, a.Type&^shortForm)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.Value)))
	return append(dst, a.Value...)
}

// Short is an attribute of the short form: its value in two bytes.
func Short(typ, value uint16) Attribute {
	return Attribute{Type: typ, Value: binary.BigEndian.AppendUint16(nil, value)}
}

// Long is an attribute with a length and a value of four bytes, which lifetimes
// above 65535 need.
func Long(typ uint16, value uint32) Attribute {
	return Attribute{Type: typ, TLV: true, Value: binary.BigEndian.AppendUint32(nil, value)}
}

// Uint is the value as a number, in either form. It is not ok when the value is
// empty or longer than 8 bytes.
func (a Attribute) Uint() (v uint64, ok bool) {
	if len(a.Value) == 0 || len(a.Value) > 8 {
		return 0, false
	}
	for _, b := range a.Value {
		v = v<<8 | uint64(b)
	}
	return v, true
}

// ParseAttributes reads a list of data attributes that stands alone, as in a
// RESPONDER-LIFETIME notification (RFC 2407 4.6.3.1).
func ParseAttributes(b []byte) ([]Attribute, error) {
	r := reader{b: b}
	as := r.attributes()
	if r.err != nil {
		return nil, r.err
	}
	return as, nil
}

// AppendAttributes writes a list of data attributes.
func AppendAttributes(dst []byte, as []Attribute) []byte {
	for _, a := range as {
		dst = a.append(dst)
	}
	return dst
}
