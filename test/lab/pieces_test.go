package lab

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"yumen/ike"
)

const pieceOfMessage = 132 // next payload of an ISAKMP header

// large is a pair whose certificates have long names, so that messages 2 and 3 fit
// into no packet of 1280 bytes.
func large(seed uint64, change ...func(i, r *Site)) *Lab {
	i, r := members().Pair()
	name := func(cn string) string {
		return "CN=" + cn + ",OU=" + strings.Repeat("a long way ", 45) + ",O=Example,C=CN"
	}
	i.Own, r.Own = members().Root.Issue(name("gw-i"), Validity{}), members().Root.Issue(name("gw-r"), Validity{})
	i.Peer().Identity.Subject, r.Peer().Identity.Subject = name("gw-r"), name("gw-i")
	for _, f := range change {
		f(&i, &r)
	}
	l := New(seed, i, r)
	l.Story.Off = true
	return l
}

// inPieces is such a pair that sends large messages in pieces.
func inPieces(seed uint64) *Lab {
	return large(seed, func(i, r *Site) { i.Peer().Fragmentation, r.Peer().Fragmentation = true, true })
}

// A piece from elsewhere under the cookies and the number of a message that is coming
// in does not take the place of a genuine one.
func TestPieceFromElsewhereSpoilsNoMessage(t *testing.T) {
	for _, victim := range []string{"r", "i"} {
		l := inPieces(1)
		forged := 0
		l.Hook = func(p Packet) []Packet {
			if p.To != victim || p.Data == nil || p.Data[16] != pieceOfMessage {
				return []Packet{p}
			}
			number := p.Data[34]
			p.Delay += time.Duration(number) * time.Millisecond
			if number > 1 { // after the first: there is a session
				bad := bytes.Clone(p.Data)
				bad[len(bad)-1] ^= 1
				l.After(p.Delay-time.Microsecond, func() { l.Inject(netip.MustParseAddrPort("203.0.113.66:500"), p.Dest, bad) })
				forged++
			}
			return []Packet{p}
		}
		if !l.RunUntil(time.Second, func() bool { return carries(l.Gateway("i")) && carries(l.Gateway("r")) }) || forged == 0 {
			t.Errorf("to %s: not up after a second, %d forged pieces", victim, forged)
		}
	}
}

// Once a session is proven nothing comes that is so large: pieces are not kept.
func TestPieceAfterTheSessionIsProvenIsDropped(t *testing.T) {
	l := inPieces(2)
	var first Packet
	l.Hook = func(p Packet) []Packet {
		if p.To == "r" && p.Data != nil && p.Data[16] == pieceOfMessage && first.Data == nil {
			first = p
		}
		return []Packet{p}
	}
	l.Run(10 * time.Second)
	reasons := l.listen("r")
	l.Inject(first.Source, first.Dest, first.Data)
	if len(*reasons) != 1 || (*reasons)[0] != ike.UnexpectedState {
		t.Errorf("told %v", *reasons)
	}
}
