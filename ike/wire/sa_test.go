package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand"
	"reflect"
	"testing"
)

// phaseOne is the SA that M1 of the worked example offers.
func phaseOne() SA {
	return SA{DOI: 1, Situation: 1, Proposals: []Proposal{{
		Number: 0, Protocol: ProtoISAKMP, SPI: []byte{},
		Transforms: []Transform{{Number: 1, ID: 1, Attributes: []Attribute{
			Short(1, 127), Short(2, 20), Short(3, 10), Short(20, 2), Short(11, 1), Short(12, 15840),
		}}},
	}}}
}

// phaseTwo is the SA that QM1 of the worked example offers: TV and TLV.
func phaseTwo() SA {
	return SA{DOI: 1, Situation: 1, Proposals: []Proposal{{
		Number: 0, Protocol: ProtoESP, SPI: []byte{0xc5, 0x15, 0xec, 0xd5},
		Transforms: []Transform{{Number: 1, ID: 127, Attributes: []Attribute{
			Short(5, 20), Short(4, 1), Short(1, 1), Short(2, 5940), Short(1, 2), Long(2, 550000),
		}}},
	}}}
}

// both is an offer of two ESP transforms and, as an AND, AH.
func both() SA {
	esp := []Attribute{Short(5, 20), Short(4, 1), Short(1, 1), Short(2, 3600)}
	return SA{DOI: 1, Situation: 1, Proposals: []Proposal{
		{Number: 1, Protocol: ProtoESP, SPI: []byte{1, 2, 3, 4}, Transforms: []Transform{
			{Number: 1, ID: 129, Attributes: esp}, {Number: 2, ID: 127, Attributes: esp},
		}},
		{Number: 1, Protocol: ProtoAH, SPI: []byte{5, 6, 7, 8}, Transforms: []Transform{
			{Number: 1, ID: 20, Attributes: []Attribute{Short(5, 20)}},
		}},
	}}
}

func TestSecurityAssociationsOfTheExample(t *testing.T) {
	for _, c := range []struct {
		name string
		body []byte
		want SA
	}{
		{"M1", clearMessage(t, "M1").Payloads[0].Body, phaseOne()},
		{"M2", clearMessage(t, "M2").Payloads[0].Body, phaseOne()},
		{"QM1", plainMessage(t, "QM1", QuickMode, 1).Payloads[1].Body, phaseTwo()},
	} {
		got, err := ParseSA(c.body)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\n got %+v\nwant %+v", c.name, got, c.want)
		}
		if b := c.want.Append(nil); !bytes.Equal(b, c.body) {
			t.Errorf("%s: written as\n%x\nwant\n%x", c.name, b, c.body)
		}
		if b := got.Append([]byte{7}); !bytes.Equal(b[1:], c.body) {
			t.Errorf("%s: written back as\n%x\nwant\n%x", c.name, b[1:], c.body)
		}
	}
}

func TestChainsInsideAnOfferAreWritten(t *testing.T) {
	want := unhex(t, "00000001 00000001"+
		"02000038 01030402 01020304"+
		"03000018 01810000 80050014 80040001 80010001 80020e10"+
		"00000018 027f0000 80050014 80040001 80010001 80020e10"+
		"00000018 01020401 05060708"+
		"0000000c 01140000 80050014")
	binary.BigEndian.PutUint16(want[10:], uint16(4+8+24+24))
	got := both().Append(nil)
	if !bytes.Equal(got, want) {
		t.Fatalf("\n got %x\nwant %x", got, want)
	}
	s, err := ParseSA(got)
	if err != nil || !reflect.DeepEqual(s, both()) {
		t.Errorf("read back as %+v, %v", s, err)
	}
}

func TestEachStrictPrefixOfAnOfferIsRefused(t *testing.T) {
	for name, s := range map[string]SA{"phase 1": phaseOne(), "phase 2": phaseTwo(), "both": both()} {
		b := s.Append(nil)
		for n := range len(b) {
			if _, err := ParseSA(b[:n]); err == nil {
				t.Errorf("%s: the first %d of %d bytes are accepted", name, n, len(b))
			}
		}
		if _, err := ParseSA(append(b[:len(b):len(b)], 0)); err == nil {
			t.Errorf("%s: one byte too many is accepted", name)
		}
		if _, err := ParseSA(append(b[:len(b):len(b)], b...)); err == nil {
			t.Errorf("%s: the offer twice is accepted", name)
		}
		if _, err := ParseSA(append(b[:len(b):len(b)], b[8:]...)); err == nil {
			t.Errorf("%s: proposals that nothing announces are accepted", name)
		}
	}
}

// Each change of one byte of structure (not of a value) must be noticed.
func TestWrongStructureBytesOfAnOfferAreRefused(t *testing.T) {
	b := both().Append(nil)
	structure := []int{
		8, 9, 10, 11, 14, 15, // first proposal: next, reserved, length, SPI size, transforms
		20, 21, 22, 23, 26, 27, // its first transform: next, reserved, length, reserved
		44, 45, 46, 47, 50, 51, // its second transform
		68, 69, 70, 71, 74, 75, // second proposal
	}
	for _, at := range structure {
		for _, flip := range []byte{1, 2, 4, 0x80} {
			c := bytes.Clone(b)
			c[at] ^= flip
			if s, err := ParseSA(c); err == nil {
				t.Errorf("byte %d changed from %#02x to %#02x is accepted: %+v", at, b[at], c[at], s)
			}
		}
	}
}

func TestMalformedOffersAreRefused(t *testing.T) {
	const head = "00000001 00000001 "
	for _, c := range []struct{ what, body, want string }{
		{"nothing", "", "sa: doi: 4 bytes wanted, 0 left"},
		{"half a doi", "0000", "sa: doi: 4 bytes wanted, 2 left"},
		{"no situation", "00000001", "sa: situation: 4 bytes wanted, 0 left"},
		{"the generic doi", "00000000 00000001", "sa: doi: 0, only 1 (ipsec) is known"},
		{"another doi", "00000002 00000001", "sa: doi: 2, only 1 (ipsec) is known"},
		{"secrecy", "00000001 00000003", "sa: situation: 0x3, only 1 (identity only) is known"},
		{"no proposal", head, "sa: proposal 1: next payload: 1 bytes wanted, 0 left"},
		{"proposal header cut", head + "0000", "sa: proposal 1: length: 2 bytes wanted, 0 left"},
		{"proposal of length 2", head + "00000002", "sa: proposal 1: length: 2, less than the 4 bytes of its own header"},
		{"proposal past the end", head + "0000000c 01030001", "sa: proposal 1: body: 8 bytes wanted, 4 left"},
		{"proposal followed by a nonce", head + "0a000010 01010001 00000008 01010000", "sa: proposal 1: next payload: 10, only 2 or 0 may follow"},
		{"proposal followed by a transform", head + "03000010 01010001 00000008 01010000", "sa: proposal 1: next payload: 3, only 2 or 0 may follow"},
		{"reserved byte of a proposal", head + "00ff0010 01010001 00000008 01010000", "sa: proposal 1: reserved byte: 0xff, must be zero"},
		{"empty proposal", head + "00000004", "sa: proposal 1: number: 1 bytes wanted, 0 left"},
		{"no protocol", head + "00000005 01", "sa: proposal 1: protocol: 1 bytes wanted, 0 left"},
		{"no spi size", head + "00000006 0103", "sa: proposal 1: spi size: 1 bytes wanted, 0 left"},
		{"no count", head + "00000007 010304", "sa: proposal 1: number of transforms: 1 bytes wanted, 0 left"},
		{"spi cut", head + "0000000a 01030401 c515", "sa: proposal 1: spi: 4 bytes wanted, 2 left"},
		{"no transforms", head + "00000008 01030000", "sa: proposal 1: number of transforms: 0, must be 1 to 64"},
		{"65 transforms", head + "00000008 01030041", "sa: proposal 1: number of transforms: 65, must be 1 to 64"},
		{"transform missing", head + "00000008 01030001", "sa: proposal 1: transform 1: next payload: 1 bytes wanted, 0 left"},
		{"one announced, two found", head + "00000018 01010001 03000008 01010000 00000008 02010000", "sa: proposal 1: more than the 1 transforms announced"},
		{"two announced, one found", head + "00000010 01010002 00000008 01010000", "sa: proposal 1: number of transforms: 2 announced, 1 found"},
		{"transform followed by a proposal", head + "00000010 01010001 02000008 01010000", "sa: proposal 1: transform 1: next payload: 2, only 3 or 0 may follow"},
		{"reserved byte of a transform", head + "00000010 01010001 00010008 01010000", "sa: proposal 1: transform 1: reserved byte: 0x01, must be zero"},
		{"reserved bytes in a transform", head + "00000010 01010001 00000008 01010001", "sa: proposal 1: transform 1: reserved bytes: 0x01, must be zero"},
		{"short transform", head + "0000000e 01010001 00000006 0101", "sa: proposal 1: transform 1: reserved bytes: 2 bytes wanted, 0 left"},
		{"transform past the end", head + "00000010 01010001 00000009 01010000", "sa: proposal 1: transform 1: body: 5 bytes wanted, 4 left"},
		{"bytes behind the transform", head + "00000011 01010001 00000008 01010000 ee", "sa: proposal 1: end: 1 bytes too many"},
		{"attribute type cut", head + "00000011 01010001 00000009 01010000 80", "sa: proposal 1: transform 1: attribute 1: type: 2 bytes wanted, 1 left"},
		{"short attribute cut", head + "00000013 01010001 0000000b 01010000 800100", "sa: proposal 1: transform 1: attribute 1: value: 2 bytes wanted, 1 left"},
		{"attribute length cut", head + "00000013 01010001 0000000b 01010000 000100", "sa: proposal 1: transform 1: attribute 1: length: 2 bytes wanted, 1 left"},
		{"long attribute cut", head + "0000001a 01010001 00000012 01010000 80010001 00020004 0000", "sa: proposal 1: transform 1: attribute 2: value: 4 bytes wanted, 2 left"},
		{"long attribute far past the end", head + "00000014 01010001 0000000c 01010000 0001ffff", "sa: proposal 1: transform 1: attribute 1: value: 65535 bytes wanted, 0 left"},
		{"second transform wrong", head + "00000018 01010002 03000008 01010000 00000008 02010100", "sa: proposal 1: transform 2: reserved bytes: 0x01, must be zero"},
		{"second proposal missing", head + "02000010 01010001 00000008 01010000", "sa: proposal 2: next payload: 1 bytes wanted, 0 left"},
		{"bytes behind the proposals", head + "00000010 01010001 00000008 01010000 00000004", "sa: end: 4 bytes too many"},
	} {
		s, err := ParseSA(unhex(t, c.body))
		refused(t, c.what, err, c.want)
		if s.Proposals != nil {
			t.Errorf("%s: a refused offer has proposals", c.what)
		}
	}
}

func TestSizeOfAnOfferIsBounded(t *testing.T) {
	attributes := func(n int) []Attribute {
		as := make([]Attribute, n)
		for i := range as {
			as[i] = Short(uint16(i), 1)
		}
		return as
	}
	offer := func(proposals, transforms, attrs int) SA {
		p := Proposal{Number: 1, Protocol: ProtoESP, SPI: []byte{1, 2, 3, 4}}
		for i := range transforms {
			p.Transforms = append(p.Transforms, Transform{Number: byte(i), ID: 129, Attributes: attributes(attrs)})
		}
		s := SA{DOI: 1, Situation: 1}
		for range proposals {
			s.Proposals = append(s.Proposals, p)
		}
		return s
	}
	largest := offer(maxProposals, maxTransforms, 2)
	if got, err := ParseSA(largest.Append(nil)); err != nil || !reflect.DeepEqual(got, largest) {
		t.Errorf("the largest offer: %v", err)
	}
	if _, err := ParseSA(offer(1, 1, maxAttributes).Append(nil)); err != nil {
		t.Errorf("the most attributes: %v", err)
	}
	_, err := ParseSA(offer(maxProposals+1, 1, 1).Append(nil))
	refused(t, "33 proposals", err, "sa: more than 32 proposals")
	_, err = ParseSA(offer(1, maxTransforms+1, 1).Append(nil))
	refused(t, "65 transforms", err, "sa: proposal 1: number of transforms: 65, must be 1 to 64")
	_, err = ParseSA(offer(1, 1, maxAttributes+1).Append(nil))
	refused(t, "33 attributes", err, "sa: proposal 1: transform 1: more than 32 attributes")
}

func TestOffersMadeAtRandomComeBack(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	for range 1000 {
		s := SA{DOI: 1, Situation: 1}
		for range 1 + r.Intn(4) {
			p := Proposal{Number: byte(r.Intn(256)), Protocol: Protocol(r.Intn(256)), SPI: some(r, 0, 255)}
			for range 1 + r.Intn(5) {
				p.Transforms = append(p.Transforms, randomTransform(r))
			}
			s.Proposals = append(s.Proposals, p)
		}
		b := s.Append(nil)
		got, err := ParseSA(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Fatalf("\n got %+v\nwant %+v", got, s)
		}
	}
}

func randomTransform(r *rand.Rand) Transform {
	tr := Transform{Number: byte(r.Intn(256)), ID: byte(r.Intn(256))}
	for range r.Intn(6) {
		a := Attribute{Type: uint16(r.Intn(0x8000)), TLV: r.Intn(2) == 0, Value: some(r, 0, 40)}
		if !a.TLV {
			a.Value = some(r, 2, 2)
		}
		tr.Attributes = append(tr.Attributes, a)
	}
	return tr
}

func TestAttributeFormsOnTheWire(t *testing.T) {
	for _, c := range []struct {
		what string
		a    Attribute
		want string
	}{
		{"short", Short(3, 10), "8003000a"},
		{"short, largest", Short(0x7fff, 0xffff), "ffffffff"},
		{"short, top bit given", Short(0x8001, 2), "80010002"},
		{"long", Long(2, 550000), "0002000400086470"},
		{"long, top bit given", Long(0x8002, 1), "0002000400000001"},
		{"long of no bytes", Attribute{Type: 9, TLV: true}, "00090000"},
		{"long of three bytes", Attribute{Type: 9, TLV: true, Value: []byte{1, 2, 3}}, "00090003010203"},
		{"short of one byte", Attribute{Type: 9, Value: []byte{1}}, "80090100"},
		{"short of three bytes", Attribute{Type: 9, Value: []byte{1, 2, 3}}, "80090102"},
	} {
		if got := AppendAttributes(nil, []Attribute{c.a}); !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("%s: %x, want %s", c.what, got, c.want)
		}
	}
}

func TestAttributesThatStandAlone(t *testing.T) {
	b := unhex(t, "80010001 00020004 00000e10")
	as, err := ParseAttributes(b)
	if err != nil || !reflect.DeepEqual(as, []Attribute{Short(1, 1), Long(2, 3600)}) {
		t.Errorf("%+v, %v", as, err)
	}
	if got := AppendAttributes(nil, as); !bytes.Equal(got, b) {
		t.Errorf("written back as %x", got)
	}
	as, err = ParseAttributes(nil)
	if as != nil || err != nil {
		t.Errorf("no attributes: %+v, %v", as, err)
	}
	for n := range len(b) {
		if n == 0 || n == 4 {
			continue // whole attributes
		}
		if as, err := ParseAttributes(b[:n]); err == nil || as != nil {
			t.Errorf("the first %d bytes are accepted", n)
		}
	}
	_, err = ParseAttributes(b[:11])
	refused(t, "cut", err, "attribute 2: value: 4 bytes wanted, 3 left")
}

func TestAttributeValuesAsNumbers(t *testing.T) {
	for _, c := range []struct {
		a    Attribute
		want uint64
		ok   bool
	}{
		{Short(1, 0), 0, true},
		{Short(1, 0xfffe), 0xfffe, true},
		{Long(1, 0xfffffffe), 0xfffffffe, true},
		{Attribute{TLV: true, Value: []byte{5}}, 5, true},
		{Attribute{TLV: true, Value: []byte{1, 0, 0}}, 65536, true},
		{Attribute{TLV: true, Value: []byte{1, 2, 3, 4, 5, 6, 7, 8}}, 0x0102030405060708, true},
		{Attribute{TLV: true, Value: bytes.Repeat([]byte{255}, 8)}, 1<<64 - 1, true},
		{Attribute{TLV: true, Value: make([]byte, 9)}, 0, false},
		{Attribute{TLV: true}, 0, false},
	} {
		if v, ok := c.a.Uint(); v != c.want || ok != c.ok {
			t.Errorf("%x: %d %v, want %d %v", c.a.Value, v, ok, c.want, c.ok)
		}
	}
}
