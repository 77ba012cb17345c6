package ike

import (
	"fmt"

	"yumen/ike/wire"
)

// layout is which payloads a message carries, in order. TypeCert stands for a
// run of certificates.
type layout []wire.PayloadType

// The messages of GB/T 36968 (main mode) and RFC 2409 5.5 (quick mode). The two
// IDs of quick mode are optional, but only as a pair.
var (
	layoutM1    = layout{wire.TypeSA}
	layoutM2    = layout{wire.TypeSA, wire.TypeCert}
	layoutM3    = layout{wire.TypeSK, wire.TypeNonce, wire.TypeID, wire.TypeCert, wire.TypeSig}
	layoutM4    = layout{wire.TypeSK, wire.TypeNonce, wire.TypeID, wire.TypeSig}
	layoutProof = layout{wire.TypeHash}
	layoutQuick = layout{wire.TypeHash, wire.TypeSA, wire.TypeNonce, wire.TypeID, wire.TypeID}
)

const (
	maxExtraCerts     = 4
	maxExtraCertBytes = 16 << 10
)

// parts are the bodies of a message's payloads by their place in its layout.
type parts struct {
	sa, sk, ke, nonce, sig, hash []byte
	ids                          [][]byte
	certs                        certificates
	natd, natoa                  [][]byte
	vendors                      [][]byte
	notes                        [][]byte // notifications; see heardBeside and heed
	skipped                      []wire.PayloadType
}

// certificates are the bodies of certificate payloads, without their encoding.
type certificates struct {
	sign, enc []byte
	extra     [][]byte            // untrusted intermediates
	order     []wire.CertEncoding // of the two
	bytes     int
}

// arrange puts payloads in their places. A known type that is out of place or
// repeated is refused; Vendor ID, certificate request, notification and unknown
// types are skipped and reported.
func (l layout) arrange(ps []wire.Payload) (parts, error) {
	var p parts
	at := 0
	for _, x := range ps {
		if p.aside(x) {
			continue
		}
		if x.Type == wire.TypeCert && at > 0 && l[at-1] == wire.TypeCert {
			if err := p.certs.add(x.Body); err != nil {
				return p, err
			}
			continue
		}
		if x.Type == wire.TypeKE && l.quick() && at == 3 && p.ke == nil {
			p.ke = x.Body // to be refused by name
			continue
		}
		if at == len(l) || x.Type != l[at] {
			return p, fmt.Errorf("%v is out of place", x.Type)
		}
		at++
		if err := p.place(x); err != nil {
			return p, err
		}
	}
	// Quick mode may leave both IDs out.
	if at == len(l) || at == len(l)-2 && l[at] == wire.TypeID && len(p.ids) == 0 {
		return p, nil
	}
	return p, fmt.Errorf("%v is missing", l[at])
}

// quick reports whether l is quick mode.
func (l layout) quick() bool { return len(l) == len(layoutQuick) && l[0] == wire.TypeHash }

// aside takes payloads that have no place of their own.
func (p *parts) aside(x wire.Payload) bool {
	switch x.Type {
	case wire.TypeNATD, wire.TypeNATD130:
		p.natd = append(p.natd, x.Body)
	case wire.TypeNATOA, wire.TypeNATOA131:
		p.natoa = append(p.natoa, x.Body)
	case wire.TypeVendorID:
		p.vendors = append(p.vendors, x.Body)
	case wire.TypeNotify:
		p.notes = append(p.notes, x.Body)
	case wire.TypeSA, wire.TypeKE, wire.TypeID, wire.TypeCert, wire.TypeHash, wire.TypeSig,
		wire.TypeNonce, wire.TypeDelete, wire.TypeSK:
		return false
	default:
		p.skipped = append(p.skipped, x.Type)
	}
	return true
}

func (p *parts) place(x wire.Payload) error {
	switch x.Type {
	case wire.TypeSA:
		p.sa = x.Body
	case wire.TypeSK:
		p.sk = x.Body
	case wire.TypeKE:
		p.ke = x.Body
	case wire.TypeNonce:
		p.nonce = x.Body
	case wire.TypeSig:
		p.sig = x.Body
	case wire.TypeHash:
		p.hash = x.Body
	case wire.TypeID:
		p.ids = append(p.ids, x.Body)
	case wire.TypeCert:
		return p.certs.add(x.Body)
	}
	return nil
}

func (c *certificates) add(body []byte) error {
	cert, err := wire.ParseCert(body)
	if err != nil {
		return err
	}
	switch {
	case cert.Encoding == wire.CertSign && c.sign == nil:
		c.sign, c.order = cert.Data, append(c.order, cert.Encoding)
	case cert.Encoding == wire.CertEnc && c.enc == nil:
		c.enc, c.order = cert.Data, append(c.order, cert.Encoding)
	case cert.Encoding == wire.CertEnc:
		return fmt.Errorf("a second encryption certificate")
	case cert.Encoding == wire.CertSign:
		c.bytes += len(cert.Data)
		if len(c.extra) == maxExtraCerts || c.bytes > maxExtraCertBytes {
			return fmt.Errorf("more than %d intermediates or %d bytes of them", maxExtraCerts, maxExtraCertBytes)
		}
		c.extra = append(c.extra, cert.Data)
	}
	return nil
}

func (c *certificates) complete() error {
	if c.sign == nil || c.enc == nil {
		return fmt.Errorf("a signing (4) and an encryption (5) certificate are needed")
	}
	return nil
}
