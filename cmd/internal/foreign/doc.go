// Package foreign speaks the command lines of other makers' gateways, both ways:
// Commands writes what the engineer at the far end pastes there, Import reads what
// such a box prints of its configuration and drafts our policy from it.
//
// It knows those boxes from their public manuals only. Where a manual leaves
// something open the answer says so; nothing is guessed in silence. It opens no
// file and no connection, and shows no secret that a dump holds.
package foreign

import (
	"fmt"
	"strings"
)

// Vendor is a maker whose command line this package knows.
type Vendor uint8

const (
	H3C       Vendor = iota // Comware 7
	Huawei                  // VRP: USG and AR
	Hillstone               // StoneOS; written, not read
)

func (v Vendor) String() string {
	switch v {
	case H3C:
		return "h3c"
	case Huawei:
		return "huawei"
	case Hillstone:
		return "hillstone"
	}
	return fmt.Sprintf("vendor(%d)", uint8(v))
}

// ParseVendor reads the word of a vendor.
func ParseVendor(word string) (Vendor, error) {
	for _, v := range []Vendor{H3C, Huawei, Hillstone} {
		if v.String() == strings.ToLower(word) {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%q is no vendor known here; write h3c, huawei or hillstone", word)
}
