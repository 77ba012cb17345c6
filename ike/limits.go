package ike

import (
	"net/netip"
	"time"

	"yumen/ike/gm"
	"yumen/policy/trust"
)

// Limits on what unproven peers can make us keep and do.
const (
	maxHalfOpen       = 1024 // M1s that wait, of configured addresses and of others each
	maxHalfOpenSource = 16   // of one unknown address
	maxHalfOpenPeer   = 128  // of one configured address
	maxUnproven       = 1024 // sessions past M3, of configured addresses and of others each
	maxSenders        = 4096 // pairs of certificate and source whose rate is kept
	maxBadFields      = 4    // failed M3 (M4) of one session
	maxChildren       = 16   // of one tunnel
	maxBadCerts       = 16   // M3 of one session with certificates that nobody has
	maxEnvelopes      = 8192 // remembered SK bodies
	maxChains         = 1024 // remembered verdicts on certificates
)

// gate rates what unproven sources can make us do and send.
type gate struct {
	notices  bucket // unprotected notifications
	spis     bucket // deletes for unknown SPIs
	strays   bucket // events about unknown cookies
	claims   bucket // events about sessions that nobody has proven
	bySender map[sender]*bucket
}

// sender is who an M3 claims to be, and from where: a recorded certificate sent
// from elsewhere does not spend its owner's share.
type sender struct {
	certificate string
	source      netip.Addr
}

// bucket is a token bucket; the zero value is full.
type bucket struct {
	spent float64
	at    time.Time
}

// take reports whether one more is within burst and rate a second.
func (b *bucket) take(now time.Time, rate, burst float64) bool {
	b.spent = max(0, b.spent-rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.spent+1 > burst {
		return false
	}
	b.spent++
	return true
}

func (g *gate) notice(now time.Time) bool     { return g.notices.take(now, 10, 20) }
func (g *gate) unknownSPI(now time.Time) bool { return g.spis.take(now, 5, 10) }
func (g *gate) stray(now time.Time) bool      { return g.strays.take(now, 10, 20) }

// claim limits events that anybody can cause with one datagram: telling each of
// a flood would cost more than the flood, and fill the disk with it.
func (g *gate) claim(now time.Time) bool { return g.claims.take(now, 10, 100) }

// fields limits the private-key operations that M3s cost by certificate and
// source; the door limits them by source.
func (g *gate) fields(x sender, now time.Time) bool {
	b := g.bySender[x]
	if b == nil {
		if len(g.bySender) >= maxSenders || g.bySender == nil {
			g.bySender = map[sender]*bucket{}
		}
		b = &bucket{}
		g.bySender[x] = b
	}
	return b.take(now, 5, 20)
}

// envelopeCache remembers SK bodies, in whichever form they were written, with the
// cookies they came under. An SK body under other cookies is a replay: Sk is fresh
// for every attempt.
type envelopeCache struct {
	under map[[32]byte]pairKey
	order [][32]byte
	next  int
}

// replayed notes body and reports whether it was seen under other cookies.
func (c *envelopeCache) replayed(body []byte, key pairKey) bool {
	h := gm.SM3(gm.EnvelopeMark(body))
	if k, ok := c.under[h]; ok {
		return k != key
	}
	if c.under == nil {
		c.under = map[[32]byte]pairKey{}
	}
	if len(c.order) < maxEnvelopes {
		c.order = append(c.order, h)
	} else {
		delete(c.under, c.order[c.next])
		c.order[c.next] = h
		c.next = (c.next + 1) % maxEnvelopes
	}
	c.under[h] = key
	return false
}

// chainCache remembers verified pairs by peer and certificates, so that a
// repeated main mode costs no chain signatures. Validity and revocation are
// checked anew each time.
type chainCache struct{ pairs map[chainKey]*trust.Pair }

type chainKey struct {
	peer  string
	certs [32]byte
}

// verify returns the pair that the certificates of a message make for p.
func (e *Engine) verify(p *peer, c certificates) (*trust.Pair, error) {
	parts := append([][]byte{c.sign, c.enc}, c.extra...)
	key := chainKey{p.entry.Name, gm.SM3(framed(parts)...)}
	if pair := e.chains.pairs[key]; pair != nil {
		if err := p.verifier.Current(e.now, pair); err != nil {
			return nil, err
		}
		return pair, nil
	}
	pair, err := p.verifier.Verify(e.now, c.sign, c.enc, c.extra)
	if err != nil {
		return nil, err
	}
	if len(e.chains.pairs) >= maxChains || e.chains.pairs == nil {
		e.chains.pairs = map[chainKey]*trust.Pair{}
	}
	e.chains.pairs[key] = pair
	return pair, nil
}

// framed puts the length before each part, so that no two lists hash alike.
func framed(parts [][]byte) [][]byte {
	out := make([][]byte, 0, 2*len(parts))
	for _, p := range parts {
		n := len(p)
		out = append(out, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, p)
	}
	return out
}
