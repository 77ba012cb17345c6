package trust

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// keyword is an attribute type with its name in text. The first name of an OID
// is the one that is written.
type keyword struct {
	name string
	oid  asn1.ObjectIdentifier
	tag  int // string type that is written
}

// keywords is the table of RFC 4514 section 3 with the names that tools of the
// field print as well. It is a function so that nothing can change it.
func keywords() []keyword {
	x520 := func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 4, n} }
	pilot := func(n int) asn1.ObjectIdentifier {
		return asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, n}
	}
	email := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	return []keyword{
		{"CN", x520(3), asn1.TagUTF8String},
		{"O", x520(10), asn1.TagUTF8String},
		{"OU", x520(11), asn1.TagUTF8String},
		{"C", x520(6), asn1.TagPrintableString},
		{"ST", x520(8), asn1.TagUTF8String},
		{"S", x520(8), asn1.TagUTF8String},
		{"L", x520(7), asn1.TagUTF8String},
		{"STREET", x520(9), asn1.TagUTF8String},
		{"SERIALNUMBER", x520(5), asn1.TagPrintableString},
		{"SN", x520(4), asn1.TagUTF8String},
		{"GN", x520(42), asn1.TagUTF8String},
		{"T", x520(12), asn1.TagUTF8String},
		{"TITLE", x520(12), asn1.TagUTF8String},
		{"DC", pilot(25), asn1.TagIA5String},
		{"UID", pilot(1), asn1.TagUTF8String},
		{"emailAddress", email, asn1.TagIA5String},
		{"E", email, asn1.TagIA5String},
	}
}

// ParseName reads a distinguished name in the text form of RFC 4514, the most
// specific RDN first ("CN=gw-a,O=Example,C=CN"), and returns its DER, where the
// order is reversed. Spaces around ',', '+' and '=' are ignored unless escaped.
// C and SERIALNUMBER become PrintableString, DC and emailAddress IA5String, all
// others UTF8String.
func ParseName(text string) ([]byte, error) {
	if !utf8.ValidString(text) || len(text) > maxName {
		return nil, errors.New("name is not valid UTF-8 or too long")
	}
	r := reader{s: text}
	var rdns [][]byte
	for {
		rdn, more, err := r.rdn()
		if err != nil {
			return nil, fmt.Errorf("name %q: %w", text, err)
		}
		rdns = append(rdns, rdn)
		if !more {
			break
		}
	}
	slices.Reverse(rdns)
	der := element(asn1.TagSequence, slices.Concat(rdns...))
	if _, err := parseRDNs(der); err != nil {
		return nil, fmt.Errorf("name %q: %w", text, err)
	}
	return der, nil
}

// FormatName writes a DER Name as RFC 4514 text that ParseName reads back to an
// equal name. What a terminal would not print is escaped.
func FormatName(der []byte) (string, error) {
	rdns, err := parseRDNs(der)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for i := len(rdns) - 1; i >= 0; i-- {
		for j, a := range rdns[i] {
			if j > 0 {
				out.WriteByte('+')
			}
			out.WriteString(formatAttribute(a))
		}
		if i > 0 {
			out.WriteByte(',')
		}
	}
	return out.String(), nil
}

func formatAttribute(a attribute) string {
	all := keywords()
	i := slices.IndexFunc(all, func(k keyword) bool { return k.oid.Equal(a.oid) })
	if i < 0 {
		return a.oid.String() + "=#" + hex.EncodeToString(a.raw)
	}
	if _, err := encodeString(all[i].tag, a.value); err != nil {
		// The value would not survive the string type that ParseName chooses.
		return all[i].name + "=#" + hex.EncodeToString(a.raw)
	}
	return all[i].name + "=" + escape(a.value)
}

func escape(s string) string {
	var out strings.Builder
	for i, r := range s {
		last := i+utf8.RuneLen(r) == len(s)
		switch {
		case strings.ContainsRune(`"+,;<>\=`, r), r == '#' && i == 0, r == ' ' && (i == 0 || last):
			out.WriteByte('\\')
			out.WriteRune(r)
		case !unicode.IsPrint(r):
			for _, b := range []byte(string(r)) {
				fmt.Fprintf(&out, `\%02x`, b)
			}
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// reader walks over the text of a name.
type reader struct {
	s string
	i int
}

// rdn reads one RDN and the comma after it; more says that there was one.
func (r *reader) rdn() (der []byte, more bool, err error) {
	var set [][]byte
	for {
		a, err := r.attribute()
		if err != nil {
			return nil, false, err
		}
		set = append(set, a)
		if r.i == len(r.s) || r.s[r.i] == ',' {
			break
		}
		r.i++ // '+', the only other end of a value
	}
	more = r.i < len(r.s)
	r.i++
	slices.SortFunc(set, slices.Compare) // DER: a SET OF is sorted
	return element(asn1.TagSet, slices.Concat(set...)), more, nil
}

func (r *reader) attribute() ([]byte, error) {
	eq := strings.IndexByte(r.s[r.i:], '=')
	if eq < 0 {
		return nil, fmt.Errorf("no '=' after position %d", r.i)
	}
	word := strings.Trim(r.s[r.i:r.i+eq], " ")
	r.i += eq + 1
	oid, tag, err := attributeType(word)
	if err != nil {
		return nil, err
	}
	value, isHex, err := r.value()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", word, err)
	}
	if !isHex {
		if value, err = encodeString(tag, string(value)); err != nil {
			return nil, fmt.Errorf("%s: %w", word, err)
		}
	}
	name, err := asn1.Marshal(oid)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", word, err)
	}
	return element(asn1.TagSequence, slices.Concat(name, value)), nil
}

func attributeType(word string) (asn1.ObjectIdentifier, int, error) {
	for _, k := range keywords() {
		if strings.EqualFold(k.name, word) {
			return k.oid, k.tag, nil
		}
	}
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(word, ".") {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil || len(arc) > 1 && arc[0] == '0' {
			return nil, 0, fmt.Errorf("attribute type %q is not known: use a keyword such as CN, O, OU, C or a dotted OID", word)
		}
		oid = append(oid, int(n))
	}
	return oid, asn1.TagUTF8String, nil
}

// value reads up to an unescaped ',' or '+'. A value that starts with '#' is
// the DER in hexadecimal.
func (r *reader) value() (value []byte, isHex bool, err error) {
	for r.i < len(r.s) && r.s[r.i] == ' ' {
		r.i++
	}
	if r.i < len(r.s) && r.s[r.i] == '#' {
		value, err := r.hexValue()
		return value, true, err
	}
	keep := 0 // bytes of value that trailing spaces may not take away
	for ; r.i < len(r.s) && r.s[r.i] != ',' && r.s[r.i] != '+'; r.i++ {
		c := r.s[r.i]
		switch {
		case c == '\\':
			if c, err = r.escaped(); err != nil {
				return nil, false, err
			}
			value = append(value, c)
			keep = len(value)
			continue
		case strings.IndexByte(`";<>`, c) >= 0:
			return nil, false, fmt.Errorf("%q must be escaped with a backslash", c)
		}
		value = append(value, c)
		if c != ' ' {
			keep = len(value)
		}
	}
	if keep == 0 {
		return nil, false, errors.New("value is empty")
	}
	return value[:keep], false, nil
}

// escaped reads what follows a backslash and leaves i on its last byte.
func (r *reader) escaped() (byte, error) {
	rest := r.s[r.i+1:]
	if len(rest) >= 2 {
		if b, err := hex.DecodeString(rest[:2]); err == nil {
			r.i += 2
			return b[0], nil
		}
	}
	if rest == "" || strings.IndexByte(` "#+,;<=>\`, rest[0]) < 0 {
		return 0, errors.New("backslash before neither two hex digits nor a special character")
	}
	r.i++
	return rest[0], nil
}

func (r *reader) hexValue() ([]byte, error) {
	text := r.s[r.i+1:]
	if end := strings.IndexAny(text, ",+"); end >= 0 {
		text = text[:end]
	}
	r.i += 1 + len(text)
	der, err := hex.DecodeString(strings.TrimRight(text, " "))
	if err != nil || len(der) == 0 {
		return nil, errors.New("value after '#' is not hexadecimal")
	}
	return der, nil
}

// encodeString gives the DER of a string value in the wanted type.
func encodeString(tag int, s string) ([]byte, error) {
	v := asn1.RawValue{Tag: tag, Bytes: []byte(s)}
	if s == "" {
		return nil, errors.New("value is empty")
	}
	if _, err := decodeString(v); err != nil {
		return nil, err
	}
	return element(tag, v.Bytes), nil
}

// element encodes one universal element, constructed for SEQUENCE and SET.
func element(tag int, body []byte) []byte {
	der := []byte{byte(tag)}
	if tag == asn1.TagSequence || tag == asn1.TagSet {
		der[0] |= 0x20
	}
	switch n := len(body); {
	case n < 0x80:
		der = append(der, byte(n))
	case n < 0x100:
		der = append(der, 0x81, byte(n))
	default: // names and their parts stay far below 64 KiB
		der = append(der, 0x82, byte(n>>8), byte(n))
	}
	return append(der, body...)
}
