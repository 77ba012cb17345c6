package trust

import "time"

// Standing is what a pair that Verify accepted stands on, without the certificates
// themselves: so much of it can be kept in a file, and judged by a process that never
// saw them. It holds no secret.
type Standing struct{ Sign, Enc []Link }

// Link is one certificate of a chain.
type Link struct {
	Fingerprint, Serial, Name string
	NotBefore, NotAfter       time.Time
}

// Standing is that of p: the chains from each certificate up to the anchor.
func (p *Pair) Standing() Standing { return Standing{links(&p.Sign), links(&p.Enc)} }

func links(c *Certificate) (list []Link) {
	for _, c := range append([]*Certificate{c}, c.chain...) {
		list = append(list, Link{c.Fingerprint, c.Serial, c.Name, c.NotBefore, c.NotAfter})
	}
	return list
}

// Stands judges again a pair of which only its standing is left: all that Current asks,
// but for the subjects of an identity entry. Whoever keeps a standing keeps with it
// which entry it belongs to. The zero value is refused. Errors are *Refusal.
func (v *Verifier) Stands(now time.Time, s Standing) error {
	p := Pair{chained(s.Sign), chained(s.Enc)}
	if r := v.valid(now, &p); r != nil {
		return r
	}
	if r := oneIssuer(&p); r != nil {
		return r
	}
	if r := v.checkRevocation(now, &p); r != nil {
		return r
	}
	return nil
}

// chained is a certificate of which nothing is known but what stands in the links.
func chained(list []Link) (c Certificate) {
	for i, l := range list {
		one := Certificate{Fingerprint: l.Fingerprint, Serial: l.Serial, Name: l.Name, NotBefore: l.NotBefore, NotAfter: l.NotAfter}
		if i == 0 {
			c = one
		} else {
			c.chain = append(c.chain, &one)
		}
	}
	return c
}
