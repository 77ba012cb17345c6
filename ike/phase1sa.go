package ike

import (
	"fmt"
	"slices"
	"time"

	"yumen/ike/wire"
	"yumen/policy"
)

// Phase-1 attributes of GB/T 36968.
const (
	attrCipher     = 1
	attrHash       = 2
	attrAuth       = 3
	attrGroup      = 4
	attrLifeType   = 11
	attrLifetime   = 12
	attrKeyLength  = 14
	attrAsymmetric = 20

	cipherSM4      = 129
	cipherSM4Draft = 127
	hashSM3        = 20
	authEnvelope   = 10
	asymmetricSM2  = 2
	keyIKE         = 1
	keyBits        = 128 // of SM4

	doiIPsec     = 1
	identityOnly = 1
	lifeSeconds  = 1
	lifeKB       = 2
)

// workingKeyLimit is the longest life of a working key that the standard allows.
const workingKeyLimit = 24 * time.Hour

// phaseOneOffer is the SA of M1: one transform, so that SAi and SAr agree.
func phaseOneOffer(life time.Duration, d policy.Dialect) wire.SA {
	cipher := uint16(cipherSM4)
	if d.IKESM4 == policy.SM4Draft {
		cipher = cipherSM4Draft
	}
	as := []wire.Attribute{wire.Short(attrCipher, cipher)}
	if d.KeyLength == policy.KeyLengthSend {
		as = append(as, wire.Short(attrKeyLength, keyBits))
	}
	as = append(as,
		wire.Short(attrHash, hashSM3),
		wire.Short(attrAuth, authEnvelope),
		wire.Short(attrAsymmetric, asymmetricSM2),
		wire.Short(attrLifeType, lifeSeconds),
		number(attrLifetime, uint64(life/time.Second)))
	return wire.SA{DOI: doiIPsec, Situation: identityOnly, Proposals: []wire.Proposal{{
		Number: 1, Protocol: wire.ProtoISAKMP,
		Transforms: []wire.Transform{{Number: 1, ID: keyIKE, Attributes: as}},
	}}}
}

// number writes v in the short form where it fits.
func number(class uint16, v uint64) wire.Attribute {
	if v <= 0xffff {
		return wire.Short(class, uint16(v))
	}
	return wire.Long(class, uint32(min(v, 1<<32-1)))
}

// phaseOne is what a transform of phase 1 says.
type phaseOne struct {
	id                             uint8
	cipher, hash, auth, asymmetric uint64
	keyLength, group               uint64
	life                           lifetimes
	unknown                        []uint16
}

// lifetimes of a transform; zero: not given.
type lifetimes struct {
	seconds, kilobytes uint64
	kind               uint64 // life type that the next duration belongs to
	cut                bool   // the peer answered more than was offered
}

// within holds an answer to what was offered: a responder that writes its own
// lifetime there keeps it to itself, and the lower one counts.
func (l *lifetimes) within(offered lifetimes) {
	if l.seconds > offered.seconds {
		l.seconds, l.cut = offered.seconds, true
	}
	if offered.kilobytes > 0 && l.kilobytes > offered.kilobytes {
		l.kilobytes, l.cut = offered.kilobytes, true
	}
}

// take notes a life type or a duration.
func (l *lifetimes) take(isType bool, v uint64) error {
	if isType {
		l.kind = v
		return nil
	}
	switch l.kind {
	case lifeSeconds:
		l.seconds = v
	case lifeKB:
		l.kilobytes = v
	default:
		return fmt.Errorf("life duration without a known life type")
	}
	return nil
}

func readPhaseOne(t wire.Transform) (phaseOne, error) {
	x := phaseOne{id: t.ID}
	for _, a := range t.Attributes {
		v, ok := a.Uint()
		if !ok {
			return x, fmt.Errorf("attribute %d: not a number", a.Type)
		}
		switch a.Type {
		case attrCipher:
			x.cipher = v
		case attrHash:
			x.hash = v
		case attrAuth:
			x.auth = v
		case attrAsymmetric:
			x.asymmetric = v
		case attrKeyLength:
			x.keyLength = v
		case attrGroup:
			x.group = v
		case attrLifeType, attrLifetime:
			if err := x.life.take(a.Type == attrLifeType, v); err != nil {
				return x, err
			}
		default:
			x.unknown = append(x.unknown, a.Type)
		}
	}
	return x, nil
}

// acceptable says what keeps us from taking x; nil when nothing does.
func (x phaseOne) acceptable(d policy.Dialect) error {
	switch {
	case x.id != keyIKE && !d.AnyTransform:
		return fmt.Errorf("transform ID %d: we take 1 (KEY_IKE)", x.id)
	case x.keyLength != 0 && d.KeyLength == policy.KeyLengthRefuse:
		return fmt.Errorf("a key length attribute (key_length: refuse)")
	case d.Exact && x.heard(d) != d:
		return fmt.Errorf("%v (accept: exact)", x.heard(d).Against(d))
	case x.cipher != cipherSM4 && x.cipher != cipherSM4Draft:
		return fmt.Errorf("encryption algorithm %d: we take 129 (SM4-CBC)", x.cipher)
	case x.hash != hashSM3:
		return fmt.Errorf("hash algorithm %d: we take 20 (SM3)", x.hash)
	case x.auth != authEnvelope:
		return fmt.Errorf("authentication method %d: we take 10 (digital envelope)", x.auth)
	case x.asymmetric != asymmetricSM2 && x.asymmetric != 0:
		return fmt.Errorf("asymmetric algorithm %d: we take 2 (SM2)", x.asymmetric)
	case x.keyLength != 0 && x.keyLength != keyBits:
		return fmt.Errorf("key length %d: SM4 has 128", x.keyLength)
	case d.StrictLifetime && x.life.seconds > uint64(workingKeyLimit/time.Second):
		return fmt.Errorf("lifetime %d s: the limit is 86400 (strict_lifetime)", x.life.seconds)
	}
	return nil
}

// heard is d with what x shows of the peer's dialect.
func (x phaseOne) heard(d policy.Dialect) policy.Dialect {
	d.IKESM4 = policy.SM4Standard
	if x.cipher == cipherSM4Draft {
		d.IKESM4 = policy.SM4Draft
	}
	switch sent := x.keyLength != 0; {
	case sent:
		d.KeyLength = policy.KeyLengthSend
	case d.KeyLength == policy.KeyLengthSend:
		d.KeyLength = policy.KeyLengthOmit
	}
	return d
}

// deviations lists how x differs from the standard form where no knob says so.
func (x phaseOne) deviations() []string {
	var d []string
	if x.id != keyIKE {
		d = append(d, fmt.Sprintf("phase-1 transform ID %d", x.id))
	}
	if x.asymmetric == 0 {
		d = append(d, "phase-1 attribute 20 missing")
	}
	for _, u := range x.unknown {
		d = append(d, fmt.Sprintf("phase-1 attribute %d unknown", u))
	}
	if x.life.seconds > uint64(workingKeyLimit/time.Second) {
		d = append(d, fmt.Sprintf("phase-1 lifetime %d s above 24 h", x.life.seconds))
	}
	return d
}

// choosePhaseOne picks the first transform that suits us and returns the answer,
// which repeats proposal and transform as they were offered.
func choosePhaseOne(sa wire.SA, d policy.Dialect) (wire.SA, phaseOne, error) {
	if sa.DOI != doiIPsec || sa.Situation != identityOnly {
		return wire.SA{}, phaseOne{}, fmt.Errorf("DOI %d, situation %d: we take 1 and 1", sa.DOI, sa.Situation)
	}
	err := fmt.Errorf("no ISAKMP proposal")
	for _, p := range sa.Proposals {
		if p.Protocol != wire.ProtoISAKMP {
			continue
		}
		for _, t := range p.Transforms {
			x, why := readPhaseOne(t)
			if why == nil {
				why = x.acceptable(d)
			}
			if why != nil {
				err = fmt.Errorf("transform %d: %w", t.Number, why)
				continue
			}
			p.Transforms = []wire.Transform{t}
			return wire.SA{DOI: sa.DOI, Situation: sa.Situation, Proposals: []wire.Proposal{p}}, x, nil
		}
	}
	return wire.SA{}, phaseOne{}, err
}

// checkPhaseOneAnswer compares an answer with the offer by meaning: peers
// renumber proposals, add a missing attribute 20 and answer 127 to 129.
func checkPhaseOneAnswer(offer, answer wire.SA, d policy.Dialect) (phaseOne, error) {
	var x phaseOne
	if len(answer.Proposals) != 1 || len(answer.Proposals[0].Transforms) != 1 {
		return x, fmt.Errorf("the answer must hold one proposal with one transform")
	}
	got, err := readPhaseOne(answer.Proposals[0].Transforms[0])
	if err != nil {
		return x, err
	}
	if answer.DOI != doiIPsec || answer.Situation != identityOnly || answer.Proposals[0].Protocol != wire.ProtoISAKMP {
		return x, fmt.Errorf("not an ISAKMP proposal of the IPsec DOI")
	}
	if err := got.acceptable(d); err != nil {
		return x, err
	}
	want, err := readPhaseOne(offer.Proposals[0].Transforms[0])
	if err != nil {
		return x, err
	}
	if got.life.seconds > want.life.seconds { // not authentic, unlike that of phase 2
		return x, fmt.Errorf("lifetime %d s: %d were offered", got.life.seconds, want.life.seconds)
	}
	return got, nil
}

// vendorIDs are the Vendor ID payloads that we send to p in dialect d.
func vendorIDs(p policy.Peer, d policy.Dialect) []wire.Payload {
	var ids []string
	if !d.NoNATT && p.Encap != policy.EncapOff {
		ids = append(ids, wire.VendorNATT)
	}
	if !d.NoDPDVID {
		ids = append(ids, wire.VendorDPD)
	}
	if p.Fragmentation {
		ids = append(ids, vendorFragments)
	}
	if !d.NoOwnVID {
		ids = append(ids, vendorYumen)
	}
	out := make([]wire.Payload, len(ids))
	for i, id := range ids {
		out[i] = wire.Payload{Type: wire.TypeVendorID, Body: []byte(id)}
	}
	return out
}

// vendorYumen tells another Yumen that both follow the same rules where the
// standard leaves a choice. "YUMENgw", a version, and eight random bytes.
const vendorYumen = "\x59\x55\x4d\x45\x4e\x67\x77\x01\x9c\x3e\x52\xd1\x70\xab\x18\xe4"

func readVendors(ids [][]byte) features {
	has := func(id string) bool {
		return slices.ContainsFunc(ids, func(b []byte) bool { return string(b) == id })
	}
	pieces := slices.ContainsFunc(ids, func(b []byte) bool { return len(b) >= 16 && string(b[:16]) == vendorFragments[:16] })
	return features{natt: has(wire.VendorNATT), dpd: has(wire.VendorDPD), yumen: has(vendorYumen), pieces: pieces}
}
