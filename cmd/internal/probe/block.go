package probe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"yumen/policy"
)

// Dialect is the entry's dialect with everything that was found out: how to speak
// to the far end.
func (r *Report) Dialect(entry policy.Dialect) policy.Dialect {
	d := entry
	for _, f := range r.Findings {
		// What it announces, calls itself and begins is not for us to repeat.
		if f.Standing == Untold || len(f.Values) != 1 || slices.Contains([]string{"initiate", "send_dpd_vid", "send_own_vid",
			"send_certs", "id_type", "id", "accept", "strict_lifetime", "transform_id"}, f.Knob) {
			continue
		}
		if f.Values[0] == `""` { // sm2_id: none of its own
			d.SM2ID = ""
			continue
		}
		if next, err := d.With(policy.Knob{Name: f.Knob, Value: f.Values[0]}); err == nil {
			d = next
		}
	}
	d.ZeroPad = d.ZeroPad || d.FieldPad == policy.PadZeros
	return d
}

// block writes the entry of the far end for a policy file; empty for one that
// nothing is known of.
func block(entry policy.Peer, r *Report) string {
	if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Standing != Untold }) {
		return ""
	}
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "    %s: %s\n", key, value)
		}
	}
	text := func(key, value string) {
		if value != "" {
			line(key, strconv.Quote(value))
		}
	}
	b.WriteString("peers:\n")
	fmt.Fprintf(&b, "  - name: %s\n", strconv.Quote(entry.Name))
	switch {
	case entry.Remote.Any:
		line("remote", "any")
	case entry.Remote.FQDN != "":
		text("remote", entry.Remote.FQDN)
	default:
		text("remote", entry.Remote.Addr.String())
	}
	switch {
	case entry.Local.Interface != "":
		text("local", entry.Local.Interface)
	case entry.Local.Addr.IsValid():
		text("local", entry.Local.Addr.String())
	}
	text("ca", entry.CA)
	text("crl", entry.CRL)
	id := entry.Identity
	text("subject", id.Subject)
	text("sign_subject", id.SignSubject)
	text("enc_subject", id.EncSubject)
	text("sign_fingerprint", id.SignFingerprint)
	text("enc_fingerprint", id.EncFingerprint)
	if entry.Certs.Sign != "" {
		line("peer_certs", fmt.Sprintf("{sign: %q, enc: %q}", entry.Certs.Sign, entry.Certs.Enc))
	}
	text("send_chain", entry.Chain)
	for _, k := range rest(entry) {
		line(k.Name, k.Value)
	}
	d := r.Dialect(entry.Dialect)
	if entry.Encap == policy.EncapForce {
		d.NoNATT = false
	}
	b.WriteString(lines(d))
	return b.String()
}

// rest are the keys of an entry that hang on no peer's form, where it does not have
// the values of one that says nothing.
func rest(entry policy.Peer) (out []policy.Knob) {
	usual := policy.UsualPeer()
	add := func(differs bool, key, value string) {
		if differs {
			out = append(out, policy.Knob{Name: key, Value: value})
		}
	}
	add(entry.Encap != usual.Encap, "encap", entry.Encap.String())
	add(entry.IKELifetime != usual.IKELifetime, "ike_lifetime", entry.IKELifetime.String())
	add(entry.IKELifetime > policy.MaxIKELifetime, "allow_long_lifetime", "true")
	add(entry.ClockSkew != usual.ClockSkew, "clock_skew", entry.ClockSkew.String())
	dpd := fmt.Sprintf("{interval: %v}", entry.DPD.Interval)
	if entry.DPD.Tries > 0 {
		dpd = fmt.Sprintf("{interval: %v, tries: %d}", entry.DPD.Interval, entry.DPD.Tries)
	}
	add(entry.DPD != usual.DPD, "dpd", dpd)
	add(entry.PathProbe != usual.PathProbe, "path_probe", entry.PathProbe.String())
	add(entry.DropChildren, "children_on_ike_delete", "drop")
	add(entry.Fragmentation, "ike_fragmentation", "true")
	return out
}

// lines say a dialect: a profile and what differs from it.
func lines(d policy.Dialect) string {
	profile, rest := policy.Explain(d)
	out := fmt.Sprintf("    profile: %v\n", profile)
	if len(rest) == 0 {
		return out
	}
	out += "    dialect:\n"
	for _, k := range rest {
		out += fmt.Sprintf("      %s: %s   # %s\n", k.Name, k.Value, clause(k.Name))
	}
	return out
}
