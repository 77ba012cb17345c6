package trust

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"

	"yumen/policy"
)

// identity is a peer's identity entry, parsed. Either both names or both
// fingerprints are set.
type identity struct {
	sign, enc           name
	signPrint, encPrint string
}

// newIdentity reads an entry; its error is Faults.
func newIdentity(in policy.Identity) (id identity, err error) {
	var faults Faults
	named := func(key, text string) name {
		n, err := readName(text)
		faults.add(key, "", err)
		return n
	}
	printed := func(key, text string) string {
		p, err := parseFingerprint(text)
		faults.add(key, "", err)
		return p
	}
	subject := in.Subject != ""
	pair := in.SignSubject != "" || in.EncSubject != ""
	prints := in.SignFingerprint != "" || in.EncFingerprint != ""
	switch {
	case subject && !pair && !prints:
		id.sign = named("subject", in.Subject)
		id.enc = id.sign
	case pair && !subject && !prints:
		id.sign, id.enc = named("sign_subject", in.SignSubject), named("enc_subject", in.EncSubject)
	case prints && !subject && !pair:
		id.signPrint, id.encPrint = printed("sign_fingerprint", in.SignFingerprint), printed("enc_fingerprint", in.EncFingerprint)
	default:
		faults.add("identity", "", errors.New("needs exactly one of: subject; sign_subject and enc_subject; sign_fingerprint and enc_fingerprint"))
	}
	if len(faults) > 0 {
		return id, faults
	}
	return id, nil
}

// readName reads a name as it stands in a policy.
func readName(text string) (name, error) {
	der, err := ParseName(text)
	if err != nil {
		return nil, err
	}
	return parseRDNs(der)
}

// parseFingerprint accepts colons and either case, as tools print them.
func parseFingerprint(s string) (string, error) {
	s = strings.ToLower(strings.ReplaceAll(s, ":", ""))
	if b, err := hex.DecodeString(s); err != nil || len(b) != 32 {
		return "", errors.New("is not an SM3 fingerprint of 64 hex digits")
	}
	return s, nil
}

// check tells a stranger (the signing certificate is not the peer's) from a
// mixed pair (the signing certificate is, the encryption certificate is not).
func (id identity) check(p *Pair) *Refusal {
	if !id.matches(&p.Sign, id.sign, id.signPrint) {
		return refuse(BadIdentity, "signing certificate %q (SM3 %s) is not the configured peer's", p.Sign.Name, p.Sign.Fingerprint)
	}
	if !id.matches(&p.Enc, id.enc, id.encPrint) {
		return refuse(PairMismatch, "encryption certificate %q (SM3 %s) does not belong to this peer's signing certificate",
			p.Enc.Name, p.Enc.Fingerprint)
	}
	return nil
}

func (id identity) matches(c *Certificate, want name, print string) bool {
	if print != "" {
		return c.Fingerprint == print
	}
	return c.x != nil && c.x.subject.equal(want)
}

// ID types of RFC 2407 4.6.2.1 that can be checked against a certificate.
const (
	idIPv4     = 1
	idFQDN     = 2
	idUserFQDN = 3
	idIPv6     = 5
	idDN       = 9
)

// MatchID checks the data of a phase 1 ID payload against the pair. A DER DN
// must equal the subject of either certificate; an address must be in the
// subjectAltName of either or equal bound, the peer's configured address, when
// that is valid; an FQDN or user FQDN must be in a subjectAltName. Everything
// else, KEY_ID included, is refused. Errors are *Refusal with BadID.
func (p *Pair) MatchID(idType uint8, data []byte, bound netip.Addr) error {
	if p.Sign.x == nil || p.Enc.x == nil {
		return refuse(BadID, "no verified pair")
	}
	switch idType {
	case idDN:
		return p.matchDN(data)
	case idIPv4, idIPv6:
		return p.matchAddr(idType, data, bound)
	case idFQDN, idUserFQDN:
		return p.matchText(idType, string(data))
	}
	return refuse(BadID, "id type %d cannot be checked against a certificate", idType)
}

func (p *Pair) matchDN(data []byte) error {
	if bytes.Equal(data, p.Sign.Subject) || bytes.Equal(data, p.Enc.Subject) { // the usual case
		return nil
	}
	name, err := FormatName(data)
	if err != nil {
		return refuse(BadID, "id: %w", err)
	}
	if EqualNames(data, p.Sign.Subject) || EqualNames(data, p.Enc.Subject) {
		return nil
	}
	return refuse(BadID, "id %q is the subject of neither certificate", name)
}

func (p *Pair) matchAddr(idType uint8, data []byte, bound netip.Addr) error {
	addr, ok := netip.AddrFromSlice(data)
	if !ok || addr.Is4() != (idType == idIPv4) {
		return refuse(BadID, "id of type %d has %d bytes", idType, len(data))
	}
	addr = addr.Unmap()
	if bound.IsValid() && addr == bound.Unmap().WithZone("") || p.Sign.hasAddr(addr) || p.Enc.hasAddr(addr) {
		return nil
	}
	return refuse(BadID, "id %s is neither in a subjectAltName nor the peer's configured address", addr)
}

func (p *Pair) matchText(idType uint8, text string) error {
	for _, c := range []*Certificate{&p.Sign, &p.Enc} {
		list, same := c.x.dns, sameDomain
		if idType == idUserFQDN {
			list, same = c.x.emails, sameMailbox
		}
		for _, have := range list {
			if same(have, text) {
				return nil
			}
		}
	}
	return refuse(BadID, "id %q is in no subjectAltName", text)
}

// sameDomain compares as DNS does, ASCII letters without case; a wildcard is
// only equal to itself.
func sameDomain(a, b string) bool { return a != "" && lowerASCII(a) == lowerASCII(b) }

// sameMailbox compares the local part exactly (RFC 5321 2.4).
func sameMailbox(a, b string) bool {
	i, j := strings.LastIndexByte(a, '@'), strings.LastIndexByte(b, '@')
	return i > 0 && i == j && a[:i] == b[:j] && sameDomain(a[i+1:], b[j+1:])
}

// lowerASCII leaves everything but A-Z alone: strings.ToLower and EqualFold
// would make the Kelvin sign a k.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
