package trust

import (
	"errors"
	"fmt"
	"time"

	"yumen/policy"
)

const (
	maxIntermediates = 4  // that a peer may send
	maxConfigured    = 16 // certificates in one anchor file
	maxChain         = 8  // certificates from leaf to anchor
	maxChecks        = 24 // signatures verified for one leaf
)

// Verifier judges the certificates of one peer. It is immutable and safe for
// concurrent use; after a change of policy or of a CRL a new one is made.
type Verifier struct {
	anchor     *Certificate
	configured []*Certificate // intermediates that we were given
	crls       []crl          // empty: no revocation check
	checkCRL   bool
	identity   identity
	skew       time.Duration
}

// NewVerifier prepares the judgement of one peer. anchor is a PEM bundle (or
// one DER certificate) whose first certificate is the one trust anchor; all
// further ones are intermediates that help to reach it and are trusted for
// nothing. crl is nil (no revocation check) or holds one or more CRLs, PEM or
// DER, each signed by the anchor or a configured intermediate, which is checked
// here. The error names the peer, and is Faults.
func NewVerifier(peer policy.Peer, anchor, crl []byte) (*Verifier, error) {
	v := &Verifier{skew: peer.ClockSkew, checkCRL: crl != nil}
	var faults Faults
	if v.skew < 0 {
		faults.add("clock_skew", "", errors.New("is negative"))
	}
	var err error
	if v.identity, err = newIdentity(peer.Identity); err != nil {
		var wrong Faults
		errors.As(err, &wrong)
		faults = append(faults, wrong...)
	}
	if err := v.addAnchors(anchor); err != nil {
		faults.add("ca", peer.CA, err)
	} else if v.checkCRL {
		if err := v.addCRLs(crl); err != nil {
			faults.add("crl", peer.CRL, err)
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("peer %q: %w", peer.Name, faults)
	}
	return v, nil
}

func (v *Verifier) addAnchors(bundle []byte) error {
	list, err := blocks(bundle, "CERTIFICATE")
	if err != nil {
		return err
	}
	if len(list) > maxConfigured {
		return fmt.Errorf("holds %d certificates, more than %d", len(list), maxConfigured)
	}
	for i, der := range list {
		c, r := parse(der)
		if r != nil {
			return r.about(fmt.Sprintf("certificate %d", i+1))
		}
		if r := c.checkIssuer(i == 0); r != nil {
			return r.about(fmt.Sprintf("certificate %d", i+1))
		}
		if c.x.subject.equal(c.x.by) && !c.signedBy(&c) {
			return refuse(Malformed, "certificate %d: the self-signature of %q does not verify", i+1, c.Name)
		}
		if i == 0 {
			v.anchor = &c
		} else {
			v.configured = append(v.configured, &c)
		}
	}
	if v.anchor == nil {
		return errors.New("holds no certificate")
	}
	return nil
}

// checkIssuer asks whether c may issue certificates. The configured anchor may
// lack a key usage extension (RFC 5280 6.1.4 n); an intermediate may not.
func (c *Certificate) checkIssuer(anchor bool) *Refusal {
	switch {
	case !c.x.ca:
		return refuse(UnknownCA, "%q is not a CA certificate (basicConstraints)", c.Name)
	case !c.x.hasUsage && !anchor:
		return refuse(KeyUsage, "%q is a CA without a key usage extension", c.Name)
	case c.x.hasUsage && c.x.usage&certSign == 0:
		return refuse(KeyUsage, "%q is a CA without keyCertSign", c.Name)
	}
	return nil
}

// Verify judges the two certificates (DER) of the peer at the time now.
// intermediates are further certificates that the peer sent, at most 4 of at
// most 16 KiB; they are untrusted, and one that cannot be read is passed over.
// Checked are: form and algorithms, key usage of each of the two, a chain to
// the one anchor with validity (within the clock skew), CA bits and path
// length, one issuer for both, the identity entry, revocation. Errors are
// *Refusal. The arguments are not kept.
func (v *Verifier) Verify(now time.Time, sign, enc []byte, intermediates [][]byte) (*Pair, error) {
	pool, r := v.pool(intermediates)
	if r != nil {
		return nil, r
	}
	var p Pair
	if r := v.leaf(now, &p.Sign, sign, signing, pool); r != nil {
		return nil, r
	}
	if r := v.leaf(now, &p.Enc, enc, encryption, pool); r != nil {
		return nil, r
	}
	if r := v.fits(now, &p); r != nil {
		return nil, r
	}
	return &p, nil
}

// Current judges again, without signatures, a pair that Verify accepted: the
// validity of every certificate of both chains, the anchor, the identity entry,
// freshness of the CRLs and revocation. It serves cached pairs, after a reload
// too. Errors are *Refusal.
func (v *Verifier) Current(now time.Time, p *Pair) error {
	if r := v.valid(now, p); r != nil {
		return r
	}
	if r := v.fits(now, p); r != nil {
		return r
	}
	return nil
}

// valid asks for the anchor of both chains and the validity of each certificate.
func (v *Verifier) valid(now time.Time, p *Pair) *Refusal {
	for _, c := range []*Certificate{&p.Sign, &p.Enc} {
		if len(c.chain) == 0 || c.chain[len(c.chain)-1].Fingerprint != v.anchor.Fingerprint {
			return refuse(UnknownCA, "%q was not verified with the anchor %q", c.Name, v.anchor.Name)
		}
		for _, link := range append([]*Certificate{c}, c.chain...) {
			if r := link.checkTime(now, v.skew); r != nil {
				return r
			}
		}
	}
	return nil
}

// fits checks all that concerns the two together, and revocation last: it is
// the answer about a pair that is otherwise good.
func (v *Verifier) fits(now time.Time, p *Pair) *Refusal {
	if r := oneIssuer(p); r != nil {
		return r
	}
	if r := v.identity.check(p); r != nil {
		return r
	}
	return v.checkRevocation(now, p)
}

func oneIssuer(p *Pair) *Refusal {
	if p.Sign.chain[0].Fingerprint != p.Enc.chain[0].Fingerprint {
		return refuse(PairMismatch, "signing certificate is issued by %q, encryption certificate by %q",
			p.Sign.chain[0].Name, p.Enc.chain[0].Name)
	}
	return nil
}

func (v *Verifier) pool(received [][]byte) ([]*Certificate, *Refusal) {
	if len(received) > maxIntermediates {
		return nil, refuse(Malformed, "%d intermediate certificates, more than %d", len(received), maxIntermediates)
	}
	pool := append([]*Certificate{v.anchor}, v.configured...)
	for _, der := range received {
		if len(der) > maxCertificate {
			return nil, refuse(Malformed, "intermediate certificate of %d bytes is longer than %d", len(der), maxCertificate)
		}
		if c, r := parse(der); r == nil {
			pool = append(pool, &c)
		}
	}
	return pool, nil
}

func (v *Verifier) leaf(now time.Time, c *Certificate, der []byte, as role, pool []*Certificate) *Refusal {
	parsed, r := parse(der)
	if r != nil {
		return r.about(string(as))
	}
	*c = parsed
	if r := c.checkUsage(as); r != nil {
		return r.about(string(as))
	}
	b := builder{v: v, now: now, pool: pool, checks: maxChecks}
	path, r := b.extend([]*Certificate{c})
	if r != nil {
		return r.about(string(as))
	}
	c.chain = path[1:]
	return nil
}

// builder looks for a chain from a leaf to the anchor, depth first.
type builder struct {
	v      *Verifier
	now    time.Time
	pool   []*Certificate // the anchor first
	checks int            // signature checks left
}

// extend returns the first good chain that continues path, or the most telling
// refusal.
func (b *builder) extend(path []*Certificate) ([]*Certificate, *Refusal) {
	last := path[len(path)-1]
	var worst *Refusal
	for _, c := range b.pool {
		if !last.x.by.equal(c.x.subject) || holds(path, c) {
			continue
		}
		if b.checks--; b.checks < 0 || len(path) >= maxChain {
			return nil, refuse(UnknownCA, "chain of %q is too long or too branched", path[0].Name)
		}
		if !last.signedBy(c) {
			worst = telling(worst, refuse(UnknownCA, "signature of %q does not verify with the key of %q", last.Name, c.Name))
			continue
		}
		longer := append(path[:len(path):len(path)], c)
		if c == b.v.anchor {
			r := b.check(longer)
			if r == nil {
				return longer, nil
			}
			worst = telling(worst, r)
			continue
		}
		found, r := b.extend(longer)
		if r == nil {
			return found, nil
		}
		worst = telling(worst, r)
	}
	if worst == nil {
		issuer, _ := FormatName(last.x.issuer)
		worst = refuse(UnknownCA, "issuer %q of %q is neither the anchor %q nor a known intermediate",
			issuer, last.Name, b.v.anchor.Name)
	}
	return nil, worst
}

// telling keeps the refusal that says most: an unknown CA is what every wrong
// path ends in.
func telling(old, add *Refusal) *Refusal {
	if old == nil || old.Reason == UnknownCA && add.Reason != UnknownCA {
		return add
	}
	return old
}

func holds(path []*Certificate, c *Certificate) bool {
	for _, have := range path {
		if have.Fingerprint == c.Fingerprint {
			return true
		}
	}
	return false
}

// check judges a complete chain: validity of each link, and of each issuer the
// CA bits and how many intermediates stand below it (RFC 5280 6.1.4).
func (b *builder) check(path []*Certificate) *Refusal {
	below := 0 // intermediates below, self-issued ones not counted
	for i, c := range path {
		if r := c.checkTime(b.now, b.v.skew); r != nil {
			return r
		}
		if i == 0 {
			continue
		}
		if r := c.checkIssuer(c == b.v.anchor); r != nil {
			return r
		}
		if c.x.maxPath >= 0 && below > c.x.maxPath {
			return refuse(UnknownCA, "%q allows %d intermediates below it, found %d", c.Name, c.x.maxPath, below)
		}
		if !c.x.subject.equal(c.x.by) {
			below++
		}
	}
	return nil
}
