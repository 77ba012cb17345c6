package ike

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"yumen/esp"
	"yumen/ike/wire"
	"yumen/policy"
)

// Phase-2 attributes (RFC 2407 4.5) and transform IDs of GB/T 36968.
const (
	attrSALifeType = 1
	attrSALifetime = 2
	attrSAGroup    = 3
	attrMode       = 4
	attrAuthAlg    = 5
	attrSAKeyLen   = 6
	attrESN        = 11

	espSM4      = 129
	espSM4Draft = 127
	authHMACSM3 = 20
	espAES      = 12 // RFC 3602 5, and its authentication RFC 4868 5: of profile rfc2409-psk
	authSHA256  = 5
	modeTunnel  = 1
	modeUDP     = 3
	modeUDPOld  = 61443 // NAT-T drafts
)

// sessionKeyLimit is the longest life of a session key that the standard allows.
const sessionKeyLimit = time.Hour

// phaseTwo is what an ESP transform says.
type phaseTwo struct {
	suite   policy.Suite
	id      uint8
	mode    uint64
	esn     bool
	life    lifetimes
	unknown []uint16
}

// phaseTwoOffer is the SA of QM1: the suites of the tunnel as transforms of one
// proposal. Where the tunnel wants extended numbers each comes twice, with them
// and without.
func phaseTwoOffer(t policy.Tunnel, d policy.Dialect, udp bool, spi esp.SPI) wire.SA {
	mode := uint16(modeTunnel)
	if udp {
		mode = modeUDP
	}
	p := wire.Proposal{Number: 1, Protocol: wire.ProtoESP, SPI: spiBytes(spi)}
	add := func(id uint8, esn bool) {
		var as []wire.Attribute
		switch id {
		case d.GCMNumber():
		case espAES:
			as = append(as, wire.Short(attrAuthAlg, authSHA256), wire.Short(attrSAKeyLen, keyBits))
		default:
			as = append(as, wire.Short(attrAuthAlg, authHMACSM3))
		}
		as = append(as, wire.Short(attrMode, mode), wire.Short(attrSALifeType, lifeSeconds),
			number(attrSALifetime, uint64(t.Lifetime/time.Second)))
		if t.Bytes > 0 {
			as = append(as, wire.Short(attrSALifeType, lifeKB), number(attrSALifetime, t.Bytes/1024))
		}
		if esn {
			as = append(as, wire.Short(attrESN, 1))
		}
		if d.KeyLength == policy.KeyLengthSend {
			as = append(as, wire.Short(attrSAKeyLen, keyBits))
		}
		p.Transforms = append(p.Transforms, wire.Transform{Number: uint8(len(p.Transforms) + 1), ID: id, Attributes: as})
	}
	for _, esn := range []bool{true, false} {
		if esn && !t.ESN {
			continue
		}
		for _, s := range t.Suites {
			for _, id := range transformIDs(s, d) {
				add(id, esn)
			}
		}
	}
	return wire.SA{DOI: doiIPsec, Situation: identityOnly, Proposals: []wire.Proposal{p}}
}

func transformIDs(s policy.Suite, d policy.Dialect) []uint8 {
	switch {
	case s == policy.SM4GCM128:
		return []uint8{d.GCMNumber()}
	case s == policy.AESCBCHMACSHA256:
		return []uint8{espAES}
	case d.ESPSM4 == policy.ESPOnly127:
		return []uint8{espSM4Draft}
	case d.ESPSM4 == policy.ESPOnly129:
		return []uint8{espSM4}
	}
	return []uint8{espSM4, espSM4Draft}
}

func spiBytes(spi esp.SPI) []byte { return binary.BigEndian.AppendUint32(nil, uint32(spi)) }

func readPhaseTwo(t wire.Transform, d policy.Dialect) (phaseTwo, error) {
	x := phaseTwo{id: t.ID, mode: modeTunnel}
	var auth, keyLength, esn uint64
	for _, a := range t.Attributes {
		v, ok := a.Uint()
		if !ok {
			return x, fmt.Errorf("attribute %d: not a number", a.Type)
		}
		switch a.Type {
		case attrSALifeType, attrSALifetime:
			if err := x.life.take(a.Type == attrSALifeType, v); err != nil {
				return x, err
			}
		case attrMode:
			x.mode = v
		case attrAuthAlg:
			auth = v
		case attrSAKeyLen:
			keyLength = v
		case attrESN:
			esn = v
		case attrSAGroup:
			return x, fmt.Errorf("group %d: there is no PFS here; switch it off at the peer", v)
		default:
			x.unknown = append(x.unknown, a.Type)
		}
	}
	switch {
	case keyLength != 0 && d.KeyLength == policy.KeyLengthRefuse:
		return x, fmt.Errorf("a key length attribute (key_length: refuse)")
	case keyLength != 0 && keyLength != keyBits:
		return x, fmt.Errorf("key length %d: we take 128", keyLength)
	case esn > 1:
		return x, fmt.Errorf("extended sequence number attribute %d", esn)
	}
	x.esn = esn == 1
	switch t.ID {
	case espSM4, espSM4Draft:
		if id := transformIDs(policy.SM4CBCHMACSM3, d); d.Exact && !slices.Contains(id, t.ID) {
			return x, fmt.Errorf("transform ID %d: we take %d (accept: exact)", t.ID, id)
		}
		if auth != authHMACSM3 {
			return x, fmt.Errorf("authentication algorithm %d: we take 20 (HMAC-SM3)", auth)
		}
		x.suite = policy.SM4CBCHMACSM3
	case d.GCMNumber():
		if auth != 0 {
			return x, fmt.Errorf("authentication algorithm %d with SM4-GCM", auth)
		}
		x.suite = policy.SM4GCM128
	case espAES:
		if auth != authSHA256 || keyLength != keyBits {
			return x, fmt.Errorf("AES with %d bits, authentication algorithm %d: of AES we know 128 bits with 5 (HMAC-SHA-256)", keyLength, auth)
		}
		x.suite = policy.AESCBCHMACSHA256
	default:
		return x, fmt.Errorf("transform ID %d: we take 129, 127 (SM4-CBC) and %d (SM4-GCM)", t.ID, d.GCMNumber())
	}
	return x, nil
}

// fits says what keeps x from serving tunnel t; nil when nothing does.
func (x phaseTwo) fits(t policy.Tunnel, d policy.Dialect, udp bool) error {
	switch {
	case !slices.Contains(t.Suites, x.suite):
		return fmt.Errorf("suite %v is not configured for tunnel %s", x.suite, t.Name)
	case x.esn && !t.ESN:
		return fmt.Errorf("extended sequence numbers are off for tunnel %s", t.Name)
	case x.mode != modeTunnel && !(udp && (x.mode == modeUDP || x.mode == modeUDPOld)):
		return fmt.Errorf("encapsulation mode %d: we take tunnel mode (1, and 3 behind a NAT)", x.mode)
	case d.StrictLifetime && x.life.seconds > uint64(sessionKeyLimit/time.Second):
		return fmt.Errorf("lifetime %d s: the limit is 3600 (strict_lifetime)", x.life.seconds)
	}
	return nil
}

// chosen is an ESP proposal with the one transform that was picked.
type chosen struct {
	answer wire.Proposal
	x      phaseTwo
	spi    esp.SPI // of the end that sent the SA
}

// choosePhaseTwo picks the first transform, in the peer's order, that serves t.
func choosePhaseTwo(sa wire.SA, t policy.Tunnel, d policy.Dialect, udp bool) (chosen, error) {
	err := fmt.Errorf("no ESP proposal")
	for i, p := range sa.Proposals {
		same := func(j int) bool {
			return j >= 0 && j < len(sa.Proposals) && sa.Proposals[j].Number == p.Number
		}
		if p.Protocol != wire.ProtoESP || same(i-1) || same(i+1) {
			err = fmt.Errorf("proposal %d: not ESP alone", p.Number)
			continue
		}
		spi, why := readSPI(p.SPI)
		if why != nil {
			err = fmt.Errorf("proposal %d: %w", p.Number, why)
			continue
		}
		for _, tr := range p.Transforms {
			x, why := readPhaseTwo(tr, d)
			if why == nil {
				why = x.fits(t, d, udp)
			}
			if why != nil {
				err = fmt.Errorf("transform %d: %w", tr.Number, why)
				continue
			}
			p.Transforms = []wire.Transform{tr}
			return chosen{answer: p, x: x, spi: spi}, nil
		}
	}
	return chosen{}, err
}

func readSPI(b []byte) (esp.SPI, error) {
	if len(b) != 4 {
		return 0, fmt.Errorf("an SPI of %d bytes", len(b))
	}
	spi := esp.SPI(binary.BigEndian.Uint32(b))
	if spi < 256 {
		return 0, fmt.Errorf("SPI %d is reserved", spi)
	}
	return spi, nil
}

// checkPhaseTwoAnswer finds the offered transform that an answer means: equal in
// everything but numbering, lifetimes, and 127 for 129 or the reverse.
func checkPhaseTwoAnswer(offer, answer wire.SA, d policy.Dialect) (chosen, error) {
	if len(answer.Proposals) != 1 || len(answer.Proposals[0].Transforms) != 1 {
		return chosen{}, fmt.Errorf("the answer must hold one proposal with one transform")
	}
	p := answer.Proposals[0]
	if answer.DOI != doiIPsec || answer.Situation != identityOnly || p.Protocol != wire.ProtoESP {
		return chosen{}, fmt.Errorf("not an ESP proposal of the IPsec DOI")
	}
	spi, err := readSPI(p.SPI)
	if err != nil {
		return chosen{}, err
	}
	got, err := readPhaseTwo(p.Transforms[0], d)
	if err != nil {
		return chosen{}, err
	}
	for _, tr := range offer.Proposals[0].Transforms {
		want, err := readPhaseTwo(tr, d)
		if err != nil || want.suite != got.suite || want.mode != got.mode || want.esn != got.esn {
			continue
		}
		if got.life.within(want.life); got.life.cut && d.Exact {
			return chosen{}, fmt.Errorf("a longer lifetime than the %d s that were offered (accept: exact)", want.life.seconds)
		}
		return chosen{answer: p, x: got, spi: spi}, nil
	}
	return chosen{}, fmt.Errorf("transform %d with these attributes was not offered", p.Transforms[0].ID)
}

// deviations lists how an answer or offer differs from the standard form.
func (x phaseTwo) deviations() []string {
	var d []string
	if x.life.seconds > uint64(sessionKeyLimit/time.Second) {
		d = append(d, fmt.Sprintf("phase-2 lifetime %d s above 1 h", x.life.seconds))
	}
	if x.life.cut {
		d = append(d, fmt.Sprintf("a phase-2 lifetime above the %d s offered", x.life.seconds))
	}
	if x.mode == modeUDPOld {
		d = append(d, "encapsulation mode of NAT-T drafts")
	}
	for _, u := range x.unknown {
		d = append(d, fmt.Sprintf("phase-2 attribute %d unknown", u))
	}
	return d
}
