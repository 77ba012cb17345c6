package trust

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxName bounds a DER Name; real ones have some hundred bytes.
const maxName = 8 << 10

// attribute is one AttributeTypeAndValue with its value as code points.
type attribute struct {
	oid   asn1.ObjectIdentifier
	value string // UTF-8
	raw   []byte // DER of the value
}

// EqualNames compares two DER Names (RFC 5280 4.1.2.4) the way a gateway must:
// the peer's ID may carry PrintableString where its certificate has UTF8String.
// The same number and order of RDNs, in each the same attributes, each value
// decoded to code points and compared exactly, without folding or trimming.
// A name that does not parse equals nothing, not even itself.
func EqualNames(a, b []byte) bool {
	x, err := parseRDNs(a)
	if err != nil {
		return false
	}
	y, err := parseRDNs(b)
	return err == nil && x.equal(y)
}

// name is a Name, parsed; empty: none. What is compared at each negotiation is kept
// so: reading takes a hundred times as long as comparing.
type name [][]attribute

// equal compares as EqualNames does. An empty name equals nothing.
func (n name) equal(other name) bool {
	return len(n) > 0 && slices.EqualFunc(n, other, func(x, y []attribute) bool {
		return slices.EqualFunc(x, y, func(p, q attribute) bool { return p.value == q.value && p.oid.Equal(q.oid) })
	})
}

// parseRDNs reads a DER Name strictly: at least one RDN, none empty, string
// values only. The attributes of each RDN come sorted, because a SET OF has no
// order of its own and DER's order depends on the string type.
func parseRDNs(der []byte) (name, error) {
	if len(der) > maxName {
		return nil, fmt.Errorf("name of %d bytes is longer than %d", len(der), maxName)
	}
	list, err := oneElement(der, asn1.TagSequence)
	if err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	var rdns name
	for len(list) > 0 {
		var set asn1.RawValue
		if list, err = asn1.Unmarshal(list, &set); err != nil {
			return nil, fmt.Errorf("name: rdn %d: %w", len(rdns), err)
		}
		rdn, err := parseRDN(set.FullBytes)
		if err != nil {
			return nil, fmt.Errorf("name: rdn %d: %w", len(rdns), err)
		}
		rdns = append(rdns, rdn)
	}
	if len(rdns) == 0 {
		return nil, errors.New("name is empty")
	}
	return rdns, nil
}

func parseRDN(der []byte) ([]attribute, error) {
	list, err := oneElement(der, asn1.TagSet)
	if err != nil {
		return nil, err
	}
	var rdn []attribute
	for len(list) > 0 {
		var seq asn1.RawValue
		if list, err = asn1.Unmarshal(list, &seq); err != nil {
			return nil, err
		}
		a, err := parseAttribute(seq.FullBytes)
		if err != nil {
			return nil, err
		}
		rdn = append(rdn, a)
	}
	if len(rdn) == 0 {
		return nil, errors.New("rdn is empty")
	}
	slices.SortFunc(rdn, func(p, q attribute) int {
		if c := slices.Compare(p.oid, q.oid); c != 0 {
			return c
		}
		return strings.Compare(p.value, q.value)
	})
	return rdn, nil
}

func parseAttribute(der []byte) (attribute, error) {
	var a attribute
	body, err := oneElement(der, asn1.TagSequence)
	if err != nil {
		return a, err
	}
	rest, err := asn1.Unmarshal(body, &a.oid)
	if err != nil {
		return a, err
	}
	var v asn1.RawValue
	if rest, err = asn1.Unmarshal(rest, &v); err != nil {
		return a, fmt.Errorf("attribute %v: %w", a.oid, err)
	}
	if len(rest) != 0 {
		return a, fmt.Errorf("attribute %v: trailing bytes", a.oid)
	}
	a.raw = v.FullBytes
	if a.value, err = decodeString(v); err != nil {
		return a, fmt.Errorf("attribute %v: %w", a.oid, err)
	}
	return a, nil
}

// oneElement returns the contents of the single constructed element of der.
func oneElement(der []byte, tag int) ([]byte, error) {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	switch {
	case err != nil:
		return nil, err
	case len(rest) != 0:
		return nil, errors.New("trailing bytes")
	case v.Class != asn1.ClassUniversal || v.Tag != tag || !v.IsCompound:
		return nil, fmt.Errorf("found tag %d of class %d instead of tag %d", v.Tag, v.Class, tag)
	}
	return v.Bytes, nil
}

// decodeString gives the code points of a string value as UTF-8. NUL and any
// invalid coding are refused: both have been used to make two readers of one
// name disagree.
func decodeString(v asn1.RawValue) (string, error) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return "", errors.New("value is not a string")
	}
	var s string
	var err error
	switch v.Tag {
	case asn1.TagUTF8String:
		if s = string(v.Bytes); !utf8.ValidString(s) {
			err = errors.New("invalid UTF8String")
		}
	case asn1.TagPrintableString:
		s, err = decodeASCII(v.Bytes, isPrintable)
	case asn1.TagIA5String:
		s, err = decodeASCII(v.Bytes, func(b byte) bool { return b < 0x80 })
	case asn1.TagNumericString:
		s, err = decodeASCII(v.Bytes, func(b byte) bool { return b == ' ' || b >= '0' && b <= '9' })
	case asn1.TagT61String:
		s = decodeLatin1(v.Bytes)
	case asn1.TagBMPString:
		s, err = decodeBMP(v.Bytes)
	default:
		err = fmt.Errorf("value has string type %d, which is not supported", v.Tag)
	}
	if err != nil {
		return "", err
	}
	if strings.IndexByte(s, 0) >= 0 {
		return "", errors.New("value holds a NUL")
	}
	return s, nil
}

func decodeASCII(b []byte, ok func(byte) bool) (string, error) {
	for _, c := range b {
		if !ok(c) {
			return "", fmt.Errorf("byte 0x%02x is not allowed in this string type", c)
		}
	}
	return string(b), nil
}

// isPrintable is the set of PrintableString (X.680) with '*' and '&', which
// certificates in use carry and every common reader accepts.
func isPrintable(b byte) bool {
	switch {
	case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9':
		return true
	}
	return bytes.IndexByte([]byte(" '()+,-./:=?*&"), b) >= 0
}

// decodeLatin1 reads T61String as ISO 8859-1, as the whole field does.
func decodeLatin1(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

func decodeBMP(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", errors.New("BMPString of odd length")
	}
	var s strings.Builder
	for i := 0; i < len(b); i += 2 {
		r := rune(b[i])<<8 | rune(b[i+1])
		if r >= 0xd800 && r <= 0xdfff || r >= 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
			return "", fmt.Errorf("code unit 0x%04x is not allowed in a BMPString", r)
		}
		s.WriteRune(r)
	}
	return s.String(), nil
}
