package trust

import (
	"errors"
	"fmt"
	"time"
)

// crl is a CRL whose signature was verified, with the certificate that issued
// it.
type crl struct {
	*crlData
	by *Certificate
}

// CRLIssued is when the oldest of the configured CRLs was issued (thisUpdate);
// zero when there is none.
func (v *Verifier) CRLIssued() time.Time {
	var oldest time.Time
	for _, c := range v.crls {
		if oldest.IsZero() || c.this.Before(oldest) {
			oldest = c.this
		}
	}
	return oldest
}

func (v *Verifier) addCRLs(file []byte) error {
	list, err := blocks(file, "X509 CRL", "CRL")
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("holds no CRL")
	}
	for i, der := range list {
		d, err := parseCRL(der)
		if err != nil {
			return fmt.Errorf("crl %d: %w", i+1, err)
		}
		by, err := v.crlIssuer(d)
		if err != nil {
			return fmt.Errorf("crl %d: %w", i+1, err)
		}
		for _, have := range v.crls {
			if have.by.Fingerprint == by.Fingerprint {
				return fmt.Errorf("crl %d: a second CRL of %q: keep only the newer one", i+1, by.Name)
			}
		}
		v.crls = append(v.crls, crl{d, by})
	}
	return nil
}

// crlIssuer finds who signed d among the certificates that were configured.
func (v *Verifier) crlIssuer(d *crlData) (*Certificate, error) {
	name, err := FormatName(d.issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	found := false
	for _, c := range append([]*Certificate{v.anchor}, v.configured...) {
		if !EqualNames(c.Subject, d.issuer) {
			continue
		}
		found = true
		if !d.signedBy(c) {
			continue
		}
		if c.x.hasUsage && c.x.usage&crlSign == 0 {
			return nil, fmt.Errorf("issuer %q has no cRLSign key usage", name)
		}
		return c, nil
	}
	if found {
		return nil, fmt.Errorf("signature does not verify with the key of %q", name)
	}
	return nil, fmt.Errorf("is issued by %q, which is neither the anchor %q nor an intermediate in the ca file",
		name, v.anchor.Name)
}

// checkRevocation asks for every certificate of both chains the CRL of its
// issuer. It is strict: without a fresh CRL of every issuer nothing is known,
// and what is not known is refused.
func (v *Verifier) checkRevocation(now time.Time, p *Pair) *Refusal {
	if !v.checkCRL {
		return nil
	}
	for _, leaf := range []*Certificate{&p.Sign, &p.Enc} {
		c := leaf
		for _, issuer := range leaf.chain {
			if r := v.checkRevoked(now, c, issuer); r != nil {
				return r
			}
			c = issuer
		}
	}
	return nil
}

func (v *Verifier) checkRevoked(now time.Time, c, issuer *Certificate) *Refusal {
	for _, list := range v.crls {
		if list.by.Fingerprint != issuer.Fingerprint {
			continue
		}
		if at, ok := list.revoked[c.Serial]; ok {
			return refuse(Revoked, "%q (serial %s) was revoked by %q at %s", c.Name, c.Serial, issuer.Name, stamp(at))
		}
		if now.Add(-v.skew).After(list.next) {
			return refuse(StaleCRL, "the CRL of %q was to be renewed by %s", issuer.Name, stamp(list.next))
		}
		if now.Add(v.skew).Before(list.this) {
			return refuse(StaleCRL, "the CRL of %q is of %s, in the future", issuer.Name, stamp(list.this))
		}
		return nil
	}
	return refuse(StaleCRL, "no CRL of %q: add it to the crl file, and the issuer to the ca file", issuer.Name)
}

// Outdated lists, for people, why at the time now no certificate of this peer, or not
// each, could be believed whatever it says: the anchor or an intermediate is not
// valid, or a CRL is not fresh.
func (v *Verifier) Outdated(now time.Time) (list []string) {
	for i, c := range append([]*Certificate{v.anchor}, v.configured...) {
		kind := "CA"
		if i > 0 {
			kind = "intermediate"
		}
		switch {
		case now.Add(-v.skew).After(c.NotAfter):
			list = append(list, fmt.Sprintf("the %s %q expired at %s: get a new one", kind, c.Name, stamp(c.NotAfter)))
		case now.Add(v.skew).Before(c.NotBefore):
			list = append(list, fmt.Sprintf("the %s %q is valid only from %s: set the clock, or wait", kind, c.Name, stamp(c.NotBefore)))
		}
	}
	for _, l := range v.crls {
		switch {
		case now.Add(-v.skew).After(l.next):
			list = append(list, fmt.Sprintf("the CRL of %q was to be renewed by %s: until it is, nobody below it is believed", l.by.Name, stamp(l.next)))
		case now.Add(v.skew).Before(l.this):
			list = append(list, fmt.Sprintf("the CRL of %q is of %s, in the future: set the clock", l.by.Name, stamp(l.this)))
		}
	}
	return list
}
