package policy

import (
	"fmt"
	"slices"
	"strings"
)

// learnable are the knobs that a gateway may find out by itself. None of them
// lets a check go or leaves the algorithms of the standard, and none can cost a
// peer behind a NAT its way back.
func learnable() []string {
	return []string{"ike_sm4_id", "send_dpd_vid", "send_own_vid", "cert_order", "sk_encoding", "field_pad",
		"id_iv", "id_cert", "sig_encoding", "sig_cert_body", "hashr_sa", "qm_hash", "esp_sm4_id", "dpd_spi", "dpd_order"}
}

// Learned writes what d has otherwise than base of all that may be found out, as
// the value of dialect: in a policy file; empty when that is nothing.
func Learned(base, d Dialect) string {
	list := slices.DeleteFunc(d.Against(base), func(k Knob) bool { return !slices.Contains(learnable(), k.Name) })
	if len(list) == 0 {
		return ""
	}
	return flow(list)
}

// Relearn sets on base what Learned wrote, save where the entry, whose dialect
// base is, says something of its own. The error names what is not a knob that may
// be found out.
func Relearn(base Dialect, text string) (Dialect, error) {
	inner, ok := strings.CutPrefix(text, "{")
	inner, ok2 := strings.CutSuffix(inner, "}")
	if !ok || !ok2 {
		return base, fmt.Errorf("dialect: %q is not written as {knob: value}", text)
	}
	d := base
	for _, one := range strings.Split(inner, ", ") {
		name, value, _ := strings.Cut(one, ": ")
		if !slices.Contains(learnable(), name) {
			return base, fmt.Errorf("dialect: %q is no knob that is found out", name)
		}
		var err error
		if d, err = d.With(Knob{name, value}); err != nil {
			return base, err
		}
	}
	return d.Pinned(base), nil
}

// Pinned is d with every knob that the entry of a peer with profile: auto, whose
// dialect is given, says otherwise than that profile.
func (d Dialect) Pinned(entry Dialect) Dialect {
	pinned, err := d.With(entry.Against(Auto.Dialect())...)
	if err != nil {
		return entry // its own words always read back
	}
	return pinned
}
