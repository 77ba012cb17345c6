package probe

import (
	"fmt"
	"net/netip"
	"slices"

	"yumen/ike"
	"yumen/ike/wire"
	"yumen/policy/trust"
)

// heard takes over what an engine heard.
func (r *Report) heard(h ike.Heard) {
	switch {
	case h.In == ike.InFields && h.Refused != ike.BadEnvelope && !h.Known:
		r.shown(h.Accent, "sk_encoding")
		for _, knob := range []string{"nonce_length", "field_pad", "id_iv", "id_cert", "sig_encoding", "sig_cert_body", "sm2_id", "id_type", "id"} {
			r.untold(knob, "the signature does not verify under any user ID that was given (--user-id), and without it no reading is certain")
		}
	case h.In == ike.InFields && h.Known:
		if h.NATD {
			r.shown(h.Accent, "natd_hash")
		}
		r.shown(h.Accent, "sk_encoding", "nonce_length", "field_pad", "id_iv", "sig_encoding", "sig_cert_body", "sm2_id")
		r.identity(h)
	case h.In == ike.InProof && h.OneSA:
		r.untold("hashr_sa", "its answer repeats our SA byte for byte, and so both forms are one")
	case h.In == ike.InProof:
		r.shown(h.Accent, "hashr_sa")
	case h.In == ike.InQuick:
		r.shown(h.Accent, "qm_hash")
	case h.In == ike.InLiveness:
		r.shown(h.Accent, "dpd_order")
		if h.Asks {
			r.shown(h.Accent, "dpd_spi")
		}
	}
}

// identity notes what the far end calls itself.
func (r *Report) identity(h ike.Heard) {
	text := fmt.Sprintf("%q", string(h.ID.Data))
	switch h.ID.Type {
	case wire.IDDN:
		r.seen("id_type", "dn")
		r.seen("id", `""`)
		if trust.EqualNames(h.Pair.Sign.Subject, h.Pair.Enc.Subject) {
			r.untold("id_cert", "both certificates carry one name")
		} else {
			r.shown(h.Accent, "id_cert")
		}
		return
	case wire.IDIPv4, wire.IDIPv6:
		r.seen("id_type", "ip")
		if a, ok := netip.AddrFromSlice(h.ID.Data); ok {
			r.oneOf("id", "its own address needs not be written", `""`, fmt.Sprintf("%q", a))
		}
	case wire.IDFQDN:
		r.seen("id_type", "fqdn")
		r.seen("id", text)
	case wire.IDUserFQDN:
		r.seen("id_type", "user-fqdn")
		r.seen("id", text)
	case wire.IDKeyID:
		r.seen("id_type", "key-id")
		r.seen("id", text)
	default:
		r.note("it calls itself by an ID of type %v, which no entry can say", h.ID.Type)
	}
	r.untold("id_cert", "its ID is no name of a certificate")
}

// strange is the ID of a message that was refused because no certificate holds it,
// as peer_id wants it; empty when that was not why.
func strange(h ike.Heard) string {
	if h.In != ike.InFields || !h.Known || h.Refused == "" {
		return ""
	}
	switch h.ID.Type {
	case wire.IDFQDN, wire.IDUserFQDN, wire.IDKeyID:
		return string(h.ID.Data)
	case wire.IDIPv4, wire.IDIPv6:
		if a, ok := netip.AddrFromSlice(h.ID.Data); ok {
			return a.String()
		}
	}
	return ""
}

// Numbers of phase 2.
const (
	attrAuthAlg = 5
	authHMACSM3 = 20
)

// offer notes which ESP transforms the far end offers.
func (r *Report) offer(sa wire.SA) {
	var cbc, gcm []uint8
	for _, p := range sa.Proposals {
		if p.Protocol != wire.ProtoESP {
			continue
		}
		for _, t := range p.Transforms {
			auth := slices.ContainsFunc(t.Attributes, func(a wire.Attribute) bool {
				v, _ := a.Uint()
				return a.Type == attrAuthAlg && v == authHMACSM3
			})
			list := &gcm
			if auth {
				list = &cbc
			} else if slices.ContainsFunc(t.Attributes, func(a wire.Attribute) bool { return a.Type == attrAuthAlg }) {
				continue // of an algorithm that is none of these
			}
			if !slices.Contains(*list, t.ID) {
				*list = append(*list, t.ID)
			}
		}
	}
	has := func(id uint8) bool { return slices.Contains(cbc, id) }
	switch {
	case has(127) && has(129):
		r.seen("esp_sm4_id", "both")
	case has(127):
		r.seen("esp_sm4_id", "127")
	case has(129):
		r.seen("esp_sm4_id", "129")
	default:
		r.untold("esp_sm4_id", "it offered no SM4-CBC with HMAC-SM3")
	}
	if len(gcm) == 1 {
		r.seen("esp_gcm_id", fmt.Sprint(gcm[0]))
	} else {
		r.untold("esp_gcm_id", "it offered no SM4-GCM, or more than one transform that could be it")
	}
}
