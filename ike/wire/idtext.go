package wire

import (
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// String renders the data: an address, a prefix (a mask that is none stays a
// mask), a range, a quoted name, a distinguished name in the order of its
// encoding, or hexadecimal digits.
func (i ID) String() string {
	if n, fixed := idLen(i.Type); fixed && len(i.Data) != n {
		return hexText(i.Data)
	}
	switch i.Type {
	case IDIPv4, IDIPv6:
		return addrText(i.Data)
	case IDIPv4Subnet, IDIPv6Subnet:
		return subnetText(i.Data)
	case IDIPv4Range, IDIPv6Range:
		half := len(i.Data) / 2
		return addrText(i.Data[:half]) + "-" + addrText(i.Data[half:])
	case IDFQDN, IDUserFQDN:
		return fmt.Sprintf("%q", i.Data)
	case IDDN:
		if s, ok := dnText(i.Data); ok {
			return s
		}
	}
	return hexText(i.Data)
}

func addrText(b []byte) string {
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}

func subnetText(b []byte) string {
	half := len(b) / 2
	addr, mask := b[:half], b[half:]
	ones, ended := 0, false
	for off := 0; off < half; off += 4 {
		w := binary.BigEndian.Uint32(mask[off:])
		n := bits.LeadingZeros32(^w)
		if bits.OnesCount32(w) != n || ended && n > 0 {
			return addrText(addr) + " mask " + addrText(mask)
		}
		ones += n
		ended = n < 32
	}
	return fmt.Sprintf("%s/%d", addrText(addr), ones)
}

// nameSET is one relative distinguished name; encoding/asn1 reads a slice type
// whose name ends in SET as a SET OF.
type nameSET []struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

func dnText(der []byte) (string, bool) {
	var name []nameSET
	if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 || len(name) == 0 {
		return "", false
	}
	var parts []string
	for _, rdn := range name {
		var pairs []string
		for _, a := range rdn {
			pairs = append(pairs, attributeKey(a.Type)+"="+attributeText(a.Value))
		}
		parts = append(parts, strings.Join(pairs, "+"))
	}
	return strings.Join(parts, ", "), true
}

func attributeKey(oid asn1.ObjectIdentifier) string {
	s := oid.String()
	name := map[string]string{
		"2.5.4.3": "CN", "2.5.4.5": "SERIALNUMBER", "2.5.4.6": "C", "2.5.4.7": "L",
		"2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU",
		"0.9.2342.19200300.100.1.25": "DC", "1.2.840.113549.1.9.1": "EMAIL",
	}[s]
	if name == "" {
		return s
	}
	return name
}

// attributeText quotes what could be taken for structure or break a terminal.
func attributeText(v asn1.RawValue) string {
	var s string
	if _, err := asn1.Unmarshal(v.FullBytes, &s); err != nil {
		return "#" + hex.EncodeToString(v.FullBytes)
	}
	if q := fmt.Sprintf("%q", s); strings.ContainsAny(s, ",+=") || len(q) != len(s)+2 {
		return q
	}
	return s
}

// shownBytes is how much of opaque data the text form shows.
const shownBytes = 32

// hexText is b in hexadecimal digits; a long one is cut and its length stated.
func hexText(b []byte) string {
	if len(b) <= shownBytes {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%s... (%d bytes)", hex.EncodeToString(b[:shownBytes]), len(b))
}
