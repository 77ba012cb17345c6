package tunnel

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// unknownGap is between two events about unknown SPIs from one address.
const unknownGap = time.Second

// sources remembers from whom something was told lately, in a table of fixed
// size: senders that fall into one place share its turn, so that whoever forges
// addresses gains no more than the table has places.
type sources struct {
	seed maphash.Seed
	last [256]time.Time
}

func newSources() *sources { return &sources{seed: maphash.MakeSeed()} }

// allow answers true once per gap and address.
func (s *sources) allow(now time.Time, from netip.Addr) bool {
	at := &s.last[maphash.Comparable(s.seed, from)%uint64(len(s.last))]
	if !at.IsZero() && now.Sub(*at) < unknownGap {
		return false
	}
	*at = now
	return true
}
