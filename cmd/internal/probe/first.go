package probe

import (
	"fmt"
	"time"

	"yumen/ike/wire"
)

// Numbers of phase 1 (GB/T 36968-2018 5.1).
const (
	attrCipher     = 1
	attrHash       = 2
	attrAuth       = 3
	attrLifeType   = 11
	attrLifetime   = 12
	attrKeyLength  = 14
	attrAsymmetric = 20

	hashSM3        = 20
	authEnvelope   = 10
	asymmetricSM2  = 2
	lifeSeconds    = 1
	keyBits        = 128
	keyIKE         = 1
	wrongTransform = 7
)

// vendorYumen is how the Vendor ID of a Yumen begins, whatever its version.
const vendorYumen = "YUMENgw"

// opening is a message 1 in the few things that vary.
type opening struct {
	version   uint8
	cipher    uint16
	keyLength bool
	transform uint8
	life      time.Duration
	mute      bool // no Vendor IDs
}

func standardOpening() opening {
	return opening{version: wire.Version11, cipher: 129, transform: keyIKE, life: 24 * time.Hour}
}

// message is o under an initiator's cookie.
func (o opening) message(c wire.Cookie) []byte {
	as := []wire.Attribute{wire.Short(attrCipher, o.cipher)}
	if o.keyLength {
		as = append(as, wire.Short(attrKeyLength, keyBits))
	}
	as = append(as, wire.Short(attrHash, hashSM3), wire.Short(attrAuth, authEnvelope), wire.Short(attrAsymmetric, asymmetricSM2),
		wire.Short(attrLifeType, lifeSeconds), wire.Long(attrLifetime, uint32(o.life/time.Second)))
	sa := wire.SA{DOI: 1, Situation: 1, Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtoISAKMP,
		Transforms: []wire.Transform{{Number: 1, ID: o.transform, Attributes: as}}}}}
	ps := []wire.Payload{{Type: wire.TypeSA, Body: sa.Append(nil)}}
	if !o.mute {
		ps = append(ps, wire.Payload{Type: wire.TypeVendorID, Body: []byte(wire.VendorNATT)},
			wire.Payload{Type: wire.TypeVendorID, Body: []byte(wire.VendorDPD)})
	}
	return wire.Message{Header: wire.Header{Initiator: c, Version: o.version, Exchange: wire.MainMode}, Payloads: ps}.Append(nil)
}

func (o opening) String() string {
	s := fmt.Sprintf("header %d.%d, SM4 %d", o.version>>4, o.version&15, o.cipher)
	if o.keyLength {
		s += ", key length"
	}
	if o.transform != keyIKE {
		s += fmt.Sprintf(", transform ID %d", o.transform)
	}
	if o.life > 24*time.Hour {
		s += fmt.Sprintf(", lifetime %v", o.life)
	}
	if o.mute {
		s += ", no Vendor IDs"
	}
	return s
}

// showing is what stands in clear in messages 1 and 2, and of the certificates
// also in message 3.
type showing struct {
	version         uint8
	transform       uint8 // ID
	cipher          uint64
	keyLength       bool
	natt, dpd, ours bool
	certs           []wire.CertEncoding
}

// show reads a message of main mode in clear.
func show(h wire.Header, data []byte) (showing, error) {
	x := showing{version: h.Version}
	m, err := wire.Parse(data)
	if err != nil {
		return x, err
	}
	for _, p := range m.Payloads {
		switch p.Type {
		case wire.TypeSA:
			if err := x.offer(p.Body); err != nil {
				return x, err
			}
		case wire.TypeVendorID:
			x.natt = x.natt || string(p.Body) == wire.VendorNATT
			x.dpd = x.dpd || string(p.Body) == wire.VendorDPD
			x.ours = x.ours || len(p.Body) >= len(vendorYumen) && string(p.Body[:len(vendorYumen)]) == vendorYumen
		case wire.TypeCert:
			c, err := wire.ParseCert(p.Body)
			if err != nil {
				return x, err
			}
			x.certs = append(x.certs, c.Encoding)
		}
	}
	return x, nil
}

// offer reads the first transform that has the envelope.
func (x *showing) offer(body []byte) error {
	sa, err := wire.ParseSA(body)
	if err != nil {
		return err
	}
	for _, p := range sa.Proposals {
		for _, t := range p.Transforms {
			var cipher, auth uint64
			keyLength := false
			for _, a := range t.Attributes {
				v, _ := a.Uint()
				switch a.Type {
				case attrCipher:
					cipher = v
				case attrAuth:
					auth = v
				case attrKeyLength:
					keyLength = true
				}
			}
			if auth == authEnvelope {
				x.transform, x.cipher, x.keyLength = t.ID, cipher, keyLength
				return nil
			}
		}
	}
	return fmt.Errorf("it offers no digital envelope (authentication method 10): it is no peer of GB/T 36968")
}

// vendors notes what the Vendor IDs announce.
func (r *Report) vendors(x showing) {
	r.seen("nat_t", fmt.Sprint(x.natt))
	r.seen("send_dpd_vid", fmt.Sprint(x.dpd))
	r.seen("send_own_vid", fmt.Sprint(x.ours))
}

// certOrder notes in which order two certificates stand.
func (r *Report) certOrder(list []wire.CertEncoding) {
	var first, second = -1, -1
	for i, c := range list {
		if c == wire.CertSign && first < 0 {
			first = i
		}
		if c == wire.CertEnc && second < 0 {
			second = i
		}
	}
	switch {
	case first < 0 || second < 0:
		r.untold("cert_order", "it did not send two certificates")
	case first < second:
		r.seen("cert_order", "sign-enc")
	default:
		r.seen("cert_order", "enc-sign")
	}
}

func versionWord(v uint8) string { return fmt.Sprintf("%d.%d", v>>4, v&15) }
