package peersheet

import (
	"strings"

	"golang.org/x/text/width"
)

// columns is how many columns a terminal gives s: Chinese characters take two.
func columns(s string) (n int) {
	for _, r := range s {
		switch width.LookupRune(r).Kind() {
		case width.EastAsianWide, width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}

// padded is s with spaces behind it to fill n columns.
func padded(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-columns(s)))
}
