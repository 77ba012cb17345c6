package doctor

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ParseCrypto reads /proc/crypto: the names of all algorithms.
func ParseCrypto(text string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "name" {
			out[strings.TrimSpace(value)] = true
		}
	}
	return out
}

// ParseKernelConfig reads the configuration of a kernel: what is y or m.
func ParseKernelConfig(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if name, is := strings.CutPrefix(key, "CONFIG_"); ok && is && (value == "y" || value == "m") {
			out[name] = value
		}
	}
	return out
}

// boundSocket is a line of /proc/net/udp.
type boundSocket struct {
	Socket
	Inode string
}

// ParseSockets reads /proc/net/udp or udp6; lines of another form are skipped.
func ParseSockets(text string) []boundSocket {
	var out []boundSocket
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		host, port, ok := strings.Cut(f[1], ":")
		n, err := strconv.ParseUint(port, 16, 16)
		addr, valid := hexAddr(host)
		if ok && err == nil && valid {
			out = append(out, boundSocket{Socket{Port: uint16(n), Addr: addr}, f[9]})
		}
	}
	return out
}

// hexAddr reads an address as the kernel prints it: words of 32 bits, each in the
// order of this (little-endian) host.
func hexAddr(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b)%4 != 0 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	return netip.AddrFromSlice(b)
}
