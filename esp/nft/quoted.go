// Package nft is what both data planes leave to nftables, since XFRM policies cannot say
// it; and how they tell the program nft. It refuses to know policies and tunnels.
//
// # Quoted packets
//
// A router behind a gateway answers a packet that came out of a tunnel by an ICMP error,
// which quotes it: with what was protected on its way. The router's address may be in no
// selector, so that no policy keeps the error from the default route. So errors are
// judged by the packet that they quote: where that may not pass in clear, neither may the
// error. (RFC 4301 6.2 has errors go by the SA of what they quote.)
package nft

import (
	"fmt"
	"net/netip"
	"strings"
)

// Judged is one line of a guard, for packets on their way to the protected side, as those
// that errors quote are.
type Judged struct {
	Src, Dst         netip.Prefix
	Protocol         uint8
	SrcPort, DstPort uint16
	Allow            bool
}

// errors of ICMP and of ICMPv6 that quote a packet.
const (
	errors4 = "icmp type { 3, 4, 5, 11, 12 }"
	errors6 = "icmpv6 type { 1, 2, 3, 4 }"
)

// Jump is the part of a base chain that has a chain of Quoted judge ICMP errors.
func Jump(chain string) string {
	return fmt.Sprintf("\t\t%s jump %s\n\t\t%s jump %s\n", errors4, chain, errors6, chain)
}

// Quoted is a chain that judges ICMP errors by what they quote: block is what becomes of
// those about packets that may not pass. Lines stand in order of precedence, the first
// match decides.
func Quoted(chain string, list []Judged, block string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tchain %s {\n", chain)
	for _, j := range list {
		verdict := block
		if j.Allow {
			verdict = "return"
		}
		fmt.Fprintf(&b, "\t\t%s %s\n", match(j), verdict)
	}
	b.WriteString("\t}\n")
	return b.String()
}

// In bits: where the quoted packet begins, behind the header of ICMP, and what stands
// where in it (RFC 791 3.1, RFC 8200 3).
const quoteAt = 64

type shape struct {
	family                    string
	protocol, src, dst, width int
	ports                     int
	plain                     string // of no options, behind which ports stand at their place
}

func shapeOf(v6 bool) shape {
	if v6 {
		return shape{family: "ipv6", protocol: quoteAt + 48, src: quoteAt + 64, dst: quoteAt + 192, width: 128, ports: quoteAt + 320}
	}
	return shape{family: "ipv4", protocol: quoteAt + 72, src: quoteAt + 96, dst: quoteAt + 128, width: 32, ports: quoteAt + 160,
		plain: fmt.Sprintf("@th,%d,8 0x45", quoteAt)}
}

func match(j Judged) string {
	s := shapeOf(j.Src.Addr().Is6())
	parts := []string{"meta nfproto " + s.family}
	parts = append(parts, s.address(s.src, j.Src)...)
	parts = append(parts, s.address(s.dst, j.Dst)...)
	if j.Protocol != 0 {
		parts = append(parts, fmt.Sprintf("@th,%d,8 %d", s.protocol, j.Protocol))
	}
	if (j.SrcPort != 0 || j.DstPort != 0) && s.plain != "" {
		parts = append(parts, s.plain)
	}
	for i, port := range []uint16{j.SrcPort, j.DstPort} {
		if port != 0 {
			parts = append(parts, fmt.Sprintf("@th,%d,16 %d", s.ports+16*i, port))
		}
	}
	return strings.Join(parts, " ")
}

// address has an address of the quoted packet lie in p.
func (s shape) address(at int, p netip.Prefix) []string {
	if p.Bits() == 0 {
		return nil
	}
	mask := make([]byte, s.width/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []string{fmt.Sprintf("@th,%d,%d & 0x%x == 0x%x", at, s.width, mask, p.Masked().Addr().AsSlice())}
}

// Table is a table of ours with nothing but that, for a plane whose policies say all
// else: of what leaves and is not sealed. Interfaces are numbers of those by which it may
// leave all the same. An empty list removes the table.
func Table(name string, list []Judged, interfaces ...int) string {
	script := fmt.Sprintf("add table inet %s\ndelete table inet %s\n", name, name)
	if len(list) == 0 {
		return script
	}
	const loopback = 1
	free := fmt.Sprint(loopback)
	for _, i := range interfaces {
		if i != 0 {
			free += fmt.Sprintf(", %d", i)
		}
	}
	return script + fmt.Sprintf("table inet %s {\n%s\tchain postrouting {\n"+
		"\t\ttype filter hook postrouting priority 300; policy accept;\n\t\toif { %s } accept\n\t\trt ipsec exists accept\n%s\t}\n}\n",
		name, Quoted("quoted", list, "drop"), free, Jump("quoted"))
}
