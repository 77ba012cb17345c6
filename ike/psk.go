package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"yumen/ike/wire"
	"yumen/policy"
	"yumen/policy/trust"
)

// Main mode with a pre-shared key (RFC 2409 5.4), header 1.0, for the profile
// rfc2409-psk, which is not GB/T 36968:
//
//	initiator                                   responder
//	M1  SA, VID                           -->
//	                                      <--   M2  SA, VID
//	M3  KE, Ni, NAT-D, NAT-D              -->
//	                                      <--   M4  KE, Nr, NAT-D, NAT-D
//	M5  [IDii, HASH_I]                    -->
//	                                      <--   M6  [IDir, HASH_R]
//
// This file and pskphase.go are all that knows it; what follows phase 1 is shared.

// Phase-1 numbers of RFC 2409 appendix A and of the IANA registry that followed.
const (
	cipherAES    = 7
	hashSHA256   = 4
	authKey      = 1
	groupMODP    = 14
	nonceMin     = 8 // RFC 2409 5
	nonceMax     = 256
	nonceOfOurs  = 32
	idHeadOfBody = 4
)

// Layouts of RFC 2409 5.4.
var (
	layoutPlainM2    = layout{wire.TypeSA}
	layoutKeyShare   = layout{wire.TypeKE, wire.TypeNonce}
	layoutPlainProof = layout{wire.TypeID, wire.TypeHash}
)

// preShared is the method of that profile.
type preShared struct{}

func (preShared) version(policy.Dialect) uint8 { return wire.Version10 }

func (preShared) speaks(version uint8, _ policy.Peer) bool { return version == wire.Version10 }

func (preShared) second(*Engine, policy.Peer) []wire.Payload { return nil }

func (preShared) arrange(_ *peer, ps []wire.Payload) (parts, error) { return layoutPlainM2.arrange(ps) }

func (preShared) trust(*peer, certificates) (*trust.Pair, Reason, error) { return nil, "", nil }

func (preShared) begin(s *session) phase { return &keyShare{s: s} }

// plainSuite is what the numbers of a phase-1 suite are.
func plainSuite(s policy.IKESuite) (cipher, hash uint16) {
	if s == policy.SM4SM3 {
		return cipherSM4, hashSM3
	}
	return cipherAES, hashSHA256
}

func (preShared) offer(p policy.Peer, _ policy.Dialect) wire.SA {
	cipher, hash := plainSuite(p.PreShared.Suite)
	return wire.SA{DOI: doiIPsec, Situation: identityOnly, Proposals: []wire.Proposal{{
		Number: 1, Protocol: wire.ProtoISAKMP,
		Transforms: []wire.Transform{{Number: 1, ID: keyIKE, Attributes: []wire.Attribute{
			wire.Short(attrCipher, cipher),
			wire.Short(attrKeyLength, keyBits),
			wire.Short(attrHash, hash),
			wire.Short(attrAuth, authKey),
			wire.Short(attrGroup, groupMODP),
			wire.Short(attrLifeType, lifeSeconds),
			number(attrLifetime, uint64(p.IKELifetime/time.Second)),
		}}},
	}}}
}

// readPlain is readPhaseOne where nothing unknown is skipped.
func readPlain(t wire.Transform) (phaseOne, error) {
	x, err := readPhaseOne(t)
	if err == nil && len(x.unknown) > 0 {
		err = fmt.Errorf("attribute %d: not known", x.unknown[0])
	}
	return x, err
}

// suits says what keeps us from taking x; nil when nothing does.
func (x phaseOne) suits(s policy.IKESuite) error {
	cipher, hash := plainSuite(s)
	switch {
	case x.asymmetric != 0:
		return fmt.Errorf("attribute %d: not known", attrAsymmetric)
	case x.auth != authKey:
		return fmt.Errorf("authentication method %d: the peer entry takes 1 (pre-shared key)", x.auth)
	case x.cipher != uint64(cipher) || x.keyLength != keyBits && (x.keyLength != 0 || s != policy.SM4SM3):
		return fmt.Errorf("encryption algorithm %d with %d bits: the peer entry takes %v", x.cipher, x.keyLength, s)
	case x.hash != uint64(hash):
		return fmt.Errorf("hash algorithm %d: the peer entry takes %v", x.hash, s)
	case x.group != groupMODP:
		return fmt.Errorf("group %d: we take 14 (MODP-2048)", x.group)
	}
	return nil
}

func (preShared) choose(sa wire.SA, p policy.Peer) (agreed, error) {
	if sa.DOI != doiIPsec || sa.Situation != identityOnly {
		return agreed{}, fmt.Errorf("DOI %d, situation %d: we take 1 and 1", sa.DOI, sa.Situation)
	}
	err := fmt.Errorf("no ISAKMP proposal")
	for _, offered := range sa.Proposals {
		if offered.Protocol != wire.ProtoISAKMP {
			continue
		}
		for _, t := range offered.Transforms {
			x, why := readPlain(t)
			if why == nil && t.ID != keyIKE {
				why = fmt.Errorf("transform ID %d: we take 1 (KEY_IKE)", t.ID)
			}
			if why == nil {
				why = x.suits(p.PreShared.Suite)
			}
			if why != nil {
				err = fmt.Errorf("transform %d: %w", t.Number, why)
				continue
			}
			offered.Transforms = []wire.Transform{t}
			answer := wire.SA{DOI: sa.DOI, Situation: sa.Situation, Proposals: []wire.Proposal{offered}}
			return agreed{answer: answer, seconds: x.life.seconds, heard: p.Dialect}, nil
		}
	}
	return agreed{}, err
}

func (preShared) check(d *dial, answer wire.SA) (agreed, error) {
	if answer.DOI != doiIPsec || answer.Situation != identityOnly || len(answer.Proposals) != 1 ||
		len(answer.Proposals[0].Transforms) != 1 || answer.Proposals[0].Protocol != wire.ProtoISAKMP {
		return agreed{}, fmt.Errorf("the answer must hold one ISAKMP proposal with one transform")
	}
	want, err := readPlain(d.offer.Proposals[0].Transforms[0])
	if err != nil {
		return agreed{}, err
	}
	got, err := readPlain(answer.Proposals[0].Transforms[0])
	if err != nil {
		return agreed{}, err
	}
	if got.cipher != want.cipher || got.keyLength != want.keyLength || got.hash != want.hash || got.auth != want.auth || got.group != want.group {
		return agreed{}, fmt.Errorf("the answer differs from what was offered")
	}
	if got.life.seconds > want.life.seconds {
		return agreed{}, fmt.Errorf("lifetime %d s: %d were offered", got.life.seconds, want.life.seconds)
	}
	return agreed{answer: answer, seconds: got.life.seconds, heard: d.peer.entry.Dialect}, nil
}

// plainID is the ID that text stands for: an address, user@name or a name.
func plainID(text string) wire.ID {
	a, err := netip.ParseAddr(text)
	switch {
	case err == nil && a.Is4():
		return wire.ID{Type: wire.IDIPv4, Data: a.AsSlice()}
	case err == nil:
		return wire.ID{Type: wire.IDIPv6, Data: a.AsSlice()}
	case strings.Contains(text, "@"):
		return wire.ID{Type: wire.IDUserFQDN, Data: []byte(text)}
	}
	return wire.ID{Type: wire.IDFQDN, Data: []byte(text)}
}

// plainName is the text of an ID.
func plainName(id wire.ID) string {
	if a, ok := netip.AddrFromSlice(id.Data); ok && (id.Type == wire.IDIPv4 || id.Type == wire.IDIPv6) {
		return a.String()
	}
	return fmt.Sprintf("%s", id.Data)
}

// checkPlainID compares what the peer calls itself with the peer entry. The key
// has proven it already; the name keeps entries apart that share one.
func checkPlainID(id wire.ID, p policy.Peer, from netip.Addr) error {
	if !(id.Protocol == 0 && id.Port == 0 || id.Protocol == 17 && slices.Contains([]uint16{0, portIKE, portNAT}, id.Port)) {
		return fmt.Errorf("protocol %d, port %d in a phase-1 ID", id.Protocol, id.Port)
	}
	may := []string{p.PreShared.RemoteID}
	if may[0] == "" {
		switch {
		case p.Remote.Any:
			return nil
		case p.Remote.FQDN != "":
			may = []string{p.Remote.FQDN, from.String()}
		default:
			may = []string{p.Remote.Addr.String()}
		}
	}
	for _, text := range may {
		if want := plainID(text); want.Type == id.Type && string(want.Data) == string(id.Data) {
			return nil
		}
	}
	return fmt.Errorf("the peer calls itself %q (%v), %q is expected; set remote_id", plainName(id), id.Type, may[0])
}
