package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Profile is a name for the knobs of a family of peers.
type Profile uint8

const (
	GBT36968 Profile = iota // gbt36968-2018, the default
	GMT0022of2014
	GMT0022of2023
	H3C
	H3CDraft
	Huawei
	Hillstone11
	Hillstone10
	Auto // found out by listening and, within limits, by trying
	profiles
)

func (p Profile) String() string {
	return word("profile", uint8(p), "gbt36968-2018", "gmt0022-2014", "gmt0022-2023", "h3c", "h3c-draft",
		"huawei", "hillstone-v1.1", "hillstone-v1.0", "auto")
}

// Profiles lists every profile, the default first.
func Profiles() []Profile {
	out := make([]Profile, profiles)
	for i := range out {
		out[i] = Profile(i)
	}
	return out
}

// Certainty is how well a value of a profile is known.
type Certainty uint8

const (
	Published Certainty = iota // a vendor's manual or a text that quotes the standard says so
	Shown                      // a public capture of a real implementation has it
	Inferred                   // follows from a published text, which does not say it
	Recalled                   // from memory of the standard's text, not confirmed
)

func (c Certainty) String() string {
	return word("certainty", uint8(c), "published", "shown", "inferred", "recalled")
}

// Setting is a knob of a profile and where its value comes from.
type Setting struct {
	Knob
	Source    string
	Certainty Certainty
}

// Where the values come from.
const (
	textForms   = "GB/T 36968-2018 5.1, as quoted by public course notes"
	text2014    = "GM/T 0022-2014 5.1 and its tables of identifiers"
	text2023    = "GM/T 0022-2023 6.1, as read by a public gap analysis of 2026"
	example     = "public worked example of a handshake (courseware \"VPN protocol verification\")"
	h3cIKE      = "H3C Comware command reference, IKE: ike gm-main sm4-version, exchange-mode gm-main"
	h3cIPsec    = "H3C Comware command reference, IPsec: esp authentication-algorithm sm3 (HMAC-SM3-96)"
	huaweiPeer  = "Huawei UDG command reference, MOD IKEPEER: CUSTOMPARA"
	huaweiIPsec = "Huawei UDG command reference, IPsec proposal: no NAT traversal, no ESN with GM algorithms"
	hillstone   = "Hillstone StoneOS CLI manual: protocol-standard guomi v1.0 | v1.1"
	hillstoneN  = "Hillstone StoneOS CLI manual: nat-traversal (off unless enabled)"
	openICV     = "the text gives no length; 96 by analogy with HMAC-SHA-1-96"
)

func set(name, value, source string, c Certainty) Setting {
	return Setting{Knob{name, value}, source, c}
}

// Settings is the table of profiles: the knobs of p that are known, with source
// and certainty. A knob that is not listed has the recommended value. Where a
// line repeats that value it says that the value is known, not assumed.
func (p Profile) Settings() []Setting {
	switch p {
	case GBT36968:
		return []Setting{
			set("gm_version", "1.1", textForms, Published),
			set("ike_sm4_id", "129", textForms, Published),
			set("esp_sm4_id", "both", "129 by the text of 2014, 127 in the example; both are offered", Inferred),
			set("sk_encoding", "der", example, Shown),
			set("field_pad", "counted", example, Shown),
			set("id_iv", "chained", example, Shown),
			set("id_type", "dn", example, Shown),
			set("sig_encoding", "der", example, Shown),
			set("sig_cert_body", "with", example, Shown),
			set("hashr_sa", "initiator", "RFC 2409 5, seen with one live peer; the notes have the responder's", Shown),
			set("qm_hash", "rfc2409", example, Shown),
			set("esp_icv_bits", "96", openICV, Recalled),
		}
	case GMT0022of2014:
		return []Setting{
			set("gm_version", "1.1", text2014, Published),
			set("ike_sm4_id", "129", text2014, Published),
			set("esp_sm4_id", "129", text2014, Recalled),
			set("esp_icv_bits", "96", openICV, Recalled),
		}
	case GMT0022of2023:
		return []Setting{
			set("gm_version", "1.1", text2023, Published),
			set("ike_sm4_id", "129", text2023, Published),
			set("esp_sm4_id", "127", text2023, Inferred),
			set("esp_gcm_id", "130", text2023, Inferred),
			set("esp_icv_bits", "96", openICV, Recalled),
		}
	case H3C:
		return []Setting{
			set("gm_version", "1.1", h3cIKE, Inferred),
			set("ike_sm4_id", "129", h3cIKE+" standard", Inferred),
			set("esp_sm4_id", "both", "not said; both are offered", Inferred),
			set("esp_icv_bits", "96", h3cIPsec, Published),
		}
	case H3CDraft:
		return []Setting{
			set("gm_version", "1.1", h3cIKE, Inferred),
			set("ike_sm4_id", "127", h3cIKE+" draft", Inferred),
			set("esp_sm4_id", "127", h3cIKE+" draft", Inferred),
			set("esp_icv_bits", "96", h3cIPsec, Published),
		}
	case Huawei:
		return []Setting{
			set("gm_version", "1.1", "Huawei Cloud VPN manual: digital-envelope-v2", Inferred),
			set("ike_sm4_id", "129", huaweiPeer, Inferred),
			set("key_length", "refuse", huaweiPeer+", bit 1", Published),
			// Bit 3 puts the phase-1 HASH in the form of the standard, which nobody
			// publishes beyond the SA in HASHr. It and bit 4 are clear by default.
			set("hashr_sa", "initiator", huaweiPeer+", bit 3 clear: RFC 2409", Inferred),
			set("qm_hash", "rfc2409", huaweiPeer+", bit 4 clear", Published),
			set("nat_t", "false", huaweiIPsec, Published),
			set("esp_icv_bits", "96", huaweiPeer+", bits 9 and 10", Published),
		}
	case Hillstone11:
		return []Setting{
			set("gm_version", "1.1", hillstone, Published),
			set("ike_sm4_id", "129", hillstone, Inferred),
			set("nat_t", "false", hillstoneN, Published),
			set("esp_icv_bits", "96", openICV, Recalled),
		}
	case Hillstone10:
		return []Setting{
			set("gm_version", "1.0", hillstone, Inferred),
			set("send_certs", "m3", hillstone+", remote-trust-domain", Inferred),
			set("ike_sm4_id", "129", hillstone, Inferred),
			set("nat_t", "false", hillstoneN, Published),
			set("esp_icv_bits", "96", openICV, Recalled),
		}
	case Auto:
		return []Setting{
			set("accept_zero_pad", "true", "recognised, and covered by the signature", Inferred),
			set("esp_icv_bits", "auto", "not negotiated: the first authentic packet of a child tells it", Inferred),
		}
	}
	return nil
}

// Dialect is the knobs of p.
func (p Profile) Dialect() Dialect {
	var list []Knob
	for _, s := range p.Settings() {
		list = append(list, s.Knob)
	}
	d, err := Dialect{}.With(list...)
	if err != nil {
		panic(fmt.Sprintf("profile %v: %v", p, err)) // a mistake in the table, which a test finds
	}
	return d
}

// Explain finds how a peer entry would say d: the profile that leaves the fewest
// knobs to say, the earlier of two, and those knobs.
func Explain(d Dialect) (Profile, []Knob) {
	best, rest := GBT36968, d.Against(GBT36968.Dialect())
	for _, p := range Profiles() {
		if left := d.Against(p.Dialect()); p != Auto && len(left) < len(rest) {
			best, rest = p, left
		}
	}
	return best, rest
}

// Lines is what Explain found, as it stands in a peer entry.
func Lines(d Dialect) string {
	p, rest := Explain(d)
	if len(rest) == 0 {
		return "profile: " + p.String()
	}
	return "profile: " + p.String() + ", dialect: " + flow(rest)
}

// profile reads a name, or a mapping of knobs for a peer that has none.
func (r *reader) profile(f field, p *Peer) {
	switch {
	case !f.given():
	case f.node.kind == kindMap:
		r.dialect(f, &p.Dialect)
	default:
		if s, ok := f.word(); ok && !p.Profile.named(s) {
			f.fault("%q is not one of %s, %s and is no mapping of knobs", s, list(Profiles()), ProfileRFC2409)
		}
		p.Dialect = p.Profile.Dialect()
	}
}

// named sets p to the profile of that name.
func (p *Profile) named(s string) bool {
	i := slices.IndexFunc(Profiles(), func(one Profile) bool { return one.String() == s })
	if i >= 0 {
		*p = Profile(i)
	}
	return i >= 0
}

func list[T fmt.Stringer](all []T) string {
	words := make([]string, len(all))
	for i, v := range all {
		words[i] = v.String()
	}
	return strings.Join(words, ", ")
}

// autoRefuses names the knobs that a peer with profile: auto may not have: they
// would weaken what auto promises.
func (p *Peer) autoRefuses() []string {
	var out []string
	for _, k := range p.Dialect.Against(Auto.Dialect()) {
		if slices.Contains([]string{"gm_version", "transform_id", "accept"}, k.Name) {
			out = append(out, k.Name)
		}
	}
	return out
}
