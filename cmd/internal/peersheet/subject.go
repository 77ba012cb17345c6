package peersheet

import (
	"encoding/asn1"
	"fmt"
	"os"
	"strings"

	"yumen/policy/trust"
)

// A name that looks the same may be written in other string types, and boxes that
// compare names byte by byte then see another one.

// nameSET is one step of a name (X.501 9.2); asn1 knows a SET by the end of its name.
type nameSET []struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// stringTypes tells, attribute by attribute, of what type the strings of a
// certificate's subject are; nothing of a file that no gateway would take, of which
// others say what is wrong.
func stringTypes(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	c, err := trust.ParseCertificatePEM(b)
	if err != nil {
		return ""
	}
	var steps []nameSET
	if _, err := asn1.Unmarshal(c.Subject, &steps); err != nil {
		return ""
	}
	var out []string
	for _, step := range steps {
		for _, a := range step {
			out = append(out, attribute(a.Type)+" "+stringType(a.Value.Tag))
		}
	}
	return strings.Join(out, ", ")
}

func attribute(id asn1.ObjectIdentifier) string {
	words := map[string]string{"2.5.4.3": "CN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O",
		"2.5.4.11": "OU", "0.9.2342.19200300.100.1.25": "DC", "1.2.840.113549.1.9.1": "emailAddress"}
	if word, ok := words[id.String()]; ok {
		return word
	}
	return id.String()
}

func stringType(tag int) string {
	words := map[int]string{asn1.TagUTF8String: "UTF8String", asn1.TagPrintableString: "PrintableString", asn1.TagIA5String: "IA5String",
		asn1.TagT61String: "TeletexString", asn1.TagBMPString: "BMPString"}
	if word, ok := words[tag]; ok {
		return word
	}
	return fmt.Sprintf("type %d", tag)
}
