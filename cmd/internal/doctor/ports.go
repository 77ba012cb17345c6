package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// protocolWords are how rules write a protocol.
func protocolWords(p uint8) []string {
	words := []string{strconv.Itoa(int(p))}
	switch p {
	case 1:
		words = append(words, "icmp")
	case 6:
		words = append(words, "tcp")
	case 17:
		words = append(words, "udp")
	case 50:
		words = append(words, "esp")
	case 58:
		words = append(words, "icmpv6", "ipv6-icmp")
	}
	return words
}

// matchPort judges a port, and with it the protocol that the port is one of.
func (f flow) matchPort(proto, field string, m Match) sure {
	port := f.sport
	if field == "dport" {
		port = f.dport
	}
	switch {
	case f.protocol != 0 && proto != "th" && !slices.Contains(protocolWords(f.protocol), proto):
		return no
	case f.fragment:
		return no // the ports are in the first fragment
	case f.protocol == 50:
		return no
	case f.protocol == 0 || port == 0:
		return perhaps
	}
	hit := false
	for _, v := range m.Values {
		first, last, err := portRange(v)
		if err != nil {
			return perhaps
		}
		hit = hit || first <= port && port <= last
	}
	if hit != m.Not {
		return yes
	}
	return no
}

func portRange(s string) (first, last uint16, err error) {
	a, b, two := strings.Cut(s, "-")
	if !two {
		b = a
	}
	x, errX := strconv.ParseUint(a, 10, 16)
	y, errY := strconv.ParseUint(b, 10, 16)
	if errX != nil || errY != nil {
		return 0, 0, fmt.Errorf("%q is no port", s)
	}
	return uint16(x), uint16(y), nil
}
