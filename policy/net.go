package policy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// number is an address as a number; an IPv4 address uses the low 32 bits. It is
// the key of every lookup because netip.Addr costs more to hash.
type number struct{ hi, lo uint64 }

func (a number) less(b number) bool {
	return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo
}

func (a number) and(b number) number { return number{a.hi & b.hi, a.lo & b.lo} }
func (a number) not() number         { return number{^a.hi, ^a.lo} }

func (a number) minus(b number) number {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return number{hi, lo}
}

func (a number) plus(b number) number {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, _ := bits.Add64(a.hi, b.hi, carry)
	return number{hi, lo}
}

func (a number) next() number { return a.plus(number{0, 1}) }

// ones is the number whose n lowest bits are set.
func ones(n int) number {
	switch {
	case n >= 128:
		return number{^uint64(0), ^uint64(0)}
	case n >= 64:
		return number{1<<(n-64) - 1, ^uint64(0)}
	default:
		return number{0, 1<<n - 1}
	}
}

// trailingZeros is the largest n for which a is a multiple of 2 to the n.
func (a number) trailingZeros() int {
	if a.lo != 0 {
		return bits.TrailingZeros64(a.lo)
	}
	return 64 + bits.TrailingZeros64(a.hi)
}

func numberOf(a netip.Addr) number {
	if a.Is4() {
		b := a.As4()
		return number{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a number) addr(v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(a.lo))))
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), a.hi)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, a.lo)))
}

// ParseNet reads an address, a prefix, or a range written first-last. A prefix
// with host bits, a zone and an IPv4-mapped IPv6 address are errors, because
// each is more likely a slip than a wish.
func ParseNet(s string) (Net, error) {
	switch {
	case strings.Contains(s, "/"):
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return Net{}, fmt.Errorf("%q is no prefix; write it as 10.1.0.0/16 or 2001:db8::/32", s)
		}
		if p.Masked() != p {
			return Net{}, fmt.Errorf("%q has host bits set; write %s, or the address alone", s, p.Masked())
		}
		n := NetOf(p)
		return n, n.check()
	case strings.Contains(s, "-"):
		first, last, _ := strings.Cut(s, "-")
		a, errA := netip.ParseAddr(strings.TrimSpace(first))
		b, errB := netip.ParseAddr(strings.TrimSpace(last))
		if errA != nil || errB != nil {
			return Net{}, fmt.Errorf("%q is no range; write it as 10.1.0.1-10.1.0.20", s)
		}
		n := Net{a, b}
		return n, n.check()
	default:
		a, err := netip.ParseAddr(s)
		if err != nil {
			return Net{}, fmt.Errorf("%q is no address; write an address, a prefix or first-last", s)
		}
		n := Net{a, a}
		return n, n.check()
	}
}

// NetOf is the prefix p as a Net. Host bits of p are ignored.
func NetOf(p netip.Prefix) Net {
	if !p.IsValid() {
		return Net{}
	}
	first := p.Masked().Addr()
	host := ones(first.BitLen() - p.Bits())
	return Net{first, numberOf(first).plus(host).addr(first.Is4())}
}

// check says why n cannot be used in a selector.
func (n Net) check() error {
	switch {
	case !n.First.IsValid() || !n.Last.IsValid():
		return errors.New("no address; write an address, a prefix or first-last")
	case n.First.Zone() != "" || n.Last.Zone() != "":
		return fmt.Errorf("%s has a zone; leave it out", n.ends())
	case n.First.Is4In6() || n.Last.Is4In6():
		return fmt.Errorf("%s is IPv4 inside IPv6; write the IPv4 address", n.ends())
	case n.First.Is4() != n.Last.Is4():
		return fmt.Errorf("%s mixes IPv4 and IPv6; use one family", n.ends())
	case n.Last.Less(n.First):
		return fmt.Errorf("%s ends before it begins; swap the ends", n.ends())
	}
	return nil
}

// ends writes n without asking whether it is sound.
func (n Net) ends() string {
	if n.First == n.Last {
		return n.First.String()
	}
	return n.First.String() + "-" + n.Last.String()
}

// String writes the address, the prefix, or first-last: what ParseNet reads.
func (n Net) String() string {
	if !n.First.IsValid() && !n.Last.IsValid() {
		return "none"
	}
	if p, ok := n.Prefix(); ok && !n.IsSingle() {
		return p.String()
	}
	return n.ends()
}

// Is4 reports whether n is IPv4.
func (n Net) Is4() bool { return n.First.Is4() }

// IsSingle reports whether n is one address.
func (n Net) IsSingle() bool { return n.First.IsValid() && n.First == n.Last }

// Contains reports whether a lies in n. The families must agree.
func (n Net) Contains(a netip.Addr) bool {
	return n.First.IsValid() && a.BitLen() == n.First.BitLen() &&
		!a.Less(n.First) && !n.Last.Less(a)
}

// ContainsNet reports whether all of m lies in n.
func (n Net) ContainsNet(m Net) bool { return n.Contains(m.First) && n.Contains(m.Last) }

// Overlaps reports whether n and m share an address.
func (n Net) Overlaps(m Net) bool { return n.Contains(m.First) || m.Contains(n.First) }

// span is the number of addresses less one: a Net of smaller span is longer in
// the sense of "longest match".
func (n Net) span() number { return numberOf(n.Last).minus(numberOf(n.First)) }

// Prefix is n as one prefix, if it is one.
func (n Net) Prefix() (netip.Prefix, bool) {
	if n.check() != nil {
		return netip.Prefix{}, false
	}
	first, span := numberOf(n.First), n.span()
	host := span.next().trailingZeros()
	if host > n.First.BitLen() {
		host = n.First.BitLen()
	}
	if span != ones(host) || first.and(span) != (number{}) {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(n.First, n.First.BitLen()-host), true
}

// Prefixes splits n into the fewest prefixes that cover it exactly, in ascending
// order; at most 62 for IPv4 and 254 for IPv6. A Net that holds nothing gives none.
func (n Net) Prefixes() []netip.Prefix {
	if n.check() != nil {
		return nil
	}
	var out []netip.Prefix
	width := n.First.BitLen()
	first, last := numberOf(n.First), numberOf(n.Last)
	for {
		// The largest aligned block that begins here and does not pass the end.
		host := min(first.trailingZeros(), width)
		for last.minus(first).less(ones(host)) {
			host--
		}
		out = append(out, netip.PrefixFrom(first.addr(n.Is4()), width-host))
		end := first.plus(ones(host))
		if end == last {
			return out
		}
		first = end.next()
	}
}
